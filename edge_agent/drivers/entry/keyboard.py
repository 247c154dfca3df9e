"""A USB scanner or keypad that is a keyboard to Linux: an evdev device, grabbed for exclusive use.

Structure and numbers of events: Linux, `include/uapi/linux/input.h` and `input-event-codes.h`. Caps Lock is
ignored. Enter, Tab and `#` end a text; what is typed is not logged.

A scanner without an end mark leaves its text unfinished, and somebody may type half a code and go. So what
was typed before a pause, and is followed by characters as fast as a scanner's, is no part of that text.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable

from edge_agent.drivers.entry.key_layouts import LayoutName, keys_of
from edge_agent.drivers.entry.text_input import LONGEST_TEXT, OnText, TextReader, clean
from edge_agent.errors import PortLost

EVENT = struct.Struct("@LLHHi")
"""`struct input_event`: seconds and microseconds as the kernel's unsigned long, type, code, value. 24 bytes
if a long has 64 bits, 16 if it has 32 (then also with a wider `time_t`)."""
EVIOCGRAB = 0x40044590
HALF_TYPED_S = 5.0
"""An unfinished text is discarded after this time: the person who typed it has gone."""

EV_SYN, EV_KEY = 0, 1
SYN_REPORT, SYN_DROPPED = 0, 3
RELEASED, PRESSED = 0, 1
KEYS_CLEAR = (1, 355)
"""Escape, and the Clear key of some keypads."""
KEYS_BACK = (14, 111)
"""Backspace and Delete."""
KEYS_END = (15, 28, 96, 101, 352)
"""Tab, Enter, Enter of the number block, Line Feed, OK."""
SCAN_GAP_S = 0.05
"""A scanner's characters follow each other faster than this; a person's do not."""
SCAN_PAUSE_S = 0.3
SCAN_LEAST = 4
"""The fewest characters that are taken for a scan."""
KEYS_SHIFT = (42, 54)


class KeyDecoder:
    """Turns a stream of `struct input_event` into texts. `drop` gets the reason for each discarded text;
    `prefix` and `suffix` are removed from each text."""

    def __init__(
        self, drop: Callable[[str], None], prefix: str = "", suffix: str = "", layout: LayoutName = "us"
    ) -> None:
        self._drop = drop
        self._keys = keys_of(layout)
        self._around = (prefix, suffix)
        self._at_s: list[float] = []
        """When each character was typed, by the kernel's clock."""
        self._incomplete = b""
        self._typed: list[str] = []
        self._overlong = False
        self._shifts: set[int] = set()
        self._blind = False

    @property
    def idle_after_s(self) -> float | None:
        """How long to wait for more before `idle`; None: no text is begun."""
        return HALF_TYPED_S if self._typed else None

    def feed(self, data: bytes) -> list[str]:
        """The texts that `data` completes."""
        data = self._incomplete + data
        whole = len(data) // EVENT.size * EVENT.size
        self._incomplete = data[whole:]
        texts = []
        for seconds, microseconds, kind, code, value in EVENT.iter_unpack(data[:whole]):
            if kind == EV_SYN and code == SYN_DROPPED:
                # The kernel's buffer overflowed: the content is not what was typed.
                self._blind = True
                self._shifts.clear()
                self.forget("the kernel lost some of it")
            elif kind == EV_SYN and code == SYN_REPORT:
                self._blind = False
            elif kind == EV_KEY and not self._blind:
                texts += self._key(code, value, seconds + microseconds / 1e6)
        return texts

    def idle(self) -> list[str]:
        """Discards a text that was never ended: a pause ends none."""
        self.forget("never ended")
        return []

    def forget(self, reason: str) -> None:
        """Discards an unfinished text, if any."""
        if self._typed:
            self._drop(reason)
        self._clear()

    def _clear(self) -> None:
        self._typed.clear()
        self._at_s.clear()
        self._overlong = False

    def _key(self, code: int, value: int, at_s: float) -> list[str]:
        if code in KEYS_SHIFT:
            (self._shifts.discard if value == RELEASED else self._shifts.add)(code)
        elif value != PRESSED:
            pass  # released, or repeated because it was held
        elif code in KEYS_END:
            return self._enter()
        elif code in KEYS_CLEAR:
            self._clear()
        elif code in KEYS_BACK:
            del self._typed[-1:], self._at_s[-1:]
        elif code in self._keys:
            character = self._keys[code][bool(self._shifts)]
            if character == "#":
                return self._enter()
            self._overlong = self._overlong or len(self._typed) >= LONGEST_TEXT
            if not self._overlong:
                self._typed.append(character)
                self._at_s.append(at_s)
        return []

    def _enter(self) -> list[str]:
        if self._overlong:
            self.forget("too long")
        begin = self._scan_begins()
        if begin:
            self._drop("unfinished before a scan")
        text = clean("".join(self._typed[begin:]), *self._around)
        self._clear()
        return [text] if text else []

    def _scan_begins(self) -> int:
        """Where the characters of a scan begin, if something else was typed before it; else 0."""
        place = len(self._at_s) - 1
        while place > 0 and 0 <= self._at_s[place] - self._at_s[place - 1] <= SCAN_GAP_S:
            place -= 1
        scanned = len(self._at_s) - place >= SCAN_LEAST
        if place > 0 and scanned and self._at_s[place] - self._at_s[place - 1] >= SCAN_PAUSE_S:
            return place
        return 0


def open_keyboard(path: str) -> int:
    """A non-blocking descriptor of an evdev device; consoles and desktops no longer get its keys.

    Raises `PortLost` if it is not there, may not be read, is no such device, or another process has it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PortLost(f"{path}: {error.strerror}") from None
    try:
        fcntl.ioctl(descriptor, EVIOCGRAB, 1)
    except OSError as error:
        os.close(descriptor)
        raise PortLost(f"{path}: {error.strerror}") from None
    return descriptor


class Keyboard(TextReader):
    """A keypad or scanner that is a keyboard; see `TextReader`. `open_device`: see `open_keyboard`."""

    def __init__(
        self,
        path: str,
        on_text: OnText,
        open_device: Callable[[str], int] = open_keyboard,
        *,
        prefix: str = "",
        suffix: str = "",
        layout: LayoutName = "us",
    ) -> None:
        super().__init__(
            path, on_text, lambda: open_device(path), lambda drop: KeyDecoder(drop, prefix, suffix, layout)
        )
