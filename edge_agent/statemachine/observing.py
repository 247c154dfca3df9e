"""Observations of the field: doors, closings, weights, devices; and their consequences.

Physical facts override commands. An opening is a fact at once; a closing takes effect when it has settled.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.model import Alarm, Cell, Door, Instant, Reservation
from edge_agent.statemachine import cell, doors, outcome, unconfirmed, unlocking, weight
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.inputs import (
    ClosingSettled,
    DeviceHealth,
    DoorRead,
    DoorsSeen,
    HandCheck,
    Weighed,
)
from edge_agent.statemachine.reservation import apply, rule_for
from edge_agent.statemachine.state import Layout, LockerState
from edge_agent.statemachine.transitions import Trigger
from edge_agent.statemachine.turn import Turn

BOUNCE_NS = 10**9
"""A door that opens again this soon after it was read closed has not latched."""


def door_read(turn: Turn, given: DoorRead) -> None:
    """A fresh reading. An open door is a fact, whatever becomes of the command that requested the reading; a
    closed door takes a second reading (docs/decisions/0003), so a single one concludes no drop-off.

    An opening that has lasted is judged first: it may forbid the pulse that this reading would allow.
    """
    doors.judge_lasting(turn)
    ticket = turn.tickets.get(given.unlock_id)
    if ticket is not None and ticket.stage == "reading" and given.door is Door.OPEN:
        opened_unasked(turn, [ticket.cell])
        door_seen(turn, ticket.cell, Door.OPEN)
    unlocking.door_read(turn, given.unlock_id, given.door)


def doors_seen(turn: Turn, given: DoorsSeen) -> None:
    """The result of one poll. Tickets are judged before any reading is believed: the order of the doors means
    nothing."""
    opened_unasked(turn, [label for label, door in given.doors.items() if door is Door.OPEN])
    for label, door in given.doors.items():
        door_seen(turn, label, door)


def opened_unasked(turn: Turn, open_now: list[str]) -> None:
    """Finds the doors among those now open that no lock's pulse explains."""
    for label in open_now:
        place = turn.cells[label]
        if place.door is Door.CLOSED and not _bounces(turn, place) and not _expected(turn, label):
            doors.opened_unasked(turn, label)


def door_seen(turn: Turn, label: str, door: Door, *, recovered: bool = False) -> None:
    """A door was read. Physical facts override commands; a closing takes effect when it has settled, see
    `closing_settled`."""
    before = turn.cells[label]
    if door is Door.UNKNOWN:
        if before.answering:
            turn.change_cell(label, answering=False, settled=False)
        unconfirmed.opened(turn, label)
        return
    recovered = recovered or before.unread
    cell.see_door(turn, label, door, unwatched=recovered or not before.answering)
    outcome.settle(turn, label, door, recovered=recovered)
    if door is Door.OPEN:
        unconfirmed.opened(turn, label)
        holder = turn.cells[label].reservation_id
        if holder is not None and turn.reservations[holder].to_be_weighed:
            turn.change_reservation(turn.reservations[holder], to_be_weighed=False)


def closing_settled(turn: Turn, given: ClosingSettled) -> None:
    """A door has stayed closed: a drop-off that had opened it is concluded, dated at the closing."""
    label = given.cell
    before = turn.cells[label]
    if before.door is not Door.CLOSED or not before.answering or before.settled:
        return
    ago_ns = max(0, turn.now.boottime_ns - given.since_ns)
    since = amend(turn.now, boottime_ns=turn.now.boottime_ns - ago_ns, wall_s=turn.now.wall_s - ago_ns / 1e9)
    cell.settle_closed(turn, label)
    unconfirmed.closed(turn, label, since)
    if before.empty:
        cell.weighed_empty(turn, label)
    holder = turn.cells[label].reservation_id
    if holder is None or rule_for(turn, turn.reservations[holder], Trigger.DOOR_CLOSED) is None:
        return
    reservation = turn.reservations[holder]
    waits = label in turn.layout.weighed
    if waits and turn.layout.hold_empty_dropoff and not before.closing_unseen:
        turn.change_reservation(reservation, to_be_weighed=True)
    else:
        dropped_off(turn, reservation, recovered=before.closing_unseen, to_be_weighed=waits, at=since)
    if waits and before.empty is not None:
        _dropoff_weighed(turn, label, empty=before.empty)


def dropped_off(
    turn: Turn,
    reservation: Reservation,
    *,
    recovered: bool,
    to_be_weighed: bool,
    at: Instant | None = None,
) -> None:
    """The parcel has been in its cell since `at`, or from now on. `recovered`: the closing was not
    observed."""
    when = turn.now if at is None else at
    apply(
        turn,
        amend(reservation, recovered=recovered),
        Trigger.DOOR_CLOSED,
        recovered=recovered,
        at=when,
        dropped_off=when,
        dropoff_opened=False,
        to_be_weighed=to_be_weighed,
    )


def weighed(turn: Turn, given: Weighed) -> None:
    """A scale has settled; checks a drop-off that was just concluded."""
    empty = weight.weighed(turn, given.cell, given.mass_g, error=given.error)
    if empty:
        cell.weighed_empty(turn, given.cell)
    if empty is not None:
        _dropoff_weighed(turn, given.cell, empty=empty)


def _dropoff_weighed(turn: Turn, label: str, *, empty: bool) -> None:
    """What the scale shows of a drop-off whose closing has settled."""
    holder = turn.cells[label].reservation_id
    if holder is None or not turn.reservations[holder].to_be_weighed:
        return
    reservation = turn.reservations[holder]
    if empty:
        weight.empty_dropoff(turn, label)
    if not reservation.dropoff_opened:
        turn.change_reservation(reservation, to_be_weighed=False)
    elif empty:
        apply(turn, reservation, Trigger.FOUND_EMPTY, dropoff_opened=False, to_be_weighed=False)
    else:
        dropped_off(turn, reservation, recovered=False, to_be_weighed=False)


def hand_check(turn: Turn, given: HandCheck) -> None:
    """A person starts or stops opening doors by hand to check their wiring."""
    for label in given.cells:
        if label in turn.cells:
            turn.put("hand_checked", label, True if given.running else None)


def _bounces(turn: Turn, place: Cell) -> bool:
    """Whether a door was opened by its lock, and closed only a moment ago. On a slow or noisy line a closing
    settles late; an opening long after it needs a cause of its own."""
    closed_ns = None if place.door_since is None else place.door_since.elapsed_ns(turn.now)
    return place.opened_by_unlock and closed_ns is not None and closed_ns < BOUNCE_NS


def _expected(turn: Turn, label: str) -> bool:
    """Whether a ticket has pulsed this cell's lock."""
    return any(t.cell == label and t.stage in ("pulsing", "unresolved") for t in turn.tickets.values())


def device_health(turn: Turn, given: DeviceHealth) -> None:
    """A device answers again, or no longer answers: then the doors that it reads are not observed."""
    if given.answering:
        turn.clear_alarm(Alarm.DEVICE_SILENT, given.device)
        return
    turn.raise_alarm(Alarm.DEVICE_SILENT, given.device)
    for label in given.cells:
        door_seen(turn, label, Door.UNKNOWN)


def held(state: LockerState | Turn, layout: Layout, now: Instant) -> Iterator[tuple[Reservation, int]]:
    """Drop-offs that are closed and wait for their scale, with the remaining waiting time."""
    if layout.hold_empty_dropoff:
        for reservation in state.reservations.values():
            if reservation.to_be_weighed and reservation.dropoff_opened:
                yield reservation, weight.waits_ns(layout, state.cells[reservation.cell], now)
