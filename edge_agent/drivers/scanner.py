"""A scanner or keypad that sends lines of text on a serial port of its own.

GM65 and its like send the text and, when configured so, a carriage return; without one a pause ends it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from edge_agent.drivers.tty import open_raw
from edge_agent.errors import PortLost

LONGEST_TEXT = 1024
IDLE_GAP_S = 0.1
REOPEN_S = 1.0


class LineFramer:
    """Cuts a stream into texts at CR or LF; a text longer than 1,024 characters is thrown away whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._overlong = False

    def feed(self, data: bytes) -> list[str]:
        """The texts that `data` completes."""
        texts = []
        for byte in data:
            if byte in b"\r\n":
                texts += self.flush()
            elif len(self._buffer) < LONGEST_TEXT:
                self._buffer.append(byte)
            else:
                self._overlong = True
        return texts

    def flush(self) -> list[str]:
        """What has come since the last end of a text, if anything."""
        text = self._buffer.decode("ascii", "replace").strip()
        overlong, self._overlong = self._overlong, False
        self._buffer.clear()
        return [text] if text and not overlong else []


class SerialScanner:
    """Reads one port for as long as `run` runs; takes the port again when it was lost."""

    def __init__(self, port: str, baud: int, on_text: Callable[[str], Awaitable[None]]) -> None:
        self._port = port
        self._baud = baud
        self._on_text = on_text

    async def run(self) -> None:
        """Hands every text to `on_text`, one after the other."""
        while True:
            try:
                descriptor = open_raw(self._port, self._baud)
            except PortLost:
                await asyncio.sleep(REOPEN_S)
                continue
            try:
                await self._read(descriptor)
            finally:
                asyncio.get_running_loop().remove_reader(descriptor)
                os.close(descriptor)
            await asyncio.sleep(REOPEN_S)

    async def _read(self, descriptor: int) -> None:
        framer = LineFramer()
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, readable.set)
        pending = False
        while True:
            try:
                async with asyncio.timeout(IDLE_GAP_S if pending else None):
                    await readable.wait()
                readable.clear()
                data = os.read(descriptor, 4096)
            except TimeoutError:
                texts, pending = framer.flush(), False
            except BlockingIOError:
                continue
            except OSError:
                return
            else:
                if not data:
                    return
                texts, pending = framer.feed(data), True
            for text in texts:
                await self._on_text(text)
