"""Heating and cooling: when, how long, and when not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Alarm, Door, Purpose
from edge_agent.statemachine.inputs import DoorsChanged, TemperatureMeasured
from edge_agent.statemachine.outputs import FactKind, SetClimate
from edge_agent.statemachine.state import Climate, Regimes
from tests.support.pure_core.core import SMALL
from tests.support.pure_core.fridge import (
    BOTH,
    CHILLED,
    COLD,
    COOL_ON,
    HEAT_ON,
    MIN,
    WARM,
    S,
    climate,
    cooling,
    feels,
    left_s,
    locker,
    off,
    pass_ns,
    stands,
    stored,
    wakes,
)

# When it is on.


@pytest.mark.behaviour("climate-02")
def test_without_an_eta_a_cell_is_prepared_at_once() -> None:
    core, _ = cooling()
    assert climate(core).active
    assert climate(core).running


@pytest.mark.behaviour("climate-02")
@pytest.mark.parametrize(("eta_min", "wait_min"), [(21, 1), (120, 100)])
def test_with_an_eta_it_begins_that_long_before(eta_min: int, wait_min: int) -> None:
    core = locker()
    core.reserve(CHILLED, eta_minutes=eta_min)
    assert feels(core, 22.0) == ()
    assert climate(core).temperature_c is None
    assert not wakes(core, wait_min * MIN).effects
    assert climate(core).active
    assert feels(core, 22.0) == (COOL_ON,)


@pytest.mark.parametrize("eta_min", [0, 20])
def test_an_eta_that_is_near_begins_at_once(eta_min: int) -> None:
    core = locker()
    core.reserve(CHILLED, eta_minutes=eta_min)
    assert feels(core, 22.0) == (COOL_ON,)


def test_an_eta_of_which_no_clock_shows_the_time_begins_at_once() -> None:
    core = locker()
    core.reserve(CHILLED, eta_minutes=600)
    core.now = replace(core.now, synced=False)
    core.restart({}, boot_id="boot-2")
    assert feels(core, 22.0) == (COOL_ON,)


@pytest.mark.behaviour("climate-03")
def test_it_goes_on_while_the_parcel_lies_there_and_ends_with_the_pickup() -> None:
    core, reservation = stored(8.0)
    wakes(core, 180 * S)
    assert climate(core).running
    done = core.feed(core.command(reservation, Purpose.PICKUP))
    assert not [e for e in done.effects if isinstance(e, SetClimate)]
    core.feed(DoorsChanged({"F1": Door.OPEN}))
    assert not climate(core).running


def test_a_drop_off_before_its_time_begins_at_once() -> None:
    core = locker()
    reservation = core.reserve(CHILLED, eta_minutes=600)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    assert not climate(core).active
    core.close("F1")
    assert feels(core, 22.0) == (COOL_ON,)


def test_what_needs_nothing_gets_nothing() -> None:
    core = locker()
    core.reserve(SMALL)
    for _ in range(2):
        core.reserve(replace(SMALL, height_mm=101))
    assert core.state.cells["F1"].reservation_id is not None
    for label in core.layout.specs:
        assert feels(core, 30.0, label) == ()
    assert not core.state.climate


def test_a_hot_parcel_is_heated_and_one_that_asks_for_both_is_cooled() -> None:
    core = locker()
    hot = core.reserve(WARM)
    assert hot.cell == "H1"
    assert feels(core, 22.0, "H1") == (HEAT_ON,)
    both = core.reserve(BOTH)
    assert both.cell == "X1"
    assert feels(core, 22.0, "X1") == (SetClimate("X1", heating=False, cooling=True),)


def test_given_up_it_goes_off_at_once_and_is_forgotten_when_the_cooler_has_rested() -> None:
    core, reservation = cooling()
    pass_ns(core, S)
    assert core.feed(core.cancel(reservation)).effects == (off("F1"),)
    assert climate(core) == Climate("cold", switched=core.now)
    wakes(core, 180 * S)
    assert not core.state.climate
    assert left_s(core) is None


def test_what_never_ran_is_forgotten_at_once() -> None:
    core = locker()
    reservation = core.reserve(CHILLED, eta_minutes=600)
    assert core.feed(core.cancel(reservation)).effects == ()
    assert not core.state.climate


def test_the_next_parcel_does_not_shorten_the_rest() -> None:
    core, reservation = cooling()
    core.feed(core.cancel(reservation))
    pass_ns(core, 100 * S)
    core.reserve(CHILLED)
    assert feels(core, 22.0) == ()
    assert wakes(core, 80 * S).effects == (COOL_ON,)


@pytest.mark.behaviour("climate-06")
def test_a_cell_that_can_do_both_does_one_after_the_other() -> None:
    core = locker()
    core.reserve(WARM)
    hot = core.reserve(WARM)
    assert hot.cell == "X1"
    assert feels(core, 22.0, "X1") == (SetClimate("X1", heating=True, cooling=False),)
    core.feed(core.cancel(hot))
    core.reserve(CHILLED)
    assert core.reserve(CHILLED).cell == "X1"
    assert climate(core, "X1").need == "cold"
    assert feels(core, 80.0, "X1") == ()
    # The rest of the cooler, which is what starts, counts from the end of the heating.
    assert wakes(core, 180 * S).effects == (SetClimate("X1", heating=False, cooling=True),)


def test_a_reservation_that_moves_takes_its_climate_along() -> None:
    core, reservation = cooling()
    core.jams(core.feed(core.command(reservation, Purpose.DROPOFF)))
    assert core.live(reservation).cell == "X1"
    assert not climate(core).running
    assert climate(core, "X1").active


# The thermostat.


@pytest.mark.behaviour("climate-01", "climate-04")
@pytest.mark.parametrize(("degrees", "on"), [(3.9, False), (4.0, True), (4.1, True)])
def test_cooling_comes_on_at_the_upper_end_of_the_band(degrees: float, on: bool) -> None:
    core = locker()
    core.reserve(CHILLED)
    assert feels(core, degrees) == ((COOL_ON,) if on else ())


@pytest.mark.behaviour("climate-01", "climate-04")
@pytest.mark.parametrize(("degrees", "on"), [(63.1, False), (63.0, True), (62.9, True)])
def test_heating_comes_on_at_the_lower_end_of_the_band(degrees: float, on: bool) -> None:
    core = locker()
    core.reserve(WARM)
    assert feels(core, degrees, "H1") == ((HEAT_ON,) if on else ())


@pytest.mark.behaviour("climate-04")
def test_between_the_ends_of_the_band_nothing_changes() -> None:
    core, _ = cooling()
    pass_ns(core, 300 * S)
    for degrees in (4.0, 3.0, 2.1):
        assert feels(core, degrees) == ()
    assert feels(core, 2.0) == (off("F1"),)
    pass_ns(core, 300 * S)
    for degrees in (2.0, 3.0, 3.9):
        assert feels(core, degrees) == ()
    assert feels(core, 4.0) == (COOL_ON,)


def test_a_heater_goes_off_at_the_upper_end() -> None:
    core = locker()
    core.reserve(WARM)
    feels(core, 22.0, "H1")
    pass_ns(core, 40 * S)
    assert feels(core, 66.9, "H1") == ()
    assert feels(core, 67.0, "H1") == (off("H1"),)


def test_tenths_of_a_degree_count_exactly() -> None:
    core = locker()
    core.layout = replace(
        core.layout, climate={"F1": Regimes(cold=replace(COLD, setpoint_c=3.3, band_c=0.3))}
    )
    core.reserve(CHILLED)
    assert feels(core, 3.6) == (COOL_ON,)


@pytest.mark.behaviour("climate-05")
def test_it_stays_on_for_a_minimum_time() -> None:
    core, _ = cooling()
    pass_ns(core, 10 * S)
    assert feels(core, 2.0) == ()
    assert wakes(core, 50 * S).effects == (off("F1"),)


@pytest.mark.behaviour("climate-05")
def test_it_stays_off_for_a_minimum_time() -> None:
    core, _ = cooling()
    pass_ns(core, 60 * S)
    feels(core, 1.0)
    pass_ns(core, 30 * S)
    assert feels(core, 9.0) == ()
    assert wakes(core, 150 * S).effects == (COOL_ON,)


def test_the_minimum_times_hold_across_a_change_of_mind_of_the_temperature() -> None:
    core, _ = cooling()
    pass_ns(core, 10 * S)
    feels(core, 2.0)
    feels(core, 2.1)
    pass_ns(core, 100 * S)
    assert climate(core).running


# What switches off at once.


@pytest.mark.behaviour("climate-07")
def test_an_open_door_switches_off_without_an_alarm_of_its_own() -> None:
    core, reservation = cooling()
    core.feed(core.command(reservation, Purpose.DROPOFF))
    core.feed(DoorsChanged({"F1": Door.OPEN}))
    assert not climate(core).running
    alarms = {alarm.alarm for alarm in core.state.alarms.values()}
    assert alarms <= {Alarm.DOOR_FORCED}
    pass_ns(core, 200 * S)
    assert feels(core, 25.0) == ()
    assert core.close("F1").effects == (COOL_ON,)


def test_a_door_that_cannot_be_read_is_not_open() -> None:
    core, _ = cooling()
    core.feed(DoorsChanged({"F1": Door.UNKNOWN}))
    assert climate(core).running
    core.restart({"F1": Door.UNKNOWN})
    pass_ns(core, 180 * S)
    assert feels(core, 22.0) == (COOL_ON,)


@pytest.mark.behaviour("climate-07", "alarms-10")
def test_a_lost_sensor_switches_off_and_raises_an_alarm_until_it_answers() -> None:
    core, _ = cooling()
    assert feels(core, None) == (off("F1"),)
    assert stands(core, Alarm.SENSOR_FAULT)
    pass_ns(core, 400 * S)
    assert not climate(core).running
    assert feels(core, 22.0) == (COOL_ON,)
    pass_ns(core, 5 * S)
    assert not core.state.alarms


@pytest.mark.behaviour("alarms-10")
def test_a_sensor_is_missed_also_where_nothing_is_heated_or_cooled() -> None:
    core = locker()
    done = core.feed(TemperatureMeasured("P1", None))
    (fact,) = done.facts
    assert (fact.alarm, fact.cell) == (Alarm.SENSOR_FAULT, "P1")
    assert fact.reason == "the temperature sensor does not answer"
    assert not core.feed(TemperatureMeasured("P1", None)).facts
    assert not core.feed(TemperatureMeasured("P1", 20.0)).facts
    (fact,) = wakes(core, 5 * S).facts
    assert (fact.alarm, fact.cell) == (Alarm.SENSOR_FAULT, "P1")
    assert not core.state.alarms


def test_a_cell_without_a_sensor_is_not_looked_at() -> None:
    core = locker()
    core.layout = replace(core.layout, thermometers=frozenset())
    core.reserve(CHILLED)
    feels(core, None)
    assert feels(core, 22.0) == ()
    assert not core.state.alarms


@pytest.mark.behaviour("climate-07")
@pytest.mark.parametrize("degrees", [22.0, 21.6, 24.0])
def test_a_cooler_without_effect_goes_off_with_an_alarm(degrees: float) -> None:
    core, _ = cooling()
    feels(core, degrees)
    done = wakes(core, 10 * MIN)
    assert done.effects == (off("F1"),)
    assert stands(core, Alarm.CLIMATE_NO_EFFECT)
    (fact,) = done.facts
    assert fact.cell == "F1"
    assert fact.reason == f"the cooler is on and the temperature stays at {degrees} °C"


def test_half_a_degree_is_an_effect() -> None:
    core, _ = cooling()
    feels(core, 21.5)
    assert left_s(core) is None
    pass_ns(core, 60 * MIN)
    assert climate(core).running
    assert not core.state.alarms


def test_an_effect_that_is_lost_again_counts_as_none() -> None:
    core, _ = cooling()
    feels(core, 8.0)
    pass_ns(core, 20 * MIN)
    assert feels(core, 21.6) == (off("F1"),)
    assert stands(core, Alarm.CLIMATE_NO_EFFECT)


def test_a_heater_without_effect_is_one_that_gets_nothing_warmer() -> None:
    core = locker()
    core.reserve(WARM)
    feels(core, 22.0, "H1")
    feels(core, 22.7, "H1")
    done = wakes(core, 15 * MIN)
    assert done.effects == (off("H1"),)
    assert done.facts[0].reason == "the heater is on and the temperature stays at 22.7 °C"
    feels(core, 22.0, "H1")
    assert wakes(core, 15 * MIN).effects == (HEAT_ON,)
    feels(core, 22.8, "H1")
    pass_ns(core, 5 * S)
    assert not core.state.alarms


@pytest.mark.behaviour("alarms-13")
def test_without_effect_it_rests_tries_again_and_the_alarm_ends_with_an_effect() -> None:
    core, _ = cooling()
    wakes(core, 10 * MIN)
    assert wakes(core, 10 * MIN).effects == (COOL_ON,)
    assert stands(core, Alarm.CLIMATE_NO_EFFECT)
    feels(core, 21.6)
    assert stands(core, Alarm.CLIMATE_NO_EFFECT)
    feels(core, 21.5)
    pass_ns(core, 5 * S)
    assert not stands(core, Alarm.CLIMATE_NO_EFFECT)
    assert climate(core).running


def test_the_minimum_rest_is_kept_also_where_it_is_longer() -> None:
    core = locker()
    core.layout = replace(core.layout, climate={"F1": Regimes(cold=replace(COLD, min_off_ns=11 * MIN))})
    core.reserve(CHILLED)
    feels(core, 22.0)
    wakes(core, 10 * MIN)
    assert wakes(core, 11 * MIN).effects == (COOL_ON,)


@pytest.mark.behaviour("alarms-13")
def test_an_alarm_of_no_effect_ends_with_the_need() -> None:
    core, reservation = cooling()
    wakes(core, 10 * MIN)
    (fact,) = [fact for fact in core.feed(core.cancel(reservation)).facts if fact.alarm is not None]
    assert (fact.kind, fact.cell) == (FactKind.ALARM_CLEARED, "F1")
    assert not core.state.alarms


# Starts.


@pytest.mark.behaviour("climate-08")
def test_at_a_start_everything_is_off_and_the_rest_begins_anew() -> None:
    core, _ = cooling()
    pass_ns(core, 100 * S)
    assert core.restart({}).effects == ()
    assert climate(core) == Climate("cold", active=True, switched=core.now)
    assert left_s(core) is None
    assert feels(core, 22.0) == ()
    assert wakes(core, 180 * S).effects == (COOL_ON,)


def test_a_restart_of_the_daemon_does_not_lengthen_a_rest() -> None:
    core, _ = cooling()
    feels(core, None)
    pass_ns(core, 100 * S)
    core.restart({})
    feels(core, 22.0)
    wakes(core, 5 * S)  # the alarm of the sensor ends
    assert wakes(core, 75 * S).effects == (COOL_ON,)


@pytest.mark.parametrize("synced", [True, False])
def test_a_rest_of_an_earlier_boot_runs_on_where_a_clock_shows_the_time(synced: bool) -> None:
    core, _ = cooling()
    feels(core, None)
    core.now = replace(core.now, synced=synced)
    core.restart({}, boot_id="boot-2", off_s=100)
    feels(core, 22.0)
    wakes(core, 5 * S)  # the alarm of the sensor ends
    assert wakes(core, (75 if synced else 175) * S).effects == (COOL_ON,)


def test_what_is_not_configured_any_more_is_forgotten_at_a_start() -> None:
    core = locker()
    feels(core, None, "P1")
    feels(core, None, "H1")
    core.layout = replace(core.layout, thermometers=frozenset({"H1"}))
    core.restart({})
    assert not stands(core, Alarm.SENSOR_FAULT, "P1")
    assert stands(core, Alarm.SENSOR_FAULT, "H1")


def test_an_alarm_of_no_effect_goes_with_its_regime() -> None:
    core, _ = cooling()
    wakes(core, 10 * MIN)
    core.restart({})
    assert stands(core, Alarm.CLIMATE_NO_EFFECT)
    core.layout = replace(core.layout, climate={})
    core.state = replace(core.state, climate={})
    core.restart({})
    assert not core.state.alarms


def test_a_regime_that_is_new_is_used_from_the_next_start_on() -> None:
    core = locker()
    layout = core.layout
    core.layout = replace(layout, climate={})
    core.reserve(CHILLED)
    assert not core.state.climate
    core.layout = layout
    core.restart({"F1": Door.UNKNOWN})
    assert feels(core, 22.0) == (COOL_ON,)
