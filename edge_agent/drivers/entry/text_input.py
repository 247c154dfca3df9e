"""Common parts of scanners and keypads: reading a descriptor, and passing texts on.

A text may be a customer's code, so it is not logged.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from edge_agent.errors import PortLost

LONGEST_TEXT = 1024
"""Characters; a longer text is discarded as a whole."""
REOPEN_S = 1.0
"""Pause before a lost device is opened again."""
WAITING_TEXTS = 4
"""How many texts may wait while an earlier one is handled; further ones are discarded."""

OnText = Callable[[str, float], Awaitable[object]]
"""Gets a text, and how many seconds ago it was read: it may have waited for earlier texts."""

log = structlog.get_logger()

_UNSEEN = r"\x00-\x1a\x1c-\x20\x7f-\xa0\xad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff"
"""In a character class: control characters (STX, ETX, DLE, GS, …), all blanks, byte order marks."""
_ESCAPE = r"\x1b(?!\[)"
"""An escape; with a bracket it begins a key of a terminal, which is no text."""
_OUTER = re.compile(rf"\A(?:[{_UNSEEN}]|{_ESCAPE})+|(?:[{_UNSEEN}]|{_ESCAPE})+\Z")
_MARKS = re.compile(rf"\A[{_UNSEEN}#*]+|[{_UNSEEN}#*]+\Z")
"""Also what keypads send with Enter and Clear, and Code 39 has at both ends."""
_FRONT = re.compile(
    rf"""
    [{_UNSEEN}]+
    | \][A-Za-z][0-9A-Za-z]   # AIM identifier of the symbology, such as ]Q1 (ISO/IEC 15424)
    | \\[0-9]{{6}}            # ECI designator, such as \000026 for UTF-8 (AIM ECI)
    """,
    re.VERBOSE,
)
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


def clean(text: str, prefix: str = "", suffix: str = "") -> str:
    """The text without what a scanner or keypad puts around it: control characters and blanks, AIM
    identifier, ECI designator, `#` and `*`, and the configured `prefix` and `suffix`. Full-width characters
    become plain ones."""
    text = _OUTER.sub("", text.translate(_FULL_WIDTH))
    while found := _FRONT.match(text):
        text = text[found.end() :]
    if prefix and text.startswith(prefix):
        text = text[len(prefix) :]
    if suffix:
        whole = next((one for one in (text, _MARKS.sub("", text)) if one.endswith(suffix)), None)
        text = text if whole is None else whole[: -len(suffix)]
    return _MARKS.sub("", text)


class Outlet:
    """Passes texts on one after the other, while reading continues; counts those that are discarded."""

    def __init__(self, source: str, on_text: OnText) -> None:
        self.dropped = 0
        self._source = source
        self._on_text = on_text
        self._waiting: asyncio.Queue[tuple[str, float]] = asyncio.Queue(WAITING_TEXTS)

    def offer(self, text: str) -> None:
        """Passes the text on when its turn comes."""
        try:
            self._waiting.put_nowait((text, asyncio.get_running_loop().time()))
        except asyncio.QueueFull:
            self.drop("too many at once")

    def drop(self, reason: str) -> None:
        """Discards a text; logged at the 1st, 2nd, 4th, 8th…"""
        self.dropped += 1
        if self.dropped.bit_count() == 1:
            log.warning("entry dropped", source=self._source, reason=reason, dropped=self.dropped)

    async def run(self) -> None:
        """Handles the texts until cancelled. Raises what `on_text` raises."""
        while True:
            text, read_s = await self._waiting.get()
            await self._on_text(text, asyncio.get_running_loop().time() - read_s)


class DescriptorReader:
    """A non-blocking descriptor on the running loop; `close` closes it too."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._readable.set)

    async def read(self, idle_after_s: float | None) -> bytes | None:
        """The bytes that have arrived; b"" if none arrived within `idle_after_s` (None: no limit); None when
        the line hung up."""
        while True:
            try:
                async with asyncio.timeout(idle_after_s):
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
        """Closes the device."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


class Cutter(Protocol):
    """Cuts what a device sends into texts."""

    @property
    def idle_after_s(self) -> float | None:
        """How long to wait for more before `idle`; None: no text is begun."""

    def feed(self, data: bytes) -> list[str]:
        """The texts that `data` completes."""

    def idle(self) -> list[str]:
        """The texts that a pause of `idle_after_s` ends."""


class TextReader:
    """Reads texts from one device until cancelled; opens it again after a loss.

    `open_device` gives a non-blocking descriptor, or raises `PortLost`; each opening gets a new cutter.
    """

    def __init__(
        self,
        source: str,
        on_text: OnText,
        open_device: Callable[[], int],
        cutter: Callable[[Callable[[str], None]], Cutter],
    ) -> None:
        """`cutter` makes a cutter from what it calls with the reason for each discarded text."""
        self._source = source
        self._open_device = open_device
        self._cutter = cutter
        self.outlet = Outlet(source, on_text)

    async def run(self) -> None:
        """Passes every text to `on_text`, one after the other. Raises what `on_text` raises."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.outlet.run(), name=f"texts of {self._source}")
            while True:
                try:
                    descriptor = self._open_device()
                except PortLost:
                    await asyncio.sleep(REOPEN_S)
                    continue
                await self._read(descriptor)
                await asyncio.sleep(REOPEN_S)

    async def _read(self, descriptor: int) -> None:
        cutter = self._cutter(self.outlet.drop)
        reader = DescriptorReader(descriptor)
        try:
            while (data := await reader.read(cutter.idle_after_s)) is not None:
                for text in cutter.feed(data) if data else cutter.idle():
                    self.outlet.offer(text)
        finally:
            reader.close()
