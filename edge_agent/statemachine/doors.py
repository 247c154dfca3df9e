"""Doors that do what nobody asked for: forced open, opened by another lock's pulse, left ajar.

None of this moves a reservation. A door that opens while another cell's lock is being pulsed may be the wrong
one: then no further pulse is given for that wish, and both cells are out of allocation until somebody looked.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.model import Alarm, Cell, Door, Instant
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine import unlocking
from edge_agent.statemachine.state import LockerState
from edge_agent.statemachine.turn import Turn

FORCED_FORGOTTEN_NS = 10 * 60 * 10**9
"""A forced door's alarm clears when the door has been closed so long."""
OPEN = Door.OPEN


def opened_unasked(turn: Turn, label: str) -> None:
    """A door has opened that no ticket is at work on."""
    if unlocking.opened_late(turn, label):
        return
    suspects = [t for t in turn.tickets.values() if t.stage == "pulsing" and t.cell != label]
    if not suspects:
        turn.raise_alarm(Alarm.DOOR_FORCED, label, "opened without a pulse", cell=label)
        return
    for ticket in suspects:
        turn.change_ticket(ticket, stopped=True)
        why = f"door {label} opened while the lock of {ticket.cell} was pulsed"
        for faulty in (ticket.cell, label):
            maintenance_id = unlocking.maintenance_id(ticket, faulty)
            cells.mark_faulty(turn, faulty, why, Alarm.WRONG_DOOR, maintenance_id)


def begin_anew(turn: Turn) -> None:
    """At a start: a door of which no clock can tell since when it is as it is, counts from now."""
    for label, place in tuple(turn.cells.items()):
        if place.door_since is not None and place.door_since.elapsed_ns(turn.now) is None:
            turn.change_cell(label, door_since=turn.now)


def what_is_due(turn: Turn) -> None:
    """Raises and clears what depends on how long a door has been as it is."""
    for label, alarm, left_ns in tuple(_pending(turn, turn.now, turn.layout.door_ajar_ns)):
        if left_ns > 0:
            continue
        if alarm is Alarm.DOOR_AJAR:
            turn.raise_alarm(alarm, label, "door open too long", cell=label)
        else:
            turn.clear_alarm(alarm, label, cell=label)


def left_ns(state: LockerState, now: Instant, door_ajar_ns: int) -> list[int]:
    """How long until `what_is_due` would do something, for each door that is waited for."""
    return [left for _, _, left in _pending(state, now, door_ajar_ns)]


def _pending(state: LockerState | Turn, now: Instant, door_ajar_ns: int) -> Iterator[tuple[str, Alarm, int]]:
    opened = OPEN  # an enum's member is slow to look up, and this looks at every cell at every step
    for place in [place for place in state.cells.values() if place.door is opened and place.answering]:
        if f"{Alarm.DOOR_AJAR}/{place.label}" not in state.alarms:
            yield place.label, Alarm.DOOR_AJAR, _left(place, now, door_ajar_ns)
    for standing in [one for one in state.alarms.values() if one.alarm is Alarm.DOOR_FORCED]:
        place = state.cells[standing.place]
        if place.door is Door.CLOSED and place.answering:
            yield place.label, Alarm.DOOR_FORCED, _left(place, now, FORCED_FORGOTTEN_NS)


def _left(place: Cell, now: Instant, limit_ns: int) -> int:
    elapsed_ns = None if place.door_since is None else place.door_since.elapsed_ns(now)
    return limit_ns - (elapsed_ns or 0)
