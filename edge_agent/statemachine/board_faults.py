"""Faults of a whole board: its supply, a fuse of its locks, the common wire of its contacts.

Three different locks of one board that fail in a row, or two contacts of one board that open in one reading
without a cause, are one alarm DEVICE_FAULT. It marks no cell and moves no reservation. It ends when a lock of
the board opens its door.
"""

from __future__ import annotations

from edge_agent.model import Alarm, CellCause
from edge_agent.statemachine.turn import Turn

FAILING_LOCKS = 3


def lock_failed(turn: Turn, label: str) -> bool:
    """A lock did not move. Returns True if that is the fault of its board, or may be that of its contact's:
    then no cell is marked for it, and the marks of the board's other cells are removed."""
    turn.change_cell(label, failing=True)
    board = turn.layout.lock_boards.get(label)
    if board is None:
        return turn.cells[label].board_down
    mates = _cells_of(turn, board, locks=True)
    failing = [mate for mate in mates if turn.cells[mate].failing]
    if len(failing) < FAILING_LOCKS and f"{Alarm.DEVICE_FAULT}/{board}" not in turn.alarms:
        return turn.cells[label].board_down
    turn.raise_alarm(Alarm.DEVICE_FAULT, board, f"{len(failing)} locks in a row did not move")
    for mate in mates:
        if not turn.cells[mate].board_down:
            turn.change_cell(mate, board_down=True)
    for mate in failing:
        _take_back(turn, mate)
    return True


def _take_back(turn: Turn, label: str) -> None:
    """Removes what a jam of this lock alone had marked."""
    key = f"{Alarm.LOCK_JAMMED}/{label}"
    if key not in turn.alarms:
        return
    turn.clear_alarm(Alarm.LOCK_JAMMED, label, cell=label)
    if f"{Alarm.WRONG_DOOR}/{label}" not in turn.alarms and turn.cells[label].faulty is not None:
        turn.change_cell(label, faulty=None)
        turn.tell_cell(label, CellCause.BOARD)


def contacts_opened(turn: Turn, board: str, labels: list[str]) -> None:
    """Several contacts of a board opened in one reading, although no lock had opened their doors."""
    turn.raise_alarm(Alarm.DEVICE_FAULT, board, f"the contacts of {', '.join(labels)} opened in one reading")
    for mate in _cells_of(turn, board, locks=False):
        if not turn.cells[mate].board_down:
            turn.change_cell(mate, board_down=True)


def works(turn: Turn, label: str) -> None:
    """A lock has opened its door, and its contact shows it: the boards of both work."""
    locks, contacts = turn.layout.lock_boards.get(label), turn.layout.contact_boards.get(label)
    for board in dict.fromkeys((locks, contacts)):
        if board is not None:
            turn.clear_alarm(Alarm.DEVICE_FAULT, board)
    same_locks = [label] if locks is None else _cells_of(turn, locks, locks=True)
    for mate in same_locks:
        if turn.cells[mate].failing:
            turn.change_cell(mate, failing=False)
    for mate, cell in tuple(turn.cells.items()):
        if cell.board_down and not _standing(turn, mate):
            turn.change_cell(mate, board_down=False)


def _standing(turn: Turn, label: str) -> bool:
    boards = (turn.layout.lock_boards.get(label), turn.layout.contact_boards.get(label))
    return any(f"{Alarm.DEVICE_FAULT}/{board}" in turn.alarms for board in boards if board is not None)


def begin_anew(turn: Turn) -> None:
    """At a start: clears alarms of boards that are no longer configured, and updates cells from their
    boards."""
    known = {*turn.layout.lock_boards.values(), *turn.layout.contact_boards.values()}
    for standing in tuple(turn.alarms.values()):
        if standing.alarm is Alarm.DEVICE_FAULT and standing.place not in known:
            turn.clear_alarm(standing.alarm, standing.place)
    for label, cell in tuple(turn.cells.items()):
        if cell.board_down is not _standing(turn, label):
            turn.change_cell(label, board_down=not cell.board_down)


def _cells_of(turn: Turn, board: str, *, locks: bool) -> list[str]:
    boards = turn.layout.lock_boards if locks else turn.layout.contact_boards
    return [label for label in turn.cells if boards.get(label) == board]
