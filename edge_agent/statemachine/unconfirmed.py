"""Unlocks whose contact was in doubt: the lock was pulsed, and the door's reaction is unknown.

The command is answered UNKNOWN at once and the cell is not busy. A closing of the contact that comes later is
evidence that a person was at the door: it concludes a pick-up, and a drop-off if it lasts. Without one the
command has failed after ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.model import Door, Instant, Purpose, ReservationStatus, UnlockAttempt, UnlockOutcome
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.reservation import apply
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
    """A lock was pulsed in doubt: from now on a closing concludes this command, and no older one."""
    reservation = builder.reservations.get(unlock.reservation_id)
    waits = None
    if reservation is not None and (unlock.purpose, reservation.status) in CONCLUDES:
        pulsed = builder.now
        if unlock.first_pulse_ns is not None:
            ago_ns = builder.now.boottime_ns - unlock.first_pulse_ns
            pulsed = amend(pulsed, boottime_ns=unlock.first_pulse_ns, wall_s=pulsed.wall_s - ago_ns / 1e9)
        waits = UnconfirmedUnlock(
            unlock.unlock_id, unlock.reservation_id, unlock.purpose, unlock.source, pulsed, request_key
        )
    builder.put("unconfirmed", unlock.cell, waits)


def forget(builder: StepBuilder, label: str) -> None:
    """Drops the unconfirmed unlock of a cell: its command was decided in another way."""
    builder.put("unconfirmed", label, None)


def opened(builder: StepBuilder, label: str) -> None:
    """The contact reads open: a closing before that did not last."""
    waits = builder.unconfirmed.get(label)
    if waits is not None and waits.closed is not None:
        builder.put("unconfirmed", label, amend(waits, closed=None))


def closed(builder: StepBuilder, label: str, since: Instant) -> None:
    """The contact has settled closed: concludes a pick-up; a drop-off waits for `DROPOFF_CLOSED_NS`."""
    waits = builder.unconfirmed.get(label)
    if waits is None:
        return
    after_ns = waits.since.elapsed_ns(since)
    if after_ns is not None and after_ns < 0:
        return  # it closed before the pulse
    if waits.purpose is Purpose.DROPOFF:
        builder.put("unconfirmed", label, amend(waits, closed=since))
        return
    builder.put("unconfirmed", label, None)
    builder.change_cell(label, inspect_unless_empty=True)
    apply(
        builder,
        builder.reservations[waits.reservation_id],
        Trigger.PICKUP_OPENED,
        source=waits.source,
        request_key=waits.request_key,
        recovered=True,
        at=since,
        picked_up=since,
        grace_unknown=False,
    )


def at_start(builder: StepBuilder) -> None:
    """At a start: if no clock shows how long a closing has been awaited, the time starts again."""
    for label, waits in tuple(builder.unconfirmed.items()):
        if waits.since.elapsed_ns(builder.now) is None:
            builder.put("unconfirmed", label, amend(waits, since=builder.now, closed=None))
        elif waits.closed is not None:
            builder.put("unconfirmed", label, amend(waits, closed=None))


def apply_due(builder: StepBuilder) -> None:
    """Concludes drop-offs whose closing has lasted, and gives up after `PATIENCE_NS`."""
    for label, left_ns in tuple(_pending(builder, builder.now)):
        if left_ns > 0:
            continue
        waits = builder.unconfirmed[label]
        builder.put("unconfirmed", label, None)
        reservation = builder.reservations[waits.reservation_id]
        if waits.closed is not None:
            apply(
                builder,
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
                builder,
                reservation,
                Trigger.PICKUP_FAILED,
                source=waits.source,
                request_key=waits.request_key,
                outcome=UnlockOutcome.UNKNOWN,
            )


def left_ns(state: LockerState, now: Instant) -> list[int]:
    """How long until `apply_due` would act, for each."""
    return [left for _, left in _pending(state, now)]


def _pending(state: LockerState | StepBuilder, now: Instant) -> Iterator[tuple[str, int]]:
    for label, waits in state.unconfirmed.items():
        cell = state.cells[label]
        if waits.closed is not None:
            if cell.door is Door.CLOSED and cell.answering:
                yield label, DROPOFF_CLOSED_NS - (waits.closed.elapsed_ns(now) or 0)
        elif cell.door is not Door.CLOSED or not cell.answering or cell.settled:
            # A closing in time that has not settled yet may still settle.
            yield label, PATIENCE_NS - (waits.since.elapsed_ns(now) or 0)
