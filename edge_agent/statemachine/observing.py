"""Applies observations to the state: doors, closings, weights, devices.

Observations override commands. An opening takes effect at once, a closing when it has settled.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.model import Alarm, Cell, Door, Instant, Reservation
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine import weight
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.doors import outcome, unconfirmed, unexpected, unlocking
from edge_agent.statemachine.inputs import (
    ClosingSettled,
    DeviceHealth,
    DoorRead,
    DoorsChanged,
    HandCheck,
    Weighed,
)
from edge_agent.statemachine.reservation import apply_rule, rule_for
from edge_agent.statemachine.state import Layout, LockerState
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import Trigger

NOT_LATCHED_NS = 10**9
"""A door that opens again this soon after it was read closed has not latched."""


def door_read(builder: StepBuilder, given: DoorRead) -> None:
    """A fresh reading. An open one takes effect at once, whatever becomes of the command that requested the
    reading; a closed one needs a second reading (docs/decisions/0003), so a single one concludes no
    drop-off.

    Openings of other doors that have lasted are explained first: a wrong door forbids the pulse that this
    reading would allow.
    """
    unexpected.explain_lasting_openings(builder)
    unlock = builder.unlock_attempts.get(given.unlock_id)
    if unlock is not None and unlock.stage == "reading" and given.door is Door.OPEN:
        find_unexplained_openings(builder, [unlock.cell])
        apply_reading(builder, unlock.cell, Door.OPEN)
    unlocking.judge_fresh_reading(builder, given.unlock_id, given.door)


def doors_changed(builder: StepBuilder, given: DoorsChanged) -> None:
    """Doors have changed. Openings without a known cause are searched for first, before any of these readings
    changes a cell: the result must not depend on the order of the doors."""
    find_unexplained_openings(builder, [label for label, door in given.doors.items() if door is Door.OPEN])
    for label, door in given.doors.items():
        apply_reading(builder, label, door)


def find_unexplained_openings(builder: StepBuilder, open_now: list[str]) -> None:
    """Finds the doors among those now open that no lock's pulse explains."""
    for label in open_now:
        cell = builder.cells[label]
        if cell.door is Door.CLOSED and not _bounces(builder, cell) and not _expected(builder, label):
            unexpected.record_unexplained_opening(builder, label)


def apply_reading(builder: StepBuilder, label: str, door: Door, *, recovered: bool = False) -> None:
    """A door was read. An opening takes effect at once; a closing when it has settled, see
    `closing_settled`."""
    before = builder.cells[label]
    if door is Door.UNKNOWN:
        if before.answering:
            builder.change_cell(label, answering=False, settled=False)
        unconfirmed.opened(builder, label)
        return
    recovered = recovered or before.unread
    cells.record_door(builder, label, door, unwatched=recovered or not before.answering)
    outcome.conclude_by_reading(builder, label, door, recovered=recovered)
    if door is Door.OPEN:
        unconfirmed.opened(builder, label)
        holder = builder.cells[label].reservation_id
        if holder is not None and builder.reservations[holder].to_be_weighed:
            builder.change_reservation(builder.reservations[holder], to_be_weighed=False)


def closing_settled(builder: StepBuilder, given: ClosingSettled) -> None:
    """A door has stayed closed: a drop-off that had opened it is concluded, dated at the closing."""
    label = given.cell
    before = builder.cells[label]
    if before.door is not Door.CLOSED or not before.answering or before.settled:
        return
    ago_ns = max(0, builder.now.boottime_ns - given.since_ns)
    since = amend(
        builder.now, boottime_ns=builder.now.boottime_ns - ago_ns, wall_s=builder.now.wall_s - ago_ns / 1e9
    )
    cells.settle_closed(builder, label)
    unconfirmed.closed(builder, label, since)
    if before.empty:
        cells.weighed_empty(builder, label)
    holder = builder.cells[label].reservation_id
    if holder is None or rule_for(builder, builder.reservations[holder], Trigger.DOOR_CLOSED) is None:
        return
    reservation = builder.reservations[holder]
    has_scale = label in builder.layout.weighed
    if has_scale and builder.layout.hold_empty_dropoff and not before.closing_unseen:
        builder.change_reservation(reservation, to_be_weighed=True)
    else:
        dropped_off(builder, reservation, recovered=before.closing_unseen, to_be_weighed=has_scale, at=since)
    if has_scale and before.empty is not None:
        _dropoff_weighed(builder, label, empty=before.empty)


def dropped_off(
    builder: StepBuilder,
    reservation: Reservation,
    *,
    recovered: bool,
    to_be_weighed: bool,
    at: Instant | None = None,
) -> None:
    """The parcel has been in its cell since `at`, or from now on. `recovered`: the closing was not
    observed."""
    when = builder.now if at is None else at
    apply_rule(
        builder,
        amend(reservation, recovered=recovered),
        Trigger.DOOR_CLOSED,
        recovered=recovered,
        at=when,
        dropped_off=when,
        dropoff_opened=False,
        to_be_weighed=to_be_weighed,
    )


def weighed(builder: StepBuilder, given: Weighed) -> None:
    """A scale has settled; checks or concludes a drop-off that waits for its weight."""
    empty = weight.weighed(builder, given.cell, given.mass_g, error=given.error)
    if empty:
        cells.weighed_empty(builder, given.cell)
    if empty is not None:
        _dropoff_weighed(builder, given.cell, empty=empty)


def _dropoff_weighed(builder: StepBuilder, label: str, *, empty: bool) -> None:
    """What the scale shows of a drop-off whose closing has settled."""
    holder = builder.cells[label].reservation_id
    if holder is None or not builder.reservations[holder].to_be_weighed:
        return
    reservation = builder.reservations[holder]
    if empty:
        weight.empty_dropoff(builder, label)
    if not reservation.dropoff_opened:
        builder.change_reservation(reservation, to_be_weighed=False)
    elif empty:
        apply_rule(builder, reservation, Trigger.FOUND_EMPTY, dropoff_opened=False, to_be_weighed=False)
    else:
        dropped_off(builder, reservation, recovered=False, to_be_weighed=False)


def hand_check(builder: StepBuilder, given: HandCheck) -> None:
    """A person starts or stops opening doors by hand to check their wiring."""
    for label in given.cells:
        if label in builder.cells:
            builder.put("hand_checked", label, True if given.running else None)


def _bounces(builder: StepBuilder, cell: Cell) -> bool:
    """Whether a door was opened by its lock, and closed only a moment ago. On a slow or noisy line a closing
    settles late; an opening long after it needs a cause of its own."""
    closed_ns = None if cell.door_since is None else cell.door_since.elapsed_ns(builder.now)
    return cell.opened_by_unlock and closed_ns is not None and closed_ns < NOT_LATCHED_NS


def _expected(builder: StepBuilder, label: str) -> bool:
    """Whether an unlock attempt has pulsed this cell's lock."""
    return any(
        unlock.cell == label and unlock.stage in ("pulsing", "unresolved")
        for unlock in builder.unlock_attempts.values()
    )


def device_health(builder: StepBuilder, given: DeviceHealth) -> None:
    """A device answers again, or no longer answers: then the doors that it reads are not observed."""
    if given.answering:
        builder.clear_alarm(Alarm.DEVICE_SILENT, given.device)
        return
    builder.raise_alarm(Alarm.DEVICE_SILENT, given.device)
    for label in given.cells:
        apply_reading(builder, label, Door.UNKNOWN)


def dropoffs_to_weigh(
    state: LockerState | StepBuilder, layout: Layout, now: Instant
) -> Iterator[tuple[Reservation, int]]:
    """Drop-offs that are closed and wait for their scale, with the remaining waiting time."""
    if layout.hold_empty_dropoff:
        for reservation in state.reservations.values():
            if reservation.to_be_weighed and reservation.dropoff_opened:
                yield reservation, weight.wait_left_ns(layout, state.cells[reservation.cell], now)
