"""The physics of a locker: doors with spring locks, parcels, warmth and cold.

Time is given in nanoseconds of one monotonic clock. Nothing runs in the background: a cell is brought up to
date when it is read or acted on, and then everything that was due in between happens at its own instant. Two
worlds with the same seed and the same actions at the same times are equal.

Constants here are assumptions for a bench, not measurements of a lock or a fridge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import exp
from random import Random
from typing import Literal

from edge_agent.drivers.simulated.power import CabinetSignals, Power
from edge_agent.drivers.simulated.power import Load as Load
from edge_agent.drivers.simulated.trouble import CellTrouble, Chatter, Drift, End
from edge_agent.errors import Code, Refusal
from edge_agent.model import Door

AMBIENT_C = 22.0
HEATING_LIFTS_C = 63.0
"""A heated cell tends towards ambient + 63 = 85 °C."""
COOLING_LOWERS_C = 27.0
"""A cooled cell tends towards ambient - 27 = -5 °C."""
DRIVEN_TAU_S = 60.0
"""Time constant while a heater or cooler works on a closed cell."""
IDLE_TAU_S = 600.0
"""Time constant of an idle closed cell."""
OPEN_TAU_S = 60.0
"""Time constant with the door open; heater and cooler then have no effect."""
SETTLING_NS = 300_000_000
"""How long a weight swings after a change."""
OPENING_MS = (40.0, 90.0)
"""Bounds of the time a solenoid must stay energised to free its door; every lock has its own."""
ACTUATIONS_KEPT = 100_000

Part = Literal["scale", "temperature", "heater"]
"""Optional parts of a cell."""


class NoSuchCell(Refusal):
    """No cell has this label."""

    def __init__(self, label: str) -> None:
        super().__init__(Code.NOT_FOUND, f"no such cell: {label}")


class DoorIsClosed(Refusal):
    """A parcel cannot pass through a closed door."""

    def __init__(self, label: str) -> None:
        super().__init__(Code.NOT_ALLOWED, f"the door of {label} is closed")


@dataclass(frozen=True, slots=True)
class CellBuild:
    """A cell as it is when the world begins. `opening_ms`: its lock's own time; None: from the seed."""

    label: str
    door: Door = Door.CLOSED
    grams: int = 0
    temperature_c: float = AMBIENT_C
    opening_ms: float | None = None


@dataclass(frozen=True, slots=True)
class CellState:
    """The physical state of a cell, whatever any sensor reads. `signal`: the light or buzzer at its door."""

    label: str
    door: Door
    grams: int
    temperature_c: float
    heating: bool
    cooling: bool
    solenoid: bool
    signal: bool = False


@dataclass(frozen=True, slots=True)
class Actuation:
    """One energising of a solenoid. `at` is RFC 3339 UTC, `monotonic` seconds; `duration_ms` None while on.

    A solenoid pulsed again while it is on stays energised: that is one, longer, actuation.
    """

    n: int
    label: str
    at: str
    monotonic: float
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class Weighing:
    """The reading of a scale, and whether it has settled."""

    grams: int
    settled: bool


class _Cell:
    """One cell, with its state as of `at_ns`."""

    def __init__(self, build: CellBuild, opening_ns: int, at_ns: int) -> None:
        self.label = build.label
        self.at_ns = at_ns
        self.door = build.door
        self.door_changed_ns = at_ns
        self.grams = build.grams
        self.weight_changed_ns = at_ns - SETTLING_NS
        self.temperature_c = build.temperature_c
        self.opening_ns = opening_ns
        self.trouble = CellTrouble()
        self.fitted: set[Part] = set()
        self.solenoid = Power()
        self.heater = Power()
        self.cooler = Power()
        self.signal = Power()

    def advance(self, now_ns: int) -> int:
        """Carries out everything due by now; returns the instant that now holds (time never runs back)."""
        freed_ns = self._freed_ns()
        turns = {power.until_ns for power in (self.heater, self.cooler)} | {freed_ns}
        for turn_ns in sorted(t for t in turns if t is not None and self.at_ns < t <= now_ns):
            self._relax(turn_ns)
            if turn_ns == freed_ns:
                self.move(Door.OPEN)
        self._relax(max(now_ns, self.at_ns))
        return self.at_ns

    def move(self, door: Door) -> None:
        """Moves the door now, or leaves it as it is."""
        if door is not self.door:
            self.door = door
            self.door_changed_ns = self.at_ns

    def reads_closed(self) -> bool:
        """The present reading of the door's contact."""
        return self.trouble.reads_closed(self.door is Door.CLOSED, self.door_changed_ns, self.at_ns)

    def _freed_ns(self) -> int | None:
        """When the energised solenoid frees the door; None if it will not."""
        power = self.solenoid
        freed_ns = power.since_ns + self.opening_ns
        too_short = power.until_ns is not None and power.until_ns < freed_ns
        freed_ns += max(self.trouble.late_springs_ns, default=0)
        if self.door is Door.OPEN or self.trouble.jams or too_short or freed_ns <= self.at_ns:
            return None
        return freed_ns

    def _relax(self, to_ns: int) -> None:
        """Exponential approach in closed form; no input changes before `to_ns`."""
        target_c, tau_s = AMBIENT_C, OPEN_TAU_S
        if self.door is Door.CLOSED:
            heating, cooling = self.heater.on(self.at_ns), self.cooler.on(self.at_ns)
            target_c += HEATING_LIFTS_C * heating - COOLING_LOWERS_C * cooling
            tau_s = DRIVEN_TAU_S if heating or cooling else IDLE_TAU_S
        decay = exp(-(to_ns - self.at_ns) / (tau_s * 1e9))
        self.temperature_c = target_c + (self.temperature_c - target_c) * decay
        self.at_ns = to_ns


@dataclass(slots=True)
class _Record:
    """An unfinished actuation: it ends with its solenoid until the next one begins."""

    n: int
    label: str
    wall_s: float
    since_ns: int
    until_ns: int | None


class World:
    """All cells of a locker, the actions of a person, and the terminals for wires.

    `clock_ns` is the monotonic clock of the frames' instants; `wall_s` is Unix time and only dates the
    actuations.
    """

    def __init__(
        self,
        cells: Iterable[CellBuild],
        *,
        clock_ns: Callable[[], int],
        wall_s: Callable[[], float],
        seed: int = 0,
    ) -> None:
        self._clock_ns = clock_ns
        self._wall_s = wall_s
        start_ns = clock_ns()
        self._cells: dict[str, _Cell] = {}
        for build in cells:
            # Seeded by the label too, so that an added cell changes no other lock.
            drawn_ms = Random(f"{seed}/{build.label}").uniform(*OPENING_MS)
            opening_ms = drawn_ms if build.opening_ms is None else build.opening_ms
            self._cells[build.label] = _Cell(build, round(opening_ms * 1e6), start_ns)
        self.cabinet_signals = CabinetSignals(clock_ns)
        self._records: deque[_Record] = deque(maxlen=ACTUATIONS_KEPT)
        self._last_record: dict[str, _Record] = {}
        self._count = 0
        self._jams: dict[str, End] = {}
        self._lock_wires: dict[str, str] = {}
        """The cell whose solenoid the wires of a cell's lock lead to, if swapped."""
        self._contact_wires: dict[str, str] = {}
        """The cell whose contact the wires of a cell's contact come from, if swapped."""
        self.pulses_seen: list[tuple[int, str, str]] = []
        """When a solenoid was energised: by the wires of which cell, and the solenoid of which cell."""
        self.levels_seen: list[tuple[int, str, bool]] = []
        """When the contact wires of a cell first read differently than before; true for closed."""

    # Physical state.

    def cells(self) -> list[CellState]:
        """All cells now, in the order they were built."""
        return [self.cell(label) for label in self._cells]

    def cell(self, label: str) -> CellState:
        """One cell now. Raises `NoSuchCell`."""
        cell = self._now(label)
        at_ns = cell.at_ns
        return CellState(
            label=label,
            door=cell.door,
            grams=cell.grams,
            temperature_c=cell.temperature_c,
            heating=cell.heater.on(at_ns),
            cooling=cell.cooler.on(at_ns),
            solenoid=cell.solenoid.on(at_ns),
            signal=cell.signal.on(at_ns),
        )

    def door_stands(self, label: str) -> tuple[Door, float]:
        """The physical state of a door, and for how many seconds it has had it. Raises `NoSuchCell`."""
        cell = self._now(label)
        return cell.door, (cell.at_ns - cell.door_changed_ns) / 1e9

    def actuations(self, since: int = 0) -> list[Actuation]:
        """Every energising of a solenoid with n > `since`, oldest first (the last 100,000 are kept)."""
        now_ns = self._clock_ns()
        return [self._actuation(record, now_ns) for record in self._records if record.n > since]

    # Actions of a person.

    def close(self, label: str) -> None:
        """Pushes the door shut, and holds it there while the solenoid is energised, until the latch catches:
        a closed door stays closed. If the solenoid can no longer go off, the latch never catches, and the
        door springs open again. Raises `NoSuchCell`."""
        cell = self._now(label)
        if cell.trouble.jams or not (cell.solenoid.welds and cell.solenoid.on(cell.at_ns)):
            cell.move(Door.CLOSED)

    def open(self, label: str) -> None:
        """Forces the door open. Raises `NoSuchCell`."""
        self._now(label).move(Door.OPEN)

    def place(self, label: str, grams: int) -> None:
        """Adds a parcel to the cell. Raises `NoSuchCell`, `DoorIsClosed`."""
        cell = self._reachable(label)
        self._set_grams(cell, cell.grams + grams)

    def take(self, label: str) -> None:
        """Takes everything out. Raises `NoSuchCell`, `DoorIsClosed`."""
        self._set_grams(self._reachable(label), 0)

    # Faults. A fault begins now and stands until the returned function is called; all raise `NoSuchCell`.

    def jam(self, label: str, jammed: bool) -> None:
        """Jams the lock, see `jam_lock`, or ends that."""
        self._find(label)
        self._jams.pop(label, lambda: None)()
        if jammed:
            self._jams[label] = self.jam_lock(label)

    def jam_lock(self, label: str) -> End:
        """The lock is stuck: the solenoid moves nothing."""
        cell = self._now(label)
        end = cell.trouble.jams.begin(None)

        def free() -> None:
            # A pulse that moved nothing during the fault has no later effect.
            cell.advance(self._clock_ns())
            end()

        return free

    def stick_contact(self, label: str, reads: Door | None = None) -> End:
        """The door contact always reads this; None: its present reading."""
        cell = self._now(label)
        return cell.trouble.stuck.begin(cell.reads_closed() if reads is None else reads is Door.CLOSED)

    def bounce_contact(self, label: str, for_ns: int) -> End:
        """The contact chatters for `for_ns` after each change of the door."""
        return self._find(label).trouble.bounces_ns.begin(for_ns)

    def chatter_contact(self, label: str, period_ns: int) -> End:
        """The contact opens and closes with this period permanently, whatever the door does."""
        cell = self._now(label)
        return cell.trouble.chatters.begin(Chatter(cell.at_ns, period_ns))

    def drift_scale(self, label: str, grams_per_minute: float) -> End:
        """The reading of the scale drifts; when that ends it is right again."""
        cell = self._now(label)
        return cell.trouble.drifts.begin(Drift(cell.at_ns, grams_per_minute))

    def kill_probe(self, label: str, reads_c: float | None = None) -> End:
        """The temperature sensor is disconnected, or its converter continues with a made-up value."""
        return self._find(label).trouble.dead_probes.begin(reads_c)

    def lie_scale(self, label: str, reads: Callable[[int], int]) -> End:
        """The scale reads `reads` of the real grams."""
        return self._now(label).trouble.scale_lies.begin(reads)

    def lie_probe(self, label: str, reads: Callable[[float], float]) -> End:
        """The temperature sensor reads `reads` of its real temperature."""
        return self._now(label).trouble.probe_lies.begin(reads)

    def weld_solenoid(self, label: str) -> End:
        """Once energised the solenoid stays on."""
        cell = self._now(label)
        return self._weld(cell, cell.solenoid)

    def weld_heater(self, label: str) -> End:
        """Once switched on the heater stays on."""
        cell = self._now(label)
        return self._weld(cell, cell.heater)

    def spring_late(self, label: str, late_ns: int) -> End:
        """A freed door sticks, and springs open later by `late_ns`."""
        return self._now(label).trouble.late_springs_ns.begin(late_ns)

    def cross_locks(self, label: str, other: str) -> End:
        """The wires of two locks are swapped."""
        return self._cross(self._lock_wires, label, other)

    def cross_contacts(self, label: str, other: str) -> End:
        """The wires of two door contacts are swapped."""
        return self._cross(self._contact_wires, label, other)

    def _cross(self, wires: dict[str, str], label: str, other: str) -> End:
        for one, another in ((label, other), (other, label)):
            self._find(one)
            wires[one] = another

        def end() -> None:
            for one in (label, other):
                wires.pop(one, None)

        return end

    def fitted(self, label: str) -> frozenset[Part]:
        """The optional parts that a cell has wires for. Raises `NoSuchCell`."""
        return frozenset(self._find(label).fitted)

    def _weld(self, cell: _Cell, power: Power) -> End:
        end = power.welds.begin(None)

        def settle() -> None:
            power.settle(cell.at_ns)
            self._follow(cell)

        def loosen() -> None:
            cell.advance(self._clock_ns())
            end()
            settle()

        settle()
        return loosen

    def _follow(self, cell: _Cell) -> None:
        """The last actuation ends when the solenoid does."""
        if cell.label in self._last_record:
            self._last_record[cell.label].until_ns = cell.solenoid.until_ns

    # Terminals for wires.

    def solenoid(self, label: str) -> Load:
        """The lock of a cell; every energising is recorded. Raises `NoSuchCell`."""
        self._find(label)

        def load(at_ns: int, until_ns: int | None) -> None:
            cell = self._cells[self._lock_wires.get(label, label)]
            at_ns = cell.advance(at_ns)
            if cell.solenoid.switch(at_ns, until_ns):
                self.pulses_seen.append((at_ns, label, cell.label))
                self._record(cell)
            else:
                self._follow(cell)

        return load

    def heater(self, label: str) -> Load:
        """The heater of a cell. Raises `NoSuchCell`."""
        cell = self._find(label)
        cell.fitted.add("heater")
        return lambda at_ns, until_ns: _switch(cell, cell.heater, at_ns, until_ns)

    def cooler(self, label: str) -> Load:
        """The cooler of a cell. Raises `NoSuchCell`."""
        cell = self._find(label)
        return lambda at_ns, until_ns: _switch(cell, cell.cooler, at_ns, until_ns)

    def signal(self, label: str) -> Load:
        """The light or buzzer at the door of a cell. Raises `NoSuchCell`."""
        cell = self._find(label)
        return lambda at_ns, until_ns: _switch(cell, cell.signal, at_ns, until_ns)

    def contact(self, label: str, closed_level: int) -> Callable[[int], int]:
        """The door contact: 0 or 1 at an instant; `closed_level` is how it is wired. Raises `NoSuchCell`."""
        self._find(label)
        before: bool | None = None

        def level(at_ns: int) -> int:
            nonlocal before
            cell = self._cells[self._contact_wires.get(label, label)]
            cell.advance(at_ns)
            closed = cell.reads_closed()
            if before is not closed:
                self.levels_seen.append((at_ns, label, before := closed))
            return closed_level if closed else 1 - closed_level

        return level

    def platform(self, label: str) -> Callable[[int], Weighing]:
        """The reading of the weighing platform at an instant. Raises `NoSuchCell`."""
        cell = self._find(label)
        cell.fitted.add("scale")

        def weigh(at_ns: int) -> Weighing:
            at_ns = cell.advance(at_ns)
            grams = cell.trouble.weighed_g(cell.grams, at_ns)
            return Weighing(grams, at_ns - cell.weight_changed_ns >= SETTLING_NS)

        return weigh

    def probe(self, label: str) -> Callable[[int], float | None]:
        """The temperature sensor, °C at an instant; None: there is no answer. Raises `NoSuchCell`."""
        cell = self._find(label)
        cell.fitted.add("temperature")

        def temperature_c(at_ns: int) -> float | None:
            cell.advance(at_ns)
            return next(iter(cell.trouble.dead_probes), cell.trouble.probed_c(cell.temperature_c))

        return temperature_c

    def _find(self, label: str) -> _Cell:
        cell = self._cells.get(label)
        if cell is None:
            raise NoSuchCell(label)
        return cell

    def _now(self, label: str) -> _Cell:
        cell = self._find(label)
        cell.advance(self._clock_ns())
        return cell

    def _reachable(self, label: str) -> _Cell:
        cell = self._now(label)
        if cell.door is Door.CLOSED:
            raise DoorIsClosed(label)
        return cell

    def _set_grams(self, cell: _Cell, grams: int) -> None:
        if grams != cell.grams:
            cell.grams = grams
            cell.weight_changed_ns = cell.at_ns

    def _record(self, cell: _Cell) -> None:
        self._count += 1
        since_ns = cell.solenoid.since_ns
        # The instant is slightly in the past: a frame is acted on when its silence ends, not when we hear it.
        wall_s = self._wall_s() - (self._clock_ns() - since_ns) / 1e9
        record = _Record(self._count, cell.label, wall_s, since_ns, cell.solenoid.until_ns)
        self._records.append(record)
        self._last_record[cell.label] = record

    def _actuation(self, record: _Record, now_ns: int) -> Actuation:
        duration_ms = None
        if record.until_ns is not None and record.until_ns <= now_ns:
            duration_ms = round((record.until_ns - record.since_ns) / 1e6)
        at = datetime.fromtimestamp(record.wall_s, UTC).isoformat(timespec="milliseconds")
        return Actuation(
            n=record.n,
            label=record.label,
            at=at.replace("+00:00", "Z"),
            monotonic=record.since_ns / 1e9,
            duration_ms=duration_ms,
        )


def _switch(cell: _Cell, power: Power, at_ns: int, until_ns: int | None) -> None:
    power.switch(cell.advance(at_ns), until_ns)
