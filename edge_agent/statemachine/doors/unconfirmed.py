"""Unlocks whose contact was in doubt: the lock was pulsed, and the door's reaction is unknown.

The command is answered UNKNOWN at once and the cell is not busy. A closing of the contact that comes later is
evidence that a person was at the door: it concludes a pick-up, and a drop-off if it lasts. Without one the
command has failed after ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.model import Door, Instant, Purpose, ReservationStatus, UnlockAttempt, UnlockOutcome
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.reservation import apply_rule
from edge_agent.statemachine.state import LockerState, UnconfirmedUnlock
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import Trigger

PATIENCE_NS = 10 * 60 * 10**9
"""How long a closing is awaited."""
DROPOFF_CLOSED_NS = 30 * 10**9
"""How long the door has to stay closed to conclude a drop-off."""
CONCLUDES = {
    (Purpose.PICKUP, ReservationStatus.DROPPED_OFF),
    (Purpose.DROPOFF, ReservationStatus.PENDING),
}
"""Commands that a closing can conclude, with the status of their reservation."""


def begin(builder: StepBuilder, unlock: UnlockAttempt, request_key: str | None) -> None:
    """A lock was pulsed while its contact was in doubt: from now on a closing concludes
    this command, and no older one."""
    reservation = builder.reservations.get(unlock.reservation_id)
    pending = None
    if reservation is not None and (unlock.purpose, reservation.status) in CONCLUDES:
        pulsed = builder.now
        if unlock.first_pulse_ns is not None:
            ago_ns = builder.now.boottime_ns - unlock.first_pulse_ns
            pulsed = amend(pulsed, boottime_ns=unlock.first_pulse_ns, wall_s=pulsed.wall_s - ago_ns / 1e9)
        pending = UnconfirmedUnlock(
            unlock.unlock_id, unlock.reservation_id, unlock.purpose, unlock.source, pulsed, request_key
        )
    builder.put("unconfirmed", unlock.cell, pending)


def forget(builder: StepBuilder, label: str) -> None:
    """Drops the unconfirmed unlock of a cell: its command was decided in another way."""
    builder.put("unconfirmed", label, None)


def opened(builder: StepBuilder, label: str) -> None:
    """The contact reads open, or cannot be read: a closing before that did not last."""
    pending = builder.unconfirmed.get(label)
    if pending is not None and pending.closed is not None:
        builder.put("unconfirmed", label, amend(pending, closed=None))


def closed(builder: StepBuilder, label: str, since: Instant) -> None:
    """The contact has settled closed: concludes a pick-up; a drop-off waits for `DROPOFF_CLOSED_NS`."""
    pending = builder.unconfirmed.get(label)
    if pending is None:
        return
    after_ns = pending.since.elapsed_ns(since)
    if after_ns is not None and after_ns < 0:
        return  # it closed before the pulse
    if pending.purpose is Purpose.DROPOFF:
        builder.put("unconfirmed", label, amend(pending, closed=since))
        return
    builder.put("unconfirmed", label, None)
    builder.change_cell(label, inspect_unless_empty=True)
    apply_rule(
        builder,
        builder.reservations[pending.reservation_id],
        Trigger.PICKUP_OPENED,
        source=pending.source,
        request_key=pending.request_key,
        recovered=True,
        at=since,
        picked_up=since,
        grace_unknown=False,
    )


def at_start(builder: StepBuilder) -> None:
    """At a start: if no clock shows how long a closing has been awaited, the time starts again."""
    for label, pending in tuple(builder.unconfirmed.items()):
        if pending.since.elapsed_ns(builder.now) is None:
            builder.put("unconfirmed", label, amend(pending, since=builder.now, closed=None))
        elif pending.closed is not None:
            builder.put("unconfirmed", label, amend(pending, closed=None))


def apply_due(builder: StepBuilder) -> None:
    """Concludes drop-offs whose closing has lasted, and gives up after `PATIENCE_NS`."""
    for label, left_ns in tuple(_pending(builder, builder.now)):
        if left_ns > 0:
            continue
        pending = builder.unconfirmed[label]
        builder.put("unconfirmed", label, None)
        reservation = builder.reservations[pending.reservation_id]
        if pending.closed is not None:
            apply_rule(
                builder,
                reservation,
                Trigger.DROPOFF_CONFIRMED,
                source=pending.source,
                recovered=True,
                at=pending.closed,
                dropped_off=pending.closed,
                dropoff_opened=False,
            )
        elif pending.purpose is Purpose.PICKUP:
            apply_rule(
                builder,
                reservation,
                Trigger.PICKUP_FAILED,
                source=pending.source,
                request_key=pending.request_key,
                outcome=UnlockOutcome.UNKNOWN,
            )


def left_ns(state: LockerState, now: Instant) -> list[int]:
    """How long until `apply_due` would act, for each."""
    return [left for _, left in _pending(state, now)]


def _pending(state: LockerState | StepBuilder, now: Instant) -> Iterator[tuple[str, int]]:
    for label, pending in state.unconfirmed.items():
        cell = state.cells[label]
        if pending.closed is not None:
            if cell.door is Door.CLOSED and cell.answering:
                yield label, DROPOFF_CLOSED_NS - (pending.closed.elapsed_ns(now) or 0)
        elif cell.door is not Door.CLOSED or not cell.answering or cell.settled:
            # A closing in time that has not settled yet may still settle.
            yield label, PATIENCE_NS - (pending.since.elapsed_ns(now) or 0)
