"""The values of the second model: parcels, cells, unlock attempts, and how time is measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edge_agent.model import CellSpec, Door, Instant, Packaging, Purpose
from edge_agent.model import CellStatus as Use
from edge_agent.model import ReservationStatus as S

SECOND = 10**9
INVALID, EXPIRED, UNKNOWN_ID, FULL, NOT_NOW, INTERNAL = 3, 4, 5, 8, 9, 13
OFFLINE = 14
Codes = frozenset[int]
GRANTED: Codes = frozenset({0})
MOVES = 3
CONDITIONS = ("DEVICE_SILENT", "BUS_DOWN", "SENSOR_FAULT", "CLOCK_UNSYNCED", "STORAGE_FAULT")


class Refused(Exception):
    """Refused, with one of these codes; nothing has changed."""

    def __init__(self, *codes: int) -> None:
        super().__init__(codes)
        self.codes = frozenset(codes)


@dataclass(eq=False)
class Parcel:
    """A reservation."""

    rid: str
    size: Packaging
    cell: str
    grace_dropoff_s: int
    grace_pickup_s: int
    drop_off_code: str = ""
    pickup_code: str = ""
    status: S = S.PENDING
    grace_unknown: bool = False
    """No clock shows when its grace began."""
    over: bool = False
    first_dropoff: Instant | None = None
    picked_up: Instant | None = None
    dropping: bool = False
    """A drop-off has the door open."""
    to_weigh: bool = False
    """The door was closed after a drop-off, and the scale has not reported yet."""
    held: bool = False
    """A technician resolved it as still inside."""
    too_small: str = ""
    """The cell that was exchanged for a larger one."""
    codes_used: set[Purpose] = field(default_factory=set)
    """Purposes whose code has opened the door once, and forgave wrong entries."""


@dataclass(eq=False)
class Place:
    """A cell, its door and its lock."""

    spec: CellSpec
    holder: Parcel | None = None
    last: Parcel | None = None
    """The completed reservation that had the cell last, until the cell is given again."""
    awaits: Use | None = None
    door: Door = Door.UNKNOWN
    since: Instant | None = None
    open_since: Instant | None = None
    """When the door was first read open after it had last settled closed."""
    answering: bool = False
    opened: bool = False
    unlocked: bool = False
    """A pulse has opened it since the allocation, or may have."""
    outcome_unknown: bool = False
    """The outcome of a pulse is unknown: the cell is inspected before it is given again."""
    inspect_unless_empty: bool = False
    """It awaits inspection unless a scale shows it empty."""
    uncertain: bool = False
    """Its last outcome is NO_MOVEMENT or UNKNOWN."""
    settled: bool = False
    """The door is closed, and every reading for 600 ms was."""
    closing_unseen: bool = False
    """It closed unobserved."""
    opened_by_machine: bool = False
    """This machine opened the door, and it has not settled closed since."""
    unexplained: Instant | None = None
    """When it opened without a cause; judged after 200 ms."""
    contact_doubted: bool = False
    by_hand: bool = False
    """A person moves the door by hand to check its wiring."""
    quiet_ns: int | None = None
    changes_ns: list[int] = field(default_factory=list)
    failing: bool = False
    """Its lock failed, and no lock of its board has opened since."""
    board_down: bool = False
    opened_rightly: bool = False
    """A technician's `open` has moved it since WRONG_DOOR was raised."""
    awaited: AwaitedClosing | None = None
    blocked: bool = False
    faulty: bool = False
    worn: bool = False
    mass_g: int | None = None
    """The last weight behind the closed door, less tare and drift."""
    tare_g: int = 0
    drift_g: int = 0
    empty: bool | None = None
    pulses: int = 0
    recent: list[int] = field(default_factory=list)
    """When this lock was pulsed in this boot."""
    unspent: list[int] = field(default_factory=list)
    """Those pulses that have not opened the door: one of them may still do so late."""
    pulsed_for: Attempt | None = None
    """The attempt of the last pulse."""
    unread: bool = False
    """Not read since the start."""

    @property
    def use(self) -> Use:
        """The use of the cell follows from its reservation."""
        if self.holder is not None:
            return {S.PENDING: Use.RESERVED, S.DROPPED_OFF: Use.OCCUPIED, S.PICKED_UP: Use.IN_GRACE}[
                self.holder.status
            ]
        return self.awaits or Use.IDLE

    @property
    def free(self) -> bool:
        """Whether it may be allocated, as far as the cell itself is concerned."""
        closed = self.answering and self.door is Door.CLOSED
        in_order = not self.blocked and not self.faulty and not self.contact_doubted and not self.board_down
        return self.use is Use.IDLE and closed and in_order


@dataclass(eq=False)
class Attempt:
    """An unlock attempt, in one of the core's stages."""

    uid: str
    key: str | None
    parcel: Parcel
    purpose: Purpose
    kiosk: bool
    expires_ns: int | None
    cell: str
    stage: str = "waiting"
    attempt: int = 0
    counted: int = 0
    """How many pulses the board has acknowledged."""
    doubtful: bool = False
    """The door read open before the pulse, without a known cause."""
    began_ns: int | None = None
    stopped: bool = False
    wrong: list[str] = field(default_factory=list)
    """Doors that its pulses seem to have opened instead."""
    moves: int = 0
    actor: str = ""
    reported: bool = False
    """The event of an opening by hand was published."""


@dataclass(eq=False)
class AwaitedClosing:
    """A lock was pulsed in doubt; a closing of the door concludes the command."""

    parcel: Parcel
    purpose: Purpose
    kiosk: bool
    since: Instant
    closed: Instant | None = None


@dataclass(eq=False)
class Standing:
    """An alarm, and since when its condition is gone."""

    since: Instant
    gone: Instant | None = None


@dataclass(eq=False)
class Guessing:
    """Invalid entries of one way in."""

    recent: list[Instant] = field(default_factory=list)
    wrong: list[Instant] = field(default_factory=list)
    """All of the last day."""
    long: bool = False
    rests: int = 0
    since: Instant | None = None
    last: Instant | None = None


def elapsed_ns(then: Instant, now: Instant) -> int | None:
    """Nanoseconds since then; None if no clock shows them."""
    if then.boot_id == now.boot_id:
        return now.boottime_ns - then.boottime_ns
    return max(0, round((now.wall_s - then.wall_s) * 1e9)) if then.synced and now.synced else None


def has_more_room(one: CellSpec, other: CellSpec) -> bool:
    """Whether everything that goes into the other cell goes into this one, which is not of the same size."""
    floors = [sorted((spec.width_mm, spec.depth_mm)) for spec in (one, other)]
    (narrow, long), (other_narrow, other_long) = floors
    roomy = narrow >= other_narrow and long >= other_long and one.height_mm >= other.height_mm
    return roomy and (floors[0] != floors[1] or one.height_mm > other.height_mm)


def within(since: Instant | None, seconds: int, now: Instant) -> bool:
    """Whether at most these seconds have passed since then; not if no clock shows it."""
    passed = None if since is None else elapsed_ns(since, now)
    return passed is not None and passed <= seconds * SECOND


def redated(since: Instant, now: Instant) -> Instant:
    """The same moment on the clock of this boot; now if no clock shows it."""
    passed = elapsed_ns(since, now)
    if passed is None:
        return now
    return replace(since, boot_id=now.boot_id, boottime_ns=now.boottime_ns - passed)


def dated(since: Instant, now: Instant) -> Instant:
    """A moment of this boot gets its date once the clock is synchronised."""
    if since.boot_id != now.boot_id or since.synced or not now.synced:
        return since
    return replace(since, synced=True, wall_s=now.wall_s - (now.boottime_ns - since.boottime_ns) / 1e9)
