"""What several sensors show together: late openings, wrong doors, scales."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Alarm, CellCause, CellStatus, Door, Purpose, ReservationStatus, UnlockOutcome
from edge_agent.statemachine.inputs import (
    ClosingSettled,
    DoorRead,
    DoorsChanged,
    OpenCell,
    OpenForReservation,
    PulseDone,
    Weighed,
)
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, Core, specs


def alarms(core: Core) -> set[str]:
    """The alarms that stand."""
    return set(core.state.alarms)


def pulsed(core: Core, command: OpenForReservation | OpenCell) -> None:
    """The first pulse for a command is under way."""
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, core.state.cells[look.cell].door))


def test_an_opening_is_the_own_locks_late_one_once_the_other_lock_has_opened() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=1))
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    late = core.command(first, Purpose.PICKUP)
    pulsed(core, late)
    core.feed(PulseDone(late.unlock_id, 1, Door.CLOSED))
    other = core.command(second, Purpose.PICKUP)
    pulsed(core, other)
    core.feed(DoorsChanged({first.cell: Door.OPEN}))
    assert core.live(first).status is ReservationStatus.DROPPED_OFF
    core.feed(DoorsChanged({second.cell: Door.OPEN}))
    core.lasts()
    assert core.live(first).status is ReservationStatus.PICKED_UP
    assert core.live(second).status is ReservationStatus.PICKED_UP
    assert alarms(core) == set()


@pytest.mark.parametrize("passed_s", [1.0, 4.0, 9.0])
def test_an_opening_after_two_locks_failed_is_a_wrong_door(passed_s: float) -> None:
    """The door's own lock was pulsed less than 10 s ago, another one since, and that one has not opened."""
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=1))
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    for reservation in (first, second):
        command = core.command(reservation, Purpose.PICKUP)
        pulsed(core, command)
        core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    core.pass_s(passed_s)
    core.forced(first.cell)
    both = {f"{Alarm.WRONG_DOOR}/{reservation.cell}" for reservation in (first, second)}
    assert both <= alarms(core)
    assert f"{Alarm.DOOR_FORCED}/{first.cell}" not in alarms(core)
    assert core.live(first).status is ReservationStatus.DROPPED_OFF
    assert core.live(second).status is ReservationStatus.DROPPED_OFF


def test_an_opening_after_the_other_lock_was_pulsed_first_is_its_own_locks() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=1))
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    for reservation in (first, second):
        command = core.command(reservation, Purpose.PICKUP)
        pulsed(core, command)
        core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
        core.pass_s(4)
    core.forced(second.cell)
    assert core.live(second).status is ReservationStatus.PICKED_UP
    assert not {key for key in alarms(core) if key.startswith(Alarm.WRONG_DOOR)}


@pytest.mark.parametrize(("door", "failed"), [(Door.CLOSED, False), (Door.OPEN, True), (Door.UNKNOWN, True)])
def test_a_closing_just_before_ten_minutes_is_waited_for(door: Door, *, failed: bool) -> None:
    core = Core()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.forced(reservation.cell)
    command = core.command(reservation, Purpose.PICKUP)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    core.pass_s(599.8)
    core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
    closed_ns = core.now.boottime_ns
    if door is not Door.CLOSED:
        core.feed(DoorsChanged({reservation.cell: door}))
    core.pass_s(0.6)
    assert (FactKind.PICKUP_FAILED in core.kinds()) is failed
    if not failed:
        core.feed(ClosingSettled(reservation.cell, closed_ns))
        picked_up = core.live(reservation).picked_up
        assert picked_up is not None
        assert picked_up.boottime_ns == closed_ns
        assert FactKind.PICKUP_FAILED not in core.kinds()


def test_a_contact_board_at_fault_blames_no_lock_and_no_lock_board() -> None:
    """What the contacts of a board at fault show of a lock marks neither its cell nor the lock's board."""
    labels = [spec.label for spec in specs()]
    locks, contacts = dict.fromkeys(labels, "locks"), dict.fromkeys(labels, "contacts")
    core = Core(Layout({spec.label: spec for spec in specs()}, lock_boards=locks, contact_boards=contacts))
    reservation = core.dropped_off()
    others = [label for label in labels if label != reservation.cell][:2]
    core.feed(DoorsChanged(dict.fromkeys(others, Door.OPEN)))
    core.lasts()
    assert f"{Alarm.DEVICE_FAULT}/contacts" in alarms(core)
    core.pass_s(11)
    core.jams(core.feed(core.command(reservation, Purpose.PICKUP)))
    assert alarms(core) == {f"{Alarm.DEVICE_FAULT}/contacts"}
    assert core.state.cells[reservation.cell].faulty is None


def test_an_earlier_wrong_door_is_not_taken_back_by_a_later_pulse() -> None:
    core = Core()
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    pulsed(core, command)
    core.forced("C01")
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    core.close("C01")
    core.pass_s(11)
    pulsed(core, OpenCell("k", "A01", "because", "unl-k"))
    core.forced("C01")
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert {f"{Alarm.WRONG_DOOR}/A01", f"{Alarm.WRONG_DOOR}/C01"} <= alarms(core)


def test_a_technicians_pulse_in_doubt_asks_for_no_inspection() -> None:
    core = Core()
    core.opened_by_hand("A01")
    core.pass_s(1)
    core.feed(DoorsChanged({"A01": Door.CLOSED}))
    core.pass_s(0.7)
    for door in (Door.OPEN, Door.CLOSED, Door.OPEN, Door.CLOSED, Door.OPEN):
        core.feed(DoorsChanged({"A01": door}))
        core.pass_s(0.1)
    assert f"{Alarm.SENSOR_FAULT}/A01/contact" in alarms(core)
    pulsed(core, OpenCell("k", "A01", "because", "unl-k"))
    core.feed(PulseDone("unl-k", 1, Door.OPEN))
    assert core.state.cells["A01"].last_outcome is UnlockOutcome.UNKNOWN
    assert core.state.cells["A01"].status is CellStatus.IDLE


def test_a_scale_proves_a_cell_empty_after_a_pick_up_in_doubt() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"})))
    reservation = core.reserve(SMALL, grace_pickup_s=60)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    core.feed(Weighed("A01", 900))
    core.pass_s(11)
    core.forced("A01")
    command = core.command(reservation, Purpose.PICKUP)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    core.close("A01")
    assert core.live(reservation).status is ReservationStatus.PICKED_UP
    core.feed(Weighed("A01", 0))
    core.pass_s(61)
    assert core.state.cells["A01"].status is CellStatus.IDLE


def test_a_scale_ends_the_inspection_of_a_free_cell_that_was_forced() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"})))
    core.feed(Weighed("A01", 0))
    core.forced("A01")
    assert core.state.cells["A01"].status is CellStatus.AWAITING_INSPECTION
    core.feed(DoorsChanged({"A01": Door.CLOSED}))
    core.feed(Weighed("A01", 0))
    assert core.state.cells["A01"].status is CellStatus.AWAITING_INSPECTION  # it has not settled yet
    core.facts.clear()
    core.settle("A01")
    cell = core.state.cells["A01"]
    assert (cell.status, cell.inspect_unless_empty) == (CellStatus.IDLE, False)
    (fact,) = [fact for fact in core.facts if fact.kind is FactKind.CELL_STATUS_CHANGED]
    assert (fact.cell, fact.cause) == ("A01", CellCause.PROVEN_EMPTY)


def test_a_scale_ends_no_inspection_that_something_else_asked_for() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"})))
    place = replace(core.state.cells["A01"], status=CellStatus.AWAITING_INSPECTION)
    core.state = replace(core.state, cells={"A01": place})
    core.feed(Weighed("A01", 0))
    assert core.state.cells["A01"].status is CellStatus.AWAITING_INSPECTION


def test_a_held_drop_off_that_is_found_empty_waits_for_nothing_more() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}), hold_empty_dropoff=True))
    core.feed(Weighed("A01", 0))
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    assert core.live(reservation).to_be_weighed is True
    core.feed(Weighed("A01", 0))
    live = core.live(reservation)
    assert (live.status, live.dropoff_opened, live.to_be_weighed) == (ReservationStatus.PENDING, False, False)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    core.opens(core.command(reservation, Purpose.DROPOFF))
    assert core.live(reservation).to_be_weighed is False


def test_a_cell_that_a_reservation_leaves_keeps_nothing_of_it() -> None:
    core = Core()
    reservation = core.reserve()
    label = reservation.cell
    place = replace(core.state.cells[label], outcome_unknown=True, last_outcome=UnlockOutcome.UNKNOWN)
    core.state = replace(core.state, cells={**core.state.cells, label: place})
    core.jams(core.feed(core.command(reservation, Purpose.DROPOFF)))
    assert core.live(reservation).cell != label
    left = core.state.cells[label]
    assert (left.status, left.reservation_id) == (CellStatus.AWAITING_INSPECTION, None)
    assert (left.outcome_unknown, left.last_outcome, left.unverified) == (False, None, False)
    assert (left.opened_since_allocation, left.unlocked_since_allocation) == (False, False)


@pytest.mark.parametrize("closed_s", [1.0, 2.8, 60.0])
def test_a_closing_that_settles_late_does_not_excuse_a_wrong_door(closed_s: float) -> None:
    """The line is slow, or the machine has just started: a door that was closed a while ago and has not
    settled opens while another lock is pulsed."""
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=3))
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    core.opens(core.command(first, Purpose.PICKUP))
    core.feed(DoorsChanged({first.cell: Door.CLOSED}))  # and no ClosingSettled
    core.pass_s(closed_s)
    pulsed(core, core.command(second, Purpose.PICKUP))
    core.feed(DoorsChanged({first.cell: Door.OPEN}))
    core.lasts()
    assert {f"WRONG_DOOR/{first.cell}", f"WRONG_DOOR/{second.cell}"} <= alarms(core)
    assert core.live(second).status is ReservationStatus.DROPPED_OFF


@pytest.mark.parametrize("closed_s", [0.0, 0.999])
def test_a_door_that_has_not_latched_is_no_wrong_door(closed_s: float) -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=3))
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    core.opens(core.command(first, Purpose.PICKUP))
    core.feed(DoorsChanged({first.cell: Door.CLOSED}))
    core.pass_s(closed_s)
    command = core.command(second, Purpose.PICKUP)
    pulsed(core, command)
    core.feed(DoorsChanged({first.cell: Door.OPEN}))
    core.lasts()
    assert alarms(core) == set()
    assert core.state.cells[first.cell].opened_by_unlock


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_lock_whose_door_another_one_has_opened_is_not_pulsed_again(by_hand: bool) -> None:
    """The door opened just before its own lock was pulsed; what had opened it is known a moment later."""
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=3))
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    look = core.requested_reading(core.feed(core.command(second, Purpose.PICKUP)))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.feed(DoorsChanged({first.cell: Door.OPEN}))
    own = (
        OpenCell(core.key(), first.cell, "why", "unl-own") if by_hand else core.command(first, Purpose.PICKUP)
    )
    core.feed(own)
    core.feed(DoorRead(own.unlock_id, Door.CLOSED))
    core.lasts()
    assert f"WRONG_DOOR/{first.cell}" in alarms(core)
    core.feed(DoorsChanged({first.cell: Door.CLOSED}))
    pulses = len(core.pulses)
    core.feed(PulseDone(own.unlock_id, 1, Door.CLOSED))
    assert len(core.pulses) - pulses == by_hand
    assert (own.unlock_id in core.state.unlock_attempts) is by_hand


@pytest.mark.parametrize("passed_s", [0.1, 0.199_999_999, 0.2, 0.3])
def test_an_opening_that_has_lasted_is_judged_before_the_reading_that_would_allow_a_pulse(
    passed_s: float,
) -> None:
    """The door opens while another lock is pulsed, and its own command reads it closed. No tick comes
    between: the line is slow."""
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=3))
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    look = core.requested_reading(core.feed(core.command(second, Purpose.PICKUP)))
    own = core.requested_reading(core.feed(core.command(first, Purpose.PICKUP)))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.feed(DoorsChanged({first.cell: Door.OPEN}))
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + round(passed_s * 1e9))
    pulses = len(core.pulses)
    done = core.feed(DoorRead(own.unlock_id, Door.CLOSED))
    judged = passed_s >= 0.2
    assert (f"WRONG_DOOR/{first.cell}" in alarms(core)) is judged
    assert len(core.pulses) - pulses == (not judged)
    assert any(answer.refusal is not None for answer in done.answers) is judged


@pytest.mark.parametrize("restarted", [False, True])
def test_a_pulse_at_an_open_door_explains_no_opening_after_its_closing(restarted: bool) -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.pass_s(1)
    again = core.command(reservation, Purpose.DROPOFF)
    core.feed(again)
    core.feed(DoorRead(again.unlock_id, Door.CLOSED))  # a single reading, which is not believed
    if restarted:
        core.restart({reservation.cell: Door.OPEN})
    else:
        core.feed(PulseDone(again.unlock_id, 1, Door.OPEN))
    assert core.state.pulses[reservation.cell].pulses_without_opening == 0
    core.close(reservation.cell)
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    core.pass_s(8)
    core.forced(reservation.cell)
    assert f"DOOR_FORCED/{reservation.cell}" in alarms(core)
