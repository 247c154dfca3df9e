"""The state of a whole locker, and the layout, which never changes while the daemon runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edge_agent.model import Alarm, Cell, CellSpec, Instant, Purpose, Reservation, Source, UnlockAttempt
from edge_agent.statemachine.codes.retired import RetiredCodes

Need = Literal["cold", "hot"]
"""A parcel's climate in its cell."""


@dataclass(frozen=True, slots=True)
class Regime:
    """How a cell is kept cold, or hot. All temperatures in degrees Celsius.

    The cooler comes on at `setpoint_c` + `band_c` and goes off at `setpoint_c` - `band_c`; a heater the other
    way round. Food may be beyond `limit_c` for `allowed_ns`. An output that has moved the temperature by less
    than `least_change_c` in `no_effect_ns` is without effect.
    """

    need: Need
    setpoint_c: float
    band_c: float
    min_on_ns: int
    min_off_ns: int
    limit_c: float
    allowed_ns: int
    precondition_ns: int
    no_effect_ns: int
    least_change_c: float


@dataclass(frozen=True, slots=True)
class Regimes:
    """A cell's abilities: keep cold, keep hot, or either."""

    cold: Regime | None = None
    hot: Regime | None = None

    def of(self, need: Need) -> Regime | None:
        """The regime for a need; None if the cell cannot."""
        return self.cold if need == "cold" else self.hot


def kinds_of(specs: Mapping[str, CellSpec]) -> tuple[tuple[CellSpec, tuple[str, ...]], ...]:
    """The distinct sizes, abilities and weight limits: one cell of each, and the labels of all of them."""
    kinds: dict[tuple[object, ...], list[str]] = {}
    for label, spec in specs.items():
        size = (spec.width_mm, spec.height_mm, spec.depth_mm, spec.max_mass_g)
        abilities = (spec.heating, spec.cooling, spec.weight_sensor, spec.low)
        kinds.setdefault((*size, *abilities), []).append(label)
    return tuple((specs[labels[0]], tuple(labels)) for labels in kinds.values())


@dataclass(frozen=True, slots=True)
class Layout:
    """The cells as built and the rules of opening them, from the configuration."""

    specs: Mapping[str, CellSpec]
    max_pulses: int = 3
    """How many pulses one unlock attempt may give."""
    max_concurrent_unlocks: int = 2
    duty_pulses: int = 6
    duty_window_ns: int = 10 * 10**9
    code_digits: int = 4
    door_ajar_ns: int = 120 * 10**9
    weighed: frozenset[str] = frozenset()
    """Cells with a scale that is in use."""
    empty_below_g: int = 50
    """A cell with a smaller weight counts as empty."""
    weight_change_g: int = 100
    """A bigger difference behind a closed door raises WEIGHT_CHANGED."""
    drift_max_g: int = 300
    """A scale's zero may drift at most this far from its tare."""
    hold_empty_dropoff: bool = False
    """A drop-off that the scale finds empty leaves the reservation PENDING."""
    lock_boards: Mapping[str, str] = field(default_factory=dict)
    """The device of each cell's lock."""
    contact_boards: Mapping[str, str] = field(default_factory=dict)
    """The device of each cell's door contact."""
    thermometers: frozenset[str] = frozenset()
    """Cells with a temperature sensor."""
    climate: Mapping[str, Regimes] = field(default_factory=dict)
    """Cells with a heater or cooler."""
    kinds: tuple[tuple[CellSpec, tuple[str, ...]], ...] = field(init=False, repr=False, compare=False)
    """The result of `kinds_of`, computed once."""

    def __post_init__(self) -> None:
        """Groups the cells by kind."""
        object.__setattr__(self, "kinds", kinds_of(self.specs))


@dataclass(frozen=True, slots=True)
class StandingAlarm:
    """An alarm that has been raised and not yet cleared.

    `place` is a cell's label, a part of a cell (`A01/scale`), a device, or empty.
    """

    alarm: Alarm
    place: str
    since: Instant
    detail: str = ""
    count: int = 1
    """How often its condition has begun while it stood: a flapping condition is one alarm with a count."""
    gone: Instant | None = None
    """Since when its condition has been gone; the alarm is cleared when that has lasted."""


def cell_of(place: str) -> str:
    """The cell's label in a place that is a cell or a part of one."""
    return place.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Pulses:
    """The recent pulses of one lock, on CLOCK_BOOTTIME of one boot."""

    boot_id: str
    at_ns: tuple[int, ...]
    purpose: Purpose
    source: Source
    reservation_id: str
    """The reservation of the last pulse."""
    pulses_without_opening: int = 1
    """How many of the last pulses have not opened the door yet, and may still do so late."""
    read_open_before: bool = False
    """The door read open before the last pulse: no opening proves that the pulse did it."""


@dataclass(frozen=True, slots=True)
class UnconfirmedUnlock:
    """A lock was pulsed while its contact was in doubt; a closing of the door concludes the command.

    `since` is the moment of the pulse, `closed` that of the closing that must last.
    """

    unlock_id: str
    reservation_id: str
    purpose: Purpose
    source: Source
    since: Instant
    request_key: str | None = None
    closed: Instant | None = None


@dataclass(frozen=True, slots=True)
class Guesses:
    """Invalid entries of one way (digits or QR texts), oldest first.

    `recent` are those of the last minutes that no success has forgiven, `wrong` all guesses of the last day.
    `rests` is how often it had to rest since the last quiet day, `resting_since` when the last rest began,
    `long` whether it is one of the longest, `last` when the last invalid entry was.
    """

    recent: tuple[Instant, ...] = ()
    wrong: tuple[Instant, ...] = ()
    long: bool = False
    rests: int = 0
    resting_since: Instant | None = None
    last: Instant | None = None


@dataclass(frozen=True, slots=True)
class Climate:
    """How a cell is heated or cooled for its reservation, and the state of its food.

    `active`: the time for it has come, and the temperature is in use. `running`: the output is commanded on.
    `switched`: when that last changed; None: not since this began. `started_c`: the temperature then. `good`:
    until when the food is known to have been within its limits; None: since its drop-off. `gap_from`,
    `gap_to`: a stretch across a reboot whose length no clock has shown yet.
    """

    need: Need
    active: bool = False
    running: bool = False
    switched: Instant | None = None
    started_c: float | None = None
    temperature_c: float | None = None
    """As last reported; None: unknown."""
    good: Instant | None = None
    gap_from: Instant | None = None
    gap_to: Instant | None = None


@dataclass(frozen=True, slots=True)
class HistoryMark:
    """One entry of `LockerState.history`: why the journal may not hold everything; its key says which
    kind."""

    why: str


MapName = Literal[
    "cells",
    "reservations",
    "unlock_attempts",
    "former",
    "alarms",
    "pulses",
    "guesses",
    "climate",
    "unconfirmed",
    "hand_checked",
    "history",
]
"""The maps of `LockerState` that `StepBuilder.put` changes."""


@dataclass(frozen=True, slots=True)
class LockerState:
    """Everything the machine knows. Only reservations that hold a cell are here; ended ones are journaled.

    `former` is the completed reservation that held a cell last, for cells that were not allocated since.
    `queue` holds the unlock ids of waiting attempts, oldest first. `retired_codes` are codes of ended
    reservations that are not used again yet. `unlock_attempts` are those in progress, by their ids.
    """

    cells: Mapping[str, Cell]
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    unlock_attempts: Mapping[str, UnlockAttempt] = field(default_factory=dict)
    queue: tuple[str, ...] = ()
    former: Mapping[str, Reservation] = field(default_factory=dict)
    retired_codes: RetiredCodes = field(default_factory=RetiredCodes)
    alarms: Mapping[str, StandingAlarm] = field(default_factory=dict)
    pulses: Mapping[str, Pulses] = field(default_factory=dict)
    guesses: Mapping[str, Guesses] = field(default_factory=dict)
    climate: Mapping[str, Climate] = field(default_factory=dict)
    unconfirmed: Mapping[str, UnconfirmedUnlock] = field(default_factory=dict)
    """By the cell's label."""
    hand_checked: Mapping[str, bool] = field(default_factory=dict)
    """Cells whose doors a person opens by hand to check the wiring (`edge-agent bus doors`). Not
    journaled."""
    history: Mapping[str, HistoryMark] = field(default_factory=dict)
    """Whether the journal holds all that this machine did before; see `edge_agent.statemachine.history`."""

    def active_unlocks(self) -> int:
        """How many attempts are reading or pulsing: these count towards `max_concurrent_unlocks`, unresolved
        ones do not."""
        return sum(unlock.stage in ("reading", "pulsing") for unlock in self.unlock_attempts.values())


def attempt_on(unlock_attempts: Mapping[str, UnlockAttempt], label: str) -> UnlockAttempt | None:
    """The attempt at work on a cell's lock, from its first reading to its outcome."""
    for unlock in unlock_attempts.values():
        if unlock.cell == label and unlock.stage != "waiting":
            return unlock
    return None


def empty_state(layout: Layout) -> LockerState:
    """A locker with nothing in it, whose doors have not been read yet."""
    return LockerState(cells={label: Cell(label) for label in layout.specs})
