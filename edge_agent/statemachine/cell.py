"""What happens to cells: taken, given back, found faulty, cleared; and how full the locker is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    Alarm,
    Cell,
    CellSpec,
    CellStatus,
    Door,
    Occupancy,
    Reservation,
    ReservationStatus,
)
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.turn import Turn

AWAITING = (CellStatus.AWAITING_CLEANUP, CellStatus.AWAITING_INSPECTION)


def allocatable(cell: Cell) -> bool:
    """Free, in order, and its door seen closed by a board that answers."""
    return (
        cell.status is CellStatus.IDLE
        and cell.blocked is None
        and cell.faulty is None
        and cell.answering
        and cell.door is Door.CLOSED
    )


def release(turn: Turn, reservation: Reservation) -> None:
    """Takes the cell back from a reservation that is over.

    A cell that was open, or may have been, and of which nobody knows that it is empty, awaits inspection.
    """
    cell = turn.cells[reservation.cell]
    unseen = reservation.status is ReservationStatus.CANCELLED and cell.opened_since_allocation
    status = CellStatus.AWAITING_INSPECTION if unseen or cell.suspect else CellStatus.IDLE
    turn.change_cell(
        cell.label, status=status, reservation_id=None, opened_since_allocation=False, suspect=False
    )
    if status is not CellStatus.IDLE:
        turn.tell(FactKind.CELL_STATUS_CHANGED, cell=cell.label, status=status)


def see_door(turn: Turn, label: str, door: Door) -> None:
    """A door was read by a board that answers."""
    cell = turn.cells[label]
    if cell.door is not door:
        turn.change_cell(label, door=door, door_since=turn.now, answering=True)
        if door is Door.CLOSED:
            turn.clear_alarm(Alarm.DOOR_AJAR, label, cell=label)
    elif not cell.answering:
        turn.change_cell(label, answering=True)


def mark_faulty(turn: Turn, label: str, why: str, alarm: Alarm) -> None:
    """Takes a cell out of allocation until it is cleared."""
    if turn.cells[label].faulty is None:
        changed = turn.change_cell(label, faulty=why)
        turn.tell(FactKind.CELL_STATUS_CHANGED, cell=label, status=changed.status, reason=why)
    turn.raise_alarm(alarm, label, why, cell=label)


def lock_works(turn: Turn, label: str) -> None:
    """The lock opened: a jam is over. Any other fault stays until somebody looked."""
    cell = turn.cells[label]
    if f"{Alarm.WRONG_DOOR}/{label}" in turn.alarms:
        return
    if cell.faulty is not None:
        turn.change_cell(label, faulty=None)
        turn.tell(FactKind.CELL_STATUS_CHANGED, cell=label, status=cell.status)
    turn.clear_alarm(Alarm.LOCK_JAMMED, label, cell=label)


def clear(turn: Turn, label: str) -> None:
    """Somebody looked: frees a cell that awaits clean-up or inspection and takes faulty off.

    Raises `Refusal`: code 5 for an unknown cell, 9 where there is nothing to clear.
    """
    cell = turn.cells.get(label)
    if cell is None:
        raise Refusal(Code.NOT_FOUND, f"no such cell: {label}")
    forced = f"{Alarm.DOOR_FORCED}/{label}" in turn.alarms
    if cell.status not in AWAITING and cell.faulty is None and not forced:
        raise Refusal(Code.NOT_ALLOWED, f"cell {label} is {cell.status} and not faulty: nothing to clear")
    status = CellStatus.IDLE if cell.status in AWAITING else cell.status
    if forced and cell.door is not Door.CLOSED:
        raise Refusal(Code.NOT_ALLOWED, f"the door of cell {label} was forced and is not closed")
    turn.change_cell(label, status=status, faulty=None)
    turn.tell(FactKind.CELL_STATUS_CHANGED, cell=label, status=status)
    for alarm in (Alarm.LOCK_JAMMED, Alarm.WRONG_DOOR, Alarm.DOOR_FORCED):
        turn.clear_alarm(alarm, label, cell=label)


def occupancy(cells: Iterable[Cell]) -> Occupancy:
    """How full the locker is: the share of cells that some reservation keeps from being allocated."""
    statuses = [cell.status for cell in cells]
    percent = 100 * sum(status is not CellStatus.IDLE for status in statuses) / len(statuses)
    if percent <= 30:
        return Occupancy.LOW
    if percent <= 70:
        return Occupancy.MEDIUM
    return Occupancy.HIGH if percent <= 95 else Occupancy.OVERLOADED


def preferred(specs: Mapping[str, CellSpec], cells: Mapping[str, Cell]) -> list[CellSpec]:
    """One allocatable cell of each distinct size and ability, in the order of the configuration."""
    kinds: dict[tuple[object, ...], CellSpec] = {}
    for label, spec in specs.items():
        if allocatable(cells[label]):
            size = (spec.width_mm, spec.height_mm, spec.depth_mm)
            kinds.setdefault((*size, spec.heating, spec.cooling, spec.weight_sensor), spec)
    return list(kinds.values())
