"""Where a reply begins and ends: device, function, length and checksum agree; other bytes are stray.

docs/decisions/0037-framing-by-checksum.md
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edge_agent.app.transports import keeps_pace
from edge_agent.config import BusSection
from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.lock_protocols import codec_of
from edge_agent.drivers.modbus import RtuCodec, TcpCodec, build_frame
from edge_agent.drivers.requests import AddressedRequest, LockStatus, Read, Unlock, Write
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.drivers.simulated.line import FrameSeen
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.errors import BadReply, BusTimeout, DeviceFault
from tests.drivers.test_bus import NEEDS, Register, ask, on_bus
from tools.simulate.virtual_loop import VirtualLoop

DOORS = AddressedRequest(1, Read(2, 0, 8))
REPLY = bytes.fromhex("01 02 01 FF E1 C8")


@pytest.mark.parametrize("before", ["", "00", "FF", "00 00", "01 02", "01 02 01", "FE 01"])
@pytest.mark.parametrize("after", ["", "00", "00 00 00", "E1 C8", "FF", "01 02 01 00"])
def test_f1_f2_a_reply_is_found_among_stray_bytes(before: str, after: str) -> None:
    heard = bytes.fromhex(before) + REPLY + bytes.fromhex(after)
    frame = RtuCodec().first_frame(heard, DOORS, [])
    assert frame is not None
    assert (frame.skipped, frame.length, frame.question) == (len(bytes.fromhex(before)), len(REPLY), DOORS)


def test_no_part_of_a_reply_is_one_and_no_damage_passes() -> None:
    codec = RtuCodec()
    for size in range(len(REPLY)):
        assert codec.first_frame(REPLY[:size], DOORS, []) is None
    for bit in range(8 * len(REPLY)):
        damaged = bytearray(REPLY)
        damaged[bit // 8] ^= 1 << bit % 8
        assert codec.first_frame(b"\0" + damaged + b"\0", DOORS, []) is None


def test_an_exception_and_an_echo_are_found_too() -> None:
    codec, refused = RtuCodec(), with_crc(bytes([1, 0x82, 6]))
    assert codec.first_frame(b"\0" + refused + b"\0\0", DOORS, []) is not None
    pulse = AddressedRequest(1, Write(5, 3, 0xFF00))
    echo = build_frame(1, pulse.request)
    frame = codec.first_frame(b"\xff" + echo + b"\0", pulse, [])
    assert frame is not None
    assert frame.skipped == 1
    other = build_frame(1, Write(5, 2, 0xFF00))
    assert codec.first_frame(b"\0" + other, pulse, []) is None


@pytest.mark.parametrize(
    ("pad", "glitches"),
    [
        (lambda reply: reply + b"\0", 0),
        (lambda reply: reply + b"\0\0\0", 0),
        (lambda reply: reply + reply[-2:], 0),
        (lambda reply: b"\0" + reply, 1),
        (lambda reply: b"\xff" + reply, 1),
        (lambda reply: b"\x55" + reply + b"\0", 0),
    ],
)
def test_f1_f2_a_board_with_stray_bytes_works_and_is_counted(
    pad: Callable[[bytes], bytes], glitches: int
) -> None:
    class Padded(Register):
        def answer(self, frame: bytes, at_ns: int) -> bytes | None:
            reply = super().answer(frame, at_ns)
            return reply if reply is None or self.address != 1 else pad(reply)

    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        for number in range(20):
            assert await ask(bus, 1 + number % 2, number) == [number]
        assert (bus.counters.bad_replies, bus.counters.timeouts) == (0, 0)
        assert bus.counters.stray_bytes >= 10
        assert (bus.devices[1].padded, bus.devices[2].padded) == (10, 0)
        assert bus.counters.glitches == 10 * glitches
        assert cable.figures().early_requests == 0

    on_bus(test, kind=Padded)


def test_a_damaged_reply_fails_when_the_line_falls_silent_not_at_the_time_limit() -> None:
    async def test(bus: BusOwner, _: MemoryCable, devices: list[Register], __: list[FrameSeen]) -> None:
        loop = asyncio.get_running_loop()
        good = with_crc(bytes([1, 3, 2, 0, 20]))
        devices[0].answers = [good[:-1] + bytes([good[-1] ^ 1])]
        patient = NEEDS.model_copy(update={"turnaround_ms": 500})
        began_s = loop.time()
        with pytest.raises(BadReply, match="checksum"):
            await bus.transact(1, Read(3, 20, 1), patient, Priority.POLL)
        assert loop.time() - began_s < 0.05
        assert await ask(bus, 1) == [20]

    on_bus(test)


def test_an_exception_with_stray_bytes_is_the_devices_refusal() -> None:
    async def test(bus: BusOwner, _: MemoryCable, devices: list[Register], __: list[FrameSeen]) -> None:
        devices[0].answers = [b"\0" + with_crc(bytes([1, 0x83, 6])) + b"\0"]
        with pytest.raises(DeviceFault):
            await ask(bus, 1)
        assert await ask(bus, 1) == [20]

    on_bus(test)


class AtOnce:
    """A board that is on USB itself: its reply is there as soon as the request is."""

    def __init__(self) -> None:
        self._on_bytes: Callable[[bytes], None] = lambda data: None

    async def dial(self) -> None:
        """Nothing to dial."""

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        self._on_bytes = on_bytes

    def write(self, data: bytes) -> None:
        reply = with_crc(bytes([data[0], 3, 2]) + data[2:4])
        asyncio.get_running_loop().call_soon(self._on_bytes, reply)

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("paced", [True, False])
def test_f3_a_board_that_answers_at_once_works_on_a_line_without_a_pace(paced: bool) -> None:
    async def run() -> None:
        bus = BusOwner("main", AtOnce(), baud=9600, bits_per_character=10, paced=lambda: paced)
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        if paced:
            with pytest.raises(BusTimeout):
                await ask(bus, 1)
        else:
            assert await ask(bus, 1) == [20]
        assert bus.devices[1].early == paced
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


@pytest.mark.parametrize(
    ("port", "pace", "keeps"),
    [
        ("/dev/ttyUSB0", None, True),
        ("/dev/ttyACM0", None, False),
        ("/dev/ttyACM0", True, True),
        ("/dev/ttyS0", False, False),
    ],
)
def test_f3_a_ttyacm_port_has_no_pace_unless_configured(port: str, pace: bool | None, keeps: bool) -> None:
    assert keeps_pace(BusSection(port=port, baud=9600, pace=pace)) is keeps


def test_f3_a_link_to_a_ttyacm_port_has_no_pace_either(tmp_path: Path) -> None:
    link = tmp_path / "usb-board"
    link.symlink_to("/dev/ttyACM7")
    assert not keeps_pace(BusSection(port=str(link), baud=9600))


def test_f6_a_cu12_is_read_with_its_status_bytes_behind_the_checksum() -> None:
    codec = codec_of("kerong-cu12")
    asked, pulse = AddressedRequest(0, LockStatus(12)), AddressedRequest(0, Unlock(5))
    assert codec.encode(asked) == bytes.fromhex("02 00 00 80 00 00 03 85")
    assert codec.encode(pulse) == bytes.fromhex("02 00 04 81 00 00 03 8A")
    reply = bytes.fromhex("02 00 00 80 10 02 03 97 FE 07")
    for size in range(len(reply)):
        assert codec.first_frame(reply[:size], asked, []) is None
    frame = codec.first_frame(b"\xff" + reply + b"\0", asked, [])
    assert frame is not None
    assert (frame.skipped, frame.length) == (1, 10)
    assert codec.parse(asked, reply) == [0] + [1] * 10 + [0]
    without_length = bytes.fromhex("02 00 00 80 00 00 03 85 FE 07")
    assert codec.parse(asked, without_length) == [0] + [1] * 10 + [0]
    with pytest.raises(DeviceFault):
        codec.parse(pulse, bytes.fromhex("02 00 04 81 11 00 03 9B"))
    assert codec.first_frame(bytes.fromhex("02 00 03 81 10 00 03 99"), pulse, []).question is None  # type: ignore[union-attr]


def test_f7_a_wrong_transaction_number_is_refused_and_counted_or_allowed() -> None:
    asked = AddressedRequest(1, Read(3, 20, 1))
    reply = bytes([0, 0, 0, 0, 0, 5, 1, 3, 2, 0, 20])
    strict, lenient = TcpCodec(6), TcpCodec(6, checks_transactions=False)
    for codec in (strict, lenient):
        codec.encode(asked)
    refused, taken = strict.first_frame(reply, asked, []), lenient.first_frame(reply, asked, [])
    assert refused is not None
    assert taken is not None
    assert (refused.question, refused.foreign) == (None, True)
    assert (taken.question, taken.foreign) == (asked, False)
    assert lenient.parse(asked, reply) == [20]
    assert (strict.replies_identify_requests, lenient.replies_identify_requests) == (True, False)
    other = bytes([0, 0, 0, 0, 0, 5, 2, 3, 2, 0, 20])
    assert lenient.first_frame(other, asked, []).question is None  # type: ignore[union-attr]


def test_f7_a_late_reply_is_not_foreign() -> None:
    codec, asked = TcpCodec(), AddressedRequest(1, Read(3, 20, 1))
    first = codec.encode(asked)
    codec.encode(asked)
    late = first[:2] + bytes([0, 0, 0, 5, 1, 3, 2, 0, 20])
    frame = codec.first_frame(late, asked, [])
    assert frame is not None
    assert (frame.question, frame.foreign) == (None, False)
