"""The life of a ticket: accepted, judged when its turn comes, looked at, pulsed, concluded.

No pulse is asked for before a fresh reading has shown the door closed, and each pulse is its own journaled
intent. A ticket that waited is judged again; one whose outcome nobody could read stays `unresolved` until
the door is read, and is never pulsed again.
"""

from __future__ import annotations

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    Alarm,
    Door,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    Ticket,
    UnlockOutcome,
)
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.outputs import PulseLock, ReadDoor
from edge_agent.statemachine.reservation import apply, demand
from edge_agent.statemachine.transitions import Trigger
from edge_agent.statemachine.turn import Turn

WISH = {Purpose.DROPOFF: Trigger.DROPOFF, Purpose.PICKUP: Trigger.PICKUP}
GRANTED = {Purpose.DROPOFF: Trigger.DROPOFF_OPENED, Purpose.PICKUP: Trigger.PICKUP_OPENED}


def accept(turn: Turn, ticket: Ticket) -> None:
    """Takes a wish to open a door into the queue. Raises `Refusal` if it is not allowed as things stand."""
    _judge(turn, ticket)
    turn.put("tickets", ticket.unlock_id, ticket)
    turn.queue = (*turn.queue, ticket.unlock_id)
    promote(turn)


def promote(turn: Turn) -> None:
    """Lets waiting tickets go to work while there is room, oldest first, each judged again."""
    while turn.queue:
        active = sum(ticket.stage in ("reading", "pulsing") for ticket in turn.tickets.values())
        if active >= turn.layout.max_concurrent_unlocks:
            return
        ticket = turn.tickets[turn.queue[0]]
        turn.queue = turn.queue[1:]
        try:
            reservation = _judge(turn, ticket)
        except Refusal as refusal:
            turn.drop_ticket(ticket)
            turn.answer(ticket.request_key, refusal=refusal)
            continue
        turn.change_ticket(ticket, stage="reading", cell=reservation.cell)
        if ticket.purpose is Purpose.DROPOFF and reservation.first_dropoff is None:
            turn.change_reservation(reservation, first_dropoff=turn.now)
        turn.effects.append(ReadDoor(ticket.unlock_id, reservation.cell))


def _judge(turn: Turn, ticket: Ticket) -> Reservation:
    """The reservation that the ticket may open for now. Raises `Refusal`."""
    if ticket.expires_ns is not None and turn.now.boottime_ns > ticket.expires_ns:
        raise Refusal(Code.EXPIRED, "the command expired before its turn came")
    reservation = turn.reservations.get(ticket.reservation_id)
    if reservation is None:
        raise Refusal(Code.NOT_ALLOWED, "the reservation ended before its turn came")
    demand(reservation, WISH[ticket.purpose], turn.now)
    refuse_while_busy(turn, reservation.cell, but=ticket.unlock_id)
    return reservation


def refuse_while_busy(turn: Turn, label: str, but: str = "") -> None:
    """Raises `Refusal` with code 9 while some ticket is at work on the cell."""
    for ticket in turn.tickets.values():
        if ticket.cell == label and ticket.stage != "waiting" and ticket.unlock_id != but:
            raise Refusal(Code.NOT_ALLOWED, f"the door of cell {label} is being opened just now")


def door_read(turn: Turn, unlock_id: str, door: Door) -> None:
    """The fresh reading has come: conclude, or journal the intent for the first pulse."""
    ticket = turn.tickets.get(unlock_id)
    if ticket is None or ticket.stage != "reading":
        return
    try:
        _judge(turn, ticket)
        if door is Door.CLOSED:
            _refuse_overheating(turn, ticket.cell)
    except Refusal as refusal:
        turn.drop_ticket(ticket)
        turn.answer(ticket.request_key, refusal=refusal)
        promote(turn)
        return
    if door is Door.OPEN:
        conclude(turn, ticket, UnlockOutcome.ALREADY_OPEN)
    elif door is Door.UNKNOWN:
        conclude(turn, ticket, UnlockOutcome.UNKNOWN)
    else:
        _intend(turn, ticket)


def _refuse_overheating(turn: Turn, label: str) -> None:
    recent = _recent_pulses(turn, label)
    if len(recent) >= turn.layout.duty_pulses:
        rest_s = (recent[-turn.layout.duty_pulses] + turn.layout.duty_window_ns - turn.now.boottime_ns) / 1e9
        raise Refusal(Code.NOT_ALLOWED, f"the lock of cell {label} must rest for {rest_s:.1f} s")


def _recent_pulses(turn: Turn, label: str) -> tuple[int, ...]:
    begin = turn.now.boottime_ns - turn.layout.duty_window_ns
    return tuple(at for at in turn.pulses_ns.get(label, ()) if at > begin)


def _intend(turn: Turn, ticket: Ticket) -> None:
    """Journals the intent for the next pulse and asks for it."""
    ticket = turn.change_ticket(ticket, stage="pulsing", attempt=ticket.attempt + 1)
    label = ticket.cell
    turn.put("pulses_ns", label, (*_recent_pulses(turn, label), turn.now.boottime_ns))
    turn.change_cell(label, unlocks=turn.cells[label].unlocks + 1)
    turn.record(ticket, None)
    turn.effects.append(PulseLock(ticket.unlock_id, label, ticket.attempt, ticket.expires_ns))


def pulse_done(turn: Turn, unlock_id: str, attempt: int, door: Door) -> None:
    """The watching after a pulse is over. A report on another pulse than the last one is stale."""
    ticket = turn.tickets.get(unlock_id)
    if ticket is None or ticket.stage != "pulsing" or ticket.attempt != attempt:
        return
    if door is Door.OPEN:
        conclude(turn, ticket, UnlockOutcome.OPENED)
    elif door is Door.UNKNOWN:
        _leave_unresolved(turn, ticket)
    elif ticket.attempt < turn.layout.attempts and _may_pulse_again(turn, ticket):
        turn.record(ticket, UnlockOutcome.NO_MOVEMENT)
        _intend(turn, ticket)
    else:
        conclude(turn, ticket, UnlockOutcome.NO_MOVEMENT)


def pulse_lapsed(turn: Turn, unlock_id: str, attempt: int) -> None:
    """The pulse could not be sent in time and never will be: nothing has moved, and the sender is told so."""
    ticket = turn.tickets.get(unlock_id)
    if ticket is None or ticket.stage != "pulsing" or ticket.attempt != attempt:
        return
    turn.drop_ticket(ticket)
    turn.record(ticket, UnlockOutcome.NO_MOVEMENT)
    turn.answer(ticket.request_key, refusal=Refusal(Code.EXPIRED, "the lock could not be reached in time"))
    promote(turn)


def _may_pulse_again(turn: Turn, ticket: Ticket) -> bool:
    if ticket.stopped:
        return False
    if ticket.expires_ns is not None and turn.now.boottime_ns > ticket.expires_ns:
        return False
    return len(_recent_pulses(turn, ticket.cell)) < turn.layout.duty_pulses


def _leave_unresolved(turn: Turn, ticket: Ticket) -> None:
    """A pulse was given and nobody can see what it did: tell so, and let the next reading decide."""
    turn.change_ticket(ticket, stage="unresolved", request_key=None)
    turn.change_cell(ticket.cell, opened_since_allocation=True, suspect=True)
    turn.answer(ticket.request_key, refusal=_failed(ticket, UnlockOutcome.UNKNOWN))
    promote(turn)


def settle(turn: Turn, label: str, door: Door, *, recovered: bool) -> None:
    """A door has been read: conclude the ticket that waits for what it did to this door.

    A pulsed lock whose door is seen open has opened it; an unresolved one whose door is seen closed stays
    UNKNOWN, and the cell is looked into before it is allocated anew.
    """
    for ticket in tuple(turn.tickets.values()):
        if ticket.cell != label or door is Door.UNKNOWN:
            continue
        if door is Door.OPEN and ticket.stage in ("pulsing", "unresolved"):
            conclude(turn, ticket, UnlockOutcome.OPENED, recovered=recovered)
        elif door is Door.CLOSED and ticket.stage == "unresolved":
            turn.change_cell(label, opened_since_allocation=True, suspect=True)
            conclude(turn, ticket, UnlockOutcome.UNKNOWN, recovered=recovered)


def conclude(turn: Turn, ticket: Ticket, outcome: UnlockOutcome, *, recovered: bool = False) -> None:
    """Ends a ticket with its outcome: ledger, reservation, cell, answer; then the next one's turn."""
    turn.drop_ticket(ticket)
    turn.record(ticket, outcome)
    reservation = turn.reservations[ticket.reservation_id]
    if outcome in (UnlockOutcome.OPENED, UnlockOutcome.ALREADY_OPEN):
        moved = _opened(turn, ticket, reservation, outcome, recovered=recovered)
        turn.answer(ticket.request_key, moved, moved.cell)
    else:
        if outcome is UnlockOutcome.NO_MOVEMENT and not ticket.stopped:
            why = f"no movement after {ticket.attempt} pulses"
            cells.mark_faulty(turn, ticket.cell, why, Alarm.LOCK_JAMMED)
        if ticket.purpose is Purpose.PICKUP:
            apply(
                turn,
                reservation,
                Trigger.PICKUP_FAILED,
                source=ticket.source,
                request_key=_event_key(ticket),
                outcome=outcome,
                recovered=recovered,
            )
        turn.answer(ticket.request_key, refusal=_failed(ticket, outcome))
    promote(turn)


def _opened(
    turn: Turn, ticket: Ticket, reservation: Reservation, outcome: UnlockOutcome, *, recovered: bool
) -> Reservation:
    cells.see_door(turn, ticket.cell, Door.OPEN)
    turn.change_cell(ticket.cell, opened_since_allocation=True)
    if outcome is UnlockOutcome.OPENED:
        cells.lock_works(turn, ticket.cell)
    changes: dict[str, object] = {}
    if ticket.purpose is Purpose.DROPOFF and reservation.status is ReservationStatus.PENDING:
        changes["dropoff_opened"] = True
    if ticket.purpose is Purpose.PICKUP and reservation.picked_up is None:
        changes["picked_up"] = turn.now
    moved = apply(
        turn,
        reservation,
        GRANTED[ticket.purpose],
        source=ticket.source,
        request_key=_event_key(ticket),
        outcome=None,
        recovered=recovered,
        **changes,
    )
    return reservation if moved is None else moved


def _event_key(ticket: Ticket) -> str | None:
    """The request id that an event carries; entries at the kiosk have none."""
    return ticket.request_key if ticket.source is Source.API else None


def _failed(ticket: Ticket, outcome: UnlockOutcome) -> Refusal:
    if outcome is UnlockOutcome.NO_MOVEMENT:
        return Refusal(Code.INTERNAL, f"the door of cell {ticket.cell} did not open ({outcome})")
    return Refusal(Code.INTERNAL, f"the door of cell {ticket.cell} could not be watched ({outcome})")
