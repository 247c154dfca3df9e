"""What must hold after every step; a breach means that the program is wrong, not the world."""

from __future__ import annotations

from edge_agent.errors import InvariantBroken
from edge_agent.model import CellStatus, Reservation
from edge_agent.statemachine.cell import AWAITING
from edge_agent.statemachine.reservation import CELL_STATUS
from edge_agent.statemachine.state import Layout, LockerState


def check(state: LockerState, layout: Layout, before: LockerState | None = None) -> None:
    """Raises `InvariantBroken` if the state contradicts itself.

    With `before`, only what differs from it is looked at, so that the cost follows the change and not the
    size of the locker; without, everything is.
    """
    for label, cell in state.cells.items():
        if before is None or before.cells[label] is not cell:
            _check_cell(state, label)
    changed = state.reservations is not (before.reservations if before else None)
    for reservation in state.reservations.values() if changed else ():
        if before is None or before.reservations.get(reservation.reservation_id) is not reservation:
            _check_reservation(state, reservation)
    if before is None or state.tickets is not before.tickets:
        _check_tickets(state, layout)


def _demand(condition: bool, message: str) -> None:
    if not condition:
        raise InvariantBroken(message)


def _check_cell(state: LockerState, label: str) -> None:
    cell = state.cells[label]
    if cell.reservation_id is None:
        free = (CellStatus.IDLE, *AWAITING)
        _demand(cell.status in free, f"cell {label} is {cell.status} for nobody")
        return
    holder = state.reservations.get(cell.reservation_id)
    _demand(holder is not None, f"cell {label} is held by {cell.reservation_id}, which does not live")
    assert holder is not None
    _demand(holder.cell == label, f"cell {label} is held by a reservation of cell {holder.cell}")
    wanted = CELL_STATUS[holder.status]
    _demand(cell.status is wanted, f"cell {label} is {cell.status}, its reservation {holder.status}")


def _check_reservation(state: LockerState, reservation: Reservation) -> None:
    rid = reservation.reservation_id
    _demand(reservation.status in CELL_STATUS, f"reservation {rid} is over but lives")
    _demand(state.cells[reservation.cell].reservation_id == rid, f"reservation {rid} lost its cell")
    codes = {reservation.drop_off_code, reservation.pickup_code}
    _demand(len(codes) == 2, f"reservation {rid} has one code for two purposes")
    for other in state.reservations.values():
        if other is not reservation:
            shared = codes & {other.drop_off_code, other.pickup_code}
            _demand(not shared, f"reservations {rid} and {other.reservation_id} share a code")


def _check_tickets(state: LockerState, layout: Layout) -> None:
    busy: set[str] = set()
    for ticket in state.tickets.values():
        if ticket.stage == "waiting":
            _demand(ticket.unlock_id in state.queue, f"ticket {ticket.unlock_id} waits outside the queue")
            continue
        _demand(ticket.cell not in busy, f"two unlocks at work on cell {ticket.cell}")
        busy.add(ticket.cell)
        holder = state.cells[ticket.cell].reservation_id
        _demand(holder == ticket.reservation_id, f"an unlock of cell {ticket.cell} for another's parcel")
    _demand(state.active_unlocks() <= layout.max_concurrent_unlocks, "more locks at work than allowed")
    _demand(all(uid in state.tickets for uid in state.queue), "the queue holds a ticket that is over")
