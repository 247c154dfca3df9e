"""Statuses, outcomes, events and error codes in words: the source of the tables in the field manual and in
`docs/integrate.md`, and of `edge-agent explain`.

Texts are Markdown, as in `edge_agent.cli.explain.alarms`.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.errors import Code
from edge_agent.model import CellStatus, ReservationStatus, UnlockOutcome
from edge_agent.protocol.events import EventType


@dataclass(frozen=True, slots=True)
class WordText:
    """A status or an event in words."""

    means: str
    do: str
    """What a technician does."""


@dataclass(frozen=True, slots=True)
class CodeText:
    """An error code in words."""

    means: str
    repeat: str
    """Whether a platform repeats the request."""
    do: str
    """What a technician does who meets it at the machine."""


STATUSES: dict[CellStatus, WordText] = {
    CellStatus.IDLE: WordText(
        "no reservation holds the cell",
        "nothing; it is allocated unless it is blocked or faulty, or its door is not seen closed",
    ),
    CellStatus.RESERVED: WordText(
        "its reservation is PENDING: the parcel has not been dropped off",
        "nothing; if the parcel is inside all the same: see [A cell in doubt](#a-cell-in-doubt)",
    ),
    CellStatus.OCCUPIED: WordText(
        "its reservation is DROPPED_OFF: the parcel is inside",
        "nothing; if the parcel is gone: see [A cell in doubt](#a-cell-in-doubt)",
    ),
    CellStatus.IN_GRACE: WordText(
        "its reservation is PICKED_UP: within the pick-up grace the same code opens the door again",
        "nothing; after the grace, close the door if it is open",
    ),
    CellStatus.AWAITING_CLEANUP: WordText(
        "its reservation was abandoned, and the parcel is still inside",
        "`edge-agent open CELL --reason TEXT`, take the parcel out, close the door, `edge-agent clear CELL`",
    ),
    CellStatus.AWAITING_INSPECTION: WordText(
        "nothing proves that the cell is empty: it is not allocated",
        "`edge-agent open CELL --reason TEXT`, look inside, close the door, `edge-agent clear CELL`",
    ),
}
"""Every status of a cell."""

RESERVATIONS: dict[ReservationStatus, WordText] = {
    ReservationStatus.PENDING: WordText(
        "the reservation holds a cell; no parcel has been dropped off", "nothing"
    ),
    ReservationStatus.DROPPED_OFF: WordText("the parcel is in the cell and waits for its pick-up", "nothing"),
    ReservationStatus.PICKED_UP: WordText(
        "the door was opened for the customer; after the pick-up grace the cell is free",
        "nothing; if the parcel is still inside: `edge-agent open CELL --reason TEXT`",
    ),
    ReservationStatus.CANCELLED: WordText(
        "the reservation is over before its drop-off: it was cancelled, or the drop-off came too late",
        "nothing",
    ),
    ReservationStatus.ABANDONED: WordText(
        "the reservation is over, and its parcel is still in the cell", "as under AWAITING_CLEANUP"
    ),
}
"""Every status of a reservation."""

OUTCOMES: dict[UnlockOutcome, WordText] = {
    UnlockOutcome.OPENED: WordText("the lock was pulsed and the door opened", "nothing"),
    UnlockOutcome.ALREADY_OPEN: WordText("the door was open already; no pulse was given", "nothing"),
    UnlockOutcome.NO_MOVEMENT: WordText(
        "the lock was pulsed and the door did not open", "as under LOCK_JAMMED"
    ),
    UnlockOutcome.UNKNOWN: WordText(
        "nothing proves whether the door opened",
        "look into the cell, state what is inside (`edge-agent resolve CELL`)",
    ),
}
"""Every outcome of an unlock attempt."""

EVENTS: dict[EventType, WordText] = {
    EventType.RESERVATION_CREATED: WordText("a reservation was given a cell", "nothing"),
    EventType.DROPOFF: WordText("the parcel is in the cell and the door is closed", "nothing"),
    EventType.PICKUP: WordText("the door was opened for the customer", "nothing"),
    EventType.PICKUP_FAILED: WordText(
        "the lock was pulsed and the door did not open",
        "look into the cell, state what is inside (`edge-agent resolve CELL`); then as under LOCK_JAMMED",
    ),
    EventType.RESERVATION_CANCELLED: WordText(
        "it was cancelled, or its drop-off came too late",
        "nothing; a cell that was opened before awaits inspection",
    ),
    EventType.PICKUP_ABANDONED: WordText(
        "the parcel was abandoned and waits for a technician", "as under AWAITING_CLEANUP"
    ),
    EventType.RESERVATION_COMPLETED: WordText("the pick-up grace is over and the cell is free", "nothing"),
    EventType.OPEN_DOOR_FULFILLED: WordText(
        "the outcome of an open-door call",
        "nothing if it is OPENED or ALREADY_OPEN; after NO_MOVEMENT or UNKNOWN look into the cell",
    ),
    EventType.MAINTENANCE_REQUESTED: WordText(
        "a maintenance ticket was opened; its description gives the reason",
        "what the description asks for; `edge-agent diagnose` shows the next step",
    ),
    EventType.CELL_STATUS_CHANGED: WordText(
        "a cell has another status, or was blocked or faulty or is no longer; its cause gives the reason",
        "as under its status",
    ),
    EventType.ALARM_RAISED: WordText("an alarm stands", "as under its name"),
    EventType.ALARM_CLEARED: WordText("an alarm does not stand any more", "nothing"),
}
"""Every event."""

LOCAL_EVENTS: dict[str, WordText] = {
    "CONFIGURATION_INIT": WordText(
        "the machine started with a file that `edge-agent init` wrote; the user is who ran it", "nothing"
    ),
    "CONFIGURATION_START": WordText(
        "the machine started with another configuration than before", "nothing, if somebody changed the file"
    ),
    "CONFIGURATION_RELOAD": WordText(
        "`edge-agent reload` or SIGHUP put a changed configuration to use; the row has the changes", "nothing"
    ),
    "CONFIGURATION_REMOTE": WordText(
        "an operator has set keys remotely, and they are on trial; the row has the changes, and who did it",
        "nothing; `edge-agent service-commands` shows what came of it",
    ),
    "CONFIGURATION_REVERT": WordText(
        "the changed configuration failed, and the one before is in use again; the row gives the reason",
        "correct the file, `edge-agent check --config FILE`, `edge-agent reload`; remote settings are for "
        "the operator to correct",
    ),
}
"""What `edge-agent events` shows beside the events and the ledger; it stays on the machine."""

CODES: dict[Code, CodeText] = {
    Code.INVALID_ARGUMENT: CodeText(
        "a field is wrong; `details` names its path", "no", "correct what the message names"
    ),
    Code.EXPIRED: CodeText(
        "the machine did not answer in time",
        "with the same `X-Request-ID`",
        "enter the code again; if it happens often: `edge-agent diagnose`, `edge-agent bus stats`",
    ),
    Code.NOT_FOUND: CodeText(
        "no such reservation, machine or cell of yours",
        "no",
        "compare the name with `edge-agent cells` and `edge-agent reservations`",
    ),
    Code.PERMISSION_DENIED: CodeText(
        "the key is wrong",
        "no",
        "use the right name and PIN, and an account that is not a kiosk's; "
        "see [Access rights](#access-rights)",
    ),
    Code.NO_CELL: CodeText(
        "no free cell fits, or too many requests",
        "later, unless `details` have NOTHING_FITS; `Retry-After` if it is a limit",
        "`edge-agent cells`: free those that are blocked, faulty or await somebody",
    ),
    Code.NOT_ALLOWED: CodeText(
        "the reservation's status does not allow it; the message says why",
        "no",
        "read the message; `edge-agent events --order ID` shows what happened before",
    ),
    Code.NOT_BUILT: CodeText("not part of this version", "no", "compare the versions: `edge-agent status`"),
    Code.INTERNAL: CodeText(
        "the door did not open, or a fault; the message says which",
        "look at the reservation first",
        "`edge-agent alarms`, `edge-agent diagnose`; see [A cell in doubt](#a-cell-in-doubt)",
    ),
    Code.OFFLINE: CodeText(
        "the machine has no connection; codes at the kiosk work on",
        "with the same `X-Request-ID`",
        "`edge-agent status` shows the broker, `edge-agent diagnose` what is wrong with it",
    ),
    Code.UNAUTHENTICATED: CodeText(
        "no key", "no", "give a technician's PIN; see [Access rights](#access-rights)"
    ),
}
"""Every error code."""
