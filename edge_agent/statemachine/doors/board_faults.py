"""Faults of a whole board: its supply, a fuse of its locks, the common wire of its contacts.

Three different locks of one board that fail in a row, or two contacts of one board that open in one reading
without a cause, are one alarm DEVICE_FAULT. It marks no cell and moves no reservation. It ends when a lock of
the board opens its door.
"""

from __future__ import annotations

from edge_agent.model import Alarm, CellCause
from edge_agent.statemachine.step_builder import StepBuilder

FAILING_LOCKS = 3


def lock_failed(builder: StepBuilder, label: str) -> bool:
    """A lock did not move. Returns True if that is the fault of its board, or may be that of its contact's:
    then no cell is marked for it, and the marks of the board's other cells are removed."""
    builder.change_cell(label, failing=True)
    board = builder.layout.lock_boards.get(label)
    if board is None:
        return builder.cells[label].board_down
    mates = _cells_of(builder, board, locks=True)
    failing = [mate for mate in mates if builder.cells[mate].failing]
    if len(failing) < FAILING_LOCKS and f"{Alarm.DEVICE_FAULT}/{board}" not in builder.alarms:
        return builder.cells[label].board_down
    builder.raise_alarm(Alarm.DEVICE_FAULT, board, f"{len(failing)} locks in a row did not move")
    for mate in mates:
        if not builder.cells[mate].board_down:
            builder.change_cell(mate, board_down=True)
    for mate in failing:
        _remove_marks(builder, mate)
    return True


def _remove_marks(builder: StepBuilder, label: str) -> None:
    """Removes what a jam of this lock alone had marked."""
    key = f"{Alarm.LOCK_JAMMED}/{label}"
    if key not in builder.alarms:
        return
    builder.clear_alarm(Alarm.LOCK_JAMMED, label, cell=label)
    if f"{Alarm.WRONG_DOOR}/{label}" not in builder.alarms and builder.cells[label].faulty is not None:
        builder.change_cell(label, faulty=None)
        builder.add_cell_fact(label, CellCause.BOARD)


def contacts_opened(builder: StepBuilder, board: str, labels: list[str]) -> None:
    """Several contacts of a board opened in one reading, although no lock had opened their doors."""
    builder.raise_alarm(
        Alarm.DEVICE_FAULT, board, f"the contacts of {', '.join(labels)} opened in one reading"
    )
    for mate in _cells_of(builder, board, locks=False):
        if not builder.cells[mate].board_down:
            builder.change_cell(mate, board_down=True)


def works(builder: StepBuilder, label: str) -> None:
    """A lock has opened its door, and its contact shows it: the boards of both work."""
    locks, contacts = builder.layout.lock_boards.get(label), builder.layout.contact_boards.get(label)
    for board in dict.fromkeys((locks, contacts)):
        if board is not None:
            builder.clear_alarm(Alarm.DEVICE_FAULT, board)
    same_locks = [label] if locks is None else _cells_of(builder, locks, locks=True)
    for mate in same_locks:
        if builder.cells[mate].failing:
            builder.change_cell(mate, failing=False)
    for mate, cell in tuple(builder.cells.items()):
        if cell.board_down and not _standing(builder, mate):
            builder.change_cell(mate, board_down=False)


def _standing(builder: StepBuilder, label: str) -> bool:
    boards = (builder.layout.lock_boards.get(label), builder.layout.contact_boards.get(label))
    return any(f"{Alarm.DEVICE_FAULT}/{board}" in builder.alarms for board in boards if board is not None)


def at_start(builder: StepBuilder) -> None:
    """At a start: clears alarms of boards that are no longer configured, and updates cells from their
    boards."""
    known = {*builder.layout.lock_boards.values(), *builder.layout.contact_boards.values()}
    for standing in tuple(builder.alarms.values()):
        if standing.alarm is Alarm.DEVICE_FAULT and standing.place not in known:
            builder.clear_alarm(standing.alarm, standing.place)
    for label, cell in tuple(builder.cells.items()):
        if cell.board_down is not _standing(builder, label):
            builder.change_cell(label, board_down=not cell.board_down)


def _cells_of(builder: StepBuilder, board: str, *, locks: bool) -> list[str]:
    boards = builder.layout.lock_boards if locks else builder.layout.contact_boards
    return [label for label in builder.cells if boards.get(label) == board]
