"""The end of an unlock attempt: its outcome in the ledger, for the reservation, for the cell, and for the
sender.

A door that a pulse opened is a fact, whatever became of the command. What could not be read stays UNKNOWN;
the next reading of the door, a later closing (see `unconfirmed`) or a technician decides it.
"""

from __future__ import annotations

from typing import Any

from edge_agent.errors import Code, ErrorInfo, Refusal
from edge_agent.model import (
    BY_HAND,
    Alarm,
    Door,
    Instant,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    Ticket,
    UnlockOutcome,
)
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine import guessing, unconfirmed, wear, wrong_door
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.reservation import apply, live
from edge_agent.statemachine.transitions import Trigger
from edge_agent.statemachine.turn import Turn

WISH = {
    Purpose.DROPOFF: Trigger.DROPOFF,
    Purpose.PICKUP: Trigger.PICKUP,
    Purpose.OPEN_DOOR: Trigger.OPEN_DOOR,
}
GRANTED = {Purpose.DROPOFF: Trigger.DROPOFF_OPENED, Purpose.PICKUP: Trigger.PICKUP_OPENED}


def holder(turn: Turn, ticket: Ticket) -> Reservation | None:
    """The reservation of a ticket; an ended one only while no other has got its cell. None if a technician
    opens the cell."""
    if ticket.purpose in BY_HAND:
        return None
    try:
        return live(turn, ticket.reservation_id, None, WISH[ticket.purpose])
    except Refusal:
        return None


def refuse_while_busy(turn: Turn, label: str, but: str = "") -> None:
    """Raises `Refusal` (`NOT_ALLOWED`) while a ticket is working on the cell."""
    ticket = turn.at_work(label)
    if ticket is not None and ticket.unlock_id != but:
        raise Refusal(Code.NOT_ALLOWED, f"the door of cell {label} is being opened just now")


def give_up(turn: Turn, ticket: Ticket, refusal: Refusal, reservation: Reservation | None = None) -> None:
    """Ends a ticket that had no pulse, or none that counts; the caller gets the reason."""
    turn.drop_ticket(ticket)
    tell_outcome(turn, ticket, UnlockOutcome.NO_MOVEMENT, reservation=reservation, refusal=refusal)


def end_waiting(turn: Turn, reservation: Reservation, why: str) -> None:
    """Ends every ticket that waits for a reservation whose cell is another's from now on."""
    for ticket in tuple(turn.tickets.values()):
        if ticket.reservation_id == reservation.reservation_id:
            give_up(turn, ticket, Refusal(Code.NOT_ALLOWED, why), reservation)


def take_over(turn: Turn, label: str) -> None:
    """A cell is given to a new reservation: the previous one can no longer open it."""
    former = turn.former.get(label)
    if former is not None:
        end_waiting(turn, former, f"cell {label} was given to somebody else before its turn came")
        turn.put("former", label, None)


def tell_outcome(
    turn: Turn,
    ticket: Ticket,
    outcome: UnlockOutcome,
    *,
    reservation: Reservation | None = None,
    refusal: Refusal | None = None,
    recovered: bool = False,
) -> None:
    """The outcome for the caller: an answer, or the event of an open-door."""
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
    """The outcome of a technician's opening: an answer if he still waits, and always one event."""
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


def leave_unresolved(turn: Turn, ticket: Ticket) -> None:
    """The outcome of a pulse could not be read: answers UNKNOWN, and lets the next reading decide."""
    turn.change_ticket(ticket, stage="unresolved", request_key=None, told=ticket.purpose in BY_HAND)
    cells.doubt(turn, ticket.cell)
    tell_outcome(turn, ticket, UnlockOutcome.UNKNOWN, refusal=_failed(ticket, UnlockOutcome.UNKNOWN))


def leave_unconfirmed(turn: Turn, ticket: Ticket) -> None:
    """A pulse was given in doubt: answers UNKNOWN, and a later closing may conclude the command."""
    turn.drop_ticket(ticket)
    turn.record(ticket, UnlockOutcome.UNKNOWN, pulsed=True)
    changes: dict[str, Any] = {"last_outcome": UnlockOutcome.UNKNOWN, "inspect_unless_empty": True}
    if turn.cells[ticket.cell].reservation_id is None:
        changes.pop("inspect_unless_empty")
        if ticket.purpose not in BY_HAND:
            cells.inspect_opened(turn, ticket.cell)
    else:
        changes |= {"opened_since_allocation": True, "unlocked_since_allocation": True}
    turn.change_cell(ticket.cell, **changes)
    unconfirmed.begin(turn, ticket, _event_key(ticket))
    tell_outcome(turn, ticket, UnlockOutcome.UNKNOWN, refusal=_in_doubt(ticket))


def settle(turn: Turn, label: str, door: Door, *, recovered: bool) -> None:
    """A door has been read: concludes the ticket that waits for the effect of a pulse on this door.

    A pulsed lock whose door reads open has opened it. An unresolved one whose door reads closed stays
    UNKNOWN, and the cell is inspected before it is allocated again.
    """
    ticket = turn.at_work(label)
    if ticket is None or door is Door.UNKNOWN:
        return
    if ticket.doubtful:
        if ticket.stage == "unresolved":
            leave_unconfirmed(turn, ticket)
    elif door is Door.OPEN and ticket.stage in ("pulsing", "unresolved"):
        conclude(turn, ticket, UnlockOutcome.OPENED, recovered=recovered)
    elif door is Door.CLOSED and ticket.stage == "unresolved":
        cells.doubt(turn, label)
        conclude(turn, ticket, UnlockOutcome.UNKNOWN, recovered=recovered)


def conclude(turn: Turn, ticket: Ticket, outcome: UnlockOutcome, *, recovered: bool = False) -> None:
    """Ends a ticket with its outcome: ledger, reservation, cell, answer; then the next ticket's turn."""
    turn.drop_ticket(ticket)
    turn.record(ticket, outcome, pulsed=was_pulsed(ticket, outcome))
    unconfirmed.forget(turn, ticket.cell)
    reservation = holder(turn, ticket)
    if outcome in (UnlockOutcome.OPENED, UnlockOutcome.ALREADY_OPEN):
        moved = _opened(turn, ticket, reservation, outcome, recovered=recovered)
        tell_outcome(turn, ticket, outcome, reservation=moved, recovered=recovered)
    else:
        turn.change_cell(ticket.cell, last_outcome=outcome)
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
        tell_outcome(turn, ticket, outcome, refusal=_failed(ticket, outcome), recovered=recovered)


def was_pulsed(ticket: Ticket, outcome: UnlockOutcome) -> bool | None:
    """Whether the last pulse of a ticket was given; unknown after a restart unless the door shows it."""
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
    changes: dict[str, Any] = {"opened_since_allocation": True, "last_outcome": None}
    if outcome is UnlockOutcome.OPENED:
        changes |= {"opened_by_unlock": True, "unexplained": None, "unlocked_since_allocation": True}
        changes["opened_rightly"] = ticket.purpose is Purpose.TECHNICIAN and not recovered
    turn.change_cell(ticket.cell, **changes)
    if outcome is UnlockOutcome.OPENED:
        wrong_door.take_back(turn, ticket)
        cells.lock_works(turn, ticket.cell)
        if ticket.source is Source.MACHINE and reservation is not None:
            reservation = _code_has_opened(turn, ticket, reservation)
        if ticket.stage == "pulsing" and not recovered:
            wear.note_opening(turn, ticket, wrong_door.maintenance_id(ticket, ticket.cell))
    if reservation is not None and reservation.to_be_weighed:
        reservation = turn.change_reservation(reservation, to_be_weighed=False)
    if ticket.purpose in BY_HAND:
        _weighed_no_more(turn, ticket.cell)
    elif turn.cells[ticket.cell].reservation_id is None:
        cells.inspect_opened(turn, ticket.cell)
    if reservation is None or ticket.purpose is Purpose.OPEN_DOOR:
        return reservation
    return _granted(turn, reservation, ticket.purpose, ticket.source, _event_key(ticket), recovered=recovered)


def _code_has_opened(turn: Turn, ticket: Ticket, reservation: Reservation) -> Reservation:
    """A code of this reservation has opened its door: the first time, that forgives recent wrong entries."""
    if ticket.purpose in reservation.codes_opened or reservation.reservation_id not in turn.reservations:
        return reservation
    guessing.forgive(turn)
    return turn.change_reservation(reservation, codes_opened=(*reservation.codes_opened, ticket.purpose))


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
    """The door is open for a drop-off or pick-up."""
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


def opened_late(turn: Turn, label: str, at: Instant) -> bool:
    """Whether the door, which opened `at`, was opened by its own lock, so late that the command was answered
    as failed.

    What the command asked for is now true: the customer may take the parcel, or put one in. A pulse opens a
    door once, and only within `LATE_NS`; and only if every other lock that was pulsed since has opened its
    own door, else this opening may come from that lock.
    """
    own = turn.pulses.get(label)
    if own is None or own.doubtful or not wrong_door.may_open_late(own, at):
        return False
    if f"{Alarm.WRONG_DOOR}/{label}" in turn.alarms:
        return False
    others = (turn.pulses[other] for other in wrong_door.unopened(turn, label, at))
    if any(pulses.at_ns[-1] >= own.at_ns[-1] for pulses in others):
        return False
    turn.change_cell(
        label,
        opened_by_unlock=True,
        unexplained=None,
        opened_since_allocation=True,
        unlocked_since_allocation=True,
        last_outcome=None,
    )
    reservation = turn.reservations.get(own.reservation_id)
    still_there = reservation is not None and reservation.cell == label
    if own.reservation_id and not still_there:
        cells.inspect_opened(turn, label)  # it has moved on or is over: the cell keeps its fault
        return True
    cells.lock_works(turn, label)
    if reservation is not None and own.purpose is not Purpose.OPEN_DOOR:
        _granted(turn, reservation, own.purpose, own.source, None)
    return True


def _event_key(ticket: Ticket) -> str | None:
    """The request id in an event; entries at the kiosk have none."""
    return ticket.request_key if ticket.source is Source.API else None


def _in_doubt(ticket: Ticket) -> Refusal:
    what = f"the lock of cell {ticket.cell} was pulsed, and its door contact is in doubt"
    do = "look at the door; if it is shut, call for help"
    info = ErrorInfo("CONTACT_IN_DOUBT", {"cell": ticket.cell, "pulsed": "true"})
    return Refusal(Code.INTERNAL, f"{what} ({UnlockOutcome.UNKNOWN}): {do}", info=info)


def _failed(ticket: Ticket, outcome: UnlockOutcome) -> Refusal:
    if outcome is UnlockOutcome.NO_MOVEMENT:
        said = f"the door of cell {ticket.cell} did not open ({outcome})"
    else:
        said = f"the door of cell {ticket.cell} could not be watched ({outcome})"
    if ticket.source is Source.MACHINE and ticket.purpose not in BY_HAND:
        said += "; push the door, enter the code again, or call for help"
    return Refusal(Code.INTERNAL, said)


def end_unresolved(turn: Turn, ticket: Ticket) -> None:
    """A technician decides the unknown outcome of a pulse: its ticket ends as UNKNOWN."""
    conclude(turn, ticket, UnlockOutcome.UNKNOWN)
