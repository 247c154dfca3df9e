"""The page that shows a claim code at the kiosk, while `edge-agent init --claim` waits and no daemon runs.

It is read only, on the loopback interface, and ends with the command. Nothing that opens a door is behind it:
only the code, some files of the screen, and what makes an open page of the daemon load this one.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, get_args

from edge_agent.config.screen import Language
from edge_agent.console.screen.files import HEADERS, HOST, TYPES, hosts_of, read

LANGUAGES: tuple[str, ...] = get_args(Language)
FILES = {f"/static/{name}": ("static", name) for name in ("claim.js", "words.js", "kiosk.css")} | {
    f"/messages/{name}.json": ("messages", f"{name}.json") for name in LANGUAGES
}
"""All that is served of the screen."""
CONNECTIONS = 24
"""Connections at once: a browser opens six."""
IDLE_S = 10.0
"""A connection that sends no request for this long is closed."""
EVENTS = (
    ("cabinet", {"cells": [], "page": "claim"}),
    ("state", {"doors": {}, "link": True, "service": "ok", "rest": {}}),
)
"""What an open page of the daemon gets: there is another page, and it loads that."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, language: str) -> None:
        self.code: str | None = None
        self.hosts = hosts_of(port)
        settings = escape(json.dumps({"language": language if language in LANGUAGES else "en"}))
        self.page = read("static", "claim.html").replace("{{settings}}", settings)
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((HOST, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Drops what is more than `CONNECTIONS`."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in between is no fault of the command."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answers; every other method is refused by the base class."""
        server = self.server
        if self.headers.get_all("Host") is None or set(self.headers.get_all("Host", [])) - server.hosts:
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", "this host is not served here")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, "text/html", server.page)
        elif self.path == "/claim.json":
            self._answer(HTTPStatus.OK, TYPES["json"], json.dumps({"code": server.code}))
        elif self.path == "/stream":
            events = "".join(f"event: {kind}\ndata: {json.dumps(body)}\n\n" for kind, body in EVENTS)
            self._answer(HTTPStatus.OK, "text/event-stream", events)
        elif (place := FILES.get(self.path)) is not None:
            self._answer(HTTPStatus.OK, TYPES[place[1].rpartition(".")[2]], read(*place))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "no such file")

    def _answer(self, status: HTTPStatus, media_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """The Server header names no version."""
        return "edge-agent"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


@contextmanager
def claim_page(port: int, language: str) -> Iterator[Callable[[str | None], None]]:
    """Serves the page for the length of a `with`; what it gives sets the code, or takes it away (None).

    Raises `OSError` if the port cannot be had.
    """
    server = _Server(port, language)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="claim page", daemon=True)
    thread.start()

    def show(code: str | None) -> None:
        server.code = code

    try:
        yield show
    finally:
        server.code = None
        server.shutdown()
        thread.join()
        server.server_close()
