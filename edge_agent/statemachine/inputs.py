"""Everything that can happen to a locker: wishes, observations, the passing of time, a start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.model import Door, Packaging, Purpose, ReservationStatus


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
    ended: ReservationStatus | None = None
    """The status of a reservation of this id that is over; the loop fills it in from the journal."""
    expires_ns: int | None = None
    """CLOCK_BOOTTIME after which it must not act."""


@dataclass(frozen=True, slots=True)
class OpenFor:
    """A drop-off or pick-up by reservation id.

    `ended` is the status of a reservation that is over, None if it never was; the loop fills it in.
    `expires_ns` is CLOCK_BOOTTIME after which it must not act.
    """

    request_key: str
    reservation_id: str
    purpose: Purpose
    unlock_id: str
    expires_ns: int
    ended: ReservationStatus | None = None


@dataclass(frozen=True, slots=True)
class EnterCode:
    """Digits typed at the kiosk or the text of a QR code."""

    request_key: str
    text: str = field(repr=False)
    unlock_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give a reservation up before anything was dropped off. `ended`, `expires_ns`: see `OpenFor`."""

    request_key: str
    reservation_id: str
    expires_ns: int | None = None
    ended: ReservationStatus | None = None


@dataclass(frozen=True, slots=True)
class Clear:
    """Somebody looked into the cell: it is empty and in order."""

    request_key: str
    cell: str


@dataclass(frozen=True, slots=True)
class DoorRead:
    """The fresh reading that a ticket asked for before its first pulse."""

    unlock_id: str
    door: Door


@dataclass(frozen=True, slots=True)
class PulseDone:
    """A pulse was given and the door watched. `door` is what stood at the end of the watching.

    `given` is False for a pulse that came too late and was therefore never sent.
    """

    unlock_id: str
    attempt: int
    door: Door
    given: bool = True


@dataclass(frozen=True, slots=True)
class DoorsSeen:
    """Doors whose reading differs from the last one told, or that are read for the first time."""

    doors: Mapping[str, Door]


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """A device began or ceased to answer; `cells` are those whose doors it reads."""

    device: str
    answering: bool
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Boot:
    """The daemon starts: outputs are off, these are fresh readings of every door (UNKNOWN: no answer)."""

    doors: Mapping[str, Door]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; whatever is due happens now."""


Command = Reserve | OpenFor | EnterCode | Cancel | Clear
Observation = DoorRead | PulseDone | DoorsSeen | DeviceHealth | Boot | Tick
Input = Command | Observation
