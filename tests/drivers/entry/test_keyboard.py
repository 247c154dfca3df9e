"""Key events of the kernel become texts; a keyboard that is lost is found again."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import get_args

import pytest

from edge_agent.drivers.entry import keyboard, text_input
from edge_agent.drivers.entry.key_layouts import LayoutName, keys_of
from edge_agent.drivers.entry.keyboard import EVENT, HALF_TYPED_S, Keyboard, KeyDecoder, open_keyboard
from edge_agent.drivers.entry.text_input import LONGEST_TEXT
from edge_agent.errors import PortLost

SHIFT, ENTER, KEYPAD_ENTER, BACKSPACE, ESC = 42, 28, 96, 14, 1
ONE_PRESSED = bytes.fromhex("e8030000000000002c010000000000000100020001000000")
"""`struct input_event` of a 64-bit little-endian kernel: 1000 s, 300 µs, EV_KEY, KEY_1, pressed."""


def event(kind: int, code: int, value: int) -> bytes:
    return EVENT.pack(1000, 300, kind, code, value)


def key(code: int, value: int) -> bytes:
    """What the kernel sends for one change: the scan code, the key, the end of the packet."""
    return event(4, 4, 0x70000 + code) + event(1, code, value) + event(0, 0, 0)


def press(*codes: int) -> bytes:
    return b"".join(key(code, 1) + key(code, 0) for code in codes)


def shifted(*codes: int, shift: int = SHIFT) -> bytes:
    return key(shift, 1) + press(*codes) + key(shift, 0)


class Decoded:
    """A decoder with what it said it dropped."""

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.decoder = KeyDecoder(self.dropped.append)

    def feed(self, data: bytes) -> list[str]:
        return self.decoder.feed(data)


def test_the_layout_of_an_event_is_the_kernel_s() -> None:
    assert EVENT.size == 2 * struct.calcsize("@L") + 8
    if EVENT.size == 24 and struct.pack("=H", 1) == struct.pack("<H", 1):
        assert event(1, 2, 1) == ONE_PRESSED
        assert Decoded().feed(ONE_PRESSED + press(ENTER)) == ["1"]


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (press(2, 3, 4, 5, 6, 7, 8, 9, 10, 11), "1234567890"),
        (press(79, 80, 81, 75, 76, 77, 71, 72, 73, 82, 83), "1234567890."),
        (press(2, 55, 74, 78, 98, 117, 121), "1*-+/=,"),
        (press(*range(16, 26), *range(30, 39), *range(44, 51)), "qwertyuiopasdfghjklzxcvbnm"),
        (shifted(*range(16, 26), *range(30, 39), *range(44, 51)), "QWERTYUIOPASDFGHJKLZXCVBNM"),
        (press(12, 13, 26, 27, 39, 40, 41, 43, 51, 52, 53), "-=[];'`\\,./"),
        (shifted(2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13), "!@$%^&*()_+"),
        (shifted(26, 27, 39, 40, 41, 43, 51, 52, 53), '{}:"~|<>?'),
        (shifted(32, 38, 47) + press(12) + shifted(32, 19, 24, 25, shift=54), "DLV-DROP"),
        (press(2, 57, 3), "1 2"),
    ],
)
def test_keys_of_a_us_keyboard(events: bytes, text: str) -> None:
    assert Decoded().feed(events + press(ENTER)) == [text]


QR = "DLV-DROP-res_7yZ-1234"


def keys_for(text: str, layout: LayoutName) -> bytes:
    """What a device with this layout presses for a text."""
    places = {pair: code for code, pair in reversed([*keys_of(layout).items()]) if code < 55}
    events = b""
    for character in text:
        code, place = next((c, pair.index(character)) for pair, c in places.items() if character in pair)
        events += shifted(code) if place else press(code)
    return events


@pytest.mark.parametrize("layout", get_args(LayoutName))
def test_s2_a_qr_text_is_read_in_every_layout(layout: LayoutName) -> None:
    decoder = KeyDecoder(lambda reason: None, layout=layout)
    assert decoder.feed(keys_for(QR, layout) + press(ENTER)) == [QR]


def test_s2_a_german_scanner_read_as_another_one_is_not_understood() -> None:
    """So the layout matters: `-`, `_`, `y` and `z` are elsewhere."""
    assert Decoded().feed(keys_for(QR, "de") + press(ENTER)) == ["DLV/DROP/res?7zY/1234"]


@pytest.mark.parametrize(
    ("events", "texts"),
    [
        (press(513, 514, 515, 516, 523), ["1234"]),  # KEY_NUMERIC_1 to 4, KEY_NUMERIC_POUND
        (press(522, 513, 514, 515, 516, 523), ["1234"]),  # KEY_NUMERIC_STAR first
        (press(2, 3, 4, 5, 352), ["1234"]),  # KEY_OK
        (press(2, 3, 4, 5, 101), ["1234"]),  # KEY_LINEFEED
        (press(9, 9, 355, 2, 3, 4, 5, 28), ["1234"]),  # KEY_CLEAR
        (press(2, 3, 4, 6, 111, 5, 28), ["1234"]),  # KEY_DELETE
    ],
)
def test_s2_keys_of_other_keypads(events: bytes, texts: list[str]) -> None:
    assert Decoded().feed(events) == texts


def test_events_may_be_cut_anywhere_and_either_enter_ends_a_text() -> None:
    stream = press(2, 3, KEYPAD_ENTER) + shifted(30) + press(ENTER, ENTER)
    decoded = Decoded()
    assert [text for byte in stream for text in decoded.feed(bytes([byte]))] == ["12", "A"]
    assert decoded.dropped == []


def test_both_shifts_and_a_shift_that_is_let_go() -> None:
    stream = key(42, 1) + key(54, 1) + press(30) + key(42, 0) + press(30) + key(54, 0) + press(30, ENTER)
    assert Decoded().feed(stream) == ["AAa"]


def test_a_held_key_is_typed_once() -> None:
    assert Decoded().feed(key(2, 1) + key(2, 2) * 30 + key(2, 0) + press(ENTER)) == ["1"]


def test_backspace_escape_and_keys_that_type_nothing() -> None:
    decoded = Decoded()
    assert decoded.feed(press(BACKSPACE, 2, 3, BACKSPACE, 59, 4, ENTER)) == ["13"]
    assert decoded.feed(press(2, 3, ESC, ENTER, 4, ENTER)) == ["3"]


def test_a_half_typed_text_is_dropped() -> None:
    decoded = Decoded()
    assert decoded.decoder.idle_after_s is None
    decoded.feed(press(2, 3))
    assert decoded.decoder.idle_after_s == HALF_TYPED_S
    decoded.decoder.forget("never ended")
    assert (decoded.decoder.idle_after_s, decoded.dropped) == (None, ["never ended"])
    assert decoded.feed(press(4, ENTER)) == ["3"]


def test_lost_kernel_events_make_no_text() -> None:
    decoded = Decoded()
    # Until the next end of a packet the events are fragments.
    lost = event(0, 3, 0) + event(1, 5, 1) + event(0, 0, 0)
    assert decoded.feed(press(2) + key(SHIFT, 1) + lost + press(3, ENTER)) == ["2"]
    assert decoded.dropped == ["the kernel lost some of it"]


def test_a_text_without_end_is_thrown_away_whole() -> None:
    decoded = Decoded()
    assert decoded.feed(press(*[2] * (LONGEST_TEXT + 1), ENTER)) == []
    assert decoded.dropped == ["too long"]
    assert decoded.feed(press(*[2] * LONGEST_TEXT, ENTER)) == ["1" * LONGEST_TEXT]


def test_a_device_that_is_not_a_keyboard_is_not_opened(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(PortLost, match="No such file"):
        open_keyboard(os.path.join(tmp_path, "event-kbd"))
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PortLost, match="Inappropriate ioctl"):
        open_keyboard("/dev/null")
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_keyboard_is_read_lost_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_input, "REOPEN_S", 0.01)
    heard: list[str] = []
    asked: list[str] = []
    plugged: list[int] = []

    async def on_text(text: str, waited_s: float) -> None:
        heard.append(text)

    def open_device(path: str) -> int:
        asked.append(path)
        if not plugged:
            raise PortLost(path)
        return plugged.pop()

    task = asyncio.create_task(Keyboard("/dev/input/kbd", on_text, open_device).run())
    await until(lambda: len(asked) > 2)
    for number, code in enumerate((2, 3), 1):
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.write(write, press(code, code) + press(ENTER))
        plugged.append(read)
        await until(lambda number=number: len(heard) == number)  # type: ignore[misc]
        os.write(write, press(9))  # half typed when it is pulled
        os.close(write)
    tries = len(asked)
    await until(lambda: len(asked) > tries + 1)
    assert heard == ["11", "22"]
    assert set(asked) == {"/dev/input/kbd"}
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_text_of_one_keyboard_is_not_finished_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "HALF_TYPED_S", 0.01)
    heard: list[str] = []

    async def on_text(text: str, waited_s: float) -> None:
        heard.append(text)

    read, write = os.pipe()
    os.set_blocking(read, False)
    device = Keyboard("/dev/input/kbd", on_text, lambda _: read)
    task = asyncio.create_task(device.run())
    os.write(write, press(2, 3))
    await until(lambda: device.outlet.dropped == 1)
    os.write(write, press(4, ENTER))
    await until(lambda: heard == ["3"])
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    os.close(write)


def typed(characters: str, at_s: float, gap_s: float) -> bytes:
    """Digits typed one after the other from this time on, by the kernel's clock."""
    keys = {"0": 11} | {str(digit): digit + 1 for digit in range(1, 10)}
    stream = b""
    for number, character in enumerate(characters):
        moment_s = at_s + number * gap_s
        seconds, microseconds = int(moment_s), int(moment_s % 1 * 1e6)
        for value in (1, 0):
            stream += EVENT.pack(seconds, microseconds, 1, keys[character], value)
            stream += EVENT.pack(seconds, microseconds, 0, 0, 0)
    return stream


@pytest.mark.parametrize("end", [press(28), press(96), press(15), shifted(4)])
def test_s2_enter_tab_and_hash_end_a_text(end: bytes) -> None:
    decoded = Decoded()
    assert decoded.feed(typed("1234", 10.0, 0.4) + end) == ["1234"]
    assert decoded.feed(typed("56", 20.0, 0.4) + end) == ["56"]
    assert decoded.dropped == []


def test_s2_a_scan_does_not_join_an_unfinished_entry() -> None:
    decoded = Decoded()
    assert decoded.feed(typed("12", 10.0, 0.4) + typed("5678", 11.5, 0.01) + press(28)) == ["5678"]
    assert decoded.dropped == ["unfinished before a scan"]


def test_s2_a_scan_without_an_end_does_not_join_the_next_one() -> None:
    decoded = Decoded()
    assert decoded.feed(typed("123456", 10.0, 0.01) + typed("567890", 12.0, 0.01) + press(28)) == ["567890"]
    assert decoded.dropped == ["unfinished before a scan"]


def test_a_person_who_thinks_for_a_while_still_types_one_code() -> None:
    decoded = Decoded()
    assert decoded.feed(typed("12", 10.0, 0.2) + typed("34", 12.0, 0.2) + press(28)) == ["1234"]
    assert decoded.feed(typed("1", 20.0, 0.2) + typed("234", 22.0, 0.12) + press(28)) == ["1234"]
    assert decoded.dropped == []
