"""Chromium's DevTools protocol over a pipe: JSON messages that end with a zero byte.

With `--remote-debugging-pipe` the browser reads requests from its file descriptor 3 and writes replies and
events to 4. No port is open, so that no other program can steer the browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from typing import Any

LONGEST_MESSAGE = 16 * 1024 * 1024
"""Bytes; a small picture of the page is some kilobytes."""
FIRST_DESCRIPTOR = 10
"""Descriptors for the child begin here, so that moving one to 3 or 4 never closes the other."""
MOVE = 'exec 3<&"$1"- 4>&"$2"-; shift 2; exec "$@"'
"""For bash: moves the two descriptors to 3 and 4, and becomes the command."""
CRASHED = frozenset({"Inspector.targetCrashed", "Target.targetCrashed"})


class BrowserGone(Exception):
    """The browser has closed the pipe, or its page has crashed."""


class MethodFailed(Exception):
    """The browser answers a method with an error, for instance while the page is being loaded."""


class DevTools:
    """The two pipes to one browser process."""

    def __init__(self) -> None:
        self._numbers = 0
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._gone: str | None = None
        requests, self._to_browser = os.pipe()
        from_browser, replies = os.pipe()
        self._from_browser = os.fdopen(from_browser, "rb", 0)  # a file: closing it twice is harmless
        self.descriptors = tuple(
            fcntl.fcntl(one, fcntl.F_DUPFD, FIRST_DESCRIPTOR) for one in (requests, replies)
        )
        """The browser's ends, which the child process inherits."""
        os.close(requests)
        os.close(replies)
        self._reading: asyncio.Task[None] | None = None
        self._transport: asyncio.ReadTransport | None = None

    def command(self, command: list[str]) -> list[str]:
        """The command line that starts `command` with the pipes in the places that it expects."""
        return ["/bin/bash", "-c", MOVE, "kiosk-browser", *map(str, self.descriptors), *command]

    async def started(self) -> None:
        """The process runs and has its ends: closes them here, and begins to read."""
        for one in self.descriptors:
            os.close(one)
        self.descriptors = ()
        reader = asyncio.StreamReader(LONGEST_MESSAGE)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._from_browser
        )
        self._reading = asyncio.create_task(self._read(reader), name="devtools")

    async def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result of a method.

        Raises `MethodFailed`, and `BrowserGone` if the browser ends or its page has crashed.
        """
        if self._gone is not None:
            raise BrowserGone(self._gone)
        self._numbers += 1
        number = self._numbers
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            os.write(
                self._to_browser, json.dumps(message).encode() + b"\0"
            )  # far shorter than a pipe's buffer
            return await reply
        except OSError:
            raise BrowserGone("the browser reads no requests") from None
        finally:
            self._replies.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._handle(json.loads((await reader.readuntil(b"\0"))[:-1]))
        except asyncio.IncompleteReadError:
            self._end("the browser has closed its pipe")
        except (asyncio.LimitOverrunError, ValueError):
            self._end("the browser has sent what is no message")

    def _handle(self, message: dict[str, Any]) -> None:
        if message.get("method") in CRASHED:
            self._end("the page has crashed")
        reply = self._replies.get(message.get("id", 0))
        if reply is not None and not reply.done():
            if "error" in message:
                reply.set_exception(MethodFailed(str(message["error"].get("message"))))
            else:
                reply.set_result(message.get("result", {}))

    def _end(self, why: str) -> None:
        self._gone = self._gone or why
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(BrowserGone(why))

    async def close(self) -> None:
        """Closes the pipes."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()
        else:
            self._from_browser.close()
        for one in (*self.descriptors, self._to_browser):
            with contextlib.suppress(OSError):
                os.close(one)
