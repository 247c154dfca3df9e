"""Texts are cut out of whatever a scanner sends, and only texts."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.entry import text_input
from edge_agent.drivers.entry.scanner import CommandReplies, Delimiter, SerialScanner, TextFramer
from edge_agent.drivers.entry.text_input import LONGEST_TEXT, WAITING_TEXTS, Outlet, clean
from edge_agent.model import plain_digits

WRITTEN = bytes.fromhex("02000001003331")
"""A GM65's reply to a write that succeeded, as integrators publish it."""


class Framed:
    """A framer with what it said it dropped."""

    def __init__(self, delimiter: Delimiter = "any") -> None:
        self.dropped: list[str] = []
        self.framer = TextFramer(delimiter, self.dropped.append)

    def feed(self, *pieces: bytes) -> list[str]:
        return [text for piece in pieces for text in self.framer.feed(piece)]


@pytest.mark.parametrize(
    ("delimiter", "stream", "texts", "rest"),
    [
        ("any", b"1234\r", ["1234"], []),
        ("any", b"1234\r\n5678\n", ["1234", "5678"], []),
        ("any", b"1234", [], ["1234"]),
        ("cr", b"1234\r\n5678\r", ["1234", "5678"], []),
        ("cr", b"1234\r56", ["1234"], []),
        ("lf", b"1234\r\n5678\n", ["1234", "5678"], []),
        ("none", b"1234", [], ["1234"]),
        ("none", b"1234\r\n", [], ["1234"]),
        ("any", " Grüße\r".encode(), ["Grüße"], []),
        ("any", b"\r\n \r", [], []),
        ("any", b"12\t34\r", ["12", "34"], []),
        ("any", b"\x02\x00\x001234\r", [], ["1234"]),  # begins like a reply of a GM65
        ("tab", b"1234\t5678\t", ["1234", "5678"], []),
        ("etx", b"\x021234\x03\x025678\x03", ["1234", "5678"], []),
        ("hash", b"1234#5678#", ["1234", "5678"], []),
    ],
)
def test_what_ends_a_text(delimiter: Delimiter, stream: bytes, texts: list[str], rest: list[str]) -> None:
    for pieces in ([stream], [bytes([byte]) for byte in stream]):
        framed = Framed(delimiter)
        assert framed.feed(*pieces) == texts
        assert framed.framer.idle() == rest
        assert framed.framer.idle_after_s is None
        assert framed.dropped == (["never ended"] if stream.endswith(b"56") else [])


@pytest.mark.parametrize(
    "stream",
    [
        b"\x02DLV-PICK-res_1-1234\x03",
        b"\x02DLV-PICK-res_1-1234\x03\r\n",
        b"DLV-PICK-res_1-1234\x04",
        b"DLV-PICK-res_1-1234\t\r",
        b"DLV-PICK-res_1-1234\x00\r",
        b"\x1dDLV-PICK-res_1-1234\r",
        b"]Q1DLV-PICK-res_1-1234\r",
        b"]Q1\x1dDLV-PICK-res_1-1234\r",
        b"\\000026DLV-PICK-res_1-1234\r",
        b"]Q2\\000026DLV-PICK-res_1-1234\r",
        b"\xef\xbb\xbfDLV-PICK-res_1-1234\r",
        b"DLV-PICK-res_1-1234#",
        b"\x01DLV-PICK-res_1-1234\r",
        b"\x10\x02DLV-PICK-res_1-1234\x10\x03",
        b"\x16DLV-PICK-res_1-1234\x7f\r",
        b"\x1bDLV-PICK-res_1-1234\x07\r",
        b"\x0eDLV-PICK-res_1-1234\x0f\r",
        b"DLV-PICK-res_1-1234\x0b",
        b"DLV-PICK-res_1-1234\x0c\r",
        b"*DLV-PICK-res_1-1234*\r",
        b"]d2\x1dDLV-PICK-res_1-1234\x1d\r",
        b"\xc2\xa0DLV-PICK-res_1-1234\xe2\x80\x8b\r",  # U+00A0, U+200B
        b"\xa0DLV-PICK-res_1-1234\xa0\r",  # the same in ISO 8859-1
        "\u3000ＤＬＶ－ＰＩＣＫ－ｒｅｓ＿１－１２３４＃\r".encode(),
    ],
)
def test_s1_a_text_is_read_without_what_scanners_put_around_it(stream: bytes) -> None:
    for pieces in ([stream], [bytes([byte]) for byte in stream]):
        framed = Framed()
        assert framed.feed(*pieces) == ["DLV-PICK-res_1-1234"]
        assert framed.framer.idle() == []
        assert framed.dropped == []


def test_s1_a_configured_prefix_and_suffix_are_removed() -> None:
    framer = TextFramer("cr", lambda _: None, prefix="QR:", suffix="!")
    assert framer.feed(b"\x02QR:1234!\x03\r5678\rQR:9\r") == ["1234", "5678", "9"]
    starred = TextFramer("cr", lambda _: None, prefix="*A", suffix="#!")
    assert starred.feed(b"*A1234#!\r\x02*A5678#!#\x03\r*9*\r") == ["1234", "5678", "9"]


@pytest.mark.parametrize("text", ["１２３４", "١٢٣٤", "۱۲۳۴", "१२३४", "1２३4"])
def test_s2_digits_of_every_script_are_digits(text: str) -> None:
    assert plain_digits(text) == "1234"
    assert plain_digits(f"DLV-{text}-é") == "DLV-1234-é"


def test_a_pause_ends_a_text_soon_and_forgets_late_where_it_ends_none() -> None:
    patience: dict[str, float | None] = {}
    delimiters: tuple[Delimiter, ...] = ("any", "cr", "lf", "none")
    for delimiter in delimiters:
        framed = Framed(delimiter)
        assert framed.framer.idle_after_s is None
        framed.feed(b"12")
        patience[delimiter] = framed.framer.idle_after_s
    assert patience == {"any": 0.1, "cr": 1.0, "lf": 1.0, "none": 0.1}


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"12\x0034\r", "not a text"),
        (b"\x1b[A\r", "not a text"),
        (b"\xff\xfe12\r", "not a text"),
        (b"x" * (LONGEST_TEXT + 1) + b"\r", "too long"),
    ],
)
def test_unreadable_bytes_are_dropped_and_the_next_text_is_not(stream: bytes, reason: str) -> None:
    framed = Framed("any")
    texts = framed.feed(stream) + framed.framer.idle()
    assert (texts, framed.dropped) == ([], [reason])
    assert framed.feed(b"x" * LONGEST_TEXT + b"\r") == ["x" * LONGEST_TEXT]
    assert len(framed.dropped) == 1


def reply(data: bytes) -> bytes:
    """A success reply, its CRC bit by bit as the CCITT polynomial says."""
    body = bytes([0, len(data)]) + data
    crc = 0
    for bit in "".join(f"{byte:08b}" for byte in body + b"\0\0"):
        crc = (crc << 1 | int(bit)) ^ (0x11021 if crc & 0x8000 else 0)
    return b"\x02\x00" + body + crc.to_bytes(2, "big")


def test_the_published_reply_is_one() -> None:
    assert reply(b"\0") == WRITTEN
    assert CommandReplies().feed(WRITTEN) == b""


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    return [stream[a:b] for a, b in zip([0, *ends], ends, strict=False)]


TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12).filter(
    lambda text: clean(text) == text
)
"""Texts without anything that scanners put around them."""


@given(
    st.lists(st.one_of(st.binary(max_size=30), TEXT), max_size=6),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_scanner_replies_never_lose_a_text(parts: list[bytes | str], places: list[int]) -> None:
    stream = b"".join(part.encode() + b"\r" if isinstance(part, str) else reply(part) for part in parts)
    framed = Framed("cr")
    texts = framed.feed(*cut(stream, places))
    assert texts == [part for part in parts if isinstance(part, str)]
    assert framed.dropped == []
    assert framed.framer.idle_after_s is None


@pytest.mark.parametrize("at", range(6))
def test_a_reply_may_come_in_the_middle_of_a_text(at: int) -> None:
    framed = Framed()
    for piece in ("123456"[:at].encode(), WRITTEN[:4], WRITTEN[4:], "123456"[at:].encode()):
        assert framed.feed(piece) == []
    assert framed.framer.idle() == ["123456"]


@given(st.lists(st.binary(max_size=20), max_size=8), st.sampled_from(["any", "cr", "lf", "none"]))
def test_after_a_pause_the_next_text_is_read_in_any_case(junk: list[bytes], delimiter: Delimiter) -> None:
    framed = Framed(delimiter)
    framed.feed(*junk)
    framed.framer.idle()
    end = b"\n" if delimiter == "lf" else b"\r"
    assert framed.feed(b"1234" + end) + framed.framer.idle() == ["1234"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def scanning(link: Path, heard: list[str]) -> AsyncIterator[None]:
    async def on_text(text: str, waited_s: float) -> None:
        heard.append(text)

    scanner = SerialScanner(str(link), 9600, on_text, "none")
    task = asyncio.create_task(scanner.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def plug(link: Path) -> int:
    """A pseudo-terminal under a name; returns its master's end."""
    master, slave = os.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    os.close(slave)
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    return master


async def shown(master: int, stream: bytes, heard: list[str], texts: int) -> None:
    """Writes again and again until it is heard: the port may not be taken yet, and taking it discards."""
    while len(heard) < texts:
        os.write(master, stream)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await until(lambda: len(heard) >= texts)


async def test_a_port_is_read_and_found_again_when_it_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.drivers.entry.text_input.REOPEN_S", 0.01)
    heard: list[str] = []
    async with asyncio.timeout(20), scanning(tmp_path / "scanner", heard):
        for number in ("1234", "5678"):
            master = plug(tmp_path / "scanner")
            await shown(master, WRITTEN + number.encode(), heard, 1)
            assert set(heard) == {number}
            os.close(master)
            heard.clear()


async def test_a_few_texts_wait_while_one_is_handled() -> None:
    heard: list[str] = []
    done = asyncio.Event()

    async def on_text(text: str, waited_s: float) -> None:
        heard.append(text)
        await done.wait()

    outlet = Outlet("scanner", on_text)
    task = asyncio.create_task(outlet.run())
    outlet.offer("first")
    await until(lambda: heard == ["first"])
    for number in range(WAITING_TEXTS + 2):
        outlet.offer(str(number))
    assert outlet.dropped == 2
    done.set()
    await until(lambda: heard == ["first", *map(str, range(WAITING_TEXTS))])
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_no_text_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(_: str, __: float) -> None:
        raise AssertionError

    outlet = Outlet("/dev/scanner", nobody)
    framer = TextFramer("any", outlet.drop)
    logger = structlog.testing.CapturingLogger()
    monkeypatch.setattr(text_input, "log", logger)
    for _ in range(5):
        assert framer.feed(b"47\x0011\r") == []
    assert outlet.dropped == 5
    assert [call.kwargs["dropped"] for call in logger.calls] == [1, 2, 4]
    assert "47" not in str(logger.calls)
