"""Serves an application on a TCP port of the loopback interface, and waits while another process has it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import structlog
from starlette.applications import Starlette

log = structlog.get_logger()

REOPEN_S = 30.0
"""Pause between attempts to open a port that another process has."""


async def serve_on_loopback(
    app: Starlette, address: tuple[str, int], serve: Callable[..., Any], what: str
) -> None:
    """Serves until cancelled; while the port is taken, that is logged and retried.

    `serve(app, listener)` does the serving, see `edge_agent.console.unix_server`; `what` begins the line of
    the log: "metrics are".
    """
    logged = ""
    while True:
        listener = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        with contextlib.closing(listener):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(address)
                listener.listen()
            except OSError as error:
                if logged != str(error):
                    logged = str(error)
                    log.error(f"{what} not served", host=address[0], port=address[1], reason=logged)
                await asyncio.sleep(REOPEN_S)
                continue
            await serve(app, listener)
