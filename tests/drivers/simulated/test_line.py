"""Bits take their time; silence separates frames; two senders at once damage each other's frames."""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.drivers.simulated.cable import BadMedium
from edge_agent.drivers.simulated.line import (
    TOLERANCE_NS,
    TURNAROUND_NS,
    FrameSeen,
    TextLine,
    WireLine,
    silence_ns,
)
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.drivers.simulated.waveshare import IoBoard
from edge_agent.drivers.simulated.world import CellBuild, World
from edge_agent.model import Door
from tests.support.steps import SteppedClock

READ = bytes.fromhex("010200000008 79CC".replace(" ", ""))
DOORS = bytes.fromhex("01020100A188")
PULSE = bytes.fromhex("0105020000050C71")
CHAR_NS = 10 * 10**9 // 19_200


class Rig:
    """Two boards on a bus; what the master receives is kept with its instant."""

    def __init__(self, baud: int = 19_200, *, addresses: tuple[int, ...] = (1, 2), **options: object) -> None:
        self.clock = SteppedClock()
        self.world = World(
            [CellBuild("A01", Door.OPEN, opening_ms=50)], clock_ns=self.clock.now_ns, wall_s=lambda: 0.0
        )
        load, contact = self.world.solenoid("A01"), self.world.contact("A01", 1)
        boards = [IoBoard(address, {1: load}, {1: contact}) for address in addresses]
        self.heard: list[tuple[int, bytes]] = []
        self.frames: list[FrameSeen] = []
        self.line = WireLine(
            boards,
            baud=baud,
            clock_ns=self.clock.now_ns,
            call_at_ns=self.clock.call_at_ns,
            deliver=lambda data: self.heard.append((self.clock.now, data)),
            on_frame=self.frames.append,
            **options,  # type: ignore[arg-type]
        )

    def transaction_ns(self, request: bytes = READ, reply: bytes = DOORS) -> int:
        """From the write to the last bit of the reply."""
        return self.line.duration_ns(len(request) + len(reply)) + self.line.silence_ns + TURNAROUND_NS


@pytest.mark.parametrize(
    ("baud", "bits", "expected_ns"),
    [(9600, 11, 4_010_416), (9600, 10, 3_645_833), (19_200, 10, 1_822_916), (38_400, 10, 1_750_000)],
)
def test_silence_that_ends_a_frame(baud: int, bits: int, expected_ns: int) -> None:
    assert silence_ns(baud, bits) == expected_ns


@pytest.mark.parametrize("baud", [1200, 9600, 19_200, 115_200])
def test_reply_comes_when_its_last_bit_has_passed_and_not_before(baud: int) -> None:
    rig = Rig(baud)
    rig.line.feed(READ)
    due_ns = rig.clock.now + rig.transaction_ns()
    rig.clock.run_until(due_ns - 1)
    assert rig.heard == []
    rig.clock.run_until(due_ns)
    assert rig.heard == [(due_ns, DOORS)]
    figures = rig.line.figures()
    assert (figures.requests, figures.replies, figures.bytes) == (1, 1, 14)
    assert figures.seconds == pytest.approx(rig.transaction_ns() / 1e9)
    assert figures.utilisation == pytest.approx(rig.line.duration_ns(14) / rig.transaction_ns(), abs=1e-6)


def test_legal_transactions_back_to_back() -> None:
    """At the limit a master does 87 transactions of this size or so a second at 19200 baud."""
    rig = Rig()
    for _ in range(50):
        rig.line.feed(READ)
        rig.clock.advance(rig.transaction_ns() + rig.line.silence_ns)
    figures = rig.line.figures()
    assert len(rig.heard) == 50
    assert (figures.early_requests, figures.collisions, figures.damaged) == (0, 0, 0)
    assert figures.requests / figures.seconds == pytest.approx(83.7, abs=0.5)


def test_device_acts_at_the_end_of_the_silence_however_late_the_timer() -> None:
    rig = Rig()
    start_ns = rig.clock.now
    rig.line.feed(PULSE)
    acts_ns = start_ns + rig.line.duration_ns(8) + rig.line.silence_ns
    rig.clock.run_until(acts_ns - 1)
    assert rig.world.actuations() == []
    rig.clock.now = acts_ns + 2_000_000
    rig.clock.advance(0)
    (actuation,) = rig.world.actuations()
    assert actuation.monotonic == acts_ns / 1e9


def test_request_in_pieces_is_one_frame() -> None:
    rig = Rig()
    for byte in READ:
        rig.line.feed(bytes([byte]))
        rig.clock.advance(CHAR_NS + 1_000_000)
    rig.clock.advance(50_000_000)
    assert [data for _, data in rig.heard] == [DOORS]
    assert rig.line.figures().requests == 1


def test_frame_that_never_completes_is_thrown_away() -> None:
    rig = Rig()
    rig.line.feed(READ[:5])
    rig.clock.advance(rig.line.duration_ns(5) + rig.line.silence_ns)
    rig.line.feed(READ)
    rig.clock.advance(50_000_000)
    assert [data for _, data in rig.heard] == [DOORS]
    assert rig.line.figures().damaged == 1


def test_silence_is_judged_by_the_clock_not_by_the_timer() -> None:
    rig = Rig()
    rig.line.feed(READ[:5])
    rig.clock.now += rig.line.duration_ns(5) + rig.line.silence_ns
    rig.line.feed(READ)
    rig.clock.advance(50_000_000)
    assert [data for _, data in rig.heard] == [DOORS]


def test_stray_byte_in_front_costs_the_request() -> None:
    rig = Rig()
    rig.line.feed(b"\x00" + READ)
    rig.clock.advance(50_000_000)
    figures = rig.line.figures()
    assert (rig.heard, figures.damaged, figures.early_requests) == ([], 1, 0)


@pytest.mark.parametrize("short_by_ns", [0, TOLERANCE_NS, TOLERANCE_NS + 1, 1_000_000, 1_822_916])
def test_request_too_soon_after_a_reply_is_ignored_and_counted(short_by_ns: int) -> None:
    rig = Rig()
    rig.line.feed(READ)
    rig.clock.advance(rig.transaction_ns() + rig.line.silence_ns - short_by_ns)
    assert len(rig.heard) == 1
    rig.line.feed(READ)
    rig.clock.advance(100_000_000)
    early = short_by_ns > TOLERANCE_NS
    assert len(rig.heard) == (1 if early else 2)
    assert rig.line.figures().early_requests == early
    assert rig.line.figures().collisions == 0
    # The next one, in time, is heard again.
    rig.line.feed(READ)
    rig.clock.advance(100_000_000)
    assert len(rig.heard) == (2 if early else 3)


def test_early_request_is_seen_even_if_the_reply_s_timer_is_late() -> None:
    rig = Rig()
    rig.line.feed(READ)
    rig.clock.advance(rig.transaction_ns() - 1)
    rig.clock.now += 500_000
    rig.line.feed(READ)
    rig.clock.advance(100_000_000)
    assert (len(rig.heard), rig.line.figures().early_requests) == (1, 1)


def test_two_requests_without_silence_damage_each_other() -> None:
    rig = Rig()
    rig.line.feed(PULSE + READ)
    rig.clock.advance(100_000_000)
    rig.line.feed(with_crc(bytes.fromhex("000500 00FF00".replace(" ", ""))))
    rig.clock.advance(rig.line.duration_ns(8) + rig.line.silence_ns // 2)
    rig.line.feed(READ)
    rig.clock.advance(100_000_000)
    assert rig.heard == []
    assert rig.world.actuations() == []
    assert rig.line.figures().early_requests == 2


def test_request_while_a_reply_passes_loses_both() -> None:
    rig = Rig()
    rig.line.feed(READ)
    rig.clock.advance(rig.transaction_ns() - CHAR_NS)
    rig.line.feed(READ)
    rig.clock.advance(100_000_000)
    figures = rig.line.figures()
    assert (rig.heard, figures.collisions, figures.early_requests) == ([], 1, 0)
    assert [(f.direction, f.fate) for f in rig.frames] == [
        ("request", "sound"),
        ("reply", "sound"),
        ("request", "collided"),
    ]


def test_request_that_runs_into_a_reply_about_to_begin() -> None:
    rig = Rig()
    rig.line.feed(READ)
    rig.clock.advance(rig.line.duration_ns(8) + rig.line.silence_ns + TURNAROUND_NS // 2)
    rig.line.feed(READ)
    rig.clock.advance(100_000_000)
    assert (rig.heard, rig.line.figures().collisions) == ([], 1)


def test_replies_of_two_boards_with_one_address_collide() -> None:
    rig = Rig(addresses=(1, 1))
    rig.line.feed(READ)
    rig.clock.advance(100_000_000)
    figures = rig.line.figures()
    assert (rig.heard, figures.replies, figures.collisions) == ([], 2, 1)


def test_reply_in_pieces_each_at_its_own_time() -> None:
    rig = Rig(chunk_bytes=4)
    rig.line.feed(READ)
    end_ns = rig.clock.now + rig.transaction_ns()
    rig.clock.advance(100_000_000)
    first, last = rig.heard
    assert first[1] + last[1] == DOORS
    assert last[0] == end_ns
    assert last[0] - first[0] == pytest.approx(2 * CHAR_NS, abs=2)


def test_broadcast_acts_without_a_reply() -> None:
    rig = Rig()
    rig.line.feed(with_crc(bytes.fromhex("00050000FF00")))
    rig.clock.advance(100_000_000)
    assert rig.heard == []
    assert rig.world.cell("A01").solenoid


def test_absent_address_is_silent() -> None:
    rig = Rig()
    rig.line.feed(with_crc(bytes.fromhex("070200000008")))
    rig.clock.advance(100_000_000)
    assert (rig.heard, rig.line.figures().requests, rig.clock.pending) == ([], 1, 0)


def test_medium_that_damages_everything() -> None:
    rig = Rig(medium=BadMedium(Random(1), damage=1.0))
    rig.line.feed(PULSE)
    rig.clock.advance(100_000_000)
    assert (rig.heard, rig.world.actuations(), rig.line.figures().damaged) == ([], [], 1)


def test_lost_reply_never_arrives_and_is_counted() -> None:
    passed: list[bytes] = []

    def swallows_replies(frame: bytes) -> bytes:
        passed.append(frame)
        return frame if frame == PULSE and len(passed) == 1 else b""

    rig = Rig(medium=swallows_replies)
    rig.line.feed(PULSE)
    rig.clock.advance(100_000_000)
    assert (rig.heard, len(rig.world.actuations()), rig.line.figures().damaged) == ([], 1, 1)
    assert rig.line.figures().replies == 1


def test_stop_cancels_everything() -> None:
    rig = Rig()
    rig.line.feed(PULSE)
    rig.clock.advance(rig.transaction_ns(PULSE, PULSE) - CHAR_NS)
    rig.line.feed(READ)
    assert rig.clock.pending == 2
    rig.line.stop()
    assert rig.clock.pending == 0
    # What was cut off ends here, and a request after the silence is heard.
    rig.clock.advance(rig.line.silence_ns)
    rig.line.feed(READ)
    rig.clock.advance(1_000_000_000)
    assert [data for _, data in rig.heard] == [DOORS]
    assert rig.line.figures().early_requests == 0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=40),
                st.sampled_from([READ, PULSE, READ + PULSE, with_crc(b"\x00\x05\x00\x00\xff\x00")]),
            ),
            st.integers(0, 30_000_000),
        ),
        max_size=40,
    ),
    st.sampled_from([None, 1, 3]),
)
def test_any_bytes_at_any_time(writes: list[tuple[bytes, int]], chunk_bytes: int | None) -> None:
    rig = Rig(chunk_bytes=chunk_bytes)
    for data, pause_ns in writes:
        rig.line.feed(data)
        rig.clock.advance(pause_ns)
        assert rig.clock.pending <= 4 * 256
    rig.clock.advance(60_000_000_000)
    assert rig.clock.pending == 0
    figures = rig.line.figures()
    assert figures.bytes >= sum(len(data) for data, _ in writes)
    assert figures.utilisation <= 1.0
    # Whatever came before: after a silence the bus works.
    before = len(rig.heard)
    rig.line.feed(READ)
    rig.clock.advance(1_000_000_000)
    assert b"".join(data for _, data in rig.heard[before:])[:3] == bytes.fromhex("010201")


def test_flood_takes_no_memory() -> None:
    rig = Rig()
    rig.frames = []
    flood = bytes(range(256)) * 40
    rig.line.feed(flood)
    tracemalloc.start()
    for _ in range(200):
        rig.line.feed(flood)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000
    rig.clock.advance(10**13)
    assert rig.line.figures().damaged == 1


def test_scanner_text_is_paced_and_queued() -> None:
    clock = SteppedClock()
    heard: list[tuple[int, bytes]] = []
    line = TextLine(
        baud=9600,
        clock_ns=clock.now_ns,
        call_at_ns=clock.call_at_ns,
        deliver=lambda data: heard.append((clock.now, data)),
    )
    character_ns = 10 * 10**9 // 9600
    start_ns = clock.now
    assert line.send("DLV-DROP-1") == start_ns + 11 * character_ns
    line.send("1234")
    clock.run_until(start_ns + 11 * character_ns - 1)
    assert [data for _, data in heard] == [b"DLV-DROP"]
    clock.advance(1_000_000_000)
    assert b"".join(data for _, data in heard) == b"DLV-DROP-1\r1234\r"
    assert [when_ns - start_ns for when_ns, _ in heard] == [n * character_ns for n in (8, 11, 16)]
