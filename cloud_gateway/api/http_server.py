"""The HTTP server: uvicorn with limits on what its clients can hold.

Every connection has a deadline for its request's head, for the body and for taking the response. The number
of connections is capped for each address and in total, below the descriptor limit of the process. When all
are taken, the one that has waited longest without a request is closed for the next.

Relies on internals of uvicorn 0.54 (`H11Protocol`, `Server.startup`). Accepts by itself, because asyncio's
accept loop takes up to the whole backlog before it processes any connection.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cloud_gateway.logs import error_fields, log
from cloud_gateway.rate_limits import client_key, is_within
from cloud_gateway.settings import Network

HEAD_S = 10.0
BODY_S = 10.0
RESPONSE_S = 20.0
"""How long a client may take to send a request's head, its body, and to take the response."""
ACCEPT_PAUSE_S = 0.1
"""Pause after a failed accept."""
OWN_DESCRIPTORS = 64
"""Descriptors for the process itself: the database, the broker, its log."""
CONNECTIONS_MAX = 4000
WEBHOOKS_MAX = 200  # at most what `Deliverer` uses


@dataclass(frozen=True, slots=True)
class Descriptors:
    """How a process's descriptor limit is shared out."""

    connections: int
    webhooks: int

    @classmethod
    def of_limit(cls, limit: int) -> Descriptors:
        """Of what the process itself does not need, two thirds are for clients and one third for webhooks."""
        free = max(30, limit - OWN_DESCRIPTORS)
        return cls(min(CONNECTIONS_MAX, free * 2 // 3), min(WEBHOOKS_MAX, free // 3))

    @classmethod
    def of_process(cls) -> Descriptors:
        """Those of this process; raises its soft limit to the hard one."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return cls.of_limit(CONNECTIONS_MAX * 2 if hard == resource.RLIM_INFINITY else hard)


class Connections:
    """The open connections, by the address that they come from. `proxies` are not counted by address: each
    has many clients behind it."""

    def __init__(self, most: int, most_per_address: int, proxies: Sequence[Network] = ()) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._proxies = proxies
        self._open: dict[BoundedProtocol, str] = {}
        self._by_client: Counter[str] = Counter()
        self._idle: OrderedDict[BoundedProtocol, None] = OrderedDict()
        """Those without a request under way, the longest idle first."""
        self.room = asyncio.Event()
        """Set while another connection can be accepted, if necessary by closing an idle one."""
        self.room.set()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> int:
        """How many have no request under way."""
        return len(self._idle)

    def admit(self, protocol: BoundedProtocol, address: str) -> bool:
        """Whether a connection may stay; beyond the limit the longest idle one is closed for a new one."""
        place = "" if is_within(address, self._proxies) else client_key(address)
        if place and self._by_client[place] >= self._most_per_address:
            log().warning("connections_refused")
            return False
        if len(self._open) >= self._most and self._idle:
            log().warning("connection_closed_for_another")
            next(iter(self._idle)).abort()
        self._open[protocol] = place
        self._by_client[place] += 1
        self.went_idle(protocol)
        return True

    def leave(self, protocol: BoundedProtocol) -> None:
        """The connection has ended."""
        place = self._open.pop(protocol, None)
        if place is None:
            return
        self._idle.pop(protocol, None)
        self._by_client[place] -= 1
        if not self._by_client[place]:
            del self._by_client[place]
        self._update_room()

    def went_idle(self, protocol: BoundedProtocol) -> None:
        """A connection waits for a request."""
        if protocol in self._open:
            self._idle[protocol] = None
            self._idle.move_to_end(protocol)
        self._update_room()

    def went_busy(self, protocol: BoundedProtocol) -> None:
        """A request is under way on a connection: it is not closed for another one."""
        self._idle.pop(protocol, None)
        self._update_room()

    def _update_room(self) -> None:
        if len(self._open) < self._most or self._idle:
            self.room.set()
        else:
            self.room.clear()


class BoundedProtocol(H11Protocol):
    """One connection with its deadlines."""

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._answer_deadline: asyncio.TimerHandle | None = None
        self._phase = "head"

    def abort(self) -> None:
        """Closes it at once; it no longer counts."""
        self._connections.leave(self)
        self._stop(self._deadline)
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.BaseProtocol.connection_made`."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self._connections.admit(self, address):
            transport.abort()
            return
        self._expect("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol.connection_lost`."""
        self._connections.leave(self)
        self._stop(self._deadline)
        self._stop(self._answer_deadline)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received`."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """See `H11Protocol`: the next request may begin."""
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol.pause_writing`."""
        super().pause_writing()
        self._stop(self._answer_deadline)
        self._answer_deadline = self.loop.call_later(RESPONSE_S, self._late, "answer")

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol.resume_writing`."""
        super().resume_writing()
        self._stop(self._answer_deadline)

    def _look(self) -> None:
        """Starts the deadline of a new phase."""
        state = self.conn.their_state
        phase = {h11.IDLE: "head", h11.SEND_BODY: "body"}.get(state, "answer")
        if phase != self._phase:
            self._expect(phase)

    def _expect(self, phase: str) -> None:
        self._phase = phase
        self._stop(self._deadline)
        if phase == "head":
            self._connections.went_idle(self)
        else:
            self._connections.went_busy(self)
        if phase == "head":
            self._deadline = self.loop.call_later(HEAD_S, self._late, phase)
        elif phase == "body":
            self._deadline = self.loop.call_later(BODY_S, self._late, phase)

    def _late(self, phase: str) -> None:
        log().warning("client_too_slow", phase=phase)
        self.abort()

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


class Server(uvicorn.Server):
    """Uvicorn without its signal handling, which would end the process by the signal, and with an accept loop
    that accepts one connection after the other."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections
        self._accepting: list[asyncio.Task[None]] = []

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing: the caller handles the signals."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server.startup`; the listening sockets are served here."""
        await super().startup(sockets=[])
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_loop_error)
        for listener in sockets or ():
            listener.setblocking(False)
            self._accepting.append(loop.create_task(self._accept(listener), name="accept"))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server.shutdown`."""
        for task in self._accepting:
            task.cancel()
        if self._accepting:
            await asyncio.wait(self._accepting)
        await super().shutdown(sockets)

    def cut_short(self) -> None:
        """Cancels the requests under way."""
        for task in self.server_state.tasks:
            task.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._connections.room.wait()
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log().error("accept_failed", reason=error.strerror)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            try:
                await self._connections.room.wait()  # it may have been the last free place
                await loop.connect_accepted_socket(self._protocol, connection)
            except asyncio.CancelledError:
                connection.close()
                raise
            except OSError as error:
                log().warning("connection_failed", **error_fields(error))
                connection.close()

    def _protocol(self) -> BoundedProtocol:
        return BoundedProtocol(
            self._connections,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs asyncio's unhandled errors as one line, not as a traceback."""
    error = context.get("exception")
    found = {} if error is None else error_fields(error)
    log().error("loop_error", reason=str(context.get("message", "")), **found)


def config_of(
    app: Any, trusted: Sequence[str], lifespan: Literal["on", "off"] = "on", *, stop_s: float = 1.0
) -> uvicorn.Config:
    """Uvicorn's configuration. `stop_s`: how long requests under way may go on after the stop began."""
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        forwarded_allow_ips=list(trusted),
        timeout_graceful_shutdown=ceil(stop_s),
        lifespan=lifespan,
        ws="none",
        http=BoundedProtocol,
    )
