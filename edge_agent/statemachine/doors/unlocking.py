"""The course of an unlock attempt: it is accepted and queued, judged again when its turn comes, its door is
read, its lock pulsed, and it is concluded.

No pulse is requested before a fresh reading of the door, and each pulse is its own journaled intent. An
attempt that waited is judged again; one whose outcome could not be read stays `unresolved` until the door is
read, and is never pulsed again. If a door reads open although this machine did not open it, its lock is
pulsed once, and the outcome is UNKNOWN (docs/decisions/0031-doubt.md).
"""

from __future__ import annotations

import math

from edge_agent.errors import Code, ErrorInfo, Refusal
from edge_agent.model import (
    TECHNICIAN_PURPOSES,
    Alarm,
    CellStatus,
    Door,
    Purpose,
    Reservation,
    UnlockAttempt,
    UnlockOutcome,
)
from edge_agent.statemachine import allocation
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.doors import board_faults, contact, unconfirmed
from edge_agent.statemachine.doors.outcome import (
    COMMAND_FOR,
    conclude,
    end_former,
    end_without_pulse,
    leave_unconfirmed,
    leave_unresolved,
    refuse_while_busy,
    reservation_of,
    was_pulsed,
)
from edge_agent.statemachine.doors.wrong_door import maintenance_id
from edge_agent.statemachine.outputs import PulseLock, ReadDoor
from edge_agent.statemachine.reservation import give_other_cell, require_rule
from edge_agent.statemachine.state import Pulses, attempt_on
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import Trigger

MOST_OTHER_CELLS = 3
"""How many other cells one command may be given when its own does not open."""


def accept(builder: StepBuilder, unlock: UnlockAttempt) -> None:
    """Queues a command to open a door. Raises `Refusal` if it is not allowed at present.

    An open-door is answered at once; its outcome becomes an event.
    """
    if unlock.purpose is Purpose.TECHNICIAN and unlock.cell in builder.cells:
        _end_undecided(builder, unlock.cell)
    reservation = _judge(builder, unlock)
    if reservation is not None and unlock.purpose is Purpose.DROPOFF and reservation.first_dropoff is None:
        builder.change_reservation(reservation, first_dropoff=builder.now)
    if unlock.purpose is Purpose.OPEN_DOOR and unlock.request_key is not None:
        accepted = (unlock.x_request_id or unlock.request_key, builder.now)
        builder.answer(unlock.request_key, cell=unlock.cell, accepted=accepted)
    builder.put("unlock_attempts", unlock.unlock_id, unlock)
    builder.queue = (*builder.queue, unlock.unlock_id)


def _end_undecided(builder: StepBuilder, label: str) -> None:
    """A technician opens the cell: ends older commands whose outcome the next change of its door would
    decide."""
    unconfirmed.forget(builder, label)
    waiting = attempt_on(builder.unlock_attempts, label)
    if waiting is not None and waiting.stage == "unresolved":
        conclude(builder, waiting, UnlockOutcome.UNKNOWN)


def start_waiting(builder: StepBuilder) -> None:
    """Starts waiting attempts while fewer than the limit are at work, oldest first, each judged again."""
    while builder.queue:
        active = sum(unlock.stage in ("reading", "pulsing") for unlock in builder.unlock_attempts.values())
        if active >= builder.layout.max_concurrent_unlocks:
            return
        unlock = builder.unlock_attempts[builder.queue[0]]
        builder.queue = builder.queue[1:]
        try:
            reservation = _judge(builder, unlock)
        except Refusal as refusal:
            end_without_pulse(builder, unlock, refusal)
            continue
        label = unlock.cell if reservation is None else reservation.cell
        unlock = builder.change_unlock(unlock, stage="reading", cell=label)
        builder.effects.append(ReadDoor(unlock.unlock_id, label, unlock.expires_ns))


def _judge(builder: StepBuilder, unlock: UnlockAttempt) -> Reservation | None:
    """The reservation for which the attempt may open the door now; None if a technician opens it. Raises
    `Refusal` if it may not open."""
    if unlock.expires_ns is not None and builder.now.boottime_ns > unlock.expires_ns:
        raise Refusal(Code.EXPIRED, "the command expired while it waited for other doors")
    if unlock.purpose in TECHNICIAN_PURPOSES:
        refuse_while_busy(builder, unlock.cell, other_than=unlock.unlock_id)
        cell = builder.cells[unlock.cell]
        if unlock.purpose is Purpose.SELF_TEST and cell.status is not CellStatus.IDLE:
            why = f"cell {cell.label} is {cell.status}: only a free one is tested"
            raise Refusal(Code.NOT_ALLOWED, why)
        return None
    reservation = reservation_of(builder, unlock)
    if reservation is None:
        raise Refusal(Code.NOT_ALLOWED, "the reservation ended while the command waited")
    require_rule(builder, reservation, COMMAND_FOR[unlock.purpose])
    refuse_while_busy(builder, reservation.cell, other_than=unlock.unlock_id)
    if f"{Alarm.WRONG_DOOR}/{reservation.cell}" in builder.alarms:
        why = f"another door opened in place of that of cell {reservation.cell}; call for help"
        raise Refusal(Code.NOT_ALLOWED, why, info=ErrorInfo("WRONG_DOOR", {"cell": reservation.cell}))
    return reservation


def judge_fresh_reading(builder: StepBuilder, unlock_id: str, door: Door) -> None:
    """The fresh reading has arrived: conclude, read again, or journal the intent for the first pulse."""
    unlock = builder.unlock_attempts.get(unlock_id)
    if unlock is None or unlock.stage != "reading":
        return
    cell = builder.cells[unlock.cell]
    try:
        reservation = _judge(builder, unlock)
        if not (door is Door.OPEN and contact.believed_open(cell)):
            _refuse_overheating(builder, unlock.cell)
    except Refusal as refusal:
        end_without_pulse(builder, unlock, refusal)
        return
    if door is Door.CLOSED:
        _request_pulse(builder, unlock)
    elif door is Door.OPEN and contact.believed_open(cell):
        conclude(builder, unlock, UnlockOutcome.ALREADY_OPEN)
    elif door is Door.OPEN and cell.unexplained_since is not None:
        # It may be a glitch of the contact: read again until the opening has lasted UNEXPLAINED_NS and is
        # explained.
        builder.effects.append(ReadDoor(unlock.unlock_id, unlock.cell, unlock.expires_ns))
    elif door is Door.OPEN:
        _pulse_in_doubt(builder, unlock, reservation)
    elif reservation is None or not _try_other_cell(builder, unlock, reservation, UnlockOutcome.UNKNOWN):
        if unlock.purpose is Purpose.TECHNICIAN:
            # The technician is at the cell and sees the door. If it read open before, an open reading
            # afterwards proves nothing.
            was_closed = cell.door is Door.CLOSED or contact.believed_open(cell)
            _request_pulse(builder, builder.change_unlock(unlock, read_open_before=not was_closed))
        else:
            conclude(builder, unlock, UnlockOutcome.UNKNOWN)


def _pulse_in_doubt(builder: StepBuilder, unlock: UnlockAttempt, reservation: Reservation | None) -> None:
    """The door reads open, and this machine did not open it: either it is open, or its contact is broken.

    A drop-off moves to another cell if nothing can be in this one yet. Otherwise the lock is pulsed once, so
    that a parcel behind a broken contact can be reached.
    """
    has_other_cell = reservation is not None and _try_other_cell(
        builder, unlock, reservation, UnlockOutcome.UNKNOWN, Trigger.MOVED_FROM_DOUBT
    )
    if not has_other_cell:
        _request_pulse(builder, builder.change_unlock(unlock, read_open_before=True))


def _refuse_overheating(builder: StepBuilder, label: str) -> None:
    recent = _recent_pulses(builder, label)
    if len(recent) >= builder.layout.duty_pulses:
        cooling_s = (
            recent[-builder.layout.duty_pulses] + builder.layout.duty_window_ns - builder.now.boottime_ns
        ) / 1e9
        why = f"the lock of cell {label} has to cool down for {cooling_s:.1f} s"
        info = ErrorInfo("LOCK_COOLS_DOWN", {"cell": label, "seconds": str(math.ceil(cooling_s))})
        raise Refusal(Code.NOT_ALLOWED, why, info=info)


def _recent_pulses(builder: StepBuilder, label: str) -> tuple[int, ...]:
    known = builder.pulses.get(label)
    if known is None or known.boot_id != builder.now.boot_id:
        return ()
    begin = builder.now.boottime_ns - builder.layout.duty_window_ns
    return tuple(at for at in known.at_ns if at > begin)


def _request_pulse(builder: StepBuilder, unlock: UnlockAttempt) -> None:
    """Journals the intent for the next pulse and requests it."""
    now_ns = builder.now.boottime_ns
    first_ns = now_ns if unlock.first_pulse_ns is None else unlock.first_pulse_ns
    unlock = builder.change_unlock(
        unlock, stage="pulsing", pulse_number=unlock.pulse_number + 1, first_pulse_ns=first_ns
    )
    label = unlock.cell
    at_ns = (*_recent_pulses(builder, label), now_ns)
    before = builder.pulses.get(label)
    pulses_without_opening = before.pulses_without_opening if before is not None and len(at_ns) > 1 else 0
    what = (unlock.purpose, unlock.source, unlock.reservation_id)
    pulses = Pulses(
        builder.now.boot_id,
        at_ns,
        *what,
        pulses_without_opening=pulses_without_opening + 1,
        read_open_before=unlock.read_open_before,
    )
    builder.put("pulses", label, pulses)
    builder.change_cell(label, pulse_count=builder.cells[label].pulse_count + 1)
    contact.pulsed(builder, label)
    builder.record_intent(unlock)
    builder.effects.append(PulseLock(unlock.unlock_id, label, unlock.pulse_number, unlock.expires_ns))


def pulse_done(
    builder: StepBuilder, unlock_id: str, pulse_number: int, door: Door, acknowledged: bool
) -> None:
    """The pulse was sent, and the watch of its door has ended. Ignored unless it was the last pulse.

    A pulse that the board did not acknowledge may never have been given: it does not count towards a jam.
    """
    unlock = builder.unlock_attempts.get(unlock_id)
    if unlock is None or unlock.stage != "pulsing" or unlock.pulse_number != pulse_number:
        return
    if unlock.read_open_before:
        leave_unconfirmed(builder, unlock)
    elif door is Door.OPEN:
        conclude(builder, unlock, UnlockOutcome.OPENED)
    elif door is Door.UNKNOWN:
        leave_unresolved(builder, unlock)
    else:
        _unmoved(
            builder,
            builder.change_unlock(unlock, pulses_counted=unlock.pulses_counted + acknowledged),
            acknowledged,
        )


def _unmoved(builder: StepBuilder, unlock: UnlockAttempt, acknowledged: bool) -> None:
    """The door is readable and has not moved: another pulse, or the end."""
    if unlock.pulses_counted < builder.layout.max_pulses and _may_pulse_again(builder, unlock):
        builder.record_outcome(unlock, UnlockOutcome.NO_MOVEMENT, pulsed=True if acknowledged else None)
        _request_pulse(builder, unlock)
    elif unlock.pulses_counted >= builder.layout.max_pulses:
        _jammed(builder, unlock)
    elif unlock.pulses_counted == unlock.pulse_number or unlock.other_door_opened:
        conclude(builder, unlock, UnlockOutcome.NO_MOVEMENT)  # too few pulses to count as a jam
    else:
        cells.record_unknown_outcome(builder, unlock.cell)
        conclude(builder, unlock, UnlockOutcome.UNKNOWN)


def pulse_lapsed(builder: StepBuilder, unlock_id: str, pulse_number: int) -> None:
    """The pulse could not be sent in time and never will be: nothing has moved, and the sender gets
    `EXPIRED`."""
    unlock = builder.unlock_attempts.get(unlock_id)
    if unlock is None or unlock.stage != "pulsing" or unlock.pulse_number != pulse_number:
        return
    builder.record_outcome(unlock, UnlockOutcome.NO_MOVEMENT, pulsed=False)
    label = unlock.cell
    known = builder.pulses[label]
    builder.put(
        "pulses",
        label,
        amend(known, at_ns=known.at_ns[:-1], pulses_without_opening=max(0, known.pulses_without_opening - 1)),
    )
    builder.change_cell(label, pulse_count=builder.cells[label].pulse_count - 1)
    end_without_pulse(builder, unlock, Refusal(Code.EXPIRED, "the lock could not be reached in time"))


def _may_pulse_again(builder: StepBuilder, unlock: UnlockAttempt) -> bool:
    if unlock.other_door_opened or _expired(builder, unlock):
        return False
    if unlock.purpose not in TECHNICIAN_PURPOSES and f"{Alarm.WRONG_DOOR}/{unlock.cell}" in builder.alarms:
        return False  # another lock opened this door just before its own lock was pulsed
    if any(cell.unexplained_since is not None for cell in builder.cells.values()):
        return False  # another door has just opened, and the cause is not known yet
    return len(_recent_pulses(builder, unlock.cell)) < builder.layout.duty_pulses


def _expired(builder: StepBuilder, unlock: UnlockAttempt) -> bool:
    return unlock.expires_ns is not None and builder.now.boottime_ns > unlock.expires_ns


def _jammed(builder: StepBuilder, unlock: UnlockAttempt) -> None:
    """Every pulse was given, and the door stayed closed."""
    if unlock.other_door_opened or board_faults.lock_failed(builder, unlock.cell):
        conclude(builder, unlock, UnlockOutcome.NO_MOVEMENT)
        return
    why = f"no movement after {unlock.pulses_counted} pulses"
    cells.mark_faulty(builder, unlock.cell, why, Alarm.LOCK_JAMMED, maintenance_id(unlock, unlock.cell))
    reservation = reservation_of(builder, unlock)
    if reservation is None or not _try_other_cell(builder, unlock, reservation, UnlockOutcome.NO_MOVEMENT):
        conclude(builder, unlock, UnlockOutcome.NO_MOVEMENT)


def _try_other_cell(
    builder: StepBuilder,
    unlock: UnlockAttempt,
    reservation: Reservation,
    outcome: UnlockOutcome,
    trigger: Trigger = Trigger.MOVED,
) -> bool:
    """Gives a waiting reservation with nothing in its cell another one, which the same command then opens.

    False, and nothing is changed, if it may not move or nothing that fits is free.
    """
    if (
        unlock.purpose is not Purpose.DROPOFF
        or unlock.other_cells_tried >= MOST_OTHER_CELLS
        or _expired(builder, unlock)
    ):
        return False
    try:
        target = allocation.allocate_for(builder, reservation)
    except Refusal:
        return False
    moved = give_other_cell(builder, reservation, target.label, trigger)
    if moved is None:
        return False
    end_former(builder, target.label)
    builder.drop_unlock(unlock)
    builder.record_outcome(unlock, outcome, pulsed=was_pulsed(unlock, outcome))
    next_attempt = UnlockAttempt(
        unlock_id=f"{unlock.unlock_id.partition('.')[0]}.{unlock.other_cells_tried + 1}",
        reservation_id=unlock.reservation_id,
        cell=moved.cell,
        purpose=unlock.purpose,
        source=unlock.source,
        stage="reading",
        expires_ns=unlock.expires_ns,
        request_key=unlock.request_key,
        reason=unlock.reason,
        actor=unlock.actor,
        other_cells_tried=unlock.other_cells_tried + 1,
    )
    builder.put("unlock_attempts", next_attempt.unlock_id, next_attempt)
    builder.effects.append(ReadDoor(next_attempt.unlock_id, next_attempt.cell, next_attempt.expires_ns))
    return True
