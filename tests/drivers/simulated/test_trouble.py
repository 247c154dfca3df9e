"""What breaks in a cell and on a wire: each fault bites, composes, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from edge_agent.drivers.simulated.instruments import ThermometerBoard
from edge_agent.drivers.simulated.line import TURNAROUND_NS, FrameSeen, WireLine
from edge_agent.drivers.simulated.slave import intact, with_crc
from edge_agent.drivers.simulated.trouble import GHOST_SPREAD_NS, End, LineTrouble
from edge_agent.drivers.simulated.waveshare import IoBoard
from edge_agent.drivers.simulated.world import CellBuild, NoSuchCell, World
from edge_agent.model import Door
from tests.support.steps import SteppedClock

MS = 1_000_000
S = 1_000 * MS
MINUTE = 60 * S
READ = bytes.fromhex("01020000000879CC")
READ_2 = with_crc(bytes.fromhex("020200000008"))
DOORS = bytes.fromhex("01020100A188")
DOORS_2 = with_crc(bytes.fromhex("02020100"))


class Cell:
    """One cell with everything fastened to it."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        builds = [CellBuild("A01", opening_ms=60.0)]
        self.world = World(builds, clock_ns=self.clock.now_ns, wall_s=lambda: 0.0)
        self._contact = self.world.contact("A01", closed_level=1)
        self._weigh = self.world.platform("A01")
        self._probe = self.world.probe("A01")
        self.solenoid = self.world.solenoid("A01")
        self.heater = self.world.heater("A01")

    def closed(self) -> bool:
        return self._contact(self.clock.now) == 1

    def grams(self) -> int:
        return self._weigh(self.clock.now).grams

    def probed(self) -> float | None:
        return self._probe(self.clock.now)

    def pulse(self, ms: int) -> None:
        self.solenoid(self.clock.now, self.clock.now + ms * MS)

    def energised(self) -> bool:
        return self.world.cell("A01").solenoid

    def door(self) -> Door:
        return self.world.cell("A01").door


# Cells.


def test_a_jam_stands_until_all_that_raised_it_have_ended() -> None:
    cell = Cell()
    ends = [cell.world.jam_lock("A01") for _ in range(2)]
    for end in ends:
        cell.pulse(300)
        cell.clock.advance(S)
        assert cell.door() is Door.CLOSED
        end()
        end()
    # The last pulse is over: freeing the bolt opens nothing by itself.
    assert cell.door() is Door.CLOSED
    cell.pulse(300)
    cell.clock.advance(S)
    assert cell.door() is Door.OPEN


def test_a_stuck_contact_keeps_its_present_reading() -> None:
    cell = Cell()
    end = cell.world.stick_contact("A01")
    cell.world.open("A01")
    assert (cell.closed(), cell.door()) == (True, Door.OPEN)
    end()
    assert not cell.closed()


def test_a_contact_may_be_stuck_otherwise_and_the_newest_counts() -> None:
    cell = Cell()
    ends = [cell.world.stick_contact("A01", reads) for reads in (Door.OPEN, Door.CLOSED)]
    cell.world.open("A01")
    assert cell.closed()
    ends[1]()
    cell.world.close("A01")
    assert not cell.closed()
    # Stuck where it says open, whatever the door does.
    again = cell.world.stick_contact("A01")
    ends[0]()
    assert not cell.closed()
    again()
    assert cell.closed()


def test_a_bouncing_contact_chatters_after_each_change_and_no_longer() -> None:
    cell = Cell()
    ends = [cell.world.bounce_contact("A01", ms * MS) for ms in (20, 50)]
    for act in (cell.world.open, cell.world.close):
        cell.clock.advance(S)
        act("A01")
        levels = []
        for _ in range(49):
            levels.append(cell.closed())
            cell.clock.advance(MS)
        assert len(set(levels)) == 2
        assert sum(a != b for a, b in pairwise(levels)) > 5
        cell.clock.advance(MS)
        for _ in range(100):
            assert cell.closed() is (act == cell.world.close)
            cell.clock.advance(MS)
    for end in ends:
        end()
    cell.world.open("A01")
    assert not cell.closed()


def test_a_scale_drifts_with_the_time_and_reads_true_afterwards() -> None:
    cell = Cell()
    cell.world.open("A01")
    cell.world.place("A01", 500)
    ends = [cell.world.drift_scale("A01", 60.0)]
    assert cell.grams() == 500
    cell.clock.advance(MINUTE // 2)
    assert cell.grams() == 530
    ends.append(cell.world.drift_scale("A01", -120.0))
    cell.clock.advance(MINUTE)
    assert cell.grams() == 500 + 90 - 120
    assert cell.world.cell("A01").grams == 500
    for end in ends:
        end()
    assert cell.grams() == 500


def test_a_dead_probe_reads_as_no_sensor() -> None:
    cell = Cell()
    board = ThermometerBoard(1, {1: cell.world.probe("A01")})
    ask = with_crc(bytes.fromhex("010300000001"))
    end = cell.world.kill_probe("A01")
    assert cell.probed() is None
    assert board.answer(ask, cell.clock.now) == with_crc(bytes.fromhex("0103028000"))
    end()
    assert board.answer(ask, cell.clock.now) == with_crc(bytes.fromhex("01030200DC"))


def test_a_stuck_solenoid_stays_energised_once_pulsed() -> None:
    cell = Cell()
    end = cell.world.weld_solenoid("A01")
    assert not cell.energised()
    # Too short to open the lock, were it to end.
    cell.pulse(30)
    cell.clock.advance(10 * S)
    assert (cell.energised(), cell.door()) == (True, Door.OPEN)
    cell.solenoid(cell.clock.now, cell.clock.now)
    assert cell.energised()
    # The bolt is held back: the door does not stay shut.
    cell.world.close("A01")
    assert cell.door() is Door.OPEN
    assert [a.duration_ms for a in cell.world.actuations()] == [None]
    end()
    assert not cell.energised()
    assert [a.duration_ms for a in cell.world.actuations()] == [10_000]
    cell.world.close("A01")
    cell.clock.advance(S)
    assert cell.door() is Door.CLOSED


def test_a_solenoid_that_sticks_in_its_pulse_ends_it_when_freed_early() -> None:
    cell = Cell()
    cell.pulse(500)
    ends = [cell.world.weld_solenoid("A01") for _ in range(2)]
    cell.clock.advance(100 * MS)
    ends[0]()
    assert cell.world.actuations()[0].duration_ms is None
    ends[1]()
    cell.clock.advance(399 * MS)
    assert cell.energised()
    cell.clock.advance(MS)
    assert [a.duration_ms for a in cell.world.actuations()] == [500]


def test_a_stuck_heater_goes_on_heating() -> None:
    cell = Cell()
    end = cell.world.weld_heater("A01")
    cell.heater(cell.clock.now, cell.clock.now + S)
    cell.clock.advance(10 * MINUTE)
    state = cell.world.cell("A01")
    assert (state.heating, state.solenoid) == (True, False)
    assert state.temperature_c > 80
    end()
    assert not cell.world.cell("A01").heating


def test_a_cell_lists_its_fitted_sensors() -> None:
    world = World([CellBuild("A01"), CellBuild("A02")], clock_ns=lambda: 0, wall_s=lambda: 0.0)
    world.probe("A01")
    world.platform("A02")
    assert list(world.fitted("A01")) == ["temperature"]
    assert list(world.fitted("A02")) == ["scale"]
    with pytest.raises(NoSuchCell):
        world.kill_probe("Z99")


# The wire.


class Wire:
    """Boards 1 and 2 on a bus whose faults a test begins and ends."""

    def __init__(self, seed: int = 0, *, chunk_bytes: int | None = None) -> None:
        self.clock = SteppedClock()
        self.heard: list[tuple[int, bytes]] = []
        self.frames: list[FrameSeen] = []
        self.trouble = LineTrouble(Random(seed))
        self.line = WireLine(
            [IoBoard(1, {}, {}), IoBoard(2, {}, {})],
            baud=19_200,
            clock_ns=self.clock.now_ns,
            call_at_ns=self.clock.call_at_ns,
            deliver=lambda data: self.heard.append((self.clock.now, data)),
            chunk_bytes=chunk_bytes,
            trouble=self.trouble,
            on_frame=self.frames.append,
        )

    def ask(self, request: bytes = READ, wait_ns: int = S) -> bytes:
        """What is heard within a time after a request."""
        before = len(self.heard)
        self.line.feed(request)
        self.clock.advance(wait_ns)
        return b"".join(data for _, data in self.heard[before:])

    def usual_ns(self) -> int:
        """From the write to the last bit of the reply."""
        return self.line.duration_ns(len(READ + DOORS)) + self.line.silence_ns + TURNAROUND_NS


def test_noise_damages_requests_and_replies_as_often_as_it_says() -> None:
    wire = Wire()
    ends = [wire.trouble.noises.begin(p) for p in (0.25, 0.1)]
    answers = [wire.ask() for _ in range(400)]
    figures = wire.line.figures()
    share = figures.damaged / (figures.requests + figures.replies)
    assert 0.19 < share < 0.31
    damaged = [frame for frame in wire.frames if frame.fate == "damaged"]
    assert {frame.direction for frame in damaged} == {"request", "reply"}
    assert not any(intact(frame.data) for frame in damaged)
    assert answers.count(b"") == sum(frame.direction == "request" for frame in damaged)
    ends[0]()
    before = figures.damaged
    for _ in range(400):
        wire.ask()
    assert 40 < wire.line.figures().damaged - before < 120
    ends[1]()
    assert {wire.ask() for _ in range(50)} == {DOORS}


def test_noise_is_the_same_for_the_same_seed() -> None:
    def heard(seed: int) -> list[bytes]:
        wire = Wire(seed)
        wire.trouble.noises.begin(0.5)
        return [wire.ask() for _ in range(50)]

    assert heard(3) == heard(3)
    assert heard(3) != heard(4)


@pytest.mark.parametrize(
    ("begin", "late_ms"),
    [
        (lambda t: [t.delays_ns.begin(n * MS) for n in (40, 15)], (40, 40)),
        (lambda t: [t.latenesses_ns[2].begin(n * MS) for n in (15, 30)], (0, 30)),
        (lambda t: [t.delays_ns.begin(40 * MS), t.latenesses_ns[2].begin(30 * MS)], (40, 70)),
    ],
)
def test_replies_come_late(begin: Callable[[LineTrouble], list[End]], late_ms: tuple[int, int]) -> None:
    wire = Wire()
    ends = begin(wire.trouble)
    for request, reply, ms in ((READ, DOORS, late_ms[0]), (READ_2, DOORS_2, late_ms[1])):
        due_ns = wire.clock.now + wire.usual_ns() + ms * MS
        assert wire.ask(request) == reply
        assert wire.heard[-1][0] == due_ns
    for end in ends:
        end()
    due_ns = wire.clock.now + wire.usual_ns()
    assert (wire.ask(READ_2), wire.heard[-1][0]) == (DOORS_2, due_ns)


def test_a_late_reply_collides_with_what_is_on_the_wire_at_its_moment() -> None:
    wire = Wire()
    wire.trouble.delays_ns.begin(20 * MS)
    starts_ns = wire.clock.now + wire.usual_ns() + 20 * MS - wire.line.duration_ns(len(DOORS))
    wire.line.feed(READ)
    wire.clock.run_until(starts_ns - wire.line.duration_ns(4))
    assert wire.ask(READ_2) == b""
    assert wire.line.figures().collisions == 1


@pytest.mark.parametrize("into_silence_ns", [1, 1_000_000, 1_822_915])
def test_a_late_reply_in_the_silence_after_a_request_makes_one_frame_of_both(into_silence_ns: int) -> None:
    wire = Wire()
    end = wire.trouble.delays_ns.begin(20 * MS)
    starts_ns = wire.clock.now + wire.usual_ns() + 20 * MS - wire.line.duration_ns(len(DOORS))
    wire.line.feed(READ)
    wire.clock.run_until(starts_ns - wire.line.duration_ns(len(READ_2)) - into_silence_ns)
    end()
    # The master receives the late one whole, and no device has understood its request.
    assert wire.ask(READ_2) == DOORS
    assert (wire.line.figures().collisions, wire.frames[-1].fate) == (1, "collided")
    assert wire.ask(READ_2) == DOORS_2


def test_a_late_reply_is_heard_after_the_next_device_has_answered() -> None:
    wire = Wire()
    end = wire.trouble.delays_ns.begin(60 * MS)
    wire.ask(READ, 20 * MS)
    end()
    assert wire.ask(READ_2, 20 * MS) == DOORS_2
    wire.clock.advance(S)
    assert [data for _, data in wire.heard] == [DOORS_2, DOORS]


def test_a_silent_address_neither_acts_nor_answers() -> None:
    wire = Wire()
    ends = [wire.trouble.silences[2].begin(None) for _ in range(2)]
    for end in ends:
        assert (wire.ask(READ), wire.ask(READ_2)) == (DOORS, b"")
        end()
    assert wire.ask(READ_2) == DOORS_2


def test_a_ghost_repeats_its_last_reply_after_a_request_to_another() -> None:
    wire = Wire()
    end = wire.trouble.ghosts[1].begin(0.5)
    # It has said nothing yet.
    assert [wire.ask(READ_2) for _ in range(20)] == [DOORS_2] * 20
    assert wire.ask(READ) == DOORS
    heard = [wire.ask(READ_2) for _ in range(200)]
    assert set(heard) == {DOORS_2, DOORS_2 + DOORS}
    assert 60 < heard.count(DOORS_2 + DOORS) < 140
    assert [wire.ask(READ) for _ in range(20)] == [DOORS] * 20
    begins_ns = [
        ghost.start_ns - asked.end_ns
        for asked, ghost in pairwise(wire.frames)
        if (asked.direction, ghost.direction, ghost.data) == ("reply", "reply", DOORS)
    ]
    assert TURNAROUND_NS <= min(begins_ns) < max(begins_ns) < TURNAROUND_NS + GHOST_SPREAD_NS
    assert max(begins_ns) - min(begins_ns) > GHOST_SPREAD_NS / 2
    silent = wire.trouble.silences[1].begin(None)
    assert [wire.ask(READ_2) for _ in range(20)] == [DOORS_2] * 20
    silent()
    end()
    assert [wire.ask(READ_2) for _ in range(20)] == [DOORS_2] * 20


@pytest.mark.parametrize("chunk_bytes", [None, 3])
def test_an_echo_is_heard_at_the_pace_of_the_wire_before_any_reply(chunk_bytes: int | None) -> None:
    wire = Wire(chunk_bytes=chunk_bytes)
    end = wire.trouble.echoes.begin(None)
    start_ns = wire.clock.now
    assert wire.ask() == READ + DOORS
    passed, last = b"", 0
    for when_ns, piece in wire.heard:
        passed += piece
        if len(passed) <= len(READ):
            assert when_ns - start_ns == pytest.approx(wire.line.duration_ns(len(passed)), abs=2)
            last = when_ns
    assert last - start_ns == wire.line.duration_ns(len(READ))
    # Also what no device answers, and what is cut off by unplugging.
    nobody = with_crc(bytes.fromhex("090200000008"))
    assert wire.ask(nobody) == nobody
    wire.line.feed(READ)
    wire.line.stop()
    assert wire.clock.pending == 0
    wire.clock.advance(S)
    end()
    assert wire.ask() == DOORS
