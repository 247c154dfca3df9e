"""What scanners and keypads have in common: a descriptor that is read, and texts that are handed on.

A text may be somebody's code: it is logged nowhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import structlog

LONGEST_TEXT = 1024
"""Characters; a longer text is thrown away whole."""
REOPEN_S = 1.0
"""Pause before a lost device is taken again."""
WAITING_TEXTS = 4
"""How many texts may wait while an earlier one is being dealt with; who enters more enters them in vain."""

OnText = Callable[[str, float], Awaitable[object]]
"""Gets a text, and how many seconds ago it was read: earlier texts may have kept it waiting."""

log = structlog.get_logger()


class Outlet:
    """Hands texts on one after the other, while reading goes on; counts those that are not handed on."""

    def __init__(self, source: str, on_text: OnText) -> None:
        self.dropped = 0
        self._source = source
        self._on_text = on_text
        self._waiting: asyncio.Queue[tuple[str, float]] = asyncio.Queue(WAITING_TEXTS)

    def offer(self, text: str) -> None:
        """Hands the text on when its turn comes."""
        try:
            self._waiting.put_nowait((text, asyncio.get_running_loop().time()))
        except asyncio.QueueFull:
            self.drop("too many at once")

    def drop(self, reason: str) -> None:
        """A text that nobody shall have; told at the 1st, 2nd, 4th, 8th…"""
        self.dropped += 1
        if self.dropped.bit_count() == 1:
            log.warning("entry dropped", source=self._source, reason=reason, dropped=self.dropped)

    async def run(self) -> None:
        """Deals with the texts until cancelled. Raises what `on_text` raises."""
        while True:
            text, read_s = await self._waiting.get()
            await self._on_text(text, asyncio.get_running_loop().time() - read_s)


class DescriptorReader:
    """A non-blocking descriptor on the running loop; `close` closes it too."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._readable.set)

    async def read(self, patience_s: float | None) -> bytes | None:
        """What has come; b"" if nothing did for so long (None: for ever); None when the line hung up."""
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    await self._readable.wait()
                self._readable.clear()
                return os.read(self._descriptor, 4096) or None
            except TimeoutError:
                return b""
            except BlockingIOError:
                continue
            except OSError:
                return None

    def close(self) -> None:
        """Gives the device back."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
