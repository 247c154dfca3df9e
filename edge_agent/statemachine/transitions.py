"""The tables of the state machine: the effect of each trigger on a reservation in each phase, and on a cell
in each status.

They are total: every pair has an entry, and a refusal gives its reason. No status changes except by them.

Triggers of a reservation are of three kinds. A *command* (drop-off, pick-up, cancel, abandon, open-door) is
granted or refused; granting an opening only starts an unlock attempt. An *observation* (the door opened for
it, the door closed, a grace ran out) changes the reservation in any case. A *resolution* is a technician's
verdict on a cell whose state no sensor can show; it is granted or refused.

`tools/pages/state_machine` draws these tables into `docs/state-machine.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge_agent.errors import Code
from edge_agent.model import CellStatus, ReservationStatus, Verdict
from edge_agent.statemachine.outputs import FactKind


class Phase(StrEnum):
    """The phase of a reservation: its status, and also none yet, or over."""

    NONE = "none"
    PENDING = "PENDING"
    DROPPED_OFF = "DROPPED_OFF"
    PICKED_UP = "PICKED_UP"
    COMPLETED = "COMPLETED"
    """PICKED_UP, the grace over and the cell released."""
    CANCELLED = "CANCELLED"
    ABANDONED = "ABANDONED"


STATUS: dict[Phase, ReservationStatus] = {
    Phase.PENDING: ReservationStatus.PENDING,
    Phase.DROPPED_OFF: ReservationStatus.DROPPED_OFF,
    Phase.PICKED_UP: ReservationStatus.PICKED_UP,
    Phase.COMPLETED: ReservationStatus.PICKED_UP,
    Phase.CANCELLED: ReservationStatus.CANCELLED,
    Phase.ABANDONED: ReservationStatus.ABANDONED,
}
"""The API's status in each phase."""
LIVE = {
    ReservationStatus(STATUS[phase]): phase for phase in (Phase.PENDING, Phase.DROPPED_OFF, Phase.PICKED_UP)
}
"""The phase of a reservation that holds a cell, by its status."""
OVER = {STATUS[phase]: phase for phase in (Phase.COMPLETED, Phase.CANCELLED, Phase.ABANDONED)}
"""The phase of a reservation that is over, by its last status."""


class Trigger(StrEnum):
    """What can happen to a reservation."""

    RESERVE = "reserve"
    DROPOFF = "drop-off"
    PICKUP = "pick-up"
    CANCEL = "cancel"
    ABANDON = "abandon"
    OPEN_DOOR = "open-door"
    LARGER_CELL = "larger cell"
    DROPOFF_OPENED = "door open for a drop-off"
    PICKUP_OPENED = "door open for a pick-up"
    PICKUP_FAILED = "door did not open for a pick-up"
    DOOR_CLOSED = "door closed"
    FOUND_EMPTY = "door closed, the scale shows an empty cell, and the drop-off stays pending"
    MOVED = "its cell is of no use and another one fits"
    GRACE_OVER = "pick-up grace over, door closed"
    CLEARED = "its cell cleared by hand"
    MOVED_FROM_DOUBT = "the contact of its cell is in doubt and another cell fits"
    DROPOFF_CONFIRMED = "pulsed in doubt for a drop-off, and the contact has stayed closed for 30 s"
    RESOLVED_DROPPED_OFF = "resolved: dropped off"
    RESOLVED_PICKED_UP = "resolved: picked up"
    RESOLVED_STILL_INSIDE = "resolved: still inside"
    RESOLVED_EMPTY = "resolved: empty"


RESOLUTIONS = {
    Verdict.DROPPED_OFF: Trigger.RESOLVED_DROPPED_OFF,
    Verdict.PICKED_UP: Trigger.RESOLVED_PICKED_UP,
    Verdict.STILL_INSIDE: Trigger.RESOLVED_STILL_INSIDE,
    Verdict.EMPTY: Trigger.RESOLVED_EMPTY,
}
"""The trigger of each technician's verdict."""
COMMAND_TRIGGERS = (
    Trigger.RESERVE,
    Trigger.DROPOFF,
    Trigger.PICKUP,
    Trigger.CANCEL,
    Trigger.ABANDON,
    Trigger.OPEN_DOOR,
    Trigger.LARGER_CELL,
)
"""The triggers that are commands: granted or refused."""


class Guard(StrEnum):
    """Conditions besides the phase; `reservation.holds` evaluates them."""

    DROPOFF_HAS_DOOR = "a drop-off opened the door"
    NO_DROPOFF_HAS_DOOR = "no drop-off has the door open"
    NO_DROPOFF_YET = "no drop-off was asked for yet"
    WITHIN_DROPOFF_GRACE = "within the drop-off grace"
    WITHIN_PICKUP_GRACE = "within the pick-up grace"
    DOOR_SEEN_CLOSED = "the door is seen closed"
    NEVER_OPENED = "its cell was never opened since the allocation, or a scale proves it empty"
    CELL_NOT_GIVEN_AGAIN = "its cell was not given to anybody else"
    IN_A_WINDOW = "in one of the five windows"
    ENDS_BY_CLEAR = "no clock can tell whether the grace is over, or it was resolved as still inside"
    CELL_TOO_SMALL = "a drop-off opened its door less than 60 s ago, and no larger cell was given yet"
    NEVER_UNLOCKED = "no pulse for its cell since the allocation, or a scale proves it empty"


WHY_NOT: dict[Guard, str] = {
    Guard.DROPOFF_HAS_DOOR: "no drop-off has opened the door",
    Guard.NO_DROPOFF_HAS_DOOR: "the door was opened for a drop-off and is not closed yet",
    Guard.NO_DROPOFF_YET: "a drop-off was already requested",
    Guard.WITHIN_DROPOFF_GRACE: "the drop-off grace is over",
    Guard.WITHIN_PICKUP_GRACE: "the pick-up grace is over",
    Guard.DOOR_SEEN_CLOSED: "the door is not seen closed",
    Guard.NEVER_OPENED: "its cell was opened since the allocation",
    Guard.CELL_NOT_GIVEN_AGAIN: "its cell was given to another reservation",
    Guard.IN_A_WINDOW: "its cell was given to another reservation",
    Guard.ENDS_BY_CLEAR: "the grace ends by itself",
    Guard.CELL_TOO_SMALL: "a larger cell is given once, within 60 s after the door opened for the drop-off",
    Guard.NEVER_UNLOCKED: "its cell was unlocked since the allocation",
}
"""The reason of a refusal when its guard is not met."""


class CellTrigger(StrEnum):
    """What can happen to a cell's use."""

    TAKEN = "given to a reservation"
    FILLED = "parcel dropped off"
    EMPTIED = "parcel picked up"
    LEFT = "parcel abandoned"
    RETURNED = "its reservation is over"
    VACATED = "its reservation moved to another cell"
    DOUBTED = "nobody saw what a pulse did"
    OPENED = "opened while nobody holds it"
    PROVEN_EMPTY = "closed again, and its scale shows it empty"
    CLEARED = "cleared by hand"


class CellGuard(StrEnum):
    """Conditions on a cell; `cell.holds` evaluates them."""

    ALLOCATABLE = "in order, no unlock at work, and seen closed by a contact and a board that are believed"
    KNOWN_EMPTY = "never opened since the allocation, or proven empty by a scale"
    UNTOUCHED = "known empty, not faulty, and its contact not in doubt"
    UNDOUBTED = "proven empty by a scale, or no unlock of unknown outcome and no scale that shows something"
    ONLY_OPENED = "it awaits inspection only because it was opened"
    SOMETHING_TO_CLEAR = "in need of clearing (faulty, worn, in doubt with its door closed, or forced open)"


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the table: if `guard` holds, the reservation goes to the phase `to`, `fact` is published,
    and its cell gets the trigger `cell` (None: the cell's status stays)."""

    to: Phase
    guard: Guard | None = None
    fact: FactKind | None = None
    cell: CellTrigger | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """One entry: a command is refused, for this reason, and nothing changes."""

    why: str
    code: Code = Code.NOT_ALLOWED


@dataclass(frozen=True, slots=True)
class Nothing:
    """One entry: an observation that changes nothing here, or cannot happen."""

    why: str


@dataclass(frozen=True, slots=True)
class CellRule:
    """One entry for a cell: it goes to `to`, or to `otherwise` if the guard is not met (None: refused)."""

    to: CellStatus
    guard: CellGuard | None = None
    otherwise: CellStatus | None = None


_RULES: dict[tuple[Phase, Trigger], Rule] = {
    (Phase.NONE, Trigger.RESERVE): Rule(
        Phase.PENDING, fact=FactKind.RESERVATION_CREATED, cell=CellTrigger.TAKEN
    ),
    (Phase.PENDING, Trigger.DROPOFF): Rule(Phase.PENDING),
    (Phase.PENDING, Trigger.OPEN_DOOR): Rule(Phase.PENDING, guard=Guard.IN_A_WINDOW),
    (Phase.PENDING, Trigger.LARGER_CELL): Rule(
        Phase.PENDING,
        guard=Guard.CELL_TOO_SMALL,
        fact=FactKind.CELL_STATUS_CHANGED,
        cell=CellTrigger.VACATED,
    ),
    (Phase.PENDING, Trigger.CANCEL): Rule(
        Phase.CANCELLED,
        guard=Guard.NO_DROPOFF_HAS_DOOR,
        fact=FactKind.RESERVATION_CANCELLED,
        cell=CellTrigger.RETURNED,
    ),
    (Phase.PENDING, Trigger.DROPOFF_OPENED): Rule(Phase.PENDING),
    (Phase.PENDING, Trigger.DOOR_CLOSED): Rule(
        Phase.DROPPED_OFF, guard=Guard.DROPOFF_HAS_DOOR, fact=FactKind.DROPOFF, cell=CellTrigger.FILLED
    ),
    (Phase.PENDING, Trigger.FOUND_EMPTY): Rule(Phase.PENDING, guard=Guard.DROPOFF_HAS_DOOR),
    (Phase.PENDING, Trigger.MOVED): Rule(
        Phase.PENDING, guard=Guard.NEVER_OPENED, fact=FactKind.CELL_STATUS_CHANGED, cell=CellTrigger.VACATED
    ),
    (Phase.PENDING, Trigger.MOVED_FROM_DOUBT): Rule(
        Phase.PENDING, guard=Guard.NEVER_UNLOCKED, fact=FactKind.CELL_STATUS_CHANGED, cell=CellTrigger.VACATED
    ),
    (Phase.PENDING, Trigger.DROPOFF_CONFIRMED): Rule(
        Phase.DROPPED_OFF, fact=FactKind.DROPOFF, cell=CellTrigger.FILLED
    ),
    (Phase.PENDING, Trigger.RESOLVED_DROPPED_OFF): Rule(
        Phase.DROPPED_OFF, fact=FactKind.DROPOFF, cell=CellTrigger.FILLED
    ),
    (Phase.PENDING, Trigger.RESOLVED_EMPTY): Rule(Phase.PENDING),
    (Phase.DROPPED_OFF, Trigger.DROPOFF): Rule(Phase.DROPPED_OFF, guard=Guard.WITHIN_DROPOFF_GRACE),
    (Phase.DROPPED_OFF, Trigger.PICKUP): Rule(Phase.DROPPED_OFF),
    (Phase.DROPPED_OFF, Trigger.ABANDON): Rule(
        Phase.ABANDONED, guard=Guard.DOOR_SEEN_CLOSED, fact=FactKind.PICKUP_ABANDONED, cell=CellTrigger.LEFT
    ),
    (Phase.DROPPED_OFF, Trigger.OPEN_DOOR): Rule(Phase.DROPPED_OFF, guard=Guard.IN_A_WINDOW),
    (Phase.DROPPED_OFF, Trigger.DROPOFF_OPENED): Rule(Phase.DROPPED_OFF),
    (Phase.DROPPED_OFF, Trigger.PICKUP_OPENED): Rule(
        Phase.PICKED_UP, fact=FactKind.PICKUP, cell=CellTrigger.EMPTIED
    ),
    (Phase.DROPPED_OFF, Trigger.PICKUP_FAILED): Rule(Phase.DROPPED_OFF, fact=FactKind.PICKUP_FAILED),
    (Phase.DROPPED_OFF, Trigger.RESOLVED_PICKED_UP): Rule(
        Phase.PICKED_UP, fact=FactKind.PICKUP, cell=CellTrigger.EMPTIED
    ),
    (Phase.DROPPED_OFF, Trigger.RESOLVED_STILL_INSIDE): Rule(Phase.DROPPED_OFF),
    (Phase.DROPPED_OFF, Trigger.RESOLVED_EMPTY): Rule(
        Phase.ABANDONED, fact=FactKind.PICKUP_ABANDONED, cell=CellTrigger.LEFT
    ),
    (Phase.PICKED_UP, Trigger.PICKUP): Rule(Phase.PICKED_UP, guard=Guard.WITHIN_PICKUP_GRACE),
    (Phase.PICKED_UP, Trigger.OPEN_DOOR): Rule(Phase.PICKED_UP, guard=Guard.IN_A_WINDOW),
    (Phase.PICKED_UP, Trigger.PICKUP_OPENED): Rule(Phase.PICKED_UP),
    (Phase.PICKED_UP, Trigger.GRACE_OVER): Rule(
        Phase.COMPLETED, fact=FactKind.RESERVATION_COMPLETED, cell=CellTrigger.RETURNED
    ),
    (Phase.PICKED_UP, Trigger.CLEARED): Rule(
        Phase.COMPLETED,
        guard=Guard.ENDS_BY_CLEAR,
        fact=FactKind.RESERVATION_COMPLETED,
        cell=CellTrigger.RETURNED,
    ),
    (Phase.PICKED_UP, Trigger.RESOLVED_STILL_INSIDE): Rule(Phase.PICKED_UP),
    (Phase.PICKED_UP, Trigger.RESOLVED_EMPTY): Rule(
        Phase.COMPLETED, fact=FactKind.RESERVATION_COMPLETED, cell=CellTrigger.RETURNED
    ),
    (Phase.COMPLETED, Trigger.OPEN_DOOR): Rule(Phase.COMPLETED, guard=Guard.IN_A_WINDOW),
}

_WHY: dict[tuple[Phase, Trigger], str] = {
    (Phase.PENDING, Trigger.PICKUP): "nothing was dropped off yet",
    (Phase.PENDING, Trigger.ABANDON): "nothing was dropped off yet; it can be cancelled",
    (Phase.DROPPED_OFF, Trigger.LARGER_CELL): "the parcel was dropped off already",
    (Phase.PICKED_UP, Trigger.LARGER_CELL): "the parcel was picked up already",
    (Phase.DROPPED_OFF, Trigger.CANCEL): "the parcel was dropped off; it can be abandoned",
    (Phase.PICKED_UP, Trigger.DROPOFF): "the parcel was picked up already",
    (Phase.PICKED_UP, Trigger.CANCEL): "the parcel was picked up already",
    (Phase.PICKED_UP, Trigger.ABANDON): "the parcel was picked up already",
    (Phase.PENDING, Trigger.RESOLVED_PICKED_UP): "nothing was dropped off yet",
    (
        Phase.PENDING,
        Trigger.RESOLVED_STILL_INSIDE,
    ): "nothing was dropped off yet; if a parcel is inside, it was dropped off",
    (Phase.DROPPED_OFF, Trigger.RESOLVED_DROPPED_OFF): "it was dropped off already",
    (Phase.PICKED_UP, Trigger.RESOLVED_DROPPED_OFF): "the parcel was picked up already",
    (Phase.PICKED_UP, Trigger.RESOLVED_PICKED_UP): "the parcel was picked up already",
    **{
        (Phase.COMPLETED, command): "the reservation is over: picked up, and the cell is free again"
        for command in COMMAND_TRIGGERS
    },
    **{(Phase.CANCELLED, command): "it is over: cancelled" for command in COMMAND_TRIGGERS},
    **{(Phase.ABANDONED, command): "it is over: abandoned" for command in COMMAND_TRIGGERS},
    **{
        (phase, Trigger.RESERVE): "the reservation exists already"
        for phase in Phase
        if phase is not Phase.NONE
    },
}

_NOTHING: dict[tuple[Phase, Trigger], str] = {
    (Phase.PENDING, Trigger.PICKUP_FAILED): "a pick-up is not granted here",
    (Phase.PENDING, Trigger.PICKUP_OPENED): "a pick-up is not granted here",
    (Phase.PENDING, Trigger.GRACE_OVER): "no pick-up grace runs",
    (Phase.PENDING, Trigger.CLEARED): "the reservation stays",
    (Phase.DROPPED_OFF, Trigger.DOOR_CLOSED): "dropped off already",
    (Phase.DROPPED_OFF, Trigger.DROPOFF_CONFIRMED): "dropped off already",
    (Phase.DROPPED_OFF, Trigger.MOVED_FROM_DOUBT): "a parcel is not moved",
    (Phase.PICKED_UP, Trigger.DROPOFF_CONFIRMED): "a drop-off is not granted here",
    (Phase.PICKED_UP, Trigger.MOVED_FROM_DOUBT): "a parcel is not moved",
    (Phase.DROPPED_OFF, Trigger.FOUND_EMPTY): "dropped off already",
    (Phase.DROPPED_OFF, Trigger.MOVED): "a parcel is not moved",
    (Phase.DROPPED_OFF, Trigger.GRACE_OVER): "no pick-up grace runs",
    (Phase.DROPPED_OFF, Trigger.CLEARED): "the reservation stays",
    (Phase.PICKED_UP, Trigger.DROPOFF_OPENED): "a drop-off is not granted here",
    (Phase.PICKED_UP, Trigger.PICKUP_FAILED): "picked up already; the attempt to open again is only answered",
    (Phase.PICKED_UP, Trigger.DOOR_CLOSED): "the grace decides",
    (Phase.PICKED_UP, Trigger.FOUND_EMPTY): "the grace decides",
    (Phase.PICKED_UP, Trigger.MOVED): "a parcel is not moved",
}


def _entry(phase: Phase, trigger: Trigger) -> Rule | Refused | Nothing:
    if (phase, trigger) in _RULES:
        return _RULES[phase, trigger]
    if trigger in COMMAND_TRIGGERS:
        if phase is Phase.NONE:
            return Refused("no such reservation", Code.NOT_FOUND)
        return Refused(_WHY[phase, trigger])
    if trigger in RESOLUTIONS.values():
        return Refused(_WHY.get((phase, trigger), "no reservation holds the cell"))
    if phase in (Phase.NONE, Phase.COMPLETED, Phase.CANCELLED, Phase.ABANDONED):
        return Nothing("no reservation holds the cell")
    return Nothing(_NOTHING[phase, trigger])


TABLE: dict[tuple[Phase, Trigger], Rule | Refused | Nothing] = {
    (phase, trigger): _entry(phase, trigger) for phase in Phase for trigger in Trigger
}
"""Reservations: every phase and every trigger."""


@dataclass(frozen=True, slots=True)
class Window:
    """One of the API reference's five windows in which a door may be opened out of band."""

    number: int
    name: str
    phases: tuple[Phase, ...]
    guard: Guard | None = None


WINDOWS = (
    Window(1, "cell allocation", (Phase.PENDING,), Guard.NO_DROPOFF_YET),
    Window(2, "drop-off grace", (Phase.PENDING, Phase.DROPPED_OFF), Guard.WITHIN_DROPOFF_GRACE),
    Window(3, "awaiting pick-up", (Phase.DROPPED_OFF,)),
    Window(4, "pick-up grace", (Phase.PICKED_UP,), Guard.WITHIN_PICKUP_GRACE),
    Window(
        5,
        "until the cell is given again",
        (Phase.PENDING, Phase.PICKED_UP, Phase.COMPLETED),
        Guard.CELL_NOT_GIVEN_AGAIN,
    ),
)
"""API reference, "Open Door (Out-of-Band)", Time Window Constraints."""


_CELL_RULES: dict[tuple[CellStatus, CellTrigger], CellRule] = {
    (CellStatus.IDLE, CellTrigger.TAKEN): CellRule(CellStatus.RESERVED, CellGuard.ALLOCATABLE),
    (CellStatus.IDLE, CellTrigger.DOUBTED): CellRule(CellStatus.AWAITING_INSPECTION),
    (CellStatus.RESERVED, CellTrigger.FILLED): CellRule(CellStatus.OCCUPIED),
    (CellStatus.RESERVED, CellTrigger.RETURNED): CellRule(
        CellStatus.IDLE, CellGuard.KNOWN_EMPTY, CellStatus.AWAITING_INSPECTION
    ),
    (CellStatus.RESERVED, CellTrigger.VACATED): CellRule(
        CellStatus.IDLE, CellGuard.UNTOUCHED, CellStatus.AWAITING_INSPECTION
    ),
    (CellStatus.IDLE, CellTrigger.OPENED): CellRule(CellStatus.AWAITING_INSPECTION),
    (CellStatus.AWAITING_INSPECTION, CellTrigger.PROVEN_EMPTY): CellRule(
        CellStatus.IDLE, CellGuard.ONLY_OPENED, CellStatus.AWAITING_INSPECTION
    ),
    (CellStatus.OCCUPIED, CellTrigger.EMPTIED): CellRule(CellStatus.IN_GRACE),
    (CellStatus.OCCUPIED, CellTrigger.LEFT): CellRule(CellStatus.AWAITING_CLEANUP),
    (CellStatus.IN_GRACE, CellTrigger.RETURNED): CellRule(
        CellStatus.IDLE, CellGuard.UNDOUBTED, CellStatus.AWAITING_INSPECTION
    ),
    **{
        (s, CellTrigger.DOUBTED): CellRule(s)
        for s in (CellStatus.RESERVED, CellStatus.OCCUPIED, CellStatus.IN_GRACE)
    },
    **{
        (s, CellTrigger.CLEARED): CellRule(s, CellGuard.SOMETHING_TO_CLEAR)
        for s in (CellStatus.IDLE, CellStatus.RESERVED, CellStatus.OCCUPIED, CellStatus.IN_GRACE)
    },
    **{
        (s, CellTrigger.DOUBTED): CellRule(s)
        for s in (CellStatus.AWAITING_CLEANUP, CellStatus.AWAITING_INSPECTION)
    },
    **{
        (s, CellTrigger.CLEARED): CellRule(CellStatus.IDLE)
        for s in (CellStatus.AWAITING_CLEANUP, CellStatus.AWAITING_INSPECTION)
    },
}


def _cell_entry(status: CellStatus, trigger: CellTrigger) -> CellRule | Refused | Nothing:
    if (status, trigger) in _CELL_RULES:
        return _CELL_RULES[status, trigger]
    if trigger is CellTrigger.TAKEN:
        return Refused(f"the cell is {status}", Code.NO_CELL)
    return Nothing(f"no reservation can do this to a cell that is {status}")


CELL_TABLE: dict[tuple[CellStatus, CellTrigger], CellRule | Refused | Nothing] = {
    (status, trigger): _cell_entry(status, trigger) for status in CellStatus for trigger in CellTrigger
}
"""Cells: every status and every trigger."""


class Flag(StrEnum):
    """Flags of a cell besides its status; either takes it out of allocation."""

    BLOCKED = "blocked"
    FAULTY = "faulty"


class FlagTrigger(StrEnum):
    """What sets and clears the flags of a cell."""

    BLOCK = "block"
    UNBLOCK = "unblock"
    FAULT = "no movement, or another door moved"
    LOCK_OPENED = "the lock opened"
    CLEARED = "cleared by hand"


FLAG_TABLE: dict[tuple[Flag, bool, FlagTrigger], bool | Refused] = {
    (Flag.BLOCKED, False, FlagTrigger.BLOCK): True,
    (Flag.BLOCKED, True, FlagTrigger.BLOCK): Refused("it is blocked already"),
    (Flag.BLOCKED, False, FlagTrigger.UNBLOCK): Refused("it is not blocked"),
    (Flag.BLOCKED, True, FlagTrigger.UNBLOCK): False,
    (Flag.FAULTY, False, FlagTrigger.FAULT): True,
    (Flag.FAULTY, True, FlagTrigger.FAULT): True,
    (Flag.FAULTY, False, FlagTrigger.LOCK_OPENED): False,
    (Flag.FAULTY, True, FlagTrigger.LOCK_OPENED): False,
    (Flag.FAULTY, False, FlagTrigger.CLEARED): False,
    (Flag.FAULTY, True, FlagTrigger.CLEARED): False,
}
"""Flags: the effect of each trigger. A trigger that is not here leaves a flag as it is. LOCK_OPENED is not
applied while WRONG_DOOR stands for the cell (`cell.lock_works`)."""
