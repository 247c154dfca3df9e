"""What the self-test says of boards and lines that answer, but not as they should: each is named."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest

from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.modbus import TcpCodec
from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.requests import Read
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.errors import BusFault, DeviceFault
from edge_agent.service.bus_service import BusPlace
from edge_agent.service.diagnosis.findings import Found
from edge_agent.service.diagnosis.wire_verdicts import Heard, judge
from edge_agent.service.diagnosis.wire_watch import WireWatch, requests_in
from tests.service.test_bus_scan import placed
from tools.simulate.virtual_loop import VirtualLoop

ON_TIME_S = 0.010
"""At 19200 baud a request and its reply take 7 ms."""
NEEDS = BusNeeds(turnaround_ms=60, drain_ms=20, late_ms=40)
Board = Callable[[bytes], bytes]
"""Makes what is heard of what was sent."""


class Line:
    """Two boards that answer as `board` says, each after `delay_s`; `others`: frames of another master."""

    def __init__(self, board: Board, delay_s: float, others: bytes = b"") -> None:
        self._board = board
        self._delay_s = delay_s
        self._others = others
        self._on_bytes: Callable[[bytes], None] = lambda data: None

    async def dial(self) -> None:
        """See `Transport.dial`."""

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        self._on_bytes = on_bytes

    def write(self, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay_s, self._on_bytes, self._board(frame))
        if self._others:
            loop.call_later(self._delay_s + 0.01, self._on_bytes, self._others)

    def close(self) -> None:
        """See `Transport.close`."""


def found(line: Line, wire: str = "modbus") -> dict[str, Found]:
    """The rows of the self-test after some seconds of polls, by what they are about."""

    async def run() -> list[Found]:
        tcp = wire == "modbus-tcp"
        baud, codec = (0, TcpCodec()) if tcp else (19200, None)
        bus = BusOwner("main", line, baud=baud, bits_per_character=10, codec=codec)
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        devices = (placed("locks", 1, "waveshare-io-8ch"), placed("doors", 2, "waveshare-io-8ch"))
        place = BusPlace(bus, "/dev/x", "modbus-tcp" if tcp else "modbus", baud, (1, 255, 247), devices)
        watch = WireWatch(place)
        watch.begin()
        for number in range(40):
            with suppress(BusFault, DeviceFault):
                await bus.transact(1 + number % 2, Read(2, 0, 8), NEEDS, Priority.WATCH)
            await asyncio.sleep(0.1)
        rows = list(judge(Heard("main", place, watch.end(), {}, {})))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return rows

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return {row.target: row for row in runner.run(run())}


def good(frame: bytes) -> bytes:
    return with_crc(bytes([frame[0], 2, 1, 0xFF]))


def only_locks(odd: Board) -> Board:
    """The board at address 1 is odd, the one at 2 is good."""
    return lambda frame: odd(frame) if frame[0] == 1 else good(frame)


@pytest.mark.parametrize(
    ("board", "delay_s", "kind", "word"),
    [
        (lambda frame: good(frame) + b"\0", ON_TIME_S, "stray_bytes", "with extra bytes"),
        (lambda frame: b"\xff" + good(frame), ON_TIME_S, "stray_bytes", "with extra bytes"),
        (good, 0.0, "early_reply", "too early"),
        (lambda frame: with_crc(bytes([frame[0], 0x82, 2])), ON_TIME_S, "exceptions", "refuses 20 of 20"),
        (lambda frame: with_crc(bytes([9, 2, 1, 0xFF])), ON_TIME_S, "wrong_unit", "as another device"),
    ],
    ids=["F1", "F2", "F3", "exceptions", "wrong unit"],
)
def test_f1_f2_f3_a_board_that_answers_oddly_is_named(
    board: Board, delay_s: float, kind: str, word: str
) -> None:
    rows = found(Line(board if delay_s == 0 else only_locks(board), delay_s))
    assert rows["locks"].kinds[:1] == (kind,)
    assert word in rows["locks"].finding
    assert rows["locks"].next_step
    if delay_s:
        assert rows["doors"].verdict == "good"
        assert rows["main"].verdict == "good"


def tcp(*, transaction: int | None = None, unit: int | None = None) -> Board:
    def board(frame: bytes) -> bytes:
        number, address = int.from_bytes(frame[:2], "big"), frame[6]
        head = (number if transaction is None else transaction, 0, 4 + 1, address if unit is None else unit)
        return struct.pack(">HHHB", *head[:3], head[3]) + bytes([2, 1, 0xFF, 0])[:4]

    return board


@pytest.mark.parametrize(
    ("board", "kind"),
    [
        (tcp(transaction=0), "wrong_transaction"),
        (tcp(transaction=0x7777), "wrong_transaction"),
        (tcp(unit=255), "wrong_unit"),
        (tcp(unit=0), "wrong_unit"),
    ],
)
def test_f7_a_gateway_with_wrong_numbers_is_named(board: Board, kind: str) -> None:
    def answers(frame: bytes) -> bytes:
        reply = board(frame)
        return reply[:4] + bytes([0, 4]) + reply[6:10]

    rows = found(Line(answers, ON_TIME_S), "modbus-tcp")
    assert rows["locks"].kinds == (kind,)
    assert rows["locks"].verdict == "fault"


def test_another_master_on_the_line_is_named() -> None:
    request = with_crc(bytes([7, 3, 0, 0, 0, 2]))
    rows = found(Line(good, ON_TIME_S, request))
    assert rows["main"].kinds == ("other_master",)
    assert "another master" in rows["main"].finding
    assert requests_in(request + b"\0" + request) == 2
    assert requests_in(with_crc(bytes([7, 2, 3, 1, 2, 3]))) == 0  # a reply with three bytes


def test_boards_that_answer_as_they_should_are_good() -> None:
    rows = found(Line(good, ON_TIME_S))
    assert {row.verdict for row in rows.values()} == {"good"}
