"""The course of a ticket: accepted, judged when its turn comes, read, pulsed, concluded.

No pulse is requested before a fresh reading of the door, and each pulse is its own journaled intent. A ticket
that waited is judged again; one whose outcome could not be read stays `unresolved` until the door is read,
and is never pulsed again. A door that reads open although this machine did not open it is pulsed once, and
the outcome is UNKNOWN (docs/decisions/0031-doubt.md).
"""

from __future__ import annotations

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    BY_HAND,
    Alarm,
    CellStatus,
    Door,
    Purpose,
    Reservation,
    Ticket,
    UnlockOutcome,
)
from edge_agent.statemachine import allocation, board_faults, contact, unconfirmed
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.outcome import (
    WISH,
    conclude,
    give_up,
    holder,
    leave_unconfirmed,
    leave_unresolved,
    refuse_while_busy,
    take_over,
    was_pulsed,
)
from edge_agent.statemachine.outputs import PulseLock, ReadDoor
from edge_agent.statemachine.reservation import demand, move
from edge_agent.statemachine.state import Pulses
from edge_agent.statemachine.transitions import Trigger
from edge_agent.statemachine.turn import Turn
from edge_agent.statemachine.wrong_door import maintenance_id

MOVES = 3
"""How many other cells one command may be given when its own does not open."""


def accept(turn: Turn, ticket: Ticket) -> None:
    """Queues a command to open a door. Raises `Refusal` if it is not allowed at present.

    An open-door is answered at once; its outcome becomes an event.
    """
    if ticket.purpose is Purpose.TECHNICIAN and ticket.cell in turn.cells:
        _end_waits(turn, ticket.cell)
    reservation = _judge(turn, ticket)
    if reservation is not None and ticket.purpose is Purpose.DROPOFF and reservation.first_dropoff is None:
        turn.change_reservation(reservation, first_dropoff=turn.now)
    if ticket.purpose is Purpose.OPEN_DOOR and ticket.request_key is not None:
        accepted = (ticket.echo_id or ticket.request_key, turn.now)
        turn.answer(ticket.request_key, cell=ticket.cell, accepted=accepted)
    turn.put("tickets", ticket.unlock_id, ticket)
    turn.queue = (*turn.queue, ticket.unlock_id)


def _end_waits(turn: Turn, label: str) -> None:
    """A technician is at the cell: no later change of its door concludes an older command."""
    unconfirmed.forget(turn, label)
    waiting = turn.at_work(label)
    if waiting is not None and waiting.stage == "unresolved":
        conclude(turn, waiting, UnlockOutcome.UNKNOWN)


def promote(turn: Turn) -> None:
    """Starts waiting tickets while there is room, oldest first, each judged again."""
    while turn.queue:
        active = sum(ticket.stage in ("reading", "pulsing") for ticket in turn.tickets.values())
        if active >= turn.layout.max_concurrent_unlocks:
            return
        ticket = turn.tickets[turn.queue[0]]
        turn.queue = turn.queue[1:]
        try:
            reservation = _judge(turn, ticket)
        except Refusal as refusal:
            give_up(turn, ticket, refusal)
            continue
        label = ticket.cell if reservation is None else reservation.cell
        ticket = turn.change_ticket(ticket, stage="reading", cell=label)
        turn.effects.append(ReadDoor(ticket.unlock_id, label, ticket.expires_ns))


def _judge(turn: Turn, ticket: Ticket) -> Reservation | None:
    """The reservation that the ticket may open for now; None if a technician opens. Raises `Refusal`."""
    if ticket.expires_ns is not None and turn.now.boottime_ns > ticket.expires_ns:
        raise Refusal(Code.EXPIRED, "the command expired before its turn came")
    if ticket.purpose in BY_HAND:
        refuse_while_busy(turn, ticket.cell, but=ticket.unlock_id)
        place = turn.cells[ticket.cell]
        if ticket.purpose is Purpose.SELF_TEST and place.status is not CellStatus.IDLE:
            why = f"cell {place.label} is {place.status}: only a free one is tested"
            raise Refusal(Code.NOT_ALLOWED, why)
        return None
    reservation = holder(turn, ticket)
    if reservation is None:
        raise Refusal(Code.NOT_ALLOWED, "the reservation ended before its turn came")
    demand(turn, reservation, WISH[ticket.purpose])
    refuse_while_busy(turn, reservation.cell, but=ticket.unlock_id)
    if f"{Alarm.WRONG_DOOR}/{reservation.cell}" in turn.alarms:
        why = f"another door opened than that of cell {reservation.cell}; call for help"
        raise Refusal(Code.NOT_ALLOWED, why)
    return reservation


def door_read(turn: Turn, unlock_id: str, door: Door) -> None:
    """The fresh reading has arrived: conclude, read again, or journal the intent for the first pulse."""
    ticket = turn.tickets.get(unlock_id)
    if ticket is None or ticket.stage != "reading":
        return
    place = turn.cells[ticket.cell]
    try:
        reservation = _judge(turn, ticket)
        if not (door is Door.OPEN and contact.believed_open(place)):
            _refuse_overheating(turn, ticket.cell)
    except Refusal as refusal:
        give_up(turn, ticket, refusal)
        return
    if door is Door.CLOSED:
        _intend(turn, ticket)
    elif door is Door.OPEN and contact.believed_open(place):
        conclude(turn, ticket, UnlockOutcome.ALREADY_OPEN)
    elif door is Door.OPEN and place.unexplained is not None:
        # It may be a glitch: that is known when the opening has lasted.
        turn.effects.append(ReadDoor(ticket.unlock_id, ticket.cell, ticket.expires_ns))
    elif door is Door.OPEN:
        _pulse_in_doubt(turn, ticket, reservation)
    elif reservation is None or not _move_on(turn, ticket, reservation, UnlockOutcome.UNKNOWN):
        if ticket.purpose is Purpose.TECHNICIAN:
            # He is at the cell and sees what no contact shows. A door that read open proves no opening.
            was_closed = place.door is Door.CLOSED or contact.believed_open(place)
            _intend(turn, turn.change_ticket(ticket, doubtful=not was_closed))
        else:
            conclude(turn, ticket, UnlockOutcome.UNKNOWN)


def _pulse_in_doubt(turn: Turn, ticket: Ticket, reservation: Reservation | None) -> None:
    """The door reads open, and this machine did not open it: either it is open, or its contact is broken.

    A drop-off moves to another cell if nothing can be in this one yet. Otherwise the lock is pulsed once, so
    that a parcel behind a broken contact can be reached.
    """
    moves = reservation is not None and _move_on(
        turn, ticket, reservation, UnlockOutcome.UNKNOWN, Trigger.MOVED_FROM_DOUBT
    )
    if not moves:
        _intend(turn, turn.change_ticket(ticket, doubtful=True))


def _refuse_overheating(turn: Turn, label: str) -> None:
    recent = _recent_pulses(turn, label)
    if len(recent) >= turn.layout.duty_pulses:
        rest_s = (recent[-turn.layout.duty_pulses] + turn.layout.duty_window_ns - turn.now.boottime_ns) / 1e9
        raise Refusal(Code.NOT_ALLOWED, f"the lock of cell {label} must rest for {rest_s:.1f} s")


def _recent_pulses(turn: Turn, label: str) -> tuple[int, ...]:
    known = turn.pulses.get(label)
    if known is None or known.boot_id != turn.now.boot_id:
        return ()
    begin = turn.now.boottime_ns - turn.layout.duty_window_ns
    return tuple(at for at in known.at_ns if at > begin)


def _intend(turn: Turn, ticket: Ticket) -> None:
    """Journals the intent for the next pulse and requests it."""
    now_ns = turn.now.boottime_ns
    first_ns = now_ns if ticket.first_pulse_ns is None else ticket.first_pulse_ns
    ticket = turn.change_ticket(ticket, stage="pulsing", attempt=ticket.attempt + 1, first_pulse_ns=first_ns)
    label = ticket.cell
    at_ns = (*_recent_pulses(turn, label), now_ns)
    before = turn.pulses.get(label)
    unspent = before.unspent if before is not None and len(at_ns) > 1 else 0
    what = (ticket.purpose, ticket.source, ticket.reservation_id)
    pulses = Pulses(turn.now.boot_id, at_ns, *what, unspent=unspent + 1, doubtful=ticket.doubtful)
    turn.put("pulses", label, pulses)
    turn.change_cell(label, unlocks=turn.cells[label].unlocks + 1)
    contact.pulsed(turn, label)
    turn.record(ticket, None)
    turn.effects.append(PulseLock(ticket.unlock_id, label, ticket.attempt, ticket.expires_ns))


def pulse_done(turn: Turn, unlock_id: str, attempt: int, door: Door, acknowledged: bool) -> None:
    """The watch after a pulse is over. A report on another pulse than the last one is stale.

    A pulse that the board did not acknowledge may never have been given: it does not count towards a jam.
    """
    ticket = turn.tickets.get(unlock_id)
    if ticket is None or ticket.stage != "pulsing" or ticket.attempt != attempt:
        return
    if ticket.doubtful:
        leave_unconfirmed(turn, ticket)
    elif door is Door.OPEN:
        conclude(turn, ticket, UnlockOutcome.OPENED)
    elif door is Door.UNKNOWN:
        leave_unresolved(turn, ticket)
    else:
        _unmoved(turn, turn.change_ticket(ticket, counted=ticket.counted + acknowledged), acknowledged)


def _unmoved(turn: Turn, ticket: Ticket, acknowledged: bool) -> None:
    """The door is readable and has not moved: another pulse, or the end."""
    if ticket.counted < turn.layout.attempts and _may_pulse_again(turn, ticket):
        turn.record(ticket, UnlockOutcome.NO_MOVEMENT, pulsed=True if acknowledged else None)
        _intend(turn, ticket)
    elif ticket.counted >= turn.layout.attempts:
        _jammed(turn, ticket)
    elif ticket.counted == ticket.attempt or ticket.stopped:
        conclude(turn, ticket, UnlockOutcome.NO_MOVEMENT)  # too few pulses to count as a jam
    else:
        cells.doubt(turn, ticket.cell)
        conclude(turn, ticket, UnlockOutcome.UNKNOWN)


def pulse_lapsed(turn: Turn, unlock_id: str, attempt: int) -> None:
    """The pulse could not be sent in time and never will be: nothing has moved, and the sender gets
    `EXPIRED`."""
    ticket = turn.tickets.get(unlock_id)
    if ticket is None or ticket.stage != "pulsing" or ticket.attempt != attempt:
        return
    turn.record(ticket, UnlockOutcome.NO_MOVEMENT, pulsed=False)
    label = ticket.cell
    known = turn.pulses[label]
    turn.put("pulses", label, amend(known, at_ns=known.at_ns[:-1], unspent=max(0, known.unspent - 1)))
    turn.change_cell(label, unlocks=turn.cells[label].unlocks - 1)
    give_up(turn, ticket, Refusal(Code.EXPIRED, "the lock could not be reached in time"))


def _may_pulse_again(turn: Turn, ticket: Ticket) -> bool:
    if ticket.stopped or _expired(turn, ticket):
        return False
    if ticket.purpose not in BY_HAND and f"{Alarm.WRONG_DOOR}/{ticket.cell}" in turn.alarms:
        return False  # it was this door that another lock opened, just before its own was pulsed
    if any(place.unexplained is not None for place in turn.cells.values()):
        return False  # another door has just opened, and the cause is not known yet
    return len(_recent_pulses(turn, ticket.cell)) < turn.layout.duty_pulses


def _expired(turn: Turn, ticket: Ticket) -> bool:
    return ticket.expires_ns is not None and turn.now.boottime_ns > ticket.expires_ns


def _jammed(turn: Turn, ticket: Ticket) -> None:
    """Every pulse was given and the door stayed shut."""
    if ticket.stopped or board_faults.lock_failed(turn, ticket.cell):
        conclude(turn, ticket, UnlockOutcome.NO_MOVEMENT)
        return
    why = f"no movement after {ticket.counted} pulses"
    cells.mark_faulty(turn, ticket.cell, why, Alarm.LOCK_JAMMED, maintenance_id(ticket, ticket.cell))
    reservation = holder(turn, ticket)
    if reservation is None or not _move_on(turn, ticket, reservation, UnlockOutcome.NO_MOVEMENT):
        conclude(turn, ticket, UnlockOutcome.NO_MOVEMENT)


def _move_on(
    turn: Turn,
    ticket: Ticket,
    reservation: Reservation,
    outcome: UnlockOutcome,
    trigger: Trigger = Trigger.MOVED,
) -> bool:
    """Gives a waiting reservation with nothing in its cell another one, which the same command then opens.

    False, and nothing is changed, if it may not move or nothing that fits is free.
    """
    if ticket.purpose is not Purpose.DROPOFF or ticket.moves >= MOVES or _expired(turn, ticket):
        return False
    try:
        target = allocation.allocate(turn, reservation.packaging)
    except Refusal:
        return False
    moved = move(turn, reservation, target.label, trigger)
    if moved is None:
        return False
    take_over(turn, target.label)
    turn.drop_ticket(ticket)
    turn.record(ticket, outcome, pulsed=was_pulsed(ticket, outcome))
    again = Ticket(
        unlock_id=f"{ticket.unlock_id.partition('.')[0]}.{ticket.moves + 1}",
        reservation_id=ticket.reservation_id,
        cell=moved.cell,
        purpose=ticket.purpose,
        source=ticket.source,
        stage="reading",
        expires_ns=ticket.expires_ns,
        request_key=ticket.request_key,
        reason=ticket.reason,
        moves=ticket.moves + 1,
    )
    turn.put("tickets", again.unlock_id, again)
    turn.effects.append(ReadDoor(again.unlock_id, again.cell, again.expires_ns))
    return True
