"""Unexpected doors: opened without a pulse, opened by another lock's pulse, left ajar.

Only a late opening changes a reservation. The cause of an unexplained opening is determined when the door has
read open for `UNEXPLAINED_NS`, because it may be a glitch of the contact. The cause is a late opening; the
lock of another door (WRONG_DOOR); a fault of the whole board; or a person who forced the door, which looks
the same as a broken wire (DOOR_FORCED, and the contact is in doubt).
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.model import Alarm, Door, Instant
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.doors import board_faults, contact, outcome, wrong_door
from edge_agent.statemachine.state import LockerState
from edge_agent.statemachine.step_builder import StepBuilder

FORCED_FORGOTTEN_NS = 10 * 60 * 10**9
"""The alarm of a forced door is cleared when the door has been closed for this time."""
OPEN = Door.OPEN


def record_unexplained_opening(builder: StepBuilder, label: str) -> None:
    """A door has opened without a pulse of its lock in progress: a late opening, or recorded as
    unexplained."""
    if label in builder.hand_checked or outcome.opened_late(builder, label, builder.now):
        return
    builder.change_cell(label, unexplained_since=builder.now, opened_by_unlock=False)


def _explain_opening(builder: StepBuilder, label: str, since: Instant) -> None:
    """Finds the cause of an opening that has lasted."""
    late = outcome.opened_late(builder, label, since)
    builder.change_cell(label, unexplained_since=None)
    pulsed = wrong_door.possible_openers(builder, label, since)
    wrong_door.forget_pulses(builder, label)
    if late:
        return
    if pulsed:
        wrong_door.record_wrong_door(builder, label, pulsed)
        return
    board = builder.layout.contact_boards.get(label)
    mates = [
        other
        for other, cell in builder.cells.items()
        if cell.unexplained_since == since
        and board is not None
        and builder.layout.contact_boards.get(other) == board
    ]
    if board is not None and mates:
        for mate in mates:
            builder.change_cell(mate, unexplained_since=None)
        board_faults.contacts_opened(builder, board, [label, *mates])
        return
    _forced(builder, label)


def _forced(builder: StepBuilder, label: str) -> None:
    builder.raise_alarm(Alarm.DOOR_FORCED, label, "opened without a pulse", cell=label)
    contact.doubt(builder, label, contact.FORCED)
    cells.inspect_opened(builder, label)


def at_start(builder: StepBuilder) -> None:
    """At a start: a door whose last change no clock can date counts from now."""
    for label, cell in tuple(builder.cells.items()):
        for name in ("door_since", "open_since"):
            moment = getattr(cell, name)
            if moment is not None and moment.elapsed_ns(builder.now) is None:
                builder.change_cell(label, **{name: builder.now})
        if cell.door is OPEN and cell.open_since is None:  # journaled by a version without `open_since`
            builder.change_cell(label, open_since=builder.cells[label].door_since)


def explain_lasting_openings(builder: StepBuilder) -> None:
    """Finds the causes of the openings that have lasted."""
    for label, cell in tuple(builder.cells.items()):
        since = builder.cells[label].unexplained_since if cell.unexplained_since is not None else None
        if since is not None and _lasted_left_ns(since, builder.now) <= 0:
            _explain_opening(builder, label, since)


def apply_due(builder: StepBuilder) -> None:
    """Explains openings that have lasted; raises and clears alarms that depend on how long a door has been in
    its state."""
    explain_lasting_openings(builder)
    for label, alarm, left_ns in tuple(_pending(builder, builder.now, builder.layout.door_ajar_ns)):
        if left_ns > 0:
            continue
        if alarm is Alarm.DOOR_AJAR:
            builder.raise_alarm(alarm, label, "door open too long", cell=label)
        else:
            builder.clear_alarm(alarm, label, cell=label)


def left_ns(state: LockerState, now: Instant, door_ajar_ns: int) -> list[int]:
    """How long until `apply_due` would act, for each door that is awaited."""
    lasting = [cell.unexplained_since for cell in state.cells.values() if cell.unexplained_since is not None]
    ajar = [left for _, _, left in _pending(state, now, door_ajar_ns)]
    return [*(_lasted_left_ns(since, now) for since in lasting), *ajar]


def _lasted_left_ns(since: Instant, now: Instant) -> int:
    elapsed_ns = since.elapsed_ns(now)
    return 0 if elapsed_ns is None else contact.UNEXPLAINED_NS - elapsed_ns


def _pending(
    state: LockerState | StepBuilder, now: Instant, door_ajar_ns: int
) -> Iterator[tuple[str, Alarm, int]]:
    opened = OPEN  # an enum's member is slow to look up, and every step checks every cell
    for cell in [cell for cell in state.cells.values() if cell.door is opened and cell.answering]:
        if f"{Alarm.DOOR_AJAR}/{cell.label}" not in state.alarms and cell.label not in state.hand_checked:
            yield cell.label, Alarm.DOOR_AJAR, _left(cell.open_since, now, door_ajar_ns)
    for standing in [one for one in state.alarms.values() if one.alarm is Alarm.DOOR_FORCED]:
        cell = state.cells[standing.place]
        if cell.door is Door.CLOSED and cell.answering:
            yield cell.label, Alarm.DOOR_FORCED, _left(cell.door_since, now, FORCED_FORGOTTEN_NS)


def _left(since: Instant | None, now: Instant, limit_ns: int) -> int:
    elapsed_ns = None if since is None else since.elapsed_ns(now)
    return limit_ns - (elapsed_ns or 0)
