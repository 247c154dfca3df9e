"""Unlocks whose contact was in doubt: the lock was pulsed, and the door's reaction is unknown.

The command is answered UNKNOWN at once and the cell is not busy. A closing of the contact that comes later is
evidence that a person was at the door: it concludes a pick-up, and a drop-off if it lasts. Without one the
command has failed after ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.model import Door, Instant, Purpose, ReservationStatus, Ticket, UnlockOutcome
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.reservation import apply
from edge_agent.statemachine.state import LockerState, UnconfirmedUnlock
from edge_agent.statemachine.transitions import Trigger
from edge_agent.statemachine.turn import Turn

PATIENCE_NS = 10 * 60 * 10**9
"""How long a closing is awaited."""
DROPOFF_CLOSED_NS = 30 * 10**9
"""How long the door has to stay closed to conclude a drop-off."""
CONCLUDES = {
    (Purpose.PICKUP, ReservationStatus.DROPPED_OFF),
    (Purpose.DROPOFF, ReservationStatus.PENDING),
}
"""Commands that a closing can conclude, with the status of their reservation."""


def begin(turn: Turn, ticket: Ticket, request_key: str | None) -> None:
    """A lock was pulsed in doubt: from now on a closing concludes this command, and no older one."""
    reservation = turn.reservations.get(ticket.reservation_id)
    waits = None
    if reservation is not None and (ticket.purpose, reservation.status) in CONCLUDES:
        pulsed = turn.now
        if ticket.first_pulse_ns is not None:
            ago_ns = turn.now.boottime_ns - ticket.first_pulse_ns
            pulsed = amend(pulsed, boottime_ns=ticket.first_pulse_ns, wall_s=pulsed.wall_s - ago_ns / 1e9)
        waits = UnconfirmedUnlock(
            ticket.unlock_id, ticket.reservation_id, ticket.purpose, ticket.source, pulsed, request_key
        )
    turn.put("unconfirmed", ticket.cell, waits)


def forget(turn: Turn, label: str) -> None:
    """Drops what a closing of this door would conclude: it is decided otherwise."""
    turn.put("unconfirmed", label, None)


def opened(turn: Turn, label: str) -> None:
    """The contact reads open: a closing before that did not last."""
    waits = turn.unconfirmed.get(label)
    if waits is not None and waits.closed is not None:
        turn.put("unconfirmed", label, amend(waits, closed=None))


def closed(turn: Turn, label: str, since: Instant) -> None:
    """The contact has settled closed: concludes a pick-up; a drop-off waits for `DROPOFF_CLOSED_NS`."""
    waits = turn.unconfirmed.get(label)
    if waits is None:
        return
    after_ns = waits.since.elapsed_ns(since)
    if after_ns is not None and after_ns < 0:
        return  # it closed before the pulse
    if waits.purpose is Purpose.DROPOFF:
        turn.put("unconfirmed", label, amend(waits, closed=since))
        return
    turn.put("unconfirmed", label, None)
    turn.change_cell(label, inspect_unless_empty=True)
    apply(
        turn,
        turn.reservations[waits.reservation_id],
        Trigger.PICKUP_OPENED,
        source=waits.source,
        request_key=waits.request_key,
        recovered=True,
        at=since,
        picked_up=since,
        grace_unknown=False,
    )


def begin_anew(turn: Turn) -> None:
    """At a start: if no clock shows how long a closing has been awaited, the time starts again."""
    for label, waits in tuple(turn.unconfirmed.items()):
        if waits.since.elapsed_ns(turn.now) is None:
            turn.put("unconfirmed", label, amend(waits, since=turn.now, closed=None))
        elif waits.closed is not None:
            turn.put("unconfirmed", label, amend(waits, closed=None))


def what_is_due(turn: Turn) -> None:
    """Concludes drop-offs whose closing has lasted, and gives up after `PATIENCE_NS`."""
    for label, left_ns in tuple(_pending(turn, turn.now)):
        if left_ns > 0:
            continue
        waits = turn.unconfirmed[label]
        turn.put("unconfirmed", label, None)
        reservation = turn.reservations[waits.reservation_id]
        if waits.closed is not None:
            apply(
                turn,
                reservation,
                Trigger.DROPOFF_CONFIRMED,
                source=waits.source,
                recovered=True,
                at=waits.closed,
                dropped_off=waits.closed,
                dropoff_opened=False,
            )
        elif waits.purpose is Purpose.PICKUP:
            apply(
                turn,
                reservation,
                Trigger.PICKUP_FAILED,
                source=waits.source,
                request_key=waits.request_key,
                outcome=UnlockOutcome.UNKNOWN,
            )


def left_ns(state: LockerState, now: Instant) -> list[int]:
    """How long until `what_is_due` would act, for each."""
    return [left for _, left in _pending(state, now)]


def _pending(state: LockerState | Turn, now: Instant) -> Iterator[tuple[str, int]]:
    for label, waits in state.unconfirmed.items():
        cell = state.cells[label]
        if waits.closed is not None:
            if cell.door is Door.CLOSED and cell.answering:
                yield label, DROPOFF_CLOSED_NS - (waits.closed.elapsed_ns(now) or 0)
        elif cell.door is not Door.CLOSED or not cell.answering or cell.settled:
            # A closing in time that has not settled yet may still settle.
            yield label, PATIENCE_NS - (waits.since.elapsed_ns(now) or 0)
