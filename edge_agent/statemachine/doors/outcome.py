"""The end of an unlock attempt: its outcome in the ledger, for the reservation, for the cell, and for the
sender.

A door that a pulse opened counts as opened even if its command has failed. An outcome that could not be read
stays UNKNOWN until the next reading of the door, a later closing (see `unconfirmed`) or a technician decides
it.
"""

from __future__ import annotations

from typing import Any

from edge_agent.errors import Code, ErrorInfo, Refusal
from edge_agent.model import (
    TECHNICIAN_PURPOSES,
    Alarm,
    Door,
    Instant,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    UnlockAttempt,
    UnlockOutcome,
)
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.codes import guessing
from edge_agent.statemachine.doors import unconfirmed, wear, wrong_door
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.reservation import apply_rule, find_for_command
from edge_agent.statemachine.state import attempt_on
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import Trigger

COMMAND_FOR = {
    Purpose.DROPOFF: Trigger.DROPOFF,
    Purpose.PICKUP: Trigger.PICKUP,
    Purpose.OPEN_DOOR: Trigger.OPEN_DOOR,
}
"""The trigger of the command with each purpose."""
OPENED_TRIGGER = {Purpose.DROPOFF: Trigger.DROPOFF_OPENED, Purpose.PICKUP: Trigger.PICKUP_OPENED}
"""The trigger when the door is open for each purpose."""


def reservation_of(builder: StepBuilder, unlock: UnlockAttempt) -> Reservation | None:
    """The reservation of an attempt: live, or completed and its cell not allocated since; None if there is
    none, or if a technician opens the cell."""
    if unlock.purpose in TECHNICIAN_PURPOSES:
        return None
    try:
        return find_for_command(builder, unlock.reservation_id, None, COMMAND_FOR[unlock.purpose])
    except Refusal:
        return None


def refuse_while_busy(builder: StepBuilder, label: str, other_than: str = "") -> None:
    """Raises `Refusal` (`NOT_ALLOWED`) while another attempt is at work on the cell."""
    unlock = attempt_on(builder.unlock_attempts, label)
    if unlock is not None and unlock.unlock_id != other_than:
        why = f"the door of cell {label} is being opened just now"
        raise Refusal(Code.NOT_ALLOWED, why, info=ErrorInfo("DOOR_BUSY", {"cell": label}))


def end_without_pulse(
    builder: StepBuilder, unlock: UnlockAttempt, refusal: Refusal, reservation: Reservation | None = None
) -> None:
    """Ends an attempt without a pulse (or whose pulse was never sent); the caller gets the reason."""
    builder.drop_unlock(unlock)
    report_outcome(builder, unlock, UnlockOutcome.NO_MOVEMENT, reservation=reservation, refusal=refusal)


def end_waiting(builder: StepBuilder, reservation: Reservation, why: str) -> None:
    """Ends every attempt of a reservation that no longer holds its cell; each caller gets the reason
    `why`."""
    for unlock in tuple(builder.unlock_attempts.values()):
        if unlock.reservation_id == reservation.reservation_id:
            end_without_pulse(builder, unlock, Refusal(Code.NOT_ALLOWED, why), reservation)


def end_former(builder: StepBuilder, label: str) -> None:
    """A cell is given to a new reservation: the former one can no longer open it."""
    former = builder.former.get(label)
    if former is not None:
        why = f"cell {label} was given to another reservation while the command waited"
        end_waiting(builder, former, why)
        builder.put("former", label, None)


def report_outcome(
    builder: StepBuilder,
    unlock: UnlockAttempt,
    outcome: UnlockOutcome,
    *,
    reservation: Reservation | None = None,
    refusal: Refusal | None = None,
    recovered: bool = False,
) -> None:
    """The outcome for the caller: an answer, or the event of an open-door."""
    if unlock.purpose in TECHNICIAN_PURPOSES:
        _report_to_technician(builder, unlock, outcome, refusal, recovered=recovered)
        return
    if unlock.request_key is None:
        return
    if unlock.purpose is not Purpose.OPEN_DOOR:
        cell = None if refusal is not None else unlock.cell
        builder.answer(unlock.request_key, reservation, cell, refusal)
        return
    builder.add_fact(
        FactKind.OPEN_DOOR_FULFILLED,
        reservation or reservation_of(builder, unlock),
        cell=unlock.cell,
        source=unlock.source,
        request_key=unlock.request_key,
        x_request_id=unlock.x_request_id or unlock.request_key,
        platform_reference_id=unlock.platform_reference_id or None,
        outcome=outcome,
        reason=None if refusal is None else refusal.message,
        recovered=recovered,
    )


def _report_to_technician(
    builder: StepBuilder,
    unlock: UnlockAttempt,
    outcome: UnlockOutcome,
    refusal: Refusal | None,
    *,
    recovered: bool,
) -> None:
    """The outcome of a technician's opening: an answer if he still waits, and always one event."""
    builder.answer(unlock.request_key, cell=None if refusal is not None else unlock.cell, refusal=refusal)
    if not unlock.reported:
        builder.add_fact(
            FactKind.OPEN_DOOR_FULFILLED,
            cell=unlock.cell,
            source=unlock.source,
            outcome=outcome,
            reason=None if refusal is None else refusal.message,
            description=unlock.reason,
            actor=unlock.actor or None,
            recovered=recovered,
        )


def leave_unresolved(builder: StepBuilder, unlock: UnlockAttempt) -> None:
    """The outcome of a pulse could not be read: answers UNKNOWN, and lets the next reading decide."""
    reported = unlock.purpose in TECHNICIAN_PURPOSES
    builder.change_unlock(unlock, stage="unresolved", request_key=None, reported=reported)
    cells.record_unknown_outcome(builder, unlock.cell)
    report_outcome(builder, unlock, UnlockOutcome.UNKNOWN, refusal=_failed(unlock, UnlockOutcome.UNKNOWN))


def leave_unconfirmed(builder: StepBuilder, unlock: UnlockAttempt) -> None:
    """A pulse was given while the contact was in doubt: answers UNKNOWN, and a later closing may conclude the
    command."""
    builder.drop_unlock(unlock)
    builder.record_outcome(unlock, UnlockOutcome.UNKNOWN, pulsed=True)
    changes: dict[str, Any] = {"last_outcome": UnlockOutcome.UNKNOWN, "inspect_unless_empty": True}
    if builder.cells[unlock.cell].reservation_id is None:
        changes.pop("inspect_unless_empty")
        if unlock.purpose not in TECHNICIAN_PURPOSES:
            cells.inspect_opened(builder, unlock.cell)
    else:
        changes |= {"opened_since_allocation": True, "unlocked_since_allocation": True}
    builder.change_cell(unlock.cell, **changes)
    unconfirmed.begin(builder, unlock, _event_key(unlock))
    report_outcome(builder, unlock, UnlockOutcome.UNKNOWN, refusal=_in_doubt(unlock))


def conclude_by_reading(builder: StepBuilder, label: str, door: Door, *, recovered: bool) -> None:
    """A door has been read: concludes the attempt that waits for the effect of a pulse on this door.

    If the door reads open, the pulsed lock has opened it. If it reads closed, an unresolved attempt ends as
    UNKNOWN, and the cell is inspected before it is allocated again.
    """
    unlock = attempt_on(builder.unlock_attempts, label)
    if unlock is None or door is Door.UNKNOWN:
        return
    if unlock.read_open_before:
        if unlock.stage == "unresolved":
            leave_unconfirmed(builder, unlock)
    elif door is Door.OPEN and unlock.stage in ("pulsing", "unresolved"):
        conclude(builder, unlock, UnlockOutcome.OPENED, recovered=recovered)
    elif door is Door.CLOSED and unlock.stage == "unresolved":
        cells.record_unknown_outcome(builder, label)
        conclude(builder, unlock, UnlockOutcome.UNKNOWN, recovered=recovered)


def conclude(
    builder: StepBuilder, unlock: UnlockAttempt, outcome: UnlockOutcome, *, recovered: bool = False
) -> None:
    """Ends an attempt with its outcome: ledger, reservation, cell, answer."""
    builder.drop_unlock(unlock)
    builder.record_outcome(unlock, outcome, pulsed=was_pulsed(unlock, outcome))
    unconfirmed.forget(builder, unlock.cell)
    reservation = reservation_of(builder, unlock)
    if outcome in (UnlockOutcome.OPENED, UnlockOutcome.ALREADY_OPEN):
        opened = _opened(builder, unlock, reservation, outcome, recovered=recovered)
        report_outcome(builder, unlock, outcome, reservation=opened, recovered=recovered)
    else:
        builder.change_cell(unlock.cell, last_outcome=outcome)
        if unlock.purpose is Purpose.PICKUP and reservation is not None:
            apply_rule(
                builder,
                reservation,
                Trigger.PICKUP_FAILED,
                source=unlock.source,
                request_key=_event_key(unlock),
                outcome=outcome,
                recovered=recovered,
            )
        report_outcome(builder, unlock, outcome, refusal=_failed(unlock, outcome), recovered=recovered)


def was_pulsed(unlock: UnlockAttempt, outcome: UnlockOutcome) -> bool | None:
    """Whether the last pulse of an attempt was given; unknown after a restart unless the door shows it."""
    if unlock.pulse_number == 0:
        return False
    return True if unlock.stage == "pulsing" or outcome is UnlockOutcome.OPENED else None


def _opened(
    builder: StepBuilder,
    unlock: UnlockAttempt,
    reservation: Reservation | None,
    outcome: UnlockOutcome,
    *,
    recovered: bool,
) -> Reservation | None:
    cells.record_door(builder, unlock.cell, Door.OPEN)
    changes: dict[str, Any] = {"opened_since_allocation": True, "last_outcome": None}
    if outcome is UnlockOutcome.OPENED:
        changes |= {"opened_by_unlock": True, "unexplained_since": None, "unlocked_since_allocation": True}
        changes["opened_rightly"] = unlock.purpose is Purpose.TECHNICIAN and not recovered
    builder.change_cell(unlock.cell, **changes)
    if outcome is UnlockOutcome.OPENED:
        wrong_door.remove_marks(builder, unlock)
        cells.lock_works(builder, unlock.cell)
        if unlock.source is Source.MACHINE and reservation is not None:
            reservation = _code_has_opened(builder, unlock, reservation)
        if unlock.stage == "pulsing" and not recovered:
            wear.record_opening(builder, unlock, wrong_door.maintenance_id(unlock, unlock.cell))
    if reservation is not None and reservation.to_be_weighed:
        reservation = builder.change_reservation(reservation, to_be_weighed=False)
    if unlock.purpose in TECHNICIAN_PURPOSES:
        _weighed_no_more(builder, unlock.cell)
    elif builder.cells[unlock.cell].reservation_id is None:
        cells.inspect_opened(builder, unlock.cell)
    if reservation is None or unlock.purpose is Purpose.OPEN_DOOR:
        return reservation
    return _apply_opening(
        builder, reservation, unlock.purpose, unlock.source, _event_key(unlock), recovered=recovered
    )


def _code_has_opened(builder: StepBuilder, unlock: UnlockAttempt, reservation: Reservation) -> Reservation:
    """A code of this reservation has opened its door: the first time, the wrong entries of the last
    minute no longer count."""
    if unlock.purpose in reservation.codes_opened or reservation.reservation_id not in builder.reservations:
        return reservation
    guessing.forgive(builder)
    return builder.change_reservation(reservation, codes_opened=(*reservation.codes_opened, unlock.purpose))


def _weighed_no_more(builder: StepBuilder, label: str) -> None:
    """The door is open again: a drop-off that was to be weighed is weighed after the next closing."""
    reservation_id = builder.cells[label].reservation_id
    if reservation_id is not None and builder.reservations[reservation_id].to_be_weighed:
        builder.change_reservation(builder.reservations[reservation_id], to_be_weighed=False)


def _apply_opening(
    builder: StepBuilder,
    reservation: Reservation,
    purpose: Purpose,
    source: Source,
    request_key: str | None,
    *,
    recovered: bool = False,
) -> Reservation:
    """The door is open for a drop-off or pick-up."""
    changes: dict[str, Any] = {}
    if purpose is Purpose.DROPOFF and reservation.status is ReservationStatus.PENDING:
        changes["dropoff_opened"] = True
    if purpose is Purpose.PICKUP and reservation.picked_up is None:
        changes |= {"picked_up": builder.now, "grace_unknown": False}
    changed = apply_rule(
        builder,
        reservation,
        OPENED_TRIGGER[purpose],
        source=source,
        request_key=request_key,
        recovered=recovered,
        **changes,
    )
    return reservation if changed is None else changed


def opened_late(builder: StepBuilder, label: str, at: Instant) -> bool:
    """Applies a late opening. False, and nothing is changed, if the door, which opened `at`, was not opened
    by its own lock after the command was answered as failed.

    The drop-off or pick-up takes effect now. A pulse can open its door once, within `wrong_door.LATE_NS`. The
    opening is attributed to this lock only if every other lock that was pulsed since has opened its own door;
    otherwise that lock may have opened this door.
    """
    own = builder.pulses.get(label)
    if own is None or own.read_open_before or not wrong_door.may_open_late(own, at):
        return False
    if f"{Alarm.WRONG_DOOR}/{label}" in builder.alarms:
        return False
    others = (builder.pulses[other] for other in wrong_door.unopened(builder, label, at))
    if any(pulses.at_ns[-1] >= own.at_ns[-1] for pulses in others):
        return False
    builder.change_cell(
        label,
        opened_by_unlock=True,
        unexplained_since=None,
        opened_since_allocation=True,
        unlocked_since_allocation=True,
        last_outcome=None,
    )
    reservation = builder.reservations.get(own.reservation_id)
    still_there = reservation is not None and reservation.cell == label
    if own.reservation_id and not still_there:
        cells.inspect_opened(builder, label)  # the reservation has left: this cell stays faulty
        return True
    cells.lock_works(builder, label)
    if reservation is not None and own.purpose is not Purpose.OPEN_DOOR:
        _apply_opening(builder, reservation, own.purpose, own.source, None)
    return True


def _event_key(unlock: UnlockAttempt) -> str | None:
    """The request id in an event; entries at the kiosk have none."""
    return unlock.request_key if unlock.source is Source.API else None


def _in_doubt(unlock: UnlockAttempt) -> Refusal:
    what = f"the lock of cell {unlock.cell} was pulsed, but its door contact is not reliable"
    do = "check the door; if it is closed, call for help"
    info = ErrorInfo("CONTACT_IN_DOUBT", {"cell": unlock.cell, "pulsed": "true"})
    return Refusal(Code.INTERNAL, f"{what} ({UnlockOutcome.UNKNOWN}): {do}", info=info)


def _failed(unlock: UnlockAttempt, outcome: UnlockOutcome) -> Refusal:
    if outcome is UnlockOutcome.NO_MOVEMENT:
        message, reason = f"the door of cell {unlock.cell} did not open ({outcome})", "DOOR_NOT_OPENED"
    else:
        message = f"the door of cell {unlock.cell} could not be read after the pulse ({outcome})"
        reason = "DOOR_NOT_READ"
    if unlock.source is Source.MACHINE and unlock.purpose not in TECHNICIAN_PURPOSES:
        message += "; push the door, enter the code again, or call for help"
    return Refusal(Code.INTERNAL, message, info=ErrorInfo(reason, {"cell": unlock.cell}))


def end_unresolved(builder: StepBuilder, unlock: UnlockAttempt) -> None:
    """A technician decides the unknown outcome of a pulse: its attempt ends as UNKNOWN."""
    conclude(builder, unlock, UnlockOutcome.UNKNOWN)
