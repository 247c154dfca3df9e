"""A real HTTP server that takes webhooks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.cloud_gateway.support import eventually


@dataclass
class Hook:
    """One webhook as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    content: bytes = b""


@dataclass
class Receiver:
    """A real HTTP server for webhooks; `status` gives the answer of each, None for silence; `hold` is awaited
    before it."""

    port: int = 0
    got: list[Hook] = field(default_factory=list)
    status: Callable[[Hook], int | None] = lambda _: 200
    hold: Callable[[Hook], Awaitable[None]] | None = None
    location: str = ""
    retry_after: str = ""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, good-bye."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            hook = Hook(head[0].split(" ")[1], headers, json.loads(body), body)
            self.got.append(hook)
            if self.hold is not None:
                await self.hold(hook)
            status = self.status(hook)
            if status is None:
                await reader.read()  # until the other side gives up
                return
            moved = f"Location: {self.location}\r\n" if self.location else ""
            moved += f"Retry-After: {self.retry_after}\r\n" if self.retry_after else ""
            answer = f"HTTP/1.1 {status} X\r\n{moved}Content-Length: 0\r\nConnection: close\r\n\r\n"
            writer.write(answer.encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A running receiver."""
    target = Receiver()
    server = await asyncio.start_server(target.handle, "127.0.0.1", 0)
    target.port = server.sockets[0].getsockname()[1]
    try:
        yield target
    finally:
        server.close()
        await server.wait_closed()
        others = asyncio.all_tasks()
        await eventually(lambda: not [task for task in others if not task.done() and _is_handler(task)])


def _is_handler(task: asyncio.Task[Any]) -> bool:
    return "Receiver.handle" in repr(task.get_coro())
