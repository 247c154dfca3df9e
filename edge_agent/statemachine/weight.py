"""What scales say: evidence beside the doors, never a gate, unless it is configured to hold an empty
drop-off.

A weight counts from the closing of the door on; an open door makes it unknown. A scale that does not answer,
or takes too long to settle, says nothing and holds nothing up.
"""

from __future__ import annotations

from edge_agent.model import Alarm, Cell, Door, Instant
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.turn import Turn

PATIENCE_NS = 5 * 10**9
"""How long after a door was closed its scale is waited for."""


def weighed(turn: Turn, label: str, mass_g: int | None) -> bool | None:
    """A scale has told what lies in a cell. Returns whether that is nothing; None where it counts for
    nothing."""
    cell = turn.cells[label]
    if mass_g is None or cell.door is not Door.CLOSED or label not in turn.layout.weighed:
        if cell.mass_g is not None:
            turn.change_cell(label, mass_g=None, empty=None)
        return None
    empty = mass_g < turn.layout.empty_below_g
    if cell.mass_g is None:
        turn.change_cell(label, mass_g=mass_g, empty=empty)
    elif abs(mass_g - cell.mass_g) > turn.layout.weight_change_g:
        if cell.reservation_id is not None:
            changed = f"{cell.mass_g} g became {mass_g} g behind the closed door"
            turn.raise_alarm(Alarm.WEIGHT_CHANGED, label, changed, cell=label)
        turn.change_cell(label, mass_g=mass_g, empty=empty)
    elif cell.empty is not empty:
        turn.change_cell(label, empty=empty)
    return empty


def empty_dropoff(turn: Turn, label: str) -> None:
    """A drop-off was closed, and there is nothing behind the door."""
    turn.raise_alarm(Alarm.EMPTY_DROPOFF, label, "closed after a drop-off without a parcel", cell=label)


def left_behind(turn: Turn, label: str) -> None:
    """The pick-up grace is over: tells if something is still there."""
    cell = turn.cells[label]
    if cell.empty is False:
        turn.raise_alarm(Alarm.PARCEL_LEFT_BEHIND, label, f"{cell.mass_g} g left behind", cell=label)


def waits_ns(layout: Layout, cell: Cell, now: Instant) -> int:
    """How long a closed cell's scale is still waited for; 0 or less: it has told, or is not waited for."""
    if cell.label not in layout.weighed or cell.mass_g is not None or cell.door_since is None:
        return 0
    elapsed_ns = cell.door_since.elapsed_ns(now)
    return 0 if elapsed_ns is None else PATIENCE_NS - elapsed_ns
