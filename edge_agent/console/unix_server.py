"""An application served on a Unix socket that only our user and group may use.

uvicorn would make the socket 0666 and take the signals; both are kept from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_agent.console.access import state_of


class _Server(uvicorn.Server):
    """Leaves the signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(H11Protocol):
    """Puts into the state of every request whose process has made its connection: uvicorn does not say."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.BaseProtocol.connection_made`."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, **state_of(transport.get_extra_info("socket"))}


def bind_socket(path: Path, group: int | None = None) -> socket.socket:
    """A listening Unix socket that only our user and our group, or the one given, may use.

    An old one at its place is replaced.
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
    listener.listen()
    return listener


def _take_away(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


async def serve(app: Starlette, path: Path, group: int | None = None) -> None:
    """Serves an application until cancelled, then takes the socket away."""
    try:
        await serve_on(app, bind_socket(path, group))
    finally:
        _take_away(path)


async def serve_on(app: Starlette, listener: socket.socket) -> None:
    """Serves an application on a socket that listens, until cancelled."""
    config = uvicorn.Config(
        app, http=_Protocol, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
    try:
        await asyncio.shield(task)
    finally:
        server.should_exit = True
        await task
