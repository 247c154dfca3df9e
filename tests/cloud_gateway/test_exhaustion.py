"""Clients that hold what others need: connections, bodies, answers, drawings, lines of the log."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cloud_gateway.api import http_server, images
from cloud_gateway.api.http_server import Connections, Descriptors, Server, config_of
from cloud_gateway.app import listen
from cloud_gateway.logs import REPEATS_MAX, WINDOW_S, Repeats
from tests.cloud_gateway.hostile import hostile
from tests.cloud_gateway.support import API, KEY, eventually, logged, running_gateway, settings
from tests.cloud_gateway.test_process import command, write_config
from tests.support.broker import Broker
from tools.bench.ports import free_port

HALF = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
WHOLE = HALF + b"\r\n"
QR = "DLV-DROP-res_0123456789ab-1234"


async def _echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _slow(request: Request) -> Response:
    await request.app.state.may_go.wait()
    return PlainTextResponse("done")


async def _pause(_request: Request) -> Response:
    await asyncio.sleep(0.4)
    return PlainTextResponse("done")


async def _large(_request: Request) -> Response:
    return PlainTextResponse("x" * 20_000_000)


@asynccontextmanager
async def serving(
    most: int = 10, per_address: int = 100, proxies: tuple[str, ...] = ()
) -> AsyncIterator[tuple[int, Connections]]:
    """The server with a small application; its port and its connections."""
    paths = (("/healthz", _echo), ("/slow", _slow), ("/pause", _pause), ("/large", _large), ("/echo", _echo))
    app = Starlette(routes=[Route(path, end, methods=["GET", "POST"]) for path, end in paths])
    app.state.may_go = asyncio.Event()
    connections = Connections(most, per_address, [ip_network(one) for one in proxies])
    server = Server(config_of(app, (), "off"), connections)
    with listen("127.0.0.1", 0) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started)
        try:
            yield listener.getsockname()[1], connections
        finally:
            app.state.may_go.set()
            server.should_exit = True
            await task


async def opened(port: int, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which something was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the other side closed."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        (b"", "head"),
        (HALF, "head"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", "body"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "body"),
        (b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n", "answer"),
    ],
)
async def test_x2_a_slow_client_is_closed_at_its_deadline(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, phase: str
) -> None:
    for name in ("HEAD_S", "BODY_S", "RESPONSE_S"):
        monkeypatch.setattr(http_server, name, 0.3)
    with logged() as lines:
        async with serving() as (port, connections):
            reader, writer = await opened(port, sent)
            if phase == "answer":  # it takes nothing of it
                writer.transport.pause_reading()  # type: ignore[attr-defined]
            await eventually(lambda: [one["phase"] for one in lines if one["event"] == "client_too_slow"])
            await eventually(lambda: len(connections) == 0)
            if phase != "answer":
                assert await ended(reader) == b""
            writer.transport.abort()
    assert {one["phase"] for one in lines if one["event"] == "client_too_slow"} == {phase}


async def test_x2_a_client_waiting_for_an_answer_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_S", "BODY_S", "RESPONSE_S"):
        monkeypatch.setattr(http_server, name, 0.1)
    async with serving() as (port, _), httpx.AsyncClient(trust_env=False, timeout=10) as http:
        assert (await http.get(f"http://127.0.0.1:{port}/pause")).text == "done"


async def test_x2_beyond_the_cap_the_longest_idle_connection_makes_room() -> None:
    async with serving(most=10) as (port, connections):
        held = [await opened(port, HALF) for _ in range(30)]
        await eventually(lambda: len(connections) == 10)
        reader, writer = await opened(port, WHOLE)
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert len(connections) == 10
        for reader, _ in held[:20]:
            assert await ended(reader) == b""
        for _, one in [*held, (reader, writer)]:
            one.close()


async def test_x2_a_request_under_way_is_never_closed_for_another() -> None:
    async with serving(most=4) as (port, connections):
        slow = [await opened(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(4)]
        await eventually(lambda: (len(connections), connections.idle) == (4, 0))
        more, more_writer = await opened(port, WHOLE)  # waits in the backlog
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(more.readline(), 0.3)
        slow[0][1].close()
        async with asyncio.timeout(5):
            assert (await more.readline()).startswith(b"HTTP/1.1 200")
        for reader, writer in slow[1:]:
            assert not reader.at_eof()
            writer.close()
        more_writer.close()


@pytest.mark.parametrize(("proxies", "stay"), [((), 3), (("127.0.0.0/8",), 8)])
async def test_x2_the_connections_of_one_address_are_limited_unless_it_is_a_proxy(
    proxies: tuple[str, ...], stay: int
) -> None:
    async with serving(most=20, per_address=3, proxies=proxies) as (port, connections):
        held = [await opened(port, HALF) for _ in range(8)]
        await eventually(lambda: len(connections) == stay)
        await asyncio.sleep(0)
        assert len(connections) == stay
        for _, writer in held:
            writer.close()
        await eventually(lambda: len(connections) == 0)
        assert not connections._by_client


def test_x2_connections_and_webhooks_fit_below_the_descriptor_limit() -> None:
    for limit in (128, 256, 1024, 4096, 1_000_000):
        shared = Descriptors.of_limit(limit)
        assert 1 <= shared.webhooks <= 200
        assert shared.connections + shared.webhooks + http_server.OWN_DESCRIPTORS <= limit
    assert Descriptors.of_limit(10).connections >= 10


@asynccontextmanager
async def limited(folder: Path, port: int, broker: Broker, descriptors: int) -> AsyncIterator[Path]:
    """The gateway as a process with a limit of descriptors; gives its log."""
    config, log = write_config(folder, port, broker.port), folder / "log"

    running = _popen(config, log, descriptors)
    try:
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(30):
            while not await _is_healthy(http, port):
                await asyncio.sleep(0.1)
        yield log
        running.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.wait, 15) == 0
    finally:
        running.kill()
        await asyncio.to_thread(running.wait)


def _popen(config: Path, log: Path, descriptors: int) -> subprocess.Popen[bytes]:
    limit = f"ulimit -n {descriptors}; exec {shlex.join(command(config))}"
    with log.open("ab") as out:
        return subprocess.Popen(["bash", "-c", limit], stdout=out, stderr=out)


async def _is_healthy(http: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def test_x2_idle_connections_beyond_the_descriptor_limit_block_no_client(
    tmp_path: Path, broker: Broker
) -> None:
    port = free_port()
    async with limited(tmp_path, port, broker, 256) as log:
        held: list[socket.socket] = []
        for _ in range(400):
            one = socket.create_connection(("127.0.0.1", port), timeout=5)
            one.sendall(HALF)
            held.append(one)
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
                for _ in range(20):
                    assert (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
                key = {"X-API-Key": KEY}
                url = f"http://127.0.0.1:{port}{API}/echo"
                answer = await http.post(url, json={"message": "m"}, headers=key)
                assert answer.json() == {"message": "m"}
        finally:
            for one in held:
                one.close()
        text = log.read_text()
        assert "Traceback" not in text
        assert len(text) < 50_000
    counts = [json.loads(line) for line in log.read_text().splitlines()]
    closed = [line for line in counts if line["event"] == "connection_closed_for_another"]
    assert 0 < len(closed) <= REPEATS_MAX + 1


@pytest.mark.parametrize("order", [("Content-Length: 5", "Transfer-Encoding: chunked")] * 1)
async def test_x9_a_request_with_two_lengths_is_refused_and_the_connection_closed(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    async with running_gateway(settings(tmp_path, free_port()), connected=False) as gateway:
        port = gateway.http.base_url.port or 0
        for lines in (order, order[::-1]):
            head = f"POST {API}/echo HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n" + "\r\n".join(lines)
            smuggled = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            reader, writer = await opened(port, f"{head}\r\n\r\n{smuggled}".encode())
            answer = await ended(reader)
            assert answer.count(b"HTTP/1.1 ") == 1
            assert answer.startswith(b"HTTP/1.1 400")
            assert b'"code":3' in answer
            writer.close()


@pytest.mark.parametrize(
    "body", [b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900, b'{"a":' * 32_000]
)
async def test_x9_a_deep_body_is_an_invalid_argument(tmp_path: Path, body: bytes) -> None:
    async with hostile(tmp_path) as site:
        for path in ("/echo", "/reservations", "/machines/search", "/reservations/r/dropoffs"):
            response = await site.http.post(f"{API}{path}", content=body, headers={"X-Request-ID": "x"})
            assert (response.status_code, response.json()["code"]) == (400, 3)


async def test_x5_images_are_limited_by_address_and_kept(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        site.parts.limits._settings = site.parts.settings.limits.model_copy(
            update={"qr_images": 5, "qr_images_per_min": 6}
        )
        answers = [await site.http.get(f"/qrcode/{QR}") for _ in range(8)]
        assert [one.status_code for one in answers] == [200] * 5 + [429] * 3
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 10
        assert answers[-1].json()["code"] == 8
        assert len({one.content for one in answers[:5]}) == 1
        assert list(site.parts.qr_images._kept) == [QR]


async def test_x5_drawing_delays_no_other_request_and_few_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_draw = threading.Event()
    drawn: list[str] = []

    def draw(text: str) -> bytes:
        drawn.append(threading.current_thread().name)
        assert may_draw.wait(30)
        return text.encode()

    monkeypatch.setattr(images, "draw", draw)
    async with hostile(tmp_path) as site:
        monkeypatch.setattr(site.parts.limits, "qr_image", lambda _address: None)
        paths = [f"/qrcode/DLV-DROP-{'x' * 110}{number}-1234" for number in range(60)]
        crowd = [asyncio.create_task(site.http.get(path)) for path in paths]
        try:
            await eventually(lambda: sum(one.done() for one in crowd) == 60 - images.WAITING_MAX)
            # The others are served meanwhile, and so is an image that is known.
            assert (await site.http.get("/healthz")).status_code == 503
            site.parts.qr_images._kept[QR] = b"known"
            assert (await site.http.get(f"/qrcode/{QR}")).content == b"known"
        finally:
            may_draw.set()
        found = Counter([(await one).status_code for one in crowd])
        assert found == {200: images.WAITING_MAX, 429: 60 - images.WAITING_MAX}
        assert set(drawn) == {"gateway-draw_0"}
        assert (await site.http.get(f"/qrcode/DLV-DROP-{'x' * 300}-1234")).status_code == 404


def test_x2_repeated_log_lines_are_counted() -> None:
    now = [0.0]
    repeats = Repeats(lambda: now[0])

    def write(**line: Any) -> dict[str, Any] | None:
        try:
            taken: dict[str, Any] = repeats(None, "", line)
        except structlog.DropEvent:
            return None
        return taken

    written = [write(event="accept_failed", reason=str(n)) for n in range(1000)]
    assert sum(line is not None for line in written) == REPEATS_MAX
    assert write(event="accept_failed", route="/other") is not None
    now[0] += WINDOW_S
    first = write(event="accept_failed")
    assert first is not None
    assert first["not_written"] == 1000 - REPEATS_MAX
    # What somebody with a key does is written line by line.
    for _ in range(3 * REPEATS_MAX):
        assert write(event="request", platform="acme", status=200) is not None
        assert write(event="command", machine_id="m1") is not None
    assert [write(event="request", platform=None) for _ in range(2 * REPEATS_MAX)][-1] is None
    now[0] += WINDOW_S
    assert repeats.overdue() == [("request", REPEATS_MAX)]
    assert repeats.overdue() == []


async def test_x2_a_failed_accept_is_logged_and_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [24] * 3

    async def failing(listener: socket.socket) -> tuple[socket.socket, Any]:
        if failures:
            raise OSError(failures.pop(), "Too many open files")
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", failing)
    monkeypatch.setattr(http_server, "ACCEPT_PAUSE_S", 0.01)
    with logged() as lines:
        async with serving() as (port, _), httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
    found = [line for line in lines if line["event"] == "accept_failed"]
    assert [line["reason"] for line in found] == ["Too many open files"] * 3
