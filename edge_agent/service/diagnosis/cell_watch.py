"""Watches thermometers and scales for a while, and during a short spell of heat: drift, dead probes, and
heaters that do not switch off.

A heater is tried only in a free cell that is closed and not in use for any climate, for `HEAT_S`; its relay
goes off by itself if the daemon dies (`ClimateOutputs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from edge_agent.field.climate_outputs import ClimateOutputs
from edge_agent.field.poller import FieldValues
from edge_agent.model import Alarm, CellStatus, Door
from edge_agent.runtime.loop import LockerLoop
from edge_agent.service.diagnosis.findings import Found
from edge_agent.statemachine.outputs import SetClimate

HEAT_FROM_S, HEAT_S = 2.0, 8.0
AFTER_S = 8.0
"""How long the temperature may still rise after a heater was switched off."""
READ_S = 0.5
DRIFTS_G = 5
"""A weight that moves by more while the door is closed drifts (within the watch of about 20 s)."""
LEAST_READINGS = 5
WARMED_C = 0.5
"""A heater that has warmed its cell by less cannot be judged in this time."""
WARMING_ON_C = 0.5
"""A cell that warms by more than this after its heater was switched off is still being heated."""
HOT_C = 40.0
"""A free cell hotter than this has been heated and has to cool down."""


@dataclass(frozen=True, slots=True)
class Sensors:
    """Which device each cell's scale and thermometer is, and which cells have heaters."""

    scales: Mapping[str, str]
    thermometers: Mapping[str, str]
    heaters: Collection[str]


@dataclass(slots=True)
class _Series:
    """Readings of one sensor: seconds since the start, and the value."""

    at_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def note(self, at_s: float, value: float) -> None:
        self.at_s.append(at_s)
        self.values.append(value)

    def at(self, when_s: float) -> float | None:
        """The last value at or before an instant."""
        found = [value for at_s, value in zip(self.at_s, self.values, strict=True) if at_s <= when_s]
        return found[-1] if found else None


class CellWatch:
    """Watches every cell from `run`'s beginning to its end."""

    def __init__(
        self, sensors: Sensors, loop: LockerLoop, values: FieldValues, climate: ClimateOutputs
    ) -> None:
        self._sensors = sensors
        self._loop = loop
        self._values = values
        self._climate = climate
        self._weights: dict[str, _Series] = {}
        self._degrees: dict[str, _Series] = {}
        self._dead: dict[str, int] = {}
        self._looks = 0
        self._opened: set[str] = set()
        self._tried: list[str] = []
        self._on_until_s: dict[str, float] = {}
        """When each heater was last not confirmed to be off."""

    @property
    def heated(self) -> tuple[str, ...]:
        """The cells whose heaters were switched on so far."""
        return tuple(self._tried)

    async def run(self, window_s: float, report: Callable[[float], None], *, outputs: bool = True) -> None:
        """Watches for `window_s`; `report` gets the seconds passed. Without `outputs` no heater is switched
        on. None stays on afterwards."""
        clock = asyncio.get_running_loop()
        begun_s = clock.time()
        heating = False
        try:
            while (passed_s := clock.time() - begun_s) < window_s:
                self._look(passed_s)
                report(passed_s)
                if outputs and not heating and not self._tried and passed_s >= HEAT_FROM_S:
                    self._heat()
                    heating = True
                elif heating and passed_s >= HEAT_FROM_S + HEAT_S:
                    self._cool()
                    heating = False
                elif heating:
                    self._give_way()
                await asyncio.sleep(READ_S)
        finally:
            self._cool()

    def _look(self, at_s: float) -> None:
        self._looks += 1
        for label, cell in self._loop.state.cells.items():
            if cell.door is not Door.CLOSED or not cell.answering:
                self._opened.add(label)
        for label in self._sensors.scales:
            weight = self._values.weights.get(label)
            if weight is not None and weight.stable:
                self._weights.setdefault(label, _Series()).note(at_s, weight.mass_g)
        for label in self._tried:
            if self._climate.heater_may_be_on(label):
                self._on_until_s[label] = at_s
        for label in self._sensors.thermometers:
            degrees = self._values.temperatures_c.get(label)
            if degrees is None:
                self._dead[label] = self._dead.get(label, 0) + 1
            else:
                self._degrees.setdefault(label, _Series()).note(at_s, degrees)

    # Heating.

    def _heat(self) -> None:
        for label in self._sensors.heaters:
            degrees = self._values.temperatures_c.get(label)
            if self._free(label) and degrees is not None and degrees < HOT_C:
                self._tried.append(label)
                self._climate.set(SetClimate(label, heating=True, cooling=False))

    def _free(self, label: str) -> bool:
        cell = self._loop.state.cells[label]
        closed = cell.door is Door.CLOSED and cell.answering
        unused = cell.status is CellStatus.IDLE and label not in self._loop.state.climate
        return closed and unused and cell.blocked is None

    def _give_way(self) -> None:
        """Stops trying a cell that was taken by a reservation in the meantime."""
        for label in [label for label in self._tried if not self._free(label)]:
            self._tried.remove(label)
            self._as_wanted(label)

    def _cool(self) -> None:
        for label in self._tried:
            self._as_wanted(label)

    def _as_wanted(self, label: str) -> None:
        """Restores the outputs that the core wants for a cell."""
        wanted = self._loop.state.climate.get(label)
        running = None if wanted is None or not wanted.running else wanted.need
        self._climate.set(SetClimate(label, heating=running == "hot", cooling=running == "cold"))

    # Verdicts.

    def judge(self, answering: Collection[str], window_s: float) -> Iterator[Found]:
        """A row for each finding, and one for everything that is well; `answering`: the devices that
        answer."""
        yield from self._thermometers(answering)
        yield from self._scales(answering, window_s)
        yield from self._heaters(window_s)

    def _thermometers(self, answering: Collection[str]) -> Iterator[Found]:
        known = [label for label, device in self._sensors.thermometers.items() if device in answering]
        dead = [label for label in known if self._dead.get(label, 0) >= self._looks > 0]
        for label in dead:
            step = (
                f"look at the probe's cable and plugs, in cell {label} and at"
                f" {self._sensors.thermometers[label]}; swap the probe"
            )
            why = "its board answers that no temperature sensor is connected"
            yield Found("temperature", label, "fault", why, step, ("temperature_sensor_dead",))
        yield from _remaining_parts("temperature", "thermometers", self._sensors.thermometers, known, dead)

    def _scales(self, answering: Collection[str], window_s: float) -> Iterator[Found]:
        known, bad = [], []
        for label, device in self._sensors.scales.items():
            if device not in answering:
                continue
            known.append(label)
            found = self._scale(label, device, window_s)
            if found is not None:
                bad.append(label)
                yield found
        yield from _remaining_parts("scale", "scales", self._sensors.scales, known, bad)

    def _scale(self, label: str, device: str, window_s: float) -> Found | None:
        series = self._weights.get(label, _Series())
        if not series.values:
            step = f"check what is on it, and the cable of the load cell; then swap {device}"
            return Found("scale", label, "fault", "it answers, but the weight never settles", step)
        step = (
            f"empty cell {label} and close it: if the weight still moves, look what touches the platform and"
            f" at the load cell's cable, let it warm up, `edge-agent tare {label}`; then swap the load cell,"
            f" then {device}"
        )
        moved_g = _moved(series)
        if label not in self._opened and len(series.values) >= LEAST_READINGS and abs(moved_g) >= DRIFTS_G:
            rate = moved_g * 60 / window_s
            why = f"the weight moved by {moved_g:+.0f} g behind the closed door (some {rate:+.0f} g a minute)"
            return Found("scale", label, "fault", why, step, ("scale_drift",))
        cell = self._loop.state.cells[label]
        if f"{Alarm.SENSOR_FAULT}/{label}/scale zero" in self._loop.state.alarms:
            why = "its zero is wrong (SENSOR_FAULT stands)"
            return Found("scale", label, "fault", why, step, ("scale_drift",))
        if abs(cell.drift_g) >= self._loop.layout.empty_below_g:
            why = f"its zero has crept by {cell.drift_g:+d} g since it was tared"
            return Found("scale", label, "warning", why, step, ("scale_drift",))
        return None

    def _heaters(self, window_s: float) -> Iterator[Found]:
        judged, bad = [], []
        for label in self._sensors.heaters:
            series = self._degrees.get(label)
            if series is None or label in self._opened:
                continue
            stuck, sure = self._stuck(label, series, window_s)
            if sure:
                judged.append(label)
            if stuck is not None:
                bad.append(label)
                step = (
                    f"take the heater of cell {label} off the mains NOW; then look whether its relay or"
                    " contactor sticks, and swap the relay board"
                )
                yield Found("heater", label, "fault", stuck, step, ("heater_stuck",))
        why = "not switched on, in use, not seen closed, or too slow to be judged in this time"
        yield from _remaining_parts("heater", "heaters", self._sensors.heaters, judged, bad, why)

    def _stuck(self, label: str, series: _Series, window_s: float) -> tuple[str | None, bool]:
        """Why a heater seems not to have switched off, and whether that can be judged at all."""
        climate = self._loop.state.climate.get(label)
        begin, end = series.values[0], series.values[-1]
        if label in self._tried:
            off_s = max(HEAT_FROM_S + HEAT_S, self._on_until_s.get(label, 0.0))
            if off_s + AFTER_S >= window_s:
                return None, False  # a bad line has kept it on: that is not the heater's fault
            warm, after = series.at(off_s), series.at(off_s + AFTER_S)
            if warm is None or after is None:
                return None, False
            if end - after > WARMING_ON_C:
                why = f"it was switched off at {warm:.1f} °C and went on to {end:.1f} °C"
                return why, True
            return None, warm - begin > WARMED_C
        idle = climate is None or not climate.running
        if idle and begin >= HOT_C:
            if end >= begin:
                why = f"it is off, and its cell does not cool down from {end:.1f} °C in {window_s:.0f} s"
                return why, True
            return None, True
        return None, False


def _moved(series: _Series) -> float:
    """How far a weight moved: the median of the last readings against that of the first."""
    few = max(1, len(series.values) // 5)
    first, last = sorted(series.values[:few]), sorted(series.values[-few:])
    return last[few // 2] - first[few // 2]


def _remaining_parts(
    check: str,
    what: str,
    there: Collection[str],
    known: Collection[str],
    bad: Collection[str],
    why: str = "their boards do not answer, or may not answer",
) -> Iterator[Found]:
    """One row for the parts that are well, and one for those that cannot be judged."""
    good = [label for label in known if label not in bad]
    unknown = [label for label in there if label not in known and label not in bad]
    if good:
        yield Found(check, what, "good", f"{len(good)} of {len(there)} are well")
    if unknown:
        yield Found(check, ", ".join(unknown), "unknown", f"nothing can be said: {why}", "look again later")
