"""The life of a ticket: accepted, judged when its turn comes, looked at, pulsed, concluded.

No pulse is asked for before a fresh reading has shown the door closed, and each pulse is its own journaled
intent. A ticket that waited is judged again; one whose outcome nobody could read stays `unresolved` until
the door is read, and is never pulsed again.
"""

from __future__ import annotations

from typing import Any

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    BY_HAND,
    Alarm,
    CellStatus,
    Door,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    Ticket,
    UnlockOutcome,
)
from edge_agent.statemachine import allocation, wear
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.outputs import FactKind, PulseLock, ReadDoor
from edge_agent.statemachine.reservation import apply, demand, live, move
from edge_agent.statemachine.state import Pulses
from edge_agent.statemachine.transitions import Trigger
from edge_agent.statemachine.turn import Turn

WISH = {
    Purpose.DROPOFF: Trigger.DROPOFF,
    Purpose.PICKUP: Trigger.PICKUP,
    Purpose.OPEN_DOOR: Trigger.OPEN_DOOR,
}
GRANTED = {Purpose.DROPOFF: Trigger.DROPOFF_OPENED, Purpose.PICKUP: Trigger.PICKUP_OPENED}
LATE_NS = 10 * 10**9
"""A door that opens so long after its own lock's last pulse was opened by it, if late."""
MOVES = 3
"""How many other cells one wish may be given when its own does not open."""


def accept(turn: Turn, ticket: Ticket) -> None:
    """Takes a wish to open a door into the queue. Raises `Refusal` if it is not allowed as things stand.

    An open-door is answered at once; its outcome becomes an event.
    """
    reservation = _judge(turn, ticket)
    if reservation is not None and ticket.purpose is Purpose.DROPOFF and reservation.first_dropoff is None:
        turn.change_reservation(reservation, first_dropoff=turn.now)
    if ticket.purpose is Purpose.OPEN_DOOR and ticket.request_key is not None:
        accepted = (ticket.echo_id or ticket.request_key, turn.now)
        turn.answer(ticket.request_key, cell=ticket.cell, accepted=accepted)
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
            give_up(turn, ticket, refusal)
            continue
        label = ticket.cell if reservation is None else reservation.cell
        ticket = turn.change_ticket(ticket, stage="reading", cell=label)
        turn.effects.append(ReadDoor(ticket.unlock_id, label, ticket.expires_ns))


def _judge(turn: Turn, ticket: Ticket) -> Reservation | None:
    """The reservation that the ticket may open for now; None where it is opened by hand. Raises `Refusal`."""
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
    return reservation


def holder(turn: Turn, ticket: Ticket) -> Reservation | None:
    """The reservation a ticket is for; one that is over only while nobody else got its cell. None where it
    is opened by hand."""
    if ticket.purpose in BY_HAND:
        return None
    try:
        return live(turn, ticket.reservation_id, None, WISH[ticket.purpose])
    except Refusal:
        return None


def refuse_while_busy(turn: Turn, label: str, but: str = "") -> None:
    """Raises `Refusal` with code 9 while some ticket is at work on the cell."""
    ticket = turn.at_work(label)
    if ticket is not None and ticket.unlock_id != but:
        raise Refusal(Code.NOT_ALLOWED, f"the door of cell {label} is being opened just now")


def give_up(turn: Turn, ticket: Ticket, refusal: Refusal, reservation: Reservation | None = None) -> None:
    """Ends a ticket that never had a pulse, or none that counts; whoever asked is told why."""
    turn.drop_ticket(ticket)
    _tell(turn, ticket, UnlockOutcome.NO_MOVEMENT, reservation=reservation, refusal=refusal)


def end_waiting(turn: Turn, reservation: Reservation, why: str) -> None:
    """Ends every ticket that waits for a reservation whose cell is somebody else's from now on."""
    for ticket in tuple(turn.tickets.values()):
        if ticket.reservation_id == reservation.reservation_id:
            give_up(turn, ticket, Refusal(Code.NOT_ALLOWED, why), reservation)


def take_over(turn: Turn, label: str) -> None:
    """A cell is given to somebody: whoever had it last has no window any more."""
    former = turn.former.get(label)
    if former is not None:
        end_waiting(turn, former, f"cell {label} was given to somebody else before its turn came")
        turn.put("former", label, None)


def _tell(
    turn: Turn,
    ticket: Ticket,
    outcome: UnlockOutcome,
    *,
    reservation: Reservation | None = None,
    refusal: Refusal | None = None,
    recovered: bool = False,
) -> None:
    """The outcome for whoever waits for it: an answer, or the event of an open-door."""
    if ticket.purpose in BY_HAND:
        _tell_by_hand(turn, ticket, outcome, refusal, recovered=recovered)
        return
    if ticket.request_key is None:
        return
    if ticket.purpose is not Purpose.OPEN_DOOR:
        cell = None if refusal is not None else ticket.cell
        turn.answer(ticket.request_key, reservation, cell, refusal)
        return
    turn.tell(
        FactKind.OPEN_DOOR_FULFILLED,
        reservation or holder(turn, ticket),
        cell=ticket.cell,
        source=ticket.source,
        request_key=ticket.request_key,
        echo_id=ticket.echo_id or ticket.request_key,
        platform_reference_id=ticket.platform_reference_id or None,
        outcome=outcome,
        reason=None if refusal is None else refusal.message,
        recovered=recovered,
    )


def _tell_by_hand(
    turn: Turn, ticket: Ticket, outcome: UnlockOutcome, refusal: Refusal | None, *, recovered: bool
) -> None:
    """The outcome of a technician's opening: an answer if he still waits, and in any case one event."""
    turn.answer(ticket.request_key, cell=None if refusal is not None else ticket.cell, refusal=refusal)
    if not ticket.told:
        turn.tell(
            FactKind.OPEN_DOOR_FULFILLED,
            cell=ticket.cell,
            source=ticket.source,
            outcome=outcome,
            reason=None if refusal is None else refusal.message,
            description=ticket.reason,
            actor=ticket.actor or None,
            recovered=recovered,
        )


def door_read(turn: Turn, unlock_id: str, door: Door) -> None:
    """The fresh reading has come: conclude, or journal the intent for the first pulse."""
    ticket = turn.tickets.get(unlock_id)
    if ticket is None or ticket.stage != "reading":
        return
    try:
        reservation = _judge(turn, ticket)
        if door is Door.CLOSED:
            _refuse_overheating(turn, ticket.cell)
    except Refusal as refusal:
        give_up(turn, ticket, refusal)
        promote(turn)
        return
    if door is Door.OPEN:
        conclude(turn, ticket, UnlockOutcome.ALREADY_OPEN)
    elif door is Door.UNKNOWN:
        moved_on = reservation is not None and _move_on(turn, ticket, reservation, UnlockOutcome.UNKNOWN)
        if not moved_on:
            conclude(turn, ticket, UnlockOutcome.UNKNOWN)
    else:
        _intend(turn, ticket)


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
    """Journals the intent for the next pulse and asks for it."""
    now_ns = turn.now.boottime_ns
    first_ns = now_ns if ticket.first_pulse_ns is None else ticket.first_pulse_ns
    ticket = turn.change_ticket(ticket, stage="pulsing", attempt=ticket.attempt + 1, first_pulse_ns=first_ns)
    label = ticket.cell
    at_ns = (*_recent_pulses(turn, label), now_ns)
    before = turn.pulses.get(label)
    unspent = before.unspent if before is not None and len(at_ns) > 1 else 0
    what = (ticket.purpose, ticket.source, ticket.reservation_id)
    turn.put("pulses", label, Pulses(turn.now.boot_id, at_ns, *what, unspent=unspent + 1))
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
        turn.record(ticket, UnlockOutcome.NO_MOVEMENT, pulsed=True)
        _intend(turn, ticket)
    elif ticket.attempt < turn.layout.attempts:
        conclude(turn, ticket, UnlockOutcome.NO_MOVEMENT)  # too few pulses to call it a jam
    else:
        _jammed(turn, ticket)


def pulse_lapsed(turn: Turn, unlock_id: str, attempt: int) -> None:
    """The pulse could not be sent in time and never will be: nothing has moved, and the sender is told so."""
    ticket = turn.tickets.get(unlock_id)
    if ticket is None or ticket.stage != "pulsing" or ticket.attempt != attempt:
        return
    turn.record(ticket, UnlockOutcome.NO_MOVEMENT, pulsed=False)
    label = ticket.cell
    known = turn.pulses[label]
    turn.put("pulses", label, amend(known, at_ns=known.at_ns[:-1], unspent=max(0, known.unspent - 1)))
    turn.change_cell(label, unlocks=turn.cells[label].unlocks - 1)
    give_up(turn, ticket, Refusal(Code.EXPIRED, "the lock could not be reached in time"))
    promote(turn)


def _may_pulse_again(turn: Turn, ticket: Ticket) -> bool:
    if ticket.stopped or _expired(turn, ticket):
        return False
    return len(_recent_pulses(turn, ticket.cell)) < turn.layout.duty_pulses


def _expired(turn: Turn, ticket: Ticket) -> bool:
    return ticket.expires_ns is not None and turn.now.boottime_ns > ticket.expires_ns


def _jammed(turn: Turn, ticket: Ticket) -> None:
    """Every pulse was given and the door stayed shut."""
    if ticket.stopped:
        conclude(turn, ticket, UnlockOutcome.NO_MOVEMENT)
        return
    why = f"no movement after {ticket.attempt} pulses"
    cells.mark_faulty(turn, ticket.cell, why, Alarm.LOCK_JAMMED, maintenance_id(ticket, ticket.cell))
    reservation = holder(turn, ticket)
    if reservation is None or not _move_on(turn, ticket, reservation, UnlockOutcome.NO_MOVEMENT):
        conclude(turn, ticket, UnlockOutcome.NO_MOVEMENT)


def maintenance_id(ticket: Ticket, label: str) -> str:
    """The id of the maintenance ticket that an unlock gave reason for: the same whenever it is made."""
    return f"maint_{ticket.unlock_id.removeprefix('unl_')}_{label}"


def _move_on(turn: Turn, ticket: Ticket, reservation: Reservation, outcome: UnlockOutcome) -> bool:
    """Gives a waiting reservation with nothing in its cell another one, which the same wish then opens.

    False, and nothing is changed, if it may not move or nothing that fits is free.
    """
    if ticket.purpose is not Purpose.DROPOFF or ticket.moves >= MOVES or _expired(turn, ticket):
        return False
    try:
        target = allocation.allocate(turn, reservation.packaging)
    except Refusal:
        return False
    moved = move(turn, reservation, target.label)
    if moved is None:
        return False
    take_over(turn, target.label)
    turn.drop_ticket(ticket)
    turn.record(ticket, outcome, pulsed=_pulsed(ticket, outcome))
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


def _leave_unresolved(turn: Turn, ticket: Ticket) -> None:
    """A pulse was given and nobody can see what it did: tell so, and let the next reading decide."""
    turn.change_ticket(ticket, stage="unresolved", request_key=None, told=ticket.purpose in BY_HAND)
    cells.doubt(turn, ticket.cell)
    _tell(turn, ticket, UnlockOutcome.UNKNOWN, refusal=_failed(ticket, UnlockOutcome.UNKNOWN))
    promote(turn)


def settle(turn: Turn, label: str, door: Door, *, recovered: bool) -> None:
    """A door has been read: conclude the ticket that waits for what it did to this door.

    A pulsed lock whose door is seen open has opened it; an unresolved one whose door is seen closed stays
    UNKNOWN, and the cell is looked into before it is allocated anew.
    """
    ticket = turn.at_work(label)
    if ticket is None or door is Door.UNKNOWN:
        return
    if door is Door.OPEN and ticket.stage in ("pulsing", "unresolved"):
        conclude(turn, ticket, UnlockOutcome.OPENED, recovered=recovered)
    elif door is Door.CLOSED and ticket.stage == "unresolved":
        cells.doubt(turn, label)
        conclude(turn, ticket, UnlockOutcome.UNKNOWN, recovered=recovered)


def conclude(turn: Turn, ticket: Ticket, outcome: UnlockOutcome, *, recovered: bool = False) -> None:
    """Ends a ticket with its outcome: ledger, reservation, cell, answer; then the next one's turn."""
    turn.drop_ticket(ticket)
    turn.record(ticket, outcome, pulsed=_pulsed(ticket, outcome))
    reservation = holder(turn, ticket)
    if outcome in (UnlockOutcome.OPENED, UnlockOutcome.ALREADY_OPEN):
        moved = _opened(turn, ticket, reservation, outcome, recovered=recovered)
        _tell(turn, ticket, outcome, reservation=moved, recovered=recovered)
    else:
        if ticket.purpose is Purpose.PICKUP and reservation is not None:
            apply(
                turn,
                reservation,
                Trigger.PICKUP_FAILED,
                source=ticket.source,
                request_key=_event_key(ticket),
                outcome=outcome,
                recovered=recovered,
            )
        _tell(turn, ticket, outcome, refusal=_failed(ticket, outcome), recovered=recovered)
    promote(turn)


def _pulsed(ticket: Ticket, outcome: UnlockOutcome) -> bool | None:
    """Whether the last pulse of a ticket was given; a restart leaves that open unless the door tells."""
    if ticket.attempt == 0:
        return False
    return True if ticket.stage == "pulsing" or outcome is UnlockOutcome.OPENED else None


def _opened(
    turn: Turn,
    ticket: Ticket,
    reservation: Reservation | None,
    outcome: UnlockOutcome,
    *,
    recovered: bool,
) -> Reservation | None:
    cells.see_door(turn, ticket.cell, Door.OPEN)
    turn.change_cell(ticket.cell, opened_since_allocation=True)
    if outcome is UnlockOutcome.OPENED:
        cells.lock_works(turn, ticket.cell)
        if ticket.stage == "pulsing" and not recovered:
            wear.note_opening(turn, ticket, maintenance_id(ticket, ticket.cell))
    if reservation is not None and reservation.to_be_weighed:
        reservation = turn.change_reservation(reservation, to_be_weighed=False)
    if ticket.purpose in BY_HAND:
        _weighed_no_more(turn, ticket.cell)
    if reservation is None or ticket.purpose is Purpose.OPEN_DOOR:
        return reservation
    return _granted(turn, reservation, ticket.purpose, ticket.source, _event_key(ticket), recovered=recovered)


def _weighed_no_more(turn: Turn, label: str) -> None:
    """A drop-off that waits for its scale waits until the door is closed again."""
    reservation_id = turn.cells[label].reservation_id
    if reservation_id is not None and turn.reservations[reservation_id].to_be_weighed:
        turn.change_reservation(turn.reservations[reservation_id], to_be_weighed=False)


def _granted(
    turn: Turn,
    reservation: Reservation,
    purpose: Purpose,
    source: Source,
    request_key: str | None,
    *,
    recovered: bool = False,
) -> Reservation:
    """The door stands open for a drop-off or pick-up."""
    changes: dict[str, Any] = {}
    if purpose is Purpose.DROPOFF and reservation.status is ReservationStatus.PENDING:
        changes["dropoff_opened"] = True
    if purpose is Purpose.PICKUP and reservation.picked_up is None:
        changes |= {"picked_up": turn.now, "grace_unknown": False}
    moved = apply(
        turn,
        reservation,
        GRANTED[purpose],
        source=source,
        request_key=request_key,
        recovered=recovered,
        **changes,
    )
    return reservation if moved is None else moved


def opened_late(turn: Turn, label: str) -> bool:
    """Whether the door's own lock has opened it after all, so late that the wish was told to have failed.

    What the wish wanted is true now: who stands there may take the parcel, or put one in. A pulse opens a
    door once, and only within `LATE_NS`.
    """
    own = turn.pulses.get(label)
    if own is None or not own.unspent or not own.at_ns or own.boot_id != turn.now.boot_id:
        return False
    if own.at_ns[-1] <= turn.now.boottime_ns - LATE_NS:
        return False
    turn.change_cell(label, opened_since_allocation=True)
    cells.lock_works(turn, label)
    reservation = turn.reservations.get(own.reservation_id)
    if reservation is not None and reservation.cell == label and own.purpose is not Purpose.OPEN_DOOR:
        _granted(turn, reservation, own.purpose, own.source, None)
    return True


def _event_key(ticket: Ticket) -> str | None:
    """The request id that an event carries; entries at the kiosk have none."""
    return ticket.request_key if ticket.source is Source.API else None


def _failed(ticket: Ticket, outcome: UnlockOutcome) -> Refusal:
    if outcome is UnlockOutcome.NO_MOVEMENT:
        return Refusal(Code.INTERNAL, f"the door of cell {ticket.cell} did not open ({outcome})")
    return Refusal(Code.INTERNAL, f"the door of cell {ticket.cell} could not be watched ({outcome})")
