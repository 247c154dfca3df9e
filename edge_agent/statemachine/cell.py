"""Changes of cells: allocated, released, found faulty, blocked, cleared; and how full the locker is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    Alarm,
    Block,
    Cell,
    CellCause,
    CellSpec,
    CellStatus,
    Door,
    Occupancy,
    Severity,
    Source,
)
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.doors import board_faults, contact
from edge_agent.statemachine.outputs import FactKind, Weigh
from edge_agent.statemachine.state import attempt_on
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import (
    CELL_TABLE,
    FLAG_TABLE,
    CellGuard,
    CellRule,
    CellTrigger,
    Flag,
    FlagTrigger,
    Refused,
)

AWAITING = (CellStatus.AWAITING_CLEANUP, CellStatus.AWAITING_INSPECTION)
FAULT_ALARMS = (Alarm.LOCK_JAMMED, Alarm.WRONG_DOOR, Alarm.DOOR_FORCED, Alarm.PARCEL_LEFT_BEHIND)
"""The alarms that the command `clear` clears."""


IDLE, CLOSED = CellStatus.IDLE, Door.CLOSED  # an enum's member is slow to look up


def allocatable(cell: Cell) -> bool:
    """Free, in order, and its door read closed by a contact and a board that are believed."""
    return (
        cell.status is IDLE
        and cell.blocked is None
        and cell.faulty is None
        and cell.answering
        and cell.door is CLOSED
        and cell.contact_doubt is None
        and not cell.board_down
    )


def holds(guard: CellGuard, builder: StepBuilder, cell: Cell) -> bool:
    """Whether a guard of the table of cells is met."""
    match guard:
        case CellGuard.ALLOCATABLE:
            return allocatable(cell) and attempt_on(builder.unlock_attempts, cell.label) is None
        case CellGuard.KNOWN_EMPTY:
            return _known_empty(cell)
        case CellGuard.UNTOUCHED:
            return _known_empty(cell) and cell.faulty is None and cell.contact_doubt is None
        case CellGuard.UNDOUBTED:
            proven = cell.empty is True or not cell.inspect_unless_empty
            return not cell.outcome_unknown and cell.empty is not False and proven
        case CellGuard.ONLY_OPENED:
            return cell.inspect_unless_empty
        case CellGuard.SOMETHING_TO_CLEAR:
            forced = f"{Alarm.DOOR_FORCED}/{cell.label}" in builder.alarms
            doubted = cell.contact_doubt is not None and cell.door is Door.CLOSED
            return cell.faulty is not None or forced or cell.worn or doubted


def _known_empty(cell: Cell) -> bool:
    return not cell.outcome_unknown and (not cell.opened_since_allocation or cell.empty is True)


def change_status(builder: StepBuilder, label: str, trigger: CellTrigger, **changes: Any) -> Cell:
    """Changes a cell's status by the table, with `changes` to its other fields. Raises `Refusal` if the table
    refuses it."""
    cell = builder.cells[label]
    entry = CELL_TABLE[cell.status, trigger]
    if isinstance(entry, Refused):
        raise Refusal(entry.code, f"cell {label}: {entry.why}")
    if not isinstance(entry, CellRule):
        return cell
    to: CellStatus | None = entry.to
    if entry.guard is not None and not holds(entry.guard, builder, cell):
        to = entry.otherwise
    if to is None:
        raise Refusal(Code.NOT_ALLOWED, f"cell {label} is {cell.status} and not {entry.guard}")
    return builder.change_cell(label, status=to, **changes)


def record_unknown_outcome(builder: StepBuilder, label: str) -> None:
    """The outcome of a pulse could not be read: the cell is inspected before it is allocated again."""
    before = builder.cells[label]
    cell = change_status(builder, label, CellTrigger.DOUBTED)
    if cell.reservation_id is not None:
        builder.change_cell(
            label, opened_since_allocation=True, unlocked_since_allocation=True, outcome_unknown=True
        )
    elif cell.status is not before.status:
        builder.add_cell_fact(label, CellCause.DOUBT)


def inspect_opened(builder: StepBuilder, label: str) -> None:
    """A free cell was opened by a person who may have put something into it: it awaits inspection."""
    before = builder.cells[label].status
    cell = change_status(builder, label, CellTrigger.OPENED)
    if cell.status is not before:
        builder.change_cell(label, inspect_unless_empty=True)
        builder.add_cell_fact(label, CellCause.OPENED)


def weighed_empty(builder: StepBuilder, label: str) -> None:
    """The scale of a closed cell shows it empty: the cell is free if it awaits inspection only because it was
    opened."""
    before = builder.cells[label]
    if before.status is CellStatus.AWAITING_INSPECTION and before.inspect_unless_empty and before.settled:
        change_status(builder, label, CellTrigger.PROVEN_EMPTY, inspect_unless_empty=False)
        builder.add_cell_fact(label, CellCause.PROVEN_EMPTY)


def record_door(builder: StepBuilder, label: str, door: Door, *, unwatched: bool = False) -> None:
    """A door was read by a board that answers. `unwatched`: the change to this state was not observed."""
    cell = builder.cells[label]
    if cell.door is not door:
        closed = door is Door.CLOSED
        opened = cell.opened_since_allocation or (not closed and cell.reservation_id is not None)
        builder.change_cell(
            label,
            door=door,
            door_since=builder.now,
            open_since=cell.open_since if closed or cell.open_since is not None else builder.now,
            answering=True,
            unread=False,
            settled=False,
            closing_unseen=closed and unwatched,
            unexplained_since=None if closed else cell.unexplained_since,
            opened_since_allocation=opened,
            mass_g=None,
            empty=None,
        )
        if cell.door is not Door.UNKNOWN and not unwatched:
            contact.changed(builder, cell, door)
        if closed and label in builder.layout.weighed:
            builder.effects.append(Weigh(label))
    elif not cell.answering or cell.unread:
        builder.change_cell(label, answering=True, unread=False)
    if door is Door.OPEN:
        _spend_pulses(builder, label)


def _spend_pulses(builder: StepBuilder, label: str) -> None:
    """A door that reads open explains every pulse of its lock so far: none of them opens it later.

    An opening that is still unexplained keeps them: whether this lock caused it is found later (`doors`).
    """
    pulses = builder.pulses.get(label)
    if (
        pulses is not None
        and pulses.pulses_without_opening
        and builder.cells[label].unexplained_since is None
    ):
        builder.put("pulses", label, amend(pulses, pulses_without_opening=0))


def settle_closed(builder: StepBuilder, label: str) -> None:
    """The door is settled closed: this ends its opening, whether by this machine or not."""
    builder.change_cell(label, settled=True, opened_by_unlock=False, closing_unseen=False, open_since=None)
    builder.clear_alarm(Alarm.DOOR_AJAR, label, cell=label)


def _flag(cell: Cell, flag: Flag, trigger: FlagTrigger) -> bool:
    """The new value of a flag. Raises `Refusal` if the table refuses it."""
    is_set = (cell.blocked if flag is Flag.BLOCKED else cell.faulty) is not None
    entry = FLAG_TABLE.get((flag, is_set, trigger), is_set)
    if isinstance(entry, Refused):
        raise Refusal(entry.code, f"cell {cell.label}: {entry.why}")
    return entry


def mark_faulty(builder: StepBuilder, label: str, why: str, alarm: Alarm, ticket_id: str) -> None:
    """Takes a cell out of allocation until it is cleared, and requests maintenance once."""
    cell = builder.cells[label]
    if _flag(cell, Flag.FAULTY, FlagTrigger.FAULT) and cell.faulty is None:
        builder.change_cell(label, faulty=why)
        builder.add_cell_fact(label, CellCause.FAULT, reason=why)
        request_maintenance(builder, ticket_id, why, Severity.HIGH, label)
    builder.raise_alarm(alarm, label, why, cell=label)


def request_maintenance(
    builder: StepBuilder,
    ticket_id: str,
    description: str,
    severity: Severity,
    label: str | None,
    *,
    source: Source = Source.MACHINE,
    request_key: str | None = None,
) -> None:
    """Adds the fact of a maintenance request for a cell, or for the machine if `label` is None."""
    builder.add_fact(
        FactKind.MAINTENANCE_REQUESTED,
        cell=label,
        source=source,
        request_key=request_key,
        maintenance_ticket_id=ticket_id,
        description=description,
        severity=severity,
        blocked=None if label is None else builder.cells[label].blocked is not None,
    )


def lock_works(builder: StepBuilder, label: str) -> None:
    """A pulse opened a door that read closed before: the contact is believed, a jam and a fault of its board
    end. Any other fault stays until a person has checked the cell."""
    cell = builder.cells[label]
    contact.end_doubt(builder, label)
    board_faults.works(builder, label)
    builder.clear_alarm(Alarm.LOCK_JAMMED, label, cell=label)
    if f"{Alarm.WRONG_DOOR}/{label}" in builder.alarms:
        return
    if cell.faulty is not None and not _flag(cell, Flag.FAULTY, FlagTrigger.LOCK_OPENED):
        builder.change_cell(label, faulty=None)
        builder.add_cell_fact(label, CellCause.REPAIRED)


def find(builder: StepBuilder, label: str) -> Cell:
    """The cell. Raises `Refusal` (`NOT_FOUND`) if there is none with this label."""
    cell = builder.cells.get(label)
    if cell is None:
        raise Refusal(Code.NOT_FOUND, f"no such cell: {label}")
    return cell


def block(
    builder: StepBuilder, label: str, reason: str, ticket_id: str | None, source: Source, actor: str = ""
) -> None:
    """Takes a cell out of allocation until it is unblocked. A parcel in it stays reachable.

    Raises `Refusal`: `NOT_FOUND` for an unknown cell, `NOT_ALLOWED` if it is already blocked.
    """
    cell = find(builder, label)
    if _flag(cell, Flag.BLOCKED, FlagTrigger.BLOCK):
        builder.change_cell(label, blocked=Block(reason, ticket_id))
        builder.add_cell_fact(label, CellCause.BLOCKED, reason=reason, source=source, actor=actor)


def unblock(builder: StepBuilder, label: str, source: Source, actor: str = "") -> None:
    """Unblocks a cell. Raises `Refusal`: `NOT_FOUND` for an unknown cell, `NOT_ALLOWED` if it is not
    blocked."""
    cell = find(builder, label)
    if not _flag(cell, Flag.BLOCKED, FlagTrigger.UNBLOCK):
        builder.change_cell(label, blocked=None)
        builder.add_cell_fact(label, CellCause.UNBLOCKED, source=source, actor=actor)


def clear(builder: StepBuilder, label: str, source: Source, *, freed: bool = False, actor: str = "") -> None:
    """A person has checked the cell: frees one that awaits clean-up or inspection, and resets its flag
    FAULTY.

    `freed`: the clearing has just ended the reservation that held it.

    Raises `Refusal`: `NOT_FOUND` for an unknown cell, `NOT_ALLOWED` if there is nothing to clear.
    """
    cell = find(builder, label)
    if f"{Alarm.DOOR_FORCED}/{label}" in builder.alarms and cell.door is not Door.CLOSED:
        raise Refusal(Code.NOT_ALLOWED, f"the door of cell {label} was forced and is not closed")
    if f"{Alarm.WRONG_DOOR}/{label}" in builder.alarms and not cell.opened_rightly:
        why = f"open cell {label} first: no `open` has moved its own door since the wrong door opened"
        raise Refusal(Code.NOT_ALLOWED, why)
    cleared = (
        cell
        if freed and cell.status is CellStatus.IDLE
        else change_status(builder, label, CellTrigger.CLEARED)
    )
    if not _flag(cleared, Flag.FAULTY, FlagTrigger.CLEARED):
        builder.change_cell(label, faulty=None, worn=False)
    builder.change_cell(
        label, inspect_unless_empty=False, last_outcome=None, failing=False, opened_rightly=False
    )
    if cell.door is Door.CLOSED:
        contact.end_doubt(builder, label, at_once=True)
    builder.add_cell_fact(label, CellCause.CLEARED, source=source, actor=actor)
    for alarm in FAULT_ALARMS:
        builder.clear_alarm(alarm, label, cell=label)


def occupancy(cells: Iterable[Cell]) -> Occupancy:
    """How full the locker is: the share of cells that are not IDLE."""
    statuses = [cell.status for cell in cells]
    percent = 100 * sum(status is not CellStatus.IDLE for status in statuses) / len(statuses)
    if percent <= 30:
        return Occupancy.LOW
    if percent <= 70:
        return Occupancy.MEDIUM
    return Occupancy.HIGH if percent <= 95 else Occupancy.OVERLOADED


def preferred(specs: Mapping[str, CellSpec], cells: Mapping[str, Cell]) -> list[CellSpec]:
    """The API's preferred cells: one allocatable cell of each distinct size and ability, in the order of the
    configuration."""
    kinds: dict[tuple[object, ...], CellSpec] = {}
    for label, spec in specs.items():
        if allocatable(cells[label]):
            size = (spec.width_mm, spec.height_mm, spec.depth_mm)
            kinds.setdefault((*size, spec.heating, spec.cooling, spec.weight_sensor), spec)
    return list(kinds.values())
