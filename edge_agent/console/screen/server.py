"""The screen's server: the page, its files, a stream, and what a person at the kiosk may ask for.

It listens on 127.0.0.1 only. A web page of another host must not reach it through the browser either: the
Host header has to be our own (no DNS rebinding), and an entry has to come from our own page as JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from functools import partial
from html import escape
from typing import Annotated, Any
from zlib import crc32

from pydantic import Field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_agent import __version__
from edge_agent.config.screen import ScreenSection
from edge_agent.console.admission import Admission, Caps
from edge_agent.console.api import CodeBody
from edge_agent.console.loopback import serve_on_loopback
from edge_agent.console.screen.feed import ScreenFeed
from edge_agent.console.screen.files import HEADERS, HOST, TYPES, hosts_of, names, read
from edge_agent.console.screen.speech import Speech, SpeechBody
from edge_agent.console.streams import read_body
from edge_agent.errors import Refusal
from edge_agent.protocol.api import Body, rpc_status
from edge_agent.runtime.local_requests import LocalRequests

CAPS = Caps(24, 24)
"""Connections at once: a browser opens six, and an old page may still be connected. All have one address."""
LONGEST_ENTRY = 8192
"""Bytes of the body of an entry."""


class SessionBody(Body):
    """The session of a drop-off that was opened at the screen."""

    session: Annotated[str, Field(strict=True, min_length=1, max_length=64)]


class SameOriginMiddleware:
    """Passes on requests that name our own host, and entries that come from our own page."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = hosts_of(port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request (ASGI)."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), text.encode()) for name, text in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        app = self._app if (problem := self._problem(scope)) is None else problem
        await app(scope, receive, with_headers)

    def _problem(self, scope: Scope) -> Response | None:
        found: dict[str, list[str]] = {}
        for name, text in scope.get("headers", ()):
            found.setdefault(name.decode("latin-1"), []).append(text.decode("latin-1"))
        (host, *others) = found.get("host", [""])
        if host not in self._hosts or others:
            return PlainTextResponse("this host is not served here", 421)
        if scope["method"] in ("GET", "HEAD"):
            return None
        if found.get("origin") != [f"http://{host}"]:
            return PlainTextResponse("an entry comes from the screen's own page", 403)
        if [text.partition(";")[0].strip().lower() for text in found.get("content-type", [])] != [
            TYPES["json"]
        ]:
            return PlainTextResponse("an entry is application/json", 415)
        return None


class EventStream(Response):
    """Sends server-sent events until they end or the client goes. Without Starlette's `StreamingResponse`: it
    loads a backend of anyio, which takes 0.8 MB of the daemon's memory."""

    media_type = "text/event-stream"

    def __init__(self, lines: AsyncGenerator[str, None]) -> None:
        super().__init__()
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request (ASGI)."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        tasks = [asyncio.create_task(self._send(send)), asyncio.create_task(_disconnected(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._lines.aclose()

    async def _send(self, send: Send) -> None:
        async for line in self._lines:
            await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def create_screen(local: LocalRequests, feed: ScreenFeed, section: ScreenSection, name: str) -> Starlette:
    """The application behind the port; `name`: what people call the machine."""

    speech = Speech(section.speech)
    given = {
        "name": name,
        "language": section.language,
        "back_s": section.back_s,
        "help": section.help,
        "speech": speech.mode,
        "code_digits": local.loop.layout.code_digits,
    }
    identity = f"{__version__} {crc32(json.dumps(given).encode()):08x}"
    settings = escape(json.dumps(given | {"page": identity}))

    async def page(_: Request) -> Response:
        return HTMLResponse(read("static", "kiosk.html").replace("{{settings}}", settings))

    async def stream(_: Request) -> Response:
        return EventStream(feed.stream(identity))

    async def code(request: Request) -> Response:
        body = await read_body(request, CodeBody, LONGEST_ENTRY)
        return JSONResponse(feed.result(await local.enter_code(body.text)))

    async def larger_cell(request: Request) -> Response:
        body = await read_body(request, SessionBody, LONGEST_ENTRY)
        return JSONResponse(await feed.larger_cell(body.session, local.larger_cell))

    async def sound(request: Request) -> Response:
        body = await read_body(request, SpeechBody, LONGEST_ENTRY)
        return Response(await speech.sound(body), media_type="audio/wav")

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return JSONResponse(rpc_status(error), 400)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/stream", stream),
            Route("/code", code, methods=["POST"]),
            Route("/larger-cell", larger_cell, methods=["POST"]),
            Route("/speech", sound, methods=["POST"]),
            Route("/static/{name}", partial(_file, "static")),
            Route("/messages/{name}", partial(_file, "messages")),
        ],
        middleware=[Middleware(SameOriginMiddleware, port=section.port)],
        exception_handlers={Refusal: refused},
    )


async def _file(folder: str, request: Request) -> Response:
    """A file of the page."""
    name = str(request.path_params["name"])
    media_type = TYPES.get(name.rpartition(".")[2])
    if media_type is None or name not in names(folder):
        return PlainTextResponse("no such file", 404)
    return Response(read(folder, name), media_type=media_type)


async def serve_screen(app: Starlette, port: int, serve: Callable[..., Any]) -> None:
    """Serves the screen on its port until cancelled; while the port is taken, that is logged and retried.

    `serve(app, listener, admission)` does the serving, see `edge_agent.console.unix_server`.
    """

    async def bounded(app: Starlette, listener: Any) -> None:
        await serve(app, listener, Admission(CAPS, name="screen"))

    await serve_on_loopback(app, (HOST, port), bounded, "the screen is")
