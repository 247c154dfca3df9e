"""All inputs of a locker: commands, observations, the passing of time, a start.

A `request_key` is the id of a command (`request_id` in its message), or the machine's own key for what was
asked at the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.model import (
    Alarm,
    Door,
    Packaging,
    Purpose,
    Reservation,
    ReservationStatus,
    Severity,
    Source,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Reserve:
    """Reserve a cell. `candidate_codes` are random, distinct and of the machine's number of digits."""

    request_key: str
    reservation_id: str
    platform: str
    platform_order_id: str
    packaging: Packaging
    candidate_codes: tuple[str, ...]
    notes: str = ""
    webhook_url: str = ""
    eta_minutes: int | None = None
    grace_pickup_s: int = 120
    grace_dropoff_s: int = 120
    accessible: bool = False
    """Only a cell within reach of a person in a wheelchair (`CellSpec.low`) suits."""
    ended: ReservationStatus | None = None
    """The last status of an ended reservation with this id; the loop reads it from the journal."""
    expires_ns: int | None = None
    """CLOCK_BOOTTIME after which it must not act."""


@dataclass(frozen=True, slots=True)
class OpenForReservation:
    """A drop-off, pick-up or open-door by reservation id.

    `reason`, `platform_reference_id` and `x_request_id` come with an open-door only. `ended` is the last
    status of a reservation that is over, None if it never existed; the loop fills it in. `expires_ns` is
    CLOCK_BOOTTIME after which it must not act.
    """

    request_key: str
    reservation_id: str
    purpose: Purpose
    unlock_id: str
    expires_ns: int
    reason: str = ""
    platform_reference_id: str = ""
    x_request_id: str | None = None
    ended: ReservationStatus | None = None


@dataclass(frozen=True, slots=True)
class EnterCode:
    """Digits typed at the kiosk or the text of a QR code."""

    request_key: str
    text: str = field(repr=False)
    unlock_id: str
    entered_ns: int | None = None
    """CLOCK_BOOTTIME of the entry at the kiosk; None: now."""
    actor: str = ""
    """The credential that was shown in place of the code."""


ENTRY_LIFE_NS = 30 * 10**9
"""How long an entry at the kiosk, or a technician's request, may act: after that the person has gone."""


@dataclass(frozen=True, slots=True)
class LargerCell:
    """The person at the kiosk, whose drop-off has opened a door, asks for a larger cell. `ended`: see
    `OpenForReservation`."""

    request_key: str
    reservation_id: str
    unlock_id: str
    asked_ns: int | None = None
    """CLOCK_BOOTTIME of the request; None: now."""
    ended: ReservationStatus | None = None


@dataclass(frozen=True, slots=True)
class OpenCell:
    """A technician opens a cell, or tests its lock (`purpose` SELF_TEST), for the given reason."""

    request_key: str
    cell: str
    reason: str
    unlock_id: str
    actor: str = ""
    purpose: Purpose = Purpose.TECHNICIAN
    asked_ns: int | None = None
    """CLOCK_BOOTTIME of the technician's request; None: now."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a reservation before anything was dropped off. `ended`, `expires_ns`: see `OpenForReservation`."""

    request_key: str
    reservation_id: str
    expires_ns: int | None = None
    ended: ReservationStatus | None = None


@dataclass(frozen=True, slots=True)
class Abandon:
    """The customer will not fetch the parcel. `ended`, `expires_ns`: see `OpenForReservation`."""

    request_key: str
    reservation_id: str
    expires_ns: int | None = None
    ended: ReservationStatus | None = None


@dataclass(frozen=True, slots=True)
class RequestMaintenance:
    """Request maintenance of a cell, or of the machine if `cell` is None."""

    request_key: str
    maintenance_ticket_id: str
    description: str
    severity: Severity
    cell: str | None = None
    block: bool = False
    """Take the cell out of allocation at once."""
    expires_ns: int | None = None


@dataclass(frozen=True, slots=True)
class BlockCell:
    """Take a cell out of allocation."""

    request_key: str
    cell: str
    reason: str
    source: Source = Source.API
    expires_ns: int | None = None
    actor: str = ""
    """The name of the technician who acts."""


@dataclass(frozen=True, slots=True)
class UnblockCell:
    """Return a blocked cell to allocation."""

    request_key: str
    cell: str
    source: Source = Source.API
    expires_ns: int | None = None
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Clear:
    """A person has checked the cell: it is empty and in order."""

    request_key: str
    cell: str
    source: Source = Source.MACHINE
    expires_ns: int | None = None
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Resolve:
    """A technician states what is true of a cell in doubt, or of one whose last unlock has no certain
    outcome."""

    request_key: str
    cell: str
    verdict: Verdict
    source: Source = Source.MACHINE
    expires_ns: int | None = None
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Tare:
    """A technician confirms that a free cell is empty: the present reading of its scale becomes zero."""

    request_key: str
    cell: str
    source: Source = Source.MACHINE
    expires_ns: int | None = None
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Restore:
    """A technician lets lost reservations hold their cells again; with none of them he starts empty.

    `reservations` come from the gateway; `place` has the cells that it reported wrongly, by reservation id.
    When nothing is lost any more, `place` alone corrects the cell of a restored one.
    """

    request_key: str
    reservations: tuple[Reservation, ...] = ()
    place: Mapping[str, str] = field(default_factory=dict)
    actor: str = ""


@dataclass(frozen=True, slots=True)
class HistoryLost:
    """The journal is new, and there are signs of an earlier one."""

    why: str


@dataclass(frozen=True, slots=True)
class HistoryAhead:
    """Another party knows of more than the journal holds: it may be an older copy."""

    why: str


@dataclass(frozen=True, slots=True)
class HistoryCompared:
    """The gateway has reported what it holds of this machine.

    `new_journal_id` is the journal's new id if the gateway holds more than the journal; None: it does not,
    and the machine continues. `reservations`: cell and status of those that the gateway counts as live, by
    id.
    """

    reservations: Mapping[str, tuple[str, ReservationStatus]]
    new_journal_id: str | None = None
    journal_id: str = ""
    """The journal's present id."""


@dataclass(frozen=True, slots=True)
class DoorRead:
    """The fresh reading that an unlock attempt requested before its first pulse."""

    unlock_id: str
    door: Door


@dataclass(frozen=True, slots=True)
class PulseDone:
    """A pulse was sent and the door watched; or the pulse was too late and not sent (`sent` False).

    `door` is the state of the door at the end of the watch; it means nothing if the pulse was not sent.
    `acknowledged` is False if the board should have answered the pulse and did not, or answered that it is
    busy: the lock may not have been energised. Any other refusal counts as acknowledged.
    """

    unlock_id: str
    pulse_number: int
    door: Door
    sent: bool = True
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class DoorsChanged:
    """Doors whose confirmed state differs from the last report, or that are confirmed for the first time.
    From any reading: poll, watch or fresh one."""

    doors: Mapping[str, Door]


@dataclass(frozen=True, slots=True)
class ClosingSettled:
    """Every reading of a door for 600 ms was closed, for the first time since it was read open, its board was
    silent, or the daemon started.

    `since_ns` is CLOCK_BOOTTIME of the first of these readings; the effects of the closing have that date.
    """

    cell: str
    since_ns: int


@dataclass(frozen=True, slots=True)
class Weighed:
    """The settled reading of a cell's scale, in grams, before any tare.

    None: it no longer answers, or (`error`) it answers that it cannot weigh.
    """

    cell: str
    mass_g: int | None
    error: bool = False


@dataclass(frozen=True, slots=True)
class TemperatureMeasured:
    """The temperature in a cell, in degrees Celsius; None: its sensor is lost."""

    cell: str
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """A device began or stopped answering; `cells` are those whose doors it reads."""

    device: str
    answering: bool
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition outside the core has begun or ended: a lost port, a full disk, an invalid command."""

    alarm: Alarm
    place: str
    stands: bool
    detail: str = ""

    @property
    def key(self) -> str:
        """The key of its alarm in the state."""
        return f"{self.alarm}/{self.place}"


@dataclass(frozen=True, slots=True)
class HandCheck:
    """A person starts or stops opening these cells by hand to check their wiring: that puts no contact in
    doubt, and raises no alarm of a forced door or of one that is open for long."""

    cells: tuple[str, ...]
    running: bool


@dataclass(frozen=True, slots=True)
class Boot:
    """The daemon starts: outputs are off; fresh readings of every door (UNKNOWN: no answer)."""

    doors: Mapping[str, Door]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; everything that is due happens now."""


AnsweredInput = (
    Reserve
    | OpenForReservation
    | OpenCell
    | EnterCode
    | LargerCell
    | Cancel
    | Abandon
    | RequestMaintenance
    | BlockCell
    | UnblockCell
    | Clear
    | Resolve
    | Tare
    | Restore
)
"""Inputs that get an `Answer`: commands, entries at the kiosk, and what technicians ask for."""
Observation = (
    DoorRead
    | PulseDone
    | DoorsChanged
    | ClosingSettled
    | Weighed
    | TemperatureMeasured
    | DeviceHealth
    | Condition
    | HandCheck
    | HistoryLost
    | HistoryAhead
    | HistoryCompared
    | Boot
    | Tick
)
Input = AnsweredInput | Observation
