"""A scanner or keypad that sends texts on a serial port of its own.

GM65 and similar ones send the text and, if configured, a carriage return. With factory settings they send no
end mark, and a pause ends the text. Their replies to commands are in the same stream, as binary frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from edge_agent.drivers.entry.text_input import LONGEST_TEXT, OnText, TextReader, clean
from edge_agent.drivers.tty import open_raw

Delimiter = Literal["any", "cr", "lf", "tab", "etx", "hash", "none"]
"""What ends a text: CR, LF, TAB, VT, FF, ETX, EOT, `#` or a pause ("any"), one of them alone, or a pause
alone ("none")."""

IDLE_GAP_S = 0.1
FORGET_S = 1.0
"""If a pause does not end a text, an unfinished one is discarded after this time: the rest of it was lost."""
_ENDS: dict[Delimiter, bytes] = {
    "any": b"\r\n\t\x0b\x0c\x03\x04#",
    "cr": b"\r",
    "lf": b"\n",
    "tab": b"\t",
    "etx": b"\x03",
    "hash": b"#",
    "none": b"",
}


BLANK = bytes(byte for byte in range(0x21) if byte != 0x1B) + b"\x7f"
"""Bytes that are no text of their own."""


class CommandReplies:
    """Removes a GM65's command replies from a stream, wherever they are and however they are cut.

    A reply is `02 00`, `00` for success, the number of data bytes, the data, and the CRC-16 (polynomial
    0x1021, from 0, high byte first) of everything after `02 00`: `02 00 00 01 00 33 31` means that a write
    succeeded. Source: integrators' code for the GM65, which agrees on that reply, and the CRC recomputed from
    it; no reply to a read was at hand. Bytes that only begin like a reply are passed on.
    """

    HEAD = b"\x02\x00\x00"

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The bytes that are certainly no part of a reply."""
        self._held += data
        passed = bytearray()
        while self._held:
            start = self._held.find(self.HEAD[:1])
            if start != 0:
                size = len(self._held) if start < 0 else start
                passed += self._held[:size]
                del self._held[:size]
                continue
            length = self._reply_length()
            if length is None:
                break
            if length == 0:
                passed.append(self._held.pop(0))
            del self._held[:length]
        return bytes(passed)

    def flush(self) -> bytes:
        """Bytes that were held back for the rest of a reply that never came."""
        passed = bytearray()
        while self._held:
            passed.append(self._held.pop(0))
            passed += self.feed(b"")
        return bytes(passed)

    @property
    def holding(self) -> bool:
        """Whether bytes are held back."""
        return bool(self._held)

    def _reply_length(self) -> int | None:
        """The length of the reply at the beginning; 0 if it is none, None if that is not known yet."""
        if self._held[:3] != self.HEAD[: len(self._held)]:
            return 0
        if len(self._held) < 4:
            return None
        end = 4 + self._held[3]
        if len(self._held) < end + 2:
            return None
        sound = _crc16(self._held[2:end]) == int.from_bytes(self._held[end : end + 2], "big")
        return end + 2 if sound else 0


class TextFramer:
    """Cuts a stream into texts. `drop` gets the reason for each discarded text; `prefix` and `suffix` are
    removed from each text."""

    def __init__(
        self, delimiter: Delimiter, drop: Callable[[str], None], prefix: str = "", suffix: str = ""
    ) -> None:
        self._around = (prefix, suffix)
        self._ends = _ENDS[delimiter]
        self._pause_ends = delimiter in ("any", "none")
        self._drop = drop
        self._replies = CommandReplies()
        self._buffer = bytearray()
        self._overlong = False

    @property
    def idle_after_s(self) -> float | None:
        """How long to wait for more before `idle`; None: no text is begun."""
        if not (self._buffer or self._overlong or self._replies.holding):
            return None
        return IDLE_GAP_S if self._pause_ends else FORGET_S

    def feed(self, data: bytes) -> list[str]:
        """The texts that `data` completes."""
        return self._take(self._replies.feed(data))

    def _take(self, data: bytes) -> list[str]:
        texts = []
        for byte in data:
            if byte in self._ends:
                texts += self._finish()
            elif len(self._buffer) < LONGEST_TEXT:
                self._buffer.append(byte)
            else:
                self._overlong = True
        return texts

    def idle(self) -> list[str]:
        """Called when nothing has arrived for `idle_after_s`."""
        texts = self._take(self._replies.flush())
        if self._pause_ends:
            return texts + self._finish()
        if self._buffer.strip(BLANK):
            self._drop("never ended")
        self._buffer.clear()
        self._overlong = False
        return texts

    def _finish(self) -> list[str]:
        # An end mark of two characters leaves one of them at the end or at the next beginning.
        raw, overlong = bytes(self._buffer).strip(BLANK), self._overlong
        self._buffer.clear()
        self._overlong = False
        if not raw:
            return []
        try:
            text = clean(raw.decode(), *self._around)
        except UnicodeDecodeError:
            # Some put a blank of their own 8-bit set around a text; inside it they would be a misreading.
            text = clean(raw.decode("latin-1"), *self._around)
            text = text if text.isascii() else ""
        if not overlong and text and text.isprintable():
            return [text]
        self._drop("too long" if overlong else "not a text")
        return []


class SerialScanner(TextReader):
    """A scanner or keypad on a serial port; see `TextReader`."""

    def __init__(
        self,
        port: str,
        baud: int,
        on_text: OnText,
        delimiter: Delimiter = "any",
        prefix: str = "",
        suffix: str = "",
    ) -> None:
        super().__init__(
            port,
            on_text,
            lambda: open_raw(port, baud),
            lambda drop: TextFramer(delimiter, drop, prefix, suffix),
        )


def _crc16(data: bytes | bytearray) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc
