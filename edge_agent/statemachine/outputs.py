"""The results of a step: effects to carry out, facts to publish, answers to send."""

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
    """Read this door with a request sent after this effect; the result comes back as `DoorRead`.

    A reading that fails is retried until shortly before `expires_ns` (CLOCK_BOOTTIME; None: no limit from the
    sender); on a board that already counts as silent it is tried
    three times only.
    """

    unlock_id: str
    cell: str
    expires_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PulseLock:
    """Energise this lock once and watch its door; the result comes back as `PulseDone`.

    Carried out at most once, and only after the intent is on disk. Never again after a restart, and not after
    `expires_ns` (CLOCK_BOOTTIME; None: no limit from the sender).
    """

    unlock_id: str
    cell: str
    pulse_number: int
    expires_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Weigh:
    """Weigh a cell after its door was closed; the settled result comes back as `Weighed`."""

    cell: str


@dataclass(frozen=True, slots=True)
class SetClimate:
    """Keep a cell's heater or cooler on from now on, or keep both off; never both on."""

    cell: str
    heating: bool
    cooling: bool


Effect = ReadDoor | PulseLock | Weigh | SetClimate


class FactKind(StrEnum):
    """The kinds of fact that are published."""

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
    """Something that happened, and when. It goes into the outbox in the transaction that writes the changed
    state."""

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
    x_request_id: str | None = None
    """The X-Request-ID of the open-door's request."""
    platform_reference_id: str | None = None
    maintenance_ticket_id: str | None = None
    description: str | None = None
    severity: Severity | None = None
    alarm: Alarm | None = None
    device: str | None = None
    actor: str | None = None
    """The name of the technician who acted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request: the reservation and cell as they stand now, or a refusal.

    `accepted` is set for an open-door: the time, and the X-Request-ID under which its outcome will be
    published.
    """

    request_key: str
    reservation: Reservation | None = None
    cell: str | None = None
    refusal: Refusal | None = None
    accepted: tuple[str, Instant] | None = None
    maintenance: tuple[str, Instant] | None = None
    """The id of the new maintenance ticket, and its time."""
    tare_g: int | None = None
    """For a tare: the scale's reading of the empty cell."""


@dataclass(frozen=True, slots=True)
class UnlockRecord:
    """A line of the unlock ledger: one intent (`outcome` None) or its outcome."""

    unlock_id: str
    pulse_number: int
    cell: str
    reservation_id: str
    purpose: str
    source: Source
    request_key: str | None
    at: Instant
    outcome: UnlockOutcome | None
    pulsed: bool | None = None
    """Whether a pulse was given, for an outcome; None if unknown, and for an intent."""
    reason: str = ""
    """Why, in the caller's words."""
    actor: str = ""
    """The name of the technician who acted, or the credential that was shown."""


@dataclass(frozen=True, slots=True)
class TemperatureRecord:
    """A line of the temperature log: what was reported of a cell while its climate was at work for a
    reservation.

    Degrees Celsius; `temperature_c` None: the sensor is lost. `limit_c` bounds from above if the cell is to
    be cold, from below if hot. `output` is what was commanded when the reading came.
    """

    reservation_id: str
    at: Instant
    temperature_c: float | None
    setpoint_c: float
    limit_c: float
    need: Literal["cold", "hot"]
    door: Door
    output: Literal["off", "heating", "cooling"]
