"""The vocabulary of the program: identifiers, statuses and the parts of a locker.

Reservation and API words are those of the delivery locker API; units are at the end of a name (`_mm`, `_g`,
`_s`, `_ns`). A field or argument `cell` of type `str` holds the label of a cell. Everything here is
immutable, so a state can be shared and compared freely.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal
from unicodedata import decimal


class ReservationStatus(StrEnum):
    """The status of a reservation; the values are the API's."""

    PENDING = "RESERVATION_STATUS_PENDING"
    DROPPED_OFF = "RESERVATION_STATUS_DROPPED_OFF"
    PICKED_UP = "RESERVATION_STATUS_PICKED_UP"
    CANCELLED = "RESERVATION_STATUS_CANCELLED"
    ABANDONED = "RESERVATION_STATUS_ABANDONED"


class CellStatus(StrEnum):
    """The use of a cell; blocked and faulty are separate flags."""

    IDLE = "IDLE"
    RESERVED = "RESERVED"
    OCCUPIED = "OCCUPIED"
    IN_GRACE = "IN_GRACE"
    AWAITING_CLEANUP = "AWAITING_CLEANUP"
    AWAITING_INSPECTION = "AWAITING_INSPECTION"


class Occupancy(StrEnum):
    """How full a machine is; bounds in percent are those of the API reference."""

    LOW = "OCCUPANCY_STATUS_LOW"
    MEDIUM = "OCCUPANCY_STATUS_MEDIUM"
    HIGH = "OCCUPANCY_STATUS_HIGH"
    OVERLOADED = "OCCUPANCY_STATUS_OVERLOADED"


class Door(StrEnum):
    """A door as its contact reads. UNKNOWN means that the board did not answer, never a third position."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"


class UnlockOutcome(StrEnum):
    """The outcome of an unlock attempt. UNKNOWN: the door could not be read, or its contact is in doubt; it
    may or may not have moved."""

    OPENED = "OPENED"
    ALREADY_OPEN = "ALREADY_OPEN"
    NO_MOVEMENT = "NO_MOVEMENT"
    UNKNOWN = "UNKNOWN"


class Purpose(StrEnum):
    """Why a door is being unlocked."""

    DROPOFF = "dropoff"
    PICKUP = "pickup"
    OPEN_DOOR = "open-door"
    """Out of band, for support: does not move the reservation."""
    TECHNICIAN = "technician"
    """A technician opens a cell, whichever reservation holds it: does not move the reservation."""
    SELF_TEST = "self-test"
    """A technician tests lock and contact; only on a cell that no reservation holds."""


TECHNICIAN_PURPOSES = frozenset({Purpose.TECHNICIAN, Purpose.SELF_TEST})
"""A technician's own purposes: they concern a cell, not a reservation."""


class Verdict(StrEnum):
    """A technician's verdict on a cell in doubt (`edge-agent resolve`)."""

    DROPPED_OFF = "dropped-off"
    PICKED_UP = "picked-up"
    STILL_INSIDE = "still-inside"
    EMPTY = "empty"


class Source(StrEnum):
    """Who caused something: a request to the API or a person at the kiosk."""

    API = "SOURCE_TYPE_API"
    MACHINE = "SOURCE_TYPE_MACHINE"


class Severity(StrEnum):
    """How urgent a maintenance request is; the values are the API's."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class CellCause(StrEnum):
    """Why a cell changed, apart from the course of its reservation."""

    RELEASED = "RELEASED"
    """Its reservation is over and a person has to check it."""
    MOVED = "MOVED"
    """A reservation with nothing in its cell was given another one."""
    FAULT = "FAULT"
    REPAIRED = "REPAIRED"
    """The lock that was jammed opened again."""
    DOUBT = "DOUBT"
    """The outcome of a pulse could not be read."""
    BLOCKED = "BLOCKED"
    UNBLOCKED = "UNBLOCKED"
    CLEARED = "CLEARED"
    OPENED = "OPENED"
    """It was opened while no reservation held it: a person has to check it."""
    PROVEN_EMPTY = "PROVEN_EMPTY"
    """Its scale shows that nothing was left in it when it was opened."""
    RESOLVED = "RESOLVED"
    """A technician stated what is in it."""
    BOARD = "BOARD"
    """Its fault was its board's, and is now recorded there."""
    LOST = "LOST"
    """The journal was lost: the content of the cell is unknown."""
    RESTORED = "RESTORED"
    """A lost reservation holds it again; its content is not verified."""
    TARED = "TARED"
    """The present reading of its scale was taken as zero."""


class Alarm(StrEnum):
    """A condition that an operator has to know; raised once, cleared once."""

    DOOR_AJAR = "DOOR_AJAR"
    DOOR_FORCED = "DOOR_FORCED"
    WRONG_DOOR = "WRONG_DOOR"
    DEVICE_SILENT = "DEVICE_SILENT"
    LOCK_JAMMED = "LOCK_JAMMED"
    CLOCK_UNSYNCED = "CLOCK_UNSYNCED"
    CODE_GUESSING = "CODE_GUESSING"
    BUS_DOWN = "BUS_DOWN"
    STORAGE_FAULT = "STORAGE_FAULT"
    COMMAND_REJECTED = "COMMAND_REJECTED"
    EMPTY_DROPOFF = "EMPTY_DROPOFF"
    PARCEL_LEFT_BEHIND = "PARCEL_LEFT_BEHIND"
    WEIGHT_CHANGED = "WEIGHT_CHANGED"
    SENSOR_FAULT = "SENSOR_FAULT"
    CLIMATE_NO_EFFECT = "CLIMATE_NO_EFFECT"
    TEMPERATURE_OUT_OF_RANGE = "TEMPERATURE_OUT_OF_RANGE"
    LINK_REFUSED = "LINK_REFUSED"
    """The link to the cloud cannot be made: our credentials or the broker's were refused."""
    JOURNAL_LOST = "JOURNAL_LOST"
    """The journal does not hold what this machine did before: nothing is granted until `restore`."""
    DEVICE_FAULT = "DEVICE_FAULT"
    """A whole board does not work: several of its locks failed, or its contacts changed at once."""
    CERTIFICATE_EXPIRES = "CERTIFICATE_EXPIRES"
    """The machine's certificate for the broker ends soon, and could not be renewed."""


CELL_ALARMS = frozenset(
    {
        Alarm.DOOR_AJAR,
        Alarm.DOOR_FORCED,
        Alarm.WRONG_DOOR,
        Alarm.LOCK_JAMMED,
        Alarm.EMPTY_DROPOFF,
        Alarm.PARCEL_LEFT_BEHIND,
        Alarm.WEIGHT_CHANGED,
        Alarm.SENSOR_FAULT,
        Alarm.CLIMATE_NO_EFFECT,
        Alarm.TEMPERATURE_OUT_OF_RANGE,
    }
)
"""Alarms whose place is a cell."""


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks of one boot.

    `boottime_ns` is CLOCK_BOOTTIME and only comparable within one `boot_id`; `wall_s` is Unix time, valid
    across boots only when `synced`.
    """

    boot_id: str
    boottime_ns: int
    wall_s: float
    synced: bool

    def elapsed_ns(self, now: Instant) -> int | None:
        """Nanoseconds from this moment to `now`; None if no clock can measure them."""
        if self.boot_id == now.boot_id:
            return now.boottime_ns - self.boottime_ns
        if self.synced and now.synced:
            return max(0, round((now.wall_s - self.wall_s) * 1e9))
        return None


@dataclass(frozen=True, slots=True)
class CellSpec:
    """A cell as built; inside lengths in millimetres, the weight limit in grams."""

    label: str
    cell_id: str
    width_mm: int
    height_mm: int
    depth_mm: int
    max_mass_g: int
    heating: bool = False
    cooling: bool = False
    weight_sensor: bool = False
    low: bool = False
    """Whether a person in a wheelchair reaches it (EN 301 549, 8.3)."""

    @property
    def volume_mm3(self) -> int:
        """Inside volume in cubic millimetres."""
        return self.width_mm * self.height_mm * self.depth_mm


@dataclass(frozen=True, slots=True)
class Packaging:
    """A parcel's requirements; millimetres and grams. The parcel stays upright (its height is vertical)."""

    width_mm: int
    height_mm: int
    depth_mm: int
    mass_g: int = 0
    heating_required: bool = False
    cooling_required: bool = False

    def fits(
        self,
        width_mm: int,
        height_mm: int,
        depth_mm: int,
        *,
        heating: bool,
        cooling: bool,
        max_mass_g: int | None,
    ) -> bool:
        """Whether the parcel fits into a cell, upright and turned freely about the vertical axis, gets its
        climate there and is not too heavy. `max_mass_g` None: the limit is not known."""
        if self.height_mm > height_mm or (max_mass_g is not None and self.mass_g > max_mass_g):
            return False
        if (self.heating_required and not heating) or (self.cooling_required and not cooling):
            return False
        straight = self.width_mm <= width_mm and self.depth_mm <= depth_mm
        turned = self.width_mm <= depth_mm and self.depth_mm <= width_mm
        return straight or turned


@dataclass(frozen=True, slots=True)
class Reservation:
    """One parcel's stay. `first_dropoff`, `dropped_off`, `picked_up` are moments on the machine's clocks."""

    reservation_id: str
    platform: str
    platform_order_id: str
    packaging: Packaging
    cell: str
    drop_off_code: str
    pickup_code: str
    created: Instant
    status: ReservationStatus = ReservationStatus.PENDING
    notes: str = ""
    webhook_url: str = ""
    eta_minutes: int | None = None
    grace_pickup_s: int = 120
    grace_dropoff_s: int = 120
    first_dropoff: Instant | None = None
    dropoff_opened: bool = False
    """The door is open for a drop-off: when it closes, the parcel is dropped off."""
    to_be_weighed: bool = False
    """The door has been closed after a drop-off, and the scale has not yet settled."""
    dropped_off: Instant | None = None
    picked_up: Instant | None = None
    grace_unknown: bool = False
    """No clock shows when its grace began: it may end in time, but it opens no door."""
    recovered: bool = False
    """The drop-off was concluded at a start, from a door that was journaled open and is now closed."""
    held: bool = False
    """A technician stated that the parcel is still inside: its cell is not freed before `clear`."""
    codes_opened: tuple[Purpose, ...] = ()
    """Which of its two codes have opened the door by a pulse."""
    accessible: bool = False
    """It gets a cell within reach of a person in a wheelchair (`CellSpec.low`)."""
    larger_than: str = ""
    """The cell that was too small for the parcel, and was exchanged for a larger one; empty: none was."""


UnlockStage = Literal["waiting", "reading", "pulsing", "unresolved"]


@dataclass(frozen=True, slots=True)
class UnlockAttempt:
    """One unlock attempt, from the acceptance of its command to its outcome.

    `waiting`: in the queue for a free place; `reading`: a fresh reading of the door was requested; `pulsing`:
    the intent for pulse number `pulse_number` is journaled; `unresolved`: that pulse may have been given, and
    the door could not be read since. The next reading of the door decides.
    """

    unlock_id: str
    reservation_id: str
    """Empty if a technician opens the cell."""
    cell: str
    purpose: Purpose
    source: Source
    stage: UnlockStage
    expires_ns: int | None
    """CLOCK_BOOTTIME after which the command never acts; None: no limit. After a restart an
    attempt without an intent is ended, and one with an intent is not pulsed again."""
    pulse_number: int = 0
    """The number of its last intended pulse, from 1; 0: none yet."""
    pulses_counted: int = 0
    """How many of its pulses count towards a jam: only acknowledged ones if the board acknowledges."""
    read_open_before: bool = False
    """The door read open before the pulse although this machine did not open it: the outcome is UNKNOWN."""
    other_door_opened: bool = False
    """Another door opened at one of its pulses: no further pulse is given."""
    wrong_doors: tuple[str, ...] = ()
    """The labels of the cells whose doors opened at its pulses."""
    request_key: str | None = None
    """The request to answer with the outcome (for an open-door: to name in the event); None: no caller
    waits."""
    reason: str = ""
    """Why the door is opened, in the caller's words."""
    platform_reference_id: str = ""
    x_request_id: str | None = None
    """The X-Request-ID of an open-door, which its event repeats."""
    other_cells_tried: int = 0
    """How often the reservation was given another cell during this attempt."""
    first_pulse_ns: int | None = None
    """CLOCK_BOOTTIME of the first pulse."""
    actor: str = ""
    """The name of the technician who acts, or the credential that was shown."""
    reported: bool = False
    """The event of a technician's opening was already published."""


@dataclass(frozen=True, slots=True)
class Block:
    """Why a cell is blocked, and the maintenance ticket that blocked it, if any."""

    reason: str
    maintenance_ticket_id: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as it stands now. `door` is the last journaled observation."""

    label: str
    status: CellStatus = CellStatus.IDLE
    reservation_id: str | None = None
    door: Door = Door.UNKNOWN
    door_since: Instant | None = None
    """When `door` was first read in its present state."""
    open_since: Instant | None = None
    """When the door was first read open after it had last settled closed; None while it is settled closed."""
    answering: bool = False
    """The board of this cell's door answered its last request."""
    unread: bool = False
    """The door has not been read since the start: what happened before is unknown."""
    settled: bool = False
    """The door is closed, and every reading for 600 ms was; see `ClosingSettled`."""
    closing_unseen: bool = False
    """The door closed unobserved: at a start, or while its board was silent."""
    opened_by_unlock: bool = False
    """This machine opened the door (journaled), and it has not settled closed since."""
    unexplained_since: Instant | None = None
    """When it opened without a known cause; judged when it has been open for 200 ms."""
    contact_doubt: str | None = None
    """Why its contact is in doubt; None: it is believed."""
    quiet_from_ns: int | None = None
    """CLOCK_BOOTTIME of its last pulse or closing: changes of the contact shortly after are bounces."""
    changes_ns: tuple[int, ...] = ()
    """CLOCK_BOOTTIME of the last changes of the contact that are not bounces."""
    opened_since_allocation: bool = False
    unlocked_since_allocation: bool = False
    """A lock's pulse has opened it since its allocation, or may have."""
    outcome_unknown: bool = False
    """An unlock of unknown outcome happened: a person must check the cell before it is allocated again."""
    unverified: bool = False
    """Its reservation was restored after the journal was lost, and its content has not been verified."""
    blocked: Block | None = None
    faulty: str | None = None
    inspect_unless_empty: bool = False
    """It was opened by an unknown person: it awaits inspection, unless a scale shows it empty."""
    last_outcome: UnlockOutcome | None = None
    """The outcome of its last unlock, if it was NO_MOVEMENT or UNKNOWN and has not been resolved since."""
    failing: bool = False
    """Its lock did not move, and no lock of the same board has opened since."""
    board_down: bool = False
    """DEVICE_FAULT stands for the board of its lock or of its contact."""
    opened_rightly: bool = False
    """A technician's `open` has moved this door since WRONG_DOOR was raised."""
    pulse_count: int = 0
    """How often this lock has been pulsed: the measure of wear."""
    usual_open_us: int | None = None
    """The mean time from the first pulse to the open door over many openings, in microseconds."""
    recent_open_us: int | None = None
    """The same over the last few openings."""
    mass_g: int | None = None
    """The last weight since the door was closed, less `zero_g`; None while unknown."""
    empty: bool | None = None
    """Whether the weight proves the cell empty; None while unknown."""
    worn: bool = False
    """The lock became slow, and maintenance was requested."""
    tare_g: int = 0
    """The reading of its scale when empty, as a technician set it."""
    drift_g: int = 0
    """How far that has drifted since."""

    @property
    def zero_g(self) -> int:
        """The expected reading of the empty scale."""
        return self.tare_g + self.drift_g


_WORD = {Purpose.DROPOFF: "DROP", Purpose.PICKUP: "PICK"}
_TEXT = re.compile(r"DLV-(DROP|PICK)-([A-Za-z0-9_]{1,128})-([0-9]{1,9})", re.ASCII)


def qr_text(purpose: Purpose, reservation_id: str, code: str) -> str:
    """The text that a QR code holds, as in the API reference: `DLV-DROP-res_789-1234`."""
    return f"DLV-{_WORD[purpose]}-{reservation_id}-{code}"


def plain_digits(text: str) -> str:
    """The text with decimal digits of every script (full-width, Arabic-Indic, …) as 0 to 9."""
    if text.isascii():
        return text
    return "".join(str(decimal(character)) if character.isdecimal() else character for character in text)


def parse_qr(text: str) -> tuple[Purpose, str, str] | None:
    """Purpose, reservation id and code of a QR text; None if it is not one."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    purpose = Purpose.DROPOFF if match[1] == "DROP" else Purpose.PICKUP
    return purpose, match[2], match[3]
