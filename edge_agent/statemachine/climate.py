"""Heating and cooling for the parcels that need it, and the temperatures of their food.

A cell whose reservation needs warmth or cold has an entry, which becomes active in time: at once for a
reservation without an ETA, else `precondition_ns` before it, and while the parcel is in the cell. A parcel
that asks for both is kept cold, because that spoils sooner. Minimum times bind the thermostat alone: an open
door, a lost sensor, an output without effect and the end of the need switch off at once. An output without
effect rests as long as it was tried and is then tried again; its alarm clears when it has an effect or is no
longer needed.

Food counts as within its limits up to its drop-off and then as long as measurements show it: up to the first
one beyond the limit if the one before was within and recent, else up to the last one within. The time after
that counts as out of range until a measurement within, also while the sensor is lost or the machine has no
power. Two measurements within, on both sides of a stretch longer than allowed, prove nothing about it. If no
clock shows how long the machine was without power, that is decided when the clock is synchronised; until then
the time that certainly passed counts, and a doubt that lasts as long as the allowed time counts as out of
range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from edge_agent.model import Alarm, Door, Instant, Reservation, ReservationStatus
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.outputs import SetClimate, TemperatureRecord
from edge_agent.statemachine.state import Climate, Layout, LockerState, Need, Regime, Regimes
from edge_agent.statemachine.step_builder import StepBuilder

UNBROKEN_NS = 60 * 10**9
"""Measurements at most this far apart follow each other: twice the longest time between two reports."""
MINUTE_NS = 60 * 10**9
DROPPED_OFF = ReservationStatus.DROPPED_OFF
STAYS = (ReservationStatus.PENDING, DROPPED_OFF)

Act = Callable[[StepBuilder, str], None]
"""An action on a cell's climate."""


def need_of(reservation: Reservation | None, regimes: Regimes) -> Need | None:
    """What a reservation needs of its cell's climate now; None: nothing."""
    if reservation is None or reservation.status not in STAYS:
        return None
    if reservation.packaging.cooling_required and regimes.cold is not None:
        return "cold"
    if reservation.packaging.heating_required and regimes.hot is not None:
        return "hot"
    return None


def excess(regime: Regime, temperature_c: float, mark_c: float) -> float:
    """How far a temperature is beyond a mark on the side that the output works against."""
    beyond_c = temperature_c - mark_c if regime.need == "cold" else mark_c - temperature_c
    return round(beyond_c, 3)


def temperature_measured(builder: StepBuilder, label: str, temperature_c: float | None) -> None:
    """A sensor has reported its temperature, or is lost (None)."""
    if label not in builder.layout.thermometers:
        return
    if temperature_c is None:
        builder.raise_alarm(Alarm.SENSOR_FAULT, label, "the temperature sensor does not answer", cell=label)
    else:
        builder.clear_alarm(Alarm.SENSOR_FAULT, label, cell=label)
    climate = builder.climate.get(label)
    if climate is None or not climate.active:
        return
    reservation = _holder(builder, label)
    if reservation is not None:
        _log(builder, label, reservation, temperature_c)
        if reservation.status is DROPPED_OFF:
            _prove(builder, label, temperature_c)
    _change(builder, label, temperature_c=temperature_c)


def _log(builder: StepBuilder, label: str, reservation: Reservation, temperature_c: float | None) -> None:
    """A line for the reservation's temperature log."""
    climate, cell = builder.climate[label], builder.cells[label]
    regime = _regime(builder.layout, climate, label)
    on: Literal["heating", "cooling"] = "heating" if climate.need == "hot" else "cooling"
    record = TemperatureRecord(
        reservation_id=reservation.reservation_id,
        at=builder.now,
        temperature_c=temperature_c,
        setpoint_c=regime.setpoint_c,
        limit_c=regime.limit_c,
        need=climate.need,
        door=cell.door if cell.answering else Door.UNKNOWN,
        output=on if climate.running else "off",
    )
    builder.temperatures.append(record)


def _prove(builder: StepBuilder, label: str, temperature_c: float | None) -> None:
    """What a measurement proves about the food, together with the one before it."""
    climate, regime, now = (
        builder.climate[label],
        _regime(builder.layout, builder.climate[label], label),
        builder.now,
    )
    good = _good(climate, _holder(builder, label))
    assert good is not None
    since_ns = good.elapsed_ns(now) or 0
    if since_ns > regime.allowed_ns:
        _out(builder, label)
    inside = _inside(regime, temperature_c)
    if inside or (_inside(regime, climate.temperature_c) and since_ns <= UNBROKEN_NS):
        _change(builder, label, good=now)
    if inside and climate.gap_from is not None and climate.gap_to is None:
        _change(builder, label, gap_to=now)


def at_start(builder: StepBuilder) -> None:
    """At a start: every output is off, no temperature is known; entries that are no longer configured are
    dropped.

    A stretch without power whose length no clock shows is set aside until one does.
    """
    for label, climate in tuple(builder.climate.items()):
        now, changes = builder.now, dict[str, Any](running=False, temperature_c=None, started_c=None)
        switched = climate.switched
        if climate.running or (switched is not None and switched.elapsed_ns(now) is None):
            changes["switched"] = now
        good = _good(climate, _holder(builder, label))
        if good is not None and good.elapsed_ns(now) is None:
            changes |= {"gap_from": climate.gap_from or good, "gap_to": None, "good": now}
        _change(builder, label, **changes)
    for standing in tuple(builder.alarms.values()):
        place = standing.place
        of_cell = standing.alarm is Alarm.SENSOR_FAULT and place in builder.cells
        lost = of_cell and place not in builder.layout.thermometers
        if lost or (standing.alarm is Alarm.CLIMATE_NO_EFFECT and place not in builder.climate):
            builder.clear_alarm(standing.alarm, place, cell=place, at_once=True)
    for label in builder.layout.climate:
        _enter(builder, label)


def apply_due(builder: StepBuilder) -> None:
    """Carries out everything about the climate that depends on time, doors and reservations."""
    for label in builder.changed("cells"):
        if label in builder.layout.climate:
            _enter(builder, label)
    for label in tuple(builder.climate):
        while label in builder.climate:
            now = [act for left, act in _due(builder, builder.layout, builder.now, label) if left <= 0]
            if not now:
                break
            now[0](builder, label)


def left_ns(state: LockerState, layout: Layout, now: Instant) -> list[int]:
    """How long until `apply_due` would act, for everything that is awaited."""
    return [left for label in state.climate for left, _ in _due(state, layout, now, label)]


def _enter(builder: StepBuilder, label: str) -> None:
    need = need_of(_holder(builder, label), builder.layout.climate[label])
    if need is not None and label not in builder.climate:
        builder.put("climate", label, Climate(need))


def _due(
    state: LockerState | StepBuilder, layout: Layout, now: Instant, label: str
) -> Iterator[tuple[int, Act]]:
    """What time will do to a cell, and in how long; 0 or less: it is due."""
    climate, reservation = state.climate[label], _holder(state, label)
    need = need_of(reservation, layout.climate[label])
    if need is None:
        if climate.active:
            yield 0, _over
        else:
            yield _left(climate.switched, _regime(layout, climate, label).min_off_ns, now), _forget
        return
    assert reservation is not None
    if not climate.active:
        regime = layout.climate[label].of(need)
        assert regime is not None
        yield _start_ns(reservation, regime, now), _start
        return
    regime = _regime(layout, climate, label)
    yield from _thermostat(state, now, label, climate, regime)
    if reservation.status is DROPPED_OFF and not _stands(state, Alarm.TEMPERATURE_OUT_OF_RANGE, label):
        yield from _food(now, climate, regime, reservation)


def _start_ns(reservation: Reservation, regime: Regime, now: Instant) -> int:
    """How long until a parcel's cell is heated or cooled; at once if no clock shows the time."""
    if reservation.status is DROPPED_OFF or reservation.eta_minutes is None:
        return 0
    elapsed_ns = reservation.created.elapsed_ns(now)
    if elapsed_ns is None:
        return 0
    return reservation.eta_minutes * MINUTE_NS - regime.precondition_ns - elapsed_ns


def _thermostat(
    state: LockerState | StepBuilder, now: Instant, label: str, climate: Climate, regime: Regime
) -> Iterator[tuple[int, Act]]:
    temperature_c = climate.temperature_c
    blind = temperature_c is None or state.cells[label].door is Door.OPEN
    beyond_c = 0.0 if temperature_c is None else excess(regime, temperature_c, regime.setpoint_c)
    without_effect = _stands(state, Alarm.CLIMATE_NO_EFFECT, label)
    if not climate.running:
        if not blind and beyond_c >= regime.band_c:
            rest_ns = max(regime.min_off_ns, regime.no_effect_ns if without_effect else 0)
            yield _left(climate.switched, rest_ns, now), _on
        return
    if blind:
        yield 0, _off
        return
    assert temperature_c is not None
    assert climate.started_c is not None
    if excess(regime, climate.started_c, temperature_c) < regime.least_change_c:
        yield _left(climate.switched, regime.no_effect_ns, now), _without_effect
    elif without_effect:
        yield 0, _with_effect
    if beyond_c <= -regime.band_c:
        yield _left(climate.switched, regime.min_on_ns, now), _off


def _food(
    now: Instant, climate: Climate, regime: Regime, reservation: Reservation
) -> Iterator[tuple[int, Act]]:
    if climate.gap_from is not None:
        if climate.gap_from.elapsed_ns(climate.gap_to or now) is not None:
            yield 0, _gap_known
        elif climate.gap_to is not None:
            yield _left(climate.gap_to, regime.allowed_ns, now) + 1, _out
    yield _left(_good(climate, reservation), regime.allowed_ns, now) + 1, _out


def _start(builder: StepBuilder, label: str) -> None:
    need = need_of(_holder(builder, label), builder.layout.climate[label])
    _change(builder, label, need=need, active=True)


def _over(builder: StepBuilder, label: str) -> None:
    """The climate is no longer needed."""
    if builder.climate[label].running:
        _off(builder, label)
    _change(builder, label, active=False, temperature_c=None, good=None, gap_from=None, gap_to=None)
    builder.clear_alarm(Alarm.CLIMATE_NO_EFFECT, label, cell=label, at_once=True)


def _forget(builder: StepBuilder, label: str) -> None:
    builder.put("climate", label, None)


def _on(builder: StepBuilder, label: str) -> None:
    climate = builder.climate[label]
    _change(builder, label, running=True, switched=builder.now, started_c=climate.temperature_c)
    builder.effects.append(SetClimate(label, heating=climate.need == "hot", cooling=climate.need == "cold"))


def _off(builder: StepBuilder, label: str) -> None:
    _change(builder, label, running=False, switched=builder.now, started_c=None)
    builder.effects.append(SetClimate(label, heating=False, cooling=False))


def _without_effect(builder: StepBuilder, label: str) -> None:
    _off(builder, label)
    climate = builder.climate[label]
    what = "cooler" if climate.need == "cold" else "heater"
    why = f"the {what} is on and the temperature stays at {climate.temperature_c} °C"
    builder.raise_alarm(Alarm.CLIMATE_NO_EFFECT, label, why, cell=label)


def _with_effect(builder: StepBuilder, label: str) -> None:
    builder.clear_alarm(Alarm.CLIMATE_NO_EFFECT, label, cell=label)


def _gap_known(builder: StepBuilder, label: str) -> None:
    """A clock now shows how long the machine was without power."""
    climate, regime = builder.climate[label], _regime(builder.layout, builder.climate[label], label)
    assert climate.gap_from is not None
    if climate.gap_to is None:  # it lasts: the food was last within its limits when it began
        _change(builder, label, gap_from=None, good=climate.gap_from)
        return
    if (climate.gap_from.elapsed_ns(climate.gap_to) or 0) > regime.allowed_ns:
        _out(builder, label)
    _change(builder, label, gap_from=None, gap_to=None)


def _out(builder: StepBuilder, label: str) -> None:
    """Marks the food as out of range until the reservation ends."""
    regime, reservation = _regime(builder.layout, builder.climate[label], label), _holder(builder, label)
    assert reservation is not None
    how = "warmer" if regime.need == "cold" else "colder"
    minutes = regime.allowed_ns // MINUTE_NS
    why = (
        f"{reservation.reservation_id}: {how} than {regime.limit_c} °C, or not proven else, for {minutes} min"
    )
    builder.raise_alarm(Alarm.TEMPERATURE_OUT_OF_RANGE, label, why, cell=label)


def _change(builder: StepBuilder, label: str, **changes: Any) -> None:
    builder.put("climate", label, amend(builder.climate[label], **changes))


def _holder(state: LockerState | StepBuilder, label: str) -> Reservation | None:
    rid = state.cells[label].reservation_id
    return None if rid is None else state.reservations[rid]


def _regime(layout: Layout, climate: Climate, label: str) -> Regime:
    regime = layout.climate[label].of(climate.need)
    assert regime is not None  # a cell without a configured regime has no entry
    return regime


def _good(climate: Climate, reservation: Reservation | None) -> Instant | None:
    """Until when the food is known to have been within its limits; None: not yet."""
    if reservation is None or reservation.status is not DROPPED_OFF:
        return None
    return climate.good or reservation.dropped_off


def _inside(regime: Regime, temperature_c: float | None) -> bool:
    return temperature_c is not None and excess(regime, temperature_c, regime.limit_c) <= 0


def _left(since: Instant | None, span_ns: int, now: Instant) -> int:
    """The rest of a time span; 0 if it never began."""
    return 0 if since is None else span_ns - (since.elapsed_ns(now) or 0)


def _stands(state: LockerState | StepBuilder, alarm: Alarm, label: str) -> bool:
    standing = state.alarms.get(f"{alarm}/{label}")
    return standing is not None and standing.gone is None
