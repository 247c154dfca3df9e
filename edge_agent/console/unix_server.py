"""Serves an application on a Unix socket that only our user and group may use.

uvicorn would make the socket 0666, take the signals, and accept without limit; this module prevents all
three.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_agent.console.access import Access, state_of
from edge_agent.console.admission import REQUEST_S, Admission, Admitted, Counts, Phase, caps_here, peer_key
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import rpc_status

ACCEPTED_AT_ONCE = 2
"""Connections accepted in one turn of the loop; those of earlier turns are read before the next ones come."""
BACKLOG = 1024
"""Connections that wait in the kernel; when it is full, a client that does not wait is refused (EAGAIN)."""
ACCEPT_PAUSE_S = 0.1
"""Pause after a connection could not be accepted for want of descriptors."""
LONGEST_HEAD = 16_384
"""Longest head of a request, in bytes."""
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"
LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Protocol(H11Protocol):
    """Gives each request a deadline and the peer of its connection, which uvicorn does not."""

    def __init__(self, admission: Admission, admitted: Admitted, **options: Any) -> None:
        super().__init__(**options)
        self._admission = admission
        self._admitted = admitted
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.BaseProtocol.connection_made`."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, **state_of(transport.get_extra_info("socket"))}
        if self._admitted.set_up(transport.abort):
            self._restart_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol.connection_lost`."""
        self._stop_deadline()
        self._admission.leave(self._admitted)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received`."""
        super().data_received(data)
        self._note_phase()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        self._note_phase()

    def _phase(self) -> Phase:
        if self.cycle is None or self.cycle.response_complete:
            return "head"
        return "body" if self.cycle.more_body else "answer"

    def _note_phase(self) -> None:
        """Starts a deadline per phase: more bytes of the same head or body do not extend it."""
        phase = self._phase()
        if phase == self._admitted.phase:
            return
        self._admission.enter_phase(self._admitted, phase)
        self._stop_deadline()
        if phase != "answer":
            self._restart_deadline()

    def _restart_deadline(self) -> None:
        if not self.transport.is_closing():
            self._deadline = self.loop.call_later(REQUEST_S, self._too_late)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        if self.transport.is_closing():
            return
        self._admission.timed_out(self._admitted)
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(LATE)
            self.transport.close()
        else:  # the application waits for the body, and is notified that it will not come
            self.transport.abort()


class _OneLength:
    """Refuses a request that gives its length in two ways (RFC 9112, 6.3): a proxy may differ from us."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope.get("headers", ())}
        if not {b"content-length", b"transfer-encoding"} <= names:
            await self._app(scope, receive, send)
            return
        refusal = Refusal(Code.INVALID_ARGUMENT, "Content-Length and Transfer-Encoding exclude each other")
        closing = {"connection": "close"}
        await JSONResponse(rpc_status(refusal), 400, headers=closing)(scope, receive, send)


class _Acceptor:
    """Takes connections from a listening socket, a few in each turn of the loop, if `admission` admits
    them."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket, admission: Admission) -> None:
        self._server = server
        self._listener = listener
        self._admission = admission
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        listener.setblocking(False)
        self._watch()

    def stop(self) -> None:
        """Stops accepting."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _watch(self) -> None:
        self._again = None
        self._loop.add_reader(self._listener, self._ready)

    def _ready(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # there is no descriptor or memory for it; it stays in the kernel's queue
                self._loop.remove_reader(self._listener)
                self._again = self._loop.call_later(ACCEPT_PAUSE_S, self._watch)
                self._admission.accept_failed()
                return
            self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            peer = peer_key(connection)
        except OSError:  # it is gone already
            connection.close()
            return
        admitted = self._admission.admit(peer)
        if admitted is None:
            with contextlib.suppress(OSError), connection:
                connection.send(BUSY)
            return
        task = self._loop.create_task(self._connect(connection, admitted), name="local API connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket, admitted: Admitted) -> None:
        server = self._server
        protocol = partial(
            _Protocol,
            self._admission,
            admitted,
            config=server.config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
            _loop=self._loop,
        )
        try:
            if not admitted.gone:
                await self._loop.connect_accepted_socket(protocol, connection)
                return
        except OSError:  # it is gone already
            pass
        self._admission.leave(admitted)
        connection.close()


class _Server(uvicorn.Server):
    """Leaves the signals to the process, and accepting to `_Acceptor`."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, admission: Admission) -> None:
        super().__init__(config)
        self._listener = listener
        self._admission = admission

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets=[])
        self._acceptor = _Acceptor(self, self._listener, self._admission)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._acceptor.stop()
        await super().shutdown(sockets=[])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind_socket(path: Path, group: int | None = None) -> socket.socket:
    """A listening Unix socket that only our user and our group, or the given one, may use.

    Replaces an old socket at its path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _take_away(path)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    if group is not None:
        os.chown(path, -1, group)
    listener.listen(BACKLOG)
    return listener


def _take_away(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


async def serve(app: Starlette, path: Path, group: int | None = None, access: Access | None = None) -> None:
    """Serves an application until cancelled, then removes the socket. Counts connections in `access`."""
    try:
        counts = Counts() if access is None else access.connections
        await serve_on(app, bind_socket(path, group), Admission(caps_here(), counts))
    finally:
        _take_away(path)


async def serve_on(app: Starlette, listener: socket.socket, admission: Admission | None = None) -> None:
    """Serves an application on a listening socket until cancelled."""
    config = uvicorn.Config(
        _OneLength(app),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=LONGEST_HEAD,
    )
    server = _Server(config, listener, Admission(caps_here()) if admission is None else admission)
    task = asyncio.create_task(server.serve(), name="server on the Unix socket")
    try:
        await asyncio.shield(task)
    finally:
        server.should_exit = True
        await task
