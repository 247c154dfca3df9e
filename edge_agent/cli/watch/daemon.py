"""Asks the daemon for the watch screen; raises an error instead of ending the process if it does not
answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from edge_agent.cli.daemon import PIN_NEEDED, UNLOCK_TIMEOUT_S, refusal_in, visible

LOOK_TIMEOUT_S = 5.0
LAST_EVENTS = 50


class NoDaemon(Exception):
    """The daemon does not answer, or not in time."""


class Refused(Exception):
    """The daemon has refused; the text is its message. `wants_pin`: a technician's PIN is missing."""

    def __init__(self, message: str, *, wants_pin: bool = False) -> None:
        super().__init__(message)
        self.wants_pin = wants_pin


@dataclass(frozen=True, slots=True)
class Wall:
    """All that is to be seen at one moment: the bodies of `/v1/status`, `/v1/cells` and `/v1/bus`."""

    status: dict[str, Any]
    cells: list[dict[str, Any]]
    buses: list[dict[str, Any]]


class Daemon:
    """Asks over the Unix socket. Everything raises `NoDaemon` or `Refused`."""

    def __init__(self, socket: Path, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.socket = socket
        way = httpx.AsyncHTTPTransport(uds=str(socket)) if transport is None else transport
        self._client = httpx.AsyncClient(transport=way, base_url="http://agent")

    async def wall(self) -> Wall:
        """Everything as it is now."""
        return Wall(
            await self._call("GET", "/v1/status"),
            await self._call("GET", "/v1/cells"),
            await self._call("GET", "/v1/bus"),
        )

    async def last_events(self) -> list[dict[str, Any]]:
        """What happened last, newest last."""
        rows: list[dict[str, Any]] = await self._call("GET", f"/v1/events?limit={LAST_EVENTS}")
        return rows

    async def act(self, label: str, act: str, reason: str | None, headers: dict[str, str]) -> None:
        """A technician's act on a cell; returns when it is done."""
        body = None if reason is None else {"reason": reason}
        path = f"/v1/cells/{quote(label, safe='')}/{act}"
        await self._call("POST", path, body, headers, timeout_s=UNLOCK_TIMEOUT_S)

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """New events and ledger lines, until the daemon ends the stream."""
        try:
            async with self._client.stream("GET", "/v1/events?follow=1", timeout=None) as response:
                if response.is_error:
                    await response.aread()
                    raise _refused(response)
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        yield visible(json.loads(line.removeprefix("data: ")))
        except httpx.TransportError as error:
            raise NoDaemon(str(error)) from None

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = LOOK_TIMEOUT_S,
    ) -> Any:
        try:
            response = await self._client.request(method, path, json=body, headers=headers, timeout=timeout_s)
        except httpx.TransportError as error:
            raise NoDaemon(str(error) or type(error).__name__) from None
        if response.is_error:
            raise _refused(response)
        return visible(response.json())


def _refused(response: httpx.Response) -> Refused:
    said = visible(refusal_in(response))
    return Refused(said["message"], wants_pin=said["code"] == PIN_NEEDED)
