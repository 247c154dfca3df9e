"""What a step asks for: effects to carry out, facts to tell, answers to give."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from edge_agent.errors import Refusal
from edge_agent.model import (
    Alarm,
    CellCause,
    CellStatus,
    Door,
    Instant,
    Reservation,
    Severity,
    Source,
    UnlockOutcome,
)


@dataclass(frozen=True, slots=True)
class ReadDoor:
    """Read this door anew, with a request sent after this effect; the result comes back as `DoorRead`.

    A reading that fails is tried again until `expires_ns` (CLOCK_BOOTTIME; None: no limit of the sender's).
    """

    unlock_id: str
    cell: str
    expires_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PulseLock:
    """Energise this lock once and watch its door; the result comes back as `PulseDone`.

    Carried out at most once, and only after the intent is on disk. Never again after a restart, and not after
    `expires_ns` (CLOCK_BOOTTIME; None: no limit of the sender's).
    """

    unlock_id: str
    cell: str
    attempt: int
    expires_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Weigh:
    """Weigh a cell anew, now that its door is closed; the settled result comes back as `Weighed`."""

    cell: str


@dataclass(frozen=True, slots=True)
class SetClimate:
    """Keep a cell's heater or cooler on from now on, or keep both off; never both on."""

    cell: str
    heating: bool
    cooling: bool


Effect = ReadDoor | PulseLock | Weigh | SetClimate


class FactKind(StrEnum):
    """What can be told to the cloud."""

    RESERVATION_CREATED = "RESERVATION_CREATED"
    DROPOFF = "DROPOFF"
    PICKUP = "PICKUP"
    PICKUP_FAILED = "PICKUP_FAILED"
    RESERVATION_CANCELLED = "RESERVATION_CANCELLED"
    PICKUP_ABANDONED = "PICKUP_ABANDONED"
    RESERVATION_COMPLETED = "RESERVATION_COMPLETED"
    OPEN_DOOR_FULFILLED = "OPEN_DOOR_FULFILLED"
    MAINTENANCE_REQUESTED = "MAINTENANCE_REQUESTED"
    CELL_STATUS_CHANGED = "CELL_STATUS_CHANGED"
    ALARM_RAISED = "ALARM_RAISED"
    ALARM_CLEARED = "ALARM_CLEARED"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened, and when. Goes into the outbox in the transaction that made it true."""

    kind: FactKind
    at: Instant
    source: Source = Source.MACHINE
    reservation: Reservation | None = None
    cell: str | None = None
    request_key: str | None = None
    outcome: UnlockOutcome | None = None
    reason: str | None = None
    recovered: bool = False
    status: CellStatus | None = None
    blocked: bool | None = None
    faulty: bool | None = None
    cause: CellCause | None = None
    echo_id: str | None = None
    """The X-Request-ID that an open-door was asked for with."""
    platform_reference_id: str | None = None
    maintenance_ticket_id: str | None = None
    description: str | None = None
    severity: Severity | None = None
    alarm: Alarm | None = None
    device: str | None = None
    actor: str | None = None
    """The name of the technician who did it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender of a request gets: the reservation and cell as they stand now, or a refusal.

    `accepted` is set for an open-door: when it was, and the X-Request-ID under which its outcome will be
    told.
    """

    request_key: str
    reservation: Reservation | None = None
    cell: str | None = None
    refusal: Refusal | None = None
    accepted: tuple[str, Instant] | None = None
    maintenance: tuple[str, Instant] | None = None
    """The id of the maintenance ticket that was made, and when."""
    tare_g: int | None = None
    """Of a tare: what the scale reads of an empty cell."""


@dataclass(frozen=True, slots=True)
class UnlockRecord:
    """A line of the ledger of unlocks: one intent (`outcome` None) or what became of it."""

    unlock_id: str
    attempt: int
    cell: str
    reservation_id: str
    purpose: str
    source: Source
    request_key: str | None
    at: Instant
    outcome: UnlockOutcome | None
    pulsed: bool | None = None
    """Of an outcome: whether a pulse was given; None where nobody knows, and of an intent."""
    reason: str = ""
    """Why, in the words of who asked."""
    actor: str = ""
    """The name of the technician whose act it is."""


@dataclass(frozen=True, slots=True)
class TemperatureRecord:
    """A line of the temperature log: what was told of a cell while its climate was at work for a reservation.

    Degrees Celsius; `temperature_c` None: the sensor is lost. `limit_c` bounds from above where the cell is
    to be cold, from below where hot. `output` is what was commanded when the reading came.
    """

    reservation_id: str
    at: Instant
    temperature_c: float | None
    setpoint_c: float
    limit_c: float
    need: Literal["cold", "hot"]
    door: Door
    output: Literal["off", "heating", "cooling"]
