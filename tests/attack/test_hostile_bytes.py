"""X9: no bytes at the local API's socket give a traceback, a 500 or a connection that stays."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edge_agent.console.admission import Admission, Caps
from edge_agent.console.api import CodeBody
from edge_agent.console.streams import read_body
from edge_agent.console.unix_server import LONGEST_HEAD, bind_socket, serve_on
from edge_agent.errors import Refusal
from tests.attack.hostile import EFFORT

BODY = b'{"text": "1234"}'
CHUNKED = b"10\r\n" + BODY + b"\r\n0\r\n\r\n"
Head = st.sampled_from(
    [
        b"Host: a",
        b"Content-Length: 16",
        b"Content-Length: 17",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 16, 16",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"X: " + b"y" * LONGEST_HEAD,
        b"\xff\xfe: \x80",
        b": none",
        b" folded",
    ]
)
Requests = st.one_of(
    st.binary(max_size=200),
    st.tuples(
        st.sampled_from(
            [b"POST /code HTTP/1.1", b"GET /%ff%00 HTTP/1.1", b"POST * HTTP/9.9", b"PRI * HTTP/2.0"]
        ),
        st.lists(Head, max_size=4),
        st.sampled_from(
            [BODY, b"", b"10\r\n" + BODY + b"\r\n0\r\n\r\n", b"ffffffffffffffffffff\r\n", b"-1\r\n"]
        ),
    ).map(lambda parts: b"\r\n".join([parts[0], *parts[1], b"", parts[2]])),
)


class Errors(logging.Handler):
    """Keeps what asyncio and uvicorn log as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Raw:
    """A server on a real socket, and what it answered."""

    def __init__(self, runner: asyncio.Runner, path: Path) -> None:
        self.runner, self.path = runner, path
        self.admission = Admission(Caps(8, 8))
        self.errors = Errors()

    async def code(self, request: Request) -> Response:
        try:
            await read_body(request, CodeBody)
        except Refusal as refusal:
            return PlainTextResponse(refusal.message, 400)
        return PlainTextResponse("entered")

    async def start(self) -> None:
        app = Starlette(routes=[Route("/code", self.code, methods=["POST"])])
        self.task = asyncio.create_task(serve_on(app, bind_socket(self.path), self.admission))

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def send(self, sent: bytes) -> bytes:
        """What is answered until the server closes, after we have said all."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        with contextlib.suppress(ConnectionError):
            writer.write(sent)
            writer.write_eof()
        got = b""
        async with asyncio.timeout(8):
            with contextlib.suppress(ConnectionError):
                got = await reader.read()
            writer.close()
            while len(self.admission):
                await asyncio.sleep(0.001)
        return got


@pytest.fixture(scope="module", name="raw")
def _raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Raw]:
    with asyncio.Runner() as runner:
        raw = Raw(runner, tmp_path_factory.mktemp("raw") / "agent.sock")
        logging.getLogger().addHandler(raw.errors)
        runner.run(raw.start())
        yield raw
        runner.run(raw.stop())
        logging.getLogger().removeHandler(raw.errors)


@EFFORT
@given(sent=Requests)
def test_x9_no_bytes_at_the_socket_give_a_traceback_or_a_500(raw: Raw, sent: bytes) -> None:
    answer: Any = raw.runner.run(raw.send(sent))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer
    assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert not raw.errors.records, raw.errors.records


def test_x9_a_request_is_answered_afterwards(raw: Raw) -> None:
    whole = b"POST /code HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 16\r\n\r\n" + BODY
    assert raw.runner.run(raw.send(whole)).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("encoding", [b"chunked", b"Chunked"])
def test_x9_a_length_together_with_an_encoding_is_refused(raw: Raw, encoding: bytes) -> None:
    lengths = b"Content-Length: 16\r\nTransfer-Encoding: " + encoding + b"\r\n\r\n"
    head = b"POST /code HTTP/1.1\r\nHost: a\r\n" + lengths
    assert raw.runner.run(raw.send(head + CHUNKED)).startswith(b"HTTP/1.1 400 ")
