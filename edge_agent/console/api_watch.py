"""Checks whether the local API still answers: sends it a request over its own socket, like any client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from edge_agent.runtime.loop_watch import MonitoredLoop

log = structlog.get_logger()

REQUEST_S = 10.0
FIRST_REQUEST_S = 0.05
"""How often it is asked until it has answered once."""
RESPONSE_LIMIT_S = 10.0
API_HANGS_AFTER_S = 30.0
REQUEST = b"GET /v1/alive HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"


class ApiWatch:
    """Asks until cancelled; only an answer shows that the API is alive."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers = 0

    def monitored_loops(self) -> list[MonitoredLoop]:
        """See `HasLoops`."""
        return [MonitoredLoop("local API", lambda: self._answers, API_HANGS_AFTER_S)]

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            try:
                async with asyncio.timeout(RESPONSE_LIMIT_S):
                    await self._ask()
            except (OSError, TimeoutError) as error:
                if self._answers:
                    log.warning("the local API does not answer", reason=str(error) or "no answer in time")
            await asyncio.sleep(REQUEST_S if self._answers else FIRST_REQUEST_S)

    async def _ask(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(REQUEST)
            if (await reader.readline()).startswith(b"HTTP/1.1 2"):
                self._answers += 1
        finally:
            writer.close()
