"""The small parts, each alone, and every limit met exactly."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, replace

import pytest

from edge_agent.model import Alarm, Cell, CellStatus, Door, Instant, Occupancy, Packaging, Purpose
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.allocation import fits, scarcity
from edge_agent.statemachine.amend import _shapes, amend
from edge_agent.statemachine.inputs import (
    BlockCell,
    Cancel,
    DoorRead,
    DoorsChanged,
    PulseDone,
    Reserve,
    Tick,
    UnblockCell,
)
from edge_agent.statemachine.locker import next_due_ns, restored
from edge_agent.statemachine.outputs import FactKind, PulseLock
from edge_agent.statemachine.state import Layout, attempt_on
from edge_agent.statemachine.step_builder import StepBuilder
from tests.support.pure_core.core import SMALL, START, Core, specs

S = 10**9


def ahead(core: Core, ns: int) -> None:
    """Time passes, to the nanosecond, and nothing is fed."""
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + ns)


@pytest.mark.parametrize(
    ("taken", "of", "how_full"),
    [
        (0, 20, Occupancy.LOW),
        (6, 20, Occupancy.LOW),
        (7, 20, Occupancy.MEDIUM),
        (31, 100, Occupancy.MEDIUM),
        (14, 20, Occupancy.MEDIUM),
        (71, 100, Occupancy.HIGH),
        (19, 20, Occupancy.HIGH),
        (96, 100, Occupancy.OVERLOADED),
        (20, 20, Occupancy.OVERLOADED),
    ],
)
def test_how_full_a_locker_is(taken: int, of: int, how_full: Occupancy) -> None:
    statuses = [s for s in CellStatus if s is not CellStatus.IDLE]
    found = [Cell(f"c{n}", statuses[n % 5] if n < taken else CellStatus.IDLE) for n in range(of)]
    assert cells.occupancy(found) is how_full


def test_one_free_cell_of_each_kind_is_named() -> None:
    built = specs()
    twin = replace(built[2], label="B03", cooling=False)
    deeper = replace(built[0], label="A03", depth_mm=500)
    wider = replace(built[0], label="A04", width_mm=351)
    higher = replace(built[0], label="A05", height_mm=151)
    scale = replace(built[0], label="A06", weight_sensor=True)
    warm = replace(built[0], label="A07", heating=True)
    layout = {spec.label: spec for spec in (*built, twin, deeper, wider, higher, scale, warm)}
    core = Core(Layout(specs=layout))
    kinds = ["A01", "B01", "B02", "C01", "B03", "A03", "A04", "A05", "A06", "A07"]
    assert [spec.label for spec in cells.preferred(layout, core.state.cells)] == kinds
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert [spec.label for spec in cells.preferred(layout, core.state.cells)] == ["A02", *kinds[1:]]


@pytest.mark.parametrize(
    ("changes", "fit"),
    [
        ({}, True),
        ({"width_mm": 351}, False),
        ({"depth_mm": 451}, False),
        ({"width_mm": 450, "depth_mm": 350}, True),
        ({"width_mm": 450, "depth_mm": 351}, False),
        ({"width_mm": 451, "depth_mm": 350}, False),
        ({"height_mm": 151}, False),
        ({"mass_g": 5_001}, False),
        ({"heating_required": True}, False),
        ({"cooling_required": True}, False),
    ],
)
def test_what_fits_exactly(changes: dict[str, int], fit: bool) -> None:
    exact = replace(Packaging(350, 150, 450, 5_000), **changes)  # type: ignore[arg-type]
    assert fits(specs()[0], exact) is fit


def test_abilities_that_are_not_asked_for() -> None:
    _, _, cold, warm, plain = specs()
    assert [scarcity(spec, SMALL) for spec in (plain, cold, warm)] == [0, 1, 2]
    assert scarcity(warm, replace(SMALL, heating_required=True)) == 1
    assert scarcity(cold, replace(SMALL, cooling_required=True)) == 0
    assert scarcity(cold, replace(SMALL, heating_required=True)) == 1
    assert fits(cold, replace(SMALL, cooling_required=True))
    assert fits(warm, replace(SMALL, heating_required=True))


def test_the_least_worn_of_two_alike_is_taken() -> None:
    core = Core()
    first = core.reserve()
    core.opens(core.command(first, Purpose.OPEN_DOOR))
    core.close("A01")
    core.feed(core.cancel(first))
    core.clear("A01")
    assert core.reserve().cell == "A02"


def test_amended_copies() -> None:
    cell = Cell("A01")
    changed = amend(cell, door=Door.OPEN, pulse_count=3)
    assert changed == replace(cell, door=Door.OPEN, pulse_count=3)
    assert cell == Cell("A01")
    assert amend(cell) == cell
    moment = amend(START, boot_id="b")
    assert (type(moment), moment.boot_id, moment.wall_s) == (Instant, "b", START.wall_s)
    with pytest.raises(KeyError):
        amend(cell, colour="red")
    with pytest.raises(FrozenInstanceError):
        changed.door = Door.CLOSED  # type: ignore[misc]


def test_amending_works_for_a_kind_never_seen_before() -> None:
    @dataclass(frozen=True, slots=True)
    class Pair:
        left: int
        right: int

    for _ in range(2):
        assert amend(Pair(1, 2), right=9) == Pair(1, 9)
        assert amend(Pair(1, 2), left=9) == Pair(9, 2)
    assert set(_shapes[Pair][1].items()) == {("left", 0), ("right", 1)}


def test_who_is_at_work_on_a_cell() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))
    first, second = core.reserve(), core.reserve()
    commands = [core.command(one, Purpose.DROPOFF) for one in (first, second)]
    for command in commands:
        core.feed(command)
    at_work = attempt_on(core.state.unlock_attempts, first.cell)
    assert at_work is not None
    assert at_work.unlock_id == commands[0].unlock_id
    assert attempt_on(core.state.unlock_attempts, second.cell) is None
    assert core.state.active_unlocks() == 1
    core.feed(DoorRead(commands[0].unlock_id, Door.CLOSED))
    assert core.state.active_unlocks() == 1
    core.feed(PulseDone(commands[0].unlock_id, 1, Door.UNKNOWN))
    at_work = attempt_on(core.state.unlock_attempts, first.cell)
    assert at_work is not None
    assert at_work.stage == "unresolved"
    assert [t.stage for t in core.state.unlock_attempts.values()] == ["unresolved", "reading"]
    assert core.state.active_unlocks() == 1


def test_what_a_restart_finds() -> None:
    core = Core()
    first, second, third = core.dropped_off(), core.reserve(), core.reserve()
    core.layout = replace(core.layout, max_concurrent_unlocks=9)
    for reservation, purpose in ((first, Purpose.PICKUP), (second, Purpose.DROPOFF)):
        command = core.command(reservation, purpose)
        core.feed(command)
        core.feed(DoorRead(command.unlock_id, Door.CLOSED))
        if purpose is Purpose.PICKUP:
            core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
    core.feed(core.command(third, Purpose.OPEN_DOOR))
    found = restored(core.state, core.now)
    assert [t.stage for t in found.unlock_attempts.values()] == ["unresolved", "pulsing", "reading"]
    assert found.pulses == core.state.pulses
    assert not any(cell.answering for cell in found.cells.values())
    assert all(cell.unread for cell in found.cells.values())
    assert found.cells == {
        label: replace(cell, answering=False, unread=True, settled=False, quiet_from_ns=None)
        for label, cell in core.state.cells.items()
    }
    core.layout = replace(core.layout, max_concurrent_unlocks=2)
    core.feed(core.command(core.reserve(), Purpose.DROPOFF))
    assert core.state.queue
    found = restored(core.state, replace(core.now, boot_id="boot-2"))
    assert (found.queue, found.pulses, len(found.unlock_attempts)) == ((), {}, 3)


def test_a_command_lives_to_its_last_nanosecond() -> None:
    for late, code in ((0, None), (1, 4)):
        core = Core()
        reservation = core.reserve()
        command = core.command(reservation, Purpose.DROPOFF, life_s=5)
        cancel = Cancel("k", reservation.reservation_id, expires_ns=command.expires_ns)
        reserve = Reserve("k", "res_x", "p", "o", SMALL, ("1111", "2222"), expires_ns=command.expires_ns)
        ahead(core, 5 * S + late)
        if code is None:
            core.feed(reserve)
            core.feed(command)
            pulses = core.feed(DoorRead(command.unlock_id, Door.CLOSED)).effects
            assert core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED)).effects != pulses
            assert len(core.pulses) == 2
        else:
            for given in (command, cancel, reserve):
                assert core.refused(given).code == code


def test_the_next_pulse_is_not_given_after_the_commands_life() -> None:
    core = Core()
    command = core.command(core.dropped_off(), Purpose.PICKUP, life_s=5)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.pulses.clear()
    ahead(core, 5 * S)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert [p.pulse_number for p in core.pulses] == [2]
    ahead(core, 1)
    core.feed(PulseDone(command.unlock_id, 2, Door.CLOSED))
    assert len(core.pulses) == 1


def test_graces_include_their_last_nanosecond() -> None:
    core = Core()
    reservation = core.dropped_off(grace_dropoff_s=10, grace_pickup_s=10)
    ahead(core, 10 * S)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    ahead(core, 1)
    core.refused(core.command(reservation, Purpose.DROPOFF))
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close(reservation.cell)
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 10 * S + 1
    ahead(core, 10 * S)
    core.feed(Tick())
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close(reservation.cell)
    assert reservation.reservation_id in core.state.reservations
    ahead(core, 1)
    core.refused(core.command(reservation, Purpose.PICKUP))
    core.feed(Tick())
    assert core.facts[-1].kind is FactKind.RESERVATION_COMPLETED


def test_what_is_overdue_is_due_now() -> None:
    core = Core()
    core.picked_up(grace_pickup_s=5)
    ahead(core, 60 * S)
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns


def test_the_soonest_of_several_is_due_next() -> None:
    core = Core()
    core.picked_up(grace_pickup_s=50)
    core.opened_by_hand("C01")
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 50 * S + 1
    ahead(core, 10 * S)
    for _ in range(5):
        core.invalid("x")
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 40 * S + 1
    core.pass_s(45)
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 15 * S
    core.pass_s(15)
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 50 * S
    core.pass_s(50)
    assert f"{Alarm.DOOR_AJAR}/C01" in core.state.alarms
    core.close("C01")
    core.forced("C01")
    core.close("C01")
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 600 * S


def test_the_window_of_invalid_entries_includes_its_last_nanosecond() -> None:
    for late, rests in ((0, True), (1, False)):
        core = Core()
        core.invalid("x")
        ahead(core, 300 * S + late)
        for _ in range(4):
            core.invalid("x")
        assert (f"{Alarm.CODE_GUESSING}/digits" in core.state.alarms) is rests


def test_a_day_without_an_invalid_entry_forgives_and_not_a_nanosecond_less() -> None:
    for late, rests in ((0, 2), (1, 1)):
        core = Core()
        for _ in range(5):
            core.invalid("x")
        ahead(core, 24 * 3600 * S + late)
        for _ in range(5):
            core.invalid("x")
        assert core.state.guesses["digits"].rests == rests


def test_the_duty_of_a_lock_to_the_nanosecond() -> None:
    for early, pulsed in ((0, True), (1, False)):
        core = Core()
        reservation = core.dropped_off()
        for _ in range(5):
            core.opens(core.command(reservation, Purpose.OPEN_DOOR))
            core.close(reservation.cell)
        ahead(core, 10 * S - early)
        command = core.command(reservation, Purpose.PICKUP)
        core.feed(command)
        effects = core.feed(DoorRead(command.unlock_id, Door.CLOSED)).effects
        assert bool(effects) is pulsed
        assert all(isinstance(effect, PulseLock) for effect in effects)
        assert len(core.state.pulses[reservation.cell].at_ns) == (1 if pulsed else 6)


def test_a_lock_that_reaches_its_duty_is_not_pulsed_again_in_the_same_command() -> None:
    core = Core()
    reservation = core.dropped_off()
    for _ in range(4):
        core.opens(core.command(reservation, Purpose.OPEN_DOOR))
        core.close(reservation.cell)
    core.pulses.clear()
    command = core.command(reservation, Purpose.PICKUP)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    done = core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert len(core.pulses) == 1
    assert done.answers[0].refusal is not None


def test_a_door_that_opens_ten_seconds_after_its_pulse_was_forced() -> None:
    for early, forced in ((0, True), (1, False)):
        core = Core()
        reservation = core.dropped_off()
        core.pass_s(11)
        core.jams(core.feed(core.command(reservation, Purpose.PICKUP)))
        ahead(core, 10 * S - early)
        core.forced(reservation.cell)
        assert (f"{Alarm.DOOR_FORCED}/{reservation.cell}" in core.state.alarms) is forced


def test_nothing_changes_when_nothing_is_put() -> None:
    core = Core()
    builder = StepBuilder(core.state, core.layout, core.now)
    builder.put("unlock_attempts", "none", None)
    builder.release_code("0000")
    builder.clear_alarm(Alarm.DOOR_AJAR, "A01")
    builder.answer(None)
    done = builder.result()
    assert (done.changed, done.facts, done.answers) == ((), (), ())
    assert done.state == core.state
    assert done.state.unlock_attempts is core.state.unlock_attempts


def test_a_reservation_moves_into_a_cell_that_somebody_had_before() -> None:
    core = Core(Layout(specs={s.label: s for s in specs() if s.label in ("A01", "A02")}))
    former = core.picked_up(grace_pickup_s=0)
    core.pass_s(11)
    core.opens(core.command(former, Purpose.OPEN_DOOR))
    core.close(former.cell)
    assert core.state.cells[former.cell].opened_since_allocation
    core.feed(BlockCell("k", former.cell, "b"))
    reservation = core.reserve()
    assert reservation.cell != former.cell
    core.feed(UnblockCell("k", former.cell))
    core.clear(former.cell)
    core.pass_s(11)
    core.jams(core.feed(core.command(reservation, Purpose.DROPOFF)))
    assert core.live(reservation).cell == former.cell
    assert not core.state.former
    assert not core.state.cells[former.cell].opened_since_allocation


def test_the_unlocks_of_one_command_in_several_cells_are_numbered() -> None:
    core = Core()
    command = core.command(core.reserve(), Purpose.DROPOFF)
    done = core.feed(command)
    for _ in range(3):
        done = core.jams(done)
    assert list(core.state.unlock_attempts) == [f"{command.unlock_id}.3"]
    ids = [f"{command.unlock_id}{suffix}" for suffix in ("", ".1", ".2")]
    assert list(dict.fromkeys(pulse.unlock_id for pulse in core.pulses)) == ids
