"""What a step asks for: effects to carry out, facts to tell, answers to give."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge_agent.errors import Refusal
from edge_agent.model import Alarm, CellStatus, Instant, Reservation, Source, UnlockOutcome


@dataclass(frozen=True, slots=True)
class ReadDoor:
    """Read this door anew, with a request sent after this effect; the result comes back as `DoorRead`."""

    unlock_id: str
    cell: str


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


Effect = ReadDoor | PulseLock


class FactKind(StrEnum):
    """What can be told to the cloud."""

    RESERVATION_CREATED = "RESERVATION_CREATED"
    DROPOFF = "DROPOFF"
    PICKUP = "PICKUP"
    PICKUP_FAILED = "PICKUP_FAILED"
    RESERVATION_CANCELLED = "RESERVATION_CANCELLED"
    RESERVATION_COMPLETED = "RESERVATION_COMPLETED"
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
    alarm: Alarm | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender of a request gets: the reservation and cell as they stand now, or a refusal."""

    request_key: str
    reservation: Reservation | None = None
    cell: str | None = None
    refusal: Refusal | None = None


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
