"""Guards of a pulse and fields of its outcome, each at its border."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.model import (
    CellStatus,
    Door,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    UnlockOutcome,
    Verdict,
)
from edge_agent.statemachine.doors import wrong_door
from edge_agent.statemachine.inputs import (
    ClosingSettled,
    DoorRead,
    DoorsChanged,
    HandCheck,
    OpenCell,
    OpenForReservation,
    PulseDone,
    Resolve,
)
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.reservation import holds
from edge_agent.statemachine.state import Layout, Pulses
from edge_agent.statemachine.transitions import Guard
from tests.support.pure_core.core import START, Core, specs


def three_pulses() -> Core:
    return Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=3))


def pulsed(core: Core, given: OpenForReservation | OpenCell) -> None:
    """The first pulse for a command is under way."""
    look = core.requested_reading(core.feed(given))
    core.feed(DoorRead(look.unlock_id, core.state.cells[look.cell].door))


@pytest.mark.parametrize("opens", [True, False])
def test_no_pulse_is_repeated_while_another_opening_has_no_cause_yet(opens: bool) -> None:
    core = three_pulses()
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    command = core.command(second, Purpose.PICKUP)
    pulsed(core, command)
    if opens:
        core.feed(DoorsChanged({first.cell: Door.OPEN}))
    pulses = len(core.pulses)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert len(core.pulses) - pulses == (not opens)
    assert (command.unlock_id in core.state.unlock_attempts) is not opens


def test_an_open_door_at_a_contact_in_doubt_ends_as_unknown() -> None:
    core = three_pulses()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.forced(reservation.cell)
    core.facts.clear()
    command = core.command(reservation, Purpose.OPEN_DOOR)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    (ended,) = [fact for fact in core.facts if fact.kind is FactKind.OPEN_DOOR_FULFILLED]
    assert ended.outcome is UnlockOutcome.UNKNOWN


def test_a_technicians_opening_names_its_source() -> None:
    core = three_pulses()
    act = OpenCell("req-t", "A01", "why", "unl-t", actor="bob")
    pulsed(core, act)
    core.feed(PulseDone("unl-t", 1, Door.OPEN))
    (ended,) = [fact for fact in core.facts if fact.kind is FactKind.OPEN_DOOR_FULFILLED]
    assert (ended.source, ended.actor, ended.description) == (Source.MACHINE, "bob", "why")


def test_a_pulse_of_another_boot_opens_nothing_late() -> None:
    given = Pulses(
        START.boot_id, (START.boottime_ns,), Purpose.PICKUP, Source.API, "res_1", pulses_without_opening=1
    )
    assert wrong_door.may_open_late(given, START)
    assert not wrong_door.may_open_late(given, replace(START, boot_id="another"))
    assert not wrong_door.may_open_late(replace(given, pulses_without_opening=0), START)


def failed_drop_off(core: Core) -> tuple[Reservation, str]:
    """A drop-off whose lock did not move, and that moved on to another cell; with the first cell."""
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert core.live(reservation).cell != reservation.cell
    return reservation, reservation.cell


def test_a_lock_that_opens_late_for_a_reservation_that_moved_on_forces_no_door() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=1))
    _, label = failed_drop_off(core)
    core.pass_s(3)
    core.feed(DoorsChanged({label: Door.OPEN}))
    assert core.state.cells[label].unexplained_since is None
    core.lasts()
    assert f"DOOR_FORCED/{label}" not in core.state.alarms
    assert core.state.cells[label].status is CellStatus.AWAITING_INSPECTION


def test_a_late_opening_is_remembered_by_its_cell() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=1))
    reservation = core.dropped_off()
    core.pass_s(11)
    changed = replace(
        core.state.cells[reservation.cell],
        opened_since_allocation=False,
        unlocked_since_allocation=False,
        last_outcome=UnlockOutcome.NO_MOVEMENT,
    )
    core.state = replace(core.state, cells={**core.state.cells, reservation.cell: changed})
    command = core.command(reservation, Purpose.PICKUP)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    core.pass_s(3)
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    cell = core.state.cells[reservation.cell]
    assert (cell.opened_since_allocation, cell.unlocked_since_allocation) == (True, True)
    assert (cell.unexplained_since, cell.last_outcome, cell.opened_by_unlock) == (None, None, True)


def test_a_technicians_word_ends_no_command_that_waits_unless_the_reservation_is_over() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=1, max_concurrent_unlocks=1))
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
    core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))  # ends as UNKNOWN
    core.feed(OpenCell(core.key(), "C01", "why", "unl-t"))  # the only one at a time
    again = core.command(reservation, Purpose.DROPOFF)
    core.feed(again)
    assert again.unlock_id in core.state.queue
    core.feed(Resolve(core.key(), reservation.cell, Verdict.DROPPED_OFF, Source.MACHINE))
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert again.unlock_id in core.state.queue


def only_cell(**changes: Any) -> Core:
    """A locker with one cell, so that no drop-off can move on."""
    spec = specs()[0]
    return Core(Layout(specs={spec.label: spec}, **changes))


def closes(core: Core, label: str) -> None:
    core.feed(DoorsChanged({label: Door.CLOSED}))
    core.pass_s(0.6)
    core.feed(ClosingSettled(label, core.now.boottime_ns - 600_000_000))


def test_a_closing_that_does_not_last_concludes_no_drop_off_in_doubt() -> None:
    core = only_cell()
    reservation = core.reserve()
    core.forced(reservation.cell)
    command = core.command(reservation, Purpose.DROPOFF)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    closes(core, reservation.cell)
    core.pass_s(10)
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    core.pass_s(40)
    assert core.live(reservation).status is ReservationStatus.PENDING
    closes(core, reservation.cell)
    core.pass_s(20)
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.pass_s(10)
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


def test_an_opening_after_a_pulse_in_doubt_is_no_late_pick_up() -> None:
    core = only_cell()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.forced(reservation.cell)
    command = core.command(reservation, Purpose.PICKUP)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
    core.pass_s(2)
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


def test_an_opening_that_is_read_late_answers_the_command_that_is_not_decided() -> None:
    core = only_cell()
    reservation = core.dropped_off()
    core.pass_s(11)
    command = core.command(reservation, Purpose.PICKUP)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
    core.facts.clear()
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    (picked_up,) = [fact for fact in core.facts if fact.kind is FactKind.PICKUP]
    assert picked_up.source is Source.API
    assert core.live(reservation).status is ReservationStatus.PICKED_UP
    assert core.state.cells[reservation.cell].unexplained_since is None


def test_a_lock_that_must_rest_is_not_pulsed_for_a_door_that_was_left_open() -> None:
    core = only_cell(duty_pulses=1)
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    core.opens(command)
    again = core.command(reservation, Purpose.DROPOFF)
    look = core.requested_reading(core.feed(again))
    pulses = len(core.pulses)
    done = core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    assert len(core.pulses) == pulses
    (answer,) = done.answers
    assert answer.refusal is not None
    assert "has to cool down" in answer.refusal.message


def flips(core: Core, label: str, *at_s: float) -> bool:
    """The door is read open, closed, … at these times; whether its contact is in doubt then."""
    begin_ns, door = core.now.boottime_ns, Door.OPEN
    for moment_s in at_s:
        core.now = replace(core.now, boottime_ns=begin_ns + round(moment_s * 1e9))
        core.feed(DoorsChanged({label: door}))
        door = Door.CLOSED if door is Door.OPEN else Door.OPEN
    return core.state.cells[label].contact_doubt is not None


@pytest.mark.parametrize(("last_s", "doubted"), [(2.0, True), (2.000_000_001, False)])
def test_four_changes_in_two_seconds_are_chatter(last_s: float, doubted: bool) -> None:
    core = only_cell()
    core.feed(HandCheck(("A01",), running=False))
    assert flips(core, "A01", 0.0, 0.1, last_s - 0.1, last_s) is doubted


@pytest.mark.parametrize(("first_s", "doubted"), [(0.6, False), (0.600_000_001, True)])
def test_changes_in_the_time_of_bounces_after_a_pulse_are_not_counted(first_s: float, doubted: bool) -> None:
    core = only_cell()
    act = OpenCell("req-t", "A01", "why", "unl-t")
    pulsed(core, act)
    assert flips(core, "A01", first_s, 0.7, 0.8, 0.9) is doubted


@pytest.mark.parametrize(
    ("unlocked", "empty", "unknown", "met"),
    [
        (False, None, False, True),
        (True, None, False, False),
        (True, True, False, True),
        (True, False, False, False),
        (True, True, True, False),
    ],
)
def test_a_cell_that_was_unlocked_holds_nothing_only_if_its_scale_is_believed(
    *, unlocked: bool, empty: bool | None, unknown: bool, met: bool
) -> None:
    core = only_cell()
    reservation = core.reserve()
    cell = replace(
        core.state.cells[reservation.cell],
        unlocked_since_allocation=unlocked,
        empty=empty,
        outcome_unknown=unknown,
    )
    assert holds(Guard.NEVER_UNLOCKED, core.live(reservation), cell, core.now) is met
