"""A local server that too many want to use: who is served, who is closed, what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edge_agent.console import admission as module
from edge_agent.console import unix_server
from edge_agent.console.admission import (
    DESCRIPTORS_KEPT,
    FEWEST_CONNECTIONS,
    MOST_CONNECTIONS,
    OURSELVES,
    REPORT_S,
    Admission,
    Caps,
    Peer,
    caps_for,
    caps_here,
    peer_key,
)
from edge_agent.console.api import CodeBody
from edge_agent.console.streams import read_body
from edge_agent.errors import Refusal
from tools.simulate.virtual_loop import VirtualLoop

KIOSK: Peer = ("uid", 1001)
OTHER: Peer = ("uid", 1002)
HALF = b"POST /code HTTP/1.1\r\nHost: a\r\n"
BODY = b'{"text": "1234"}'


def request(body: bytes = BODY, length: int | None = None) -> bytes:
    return HALF + b"Content-Length: %d\r\n\r\n%s" % (len(body) if length is None else length, body)


class Served:
    """A small application behind a real socket, and hands to connect to it."""

    def __init__(self, path: Path, admission: Admission) -> None:
        self.path, self.admission = path, admission
        self.entered: list[str] = []
        self.problems: list[str] = []
        self.hold = asyncio.Event()

    async def code(self, request: Request) -> Response:
        try:
            body = await read_body(request, CodeBody)
        except Refusal as refusal:
            self.problems.append(refusal.message)
            return PlainTextResponse(refusal.message, 400)
        self.entered.append(body.text)
        return PlainTextResponse("entered")

    async def slow(self, _: Request) -> Response:
        await self.hold.wait()
        return PlainTextResponse("at last")

    async def connect(self, first: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        writer.write(first)
        return reader, writer

    async def answer(self, whole: bytes) -> bytes:
        """The first line of the answer; empty if the connection was closed without one."""
        reader, writer = await self.connect(whole)
        try:
            return (await reader.readline()).rstrip()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def until_open(self, number: int) -> None:
        async with asyncio.timeout(60):
            while len(self.admission) != number:
                await asyncio.sleep(0.005)


@pytest.fixture(name="strangers")
def _strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections of this process count as those of a user."""
    monkeypatch.setattr(unix_server, "peer_key", lambda connection: KIOSK)


@asynccontextmanager
async def served(folder: Path, caps: Caps) -> AsyncIterator[Served]:
    path = folder / "agent.sock"
    site = Served(path, Admission(caps))
    routes = [Route("/code", site.code, methods=["POST"]), Route("/slow", site.slow)]
    listener = unix_server.bind_socket(path)
    task = asyncio.create_task(unix_server.serve_on(Starlette(routes=routes), listener, site.admission))
    try:
        yield site
    finally:
        site.hold.set()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_x2_caps_stay_below_the_limit_of_open_files() -> None:
    assert caps_for(1024) == Caps(MOST_CONNECTIONS, MOST_CONNECTIONS // 2)
    assert caps_for(256) == Caps(MOST_CONNECTIONS, MOST_CONNECTIONS // 2)
    assert caps_for(128) == Caps(128 - DESCRIPTORS_KEPT, 16)
    assert caps_for(64) == Caps(FEWEST_CONNECTIONS, FEWEST_CONNECTIONS // 2)


def test_x2_a_limit_that_is_too_low_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "log", structlog.wrap_logger(None, wrapper_class=structlog.BoundLogger))
    with structlog.testing.capture_logs() as logged:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (128, 128))
        assert caps_here().total == 32
        monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
        assert caps_here().total == MOST_CONNECTIONS
    assert [(line["limit"], line["needed"]) for line in logged] == [
        (128, MOST_CONNECTIONS + DESCRIPTORS_KEPT)
    ]


def test_x2_the_longest_waiting_connection_of_the_peer_at_its_cap_is_closed() -> None:
    async def play() -> None:
        admission = Admission(Caps(4, 2))
        closed: list[str] = []

        def enter(peer: Peer, name: str) -> module.Admitted | None:
            made = admission.admit(peer)
            if made is not None:
                assert made.set_up(lambda: closed.append(name))
            return made

        first, second = enter(KIOSK, "first"), enter(KIOSK, "second")
        enter(OTHER, "other")
        assert first is not None
        assert second is not None
        admission.enter_phase(first, "answer")
        assert enter(KIOSK, "third") is not None
        assert closed == ["second"]
        admission.enter_phase(first, "head")  # answered: it waits again, behind the third
        assert enter(KIOSK, "fourth") is not None
        assert closed == ["second", "third"]
        enter(OTHER, "other 2")
        assert enter(("uid", 7), "new") is not None  # all are four: the oldest of those who have most
        assert closed[2:] == ["other"]
        assert (admission.counts.displaced, admission.counts.refused, len(admission)) == (3, 0, 4)

    asyncio.run(play())


def test_x2_with_every_connection_busy_a_new_one_is_refused_except_the_daemon_s_own() -> None:
    async def play() -> None:
        admission = Admission(Caps(2, 2))
        for _ in range(2):
            made = admission.admit(KIOSK)
            assert made is not None
            admission.enter_phase(made, "answer")
        assert admission.admit(KIOSK) is None
        assert admission.admit(OTHER) is None
        assert admission.admit(OURSELVES) is not None
        assert admission.counts.refused == 2

    asyncio.run(play())


def test_x2_closed_connections_are_one_line_a_minute_with_their_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "log", structlog.wrap_logger(None, wrapper_class=structlog.BoundLogger))

    async def play() -> None:
        admission = Admission(Caps(2, 1))
        for _ in range(500):
            assert admission.admit(KIOSK) is not None
        await asyncio.sleep(REPORT_S)
        admission.accept_failed()

    with structlog.testing.capture_logs() as logged, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play())
    closed = [(line["peer"], line["displaced"], line["accept_errors"]) for line in logged]
    assert closed == [("uid 1001", 1, 0), ("uid 1001", 499, 1)]


@pytest.mark.usefixtures("strangers")
async def test_x2_half_requests_are_closed_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_server, "REQUEST_S", 0.2)
    async with served(tmp_path, Caps(8, 8)) as site:
        head, head_writer = await site.connect(HALF)
        body, body_writer = await site.connect(request(BODY[:-3], len(BODY)))
        silent, silent_writer = await site.connect()
        assert (await head.read()).startswith(b"HTTP/1.1 408 ")
        assert (await silent.read()).startswith(b"HTTP/1.1 408 ")
        with contextlib.suppress(ConnectionResetError):
            assert await body.read() == b""
        await site.until_open(0)
        assert site.problems == ["body: is not complete"]
        assert site.admission.counts.timed_out == 3
        assert await site.answer(request()) == b"HTTP/1.1 200 OK"
        for writer in (head_writer, body_writer, silent_writer):
            writer.close()


@pytest.mark.usefixtures("strangers")
async def test_x2_slowly_arriving_bytes_do_not_extend_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_server, "REQUEST_S", 0.3)
    async with served(tmp_path, Caps(8, 8)) as site:
        reader, writer = await site.connect(HALF)

        async def drip() -> None:
            while True:
                writer.write(b"X-A: b\r\n")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        await site.until_open(0)
        dripping.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await dripping
        writer.close()
        assert site.admission.counts.timed_out == 1


@pytest.mark.usefixtures("strangers")
async def test_x2_an_answer_may_take_longer_than_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_server, "REQUEST_S", 0.05)
    async with served(tmp_path, Caps(8, 8)) as site:
        waiting = asyncio.create_task(site.answer(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"))
        await asyncio.sleep(0.3)
        site.hold.set()
        assert await waiting == b"HTTP/1.1 200 OK"
        assert site.admission.counts.timed_out == 0


@pytest.mark.usefixtures("strangers")
async def test_x2_a_whole_request_is_served_among_many_half_sent_ones(tmp_path: Path) -> None:
    async with served(tmp_path, Caps(16, 8)) as site:
        halves = []
        for n in range(60):
            halves.append(await site.connect(HALF if n % 2 else request(b"", 9)))
            if n % 10 == 9:
                assert await site.answer(request()) == b"HTTP/1.1 200 OK"
                assert len(site.admission) <= 8
        assert len(site.entered) == 6
        assert site.admission.counts.displaced >= 50
        for _, writer in halves:
            writer.close()


@pytest.mark.usefixtures("strangers")
async def test_x2_where_no_connection_can_be_closed_the_answer_is_503(tmp_path: Path) -> None:
    async with served(tmp_path, Caps(2, 2)) as site:
        slow = [asyncio.create_task(site.answer(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")) for _ in range(2)]
        async with asyncio.timeout(60):
            while sum(one.phase == "answer" for one in site.admission._inside) < 2:
                await asyncio.sleep(0.005)
        assert await site.answer(b"") == b"HTTP/1.1 503 Service Unavailable"
        site.hold.set()
        assert await asyncio.gather(*slow) == [b"HTTP/1.1 200 OK"] * 2
        await site.until_open(0)
        assert await site.answer(request()) == b"HTTP/1.1 200 OK"


class NoDescriptors:
    """A listening socket that has none left for a while, as far as `accept` says."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.failing = 0

    def accept(self) -> tuple[socket.socket, object]:
        if self.failing:
            self.failing -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._listener.accept()

    def setblocking(self, on: bool) -> None:
        self._listener.setblocking(on)

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.usefixtures("strangers")
async def test_x2_without_descriptors_accepting_pauses_and_a_waiting_one_is_closed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "agent.sock"
    site = Served(path, Admission(Caps(8, 8)))
    listener = NoDescriptors(unix_server.bind_socket(path))
    app = Starlette(routes=[Route("/code", site.code, methods=["POST"])])
    task = asyncio.create_task(unix_server.serve_on(app, listener, site.admission))  # type: ignore[arg-type]
    reader, writer = await site.connect(HALF)
    await site.until_open(1)
    listener.failing = 3
    assert await site.answer(request()) == b"HTTP/1.1 200 OK"
    assert site.admission.counts.accept_errors == 3
    assert site.admission.counts.displaced == 1
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_peers_are_distinguished(tmp_path: Path) -> None:
    with socket.socket() as listener, socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        with listener.accept()[0] as accepted:
            assert peer_key(accepted) == ("address", "127.0.0.1")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_key(ours) == OURSELVES
