"""Heating and cooling: when, how long, when not; and what is told of the food."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Alarm, CellSpec, Door, Packaging, Purpose, Reservation
from edge_agent.statemachine.climate import UNBROKEN_NS
from edge_agent.statemachine.inputs import DoorsSeen, TemperatureSeen, Tick
from edge_agent.statemachine.locker import next_due_ns
from edge_agent.statemachine.outputs import SetClimate
from edge_agent.statemachine.state import Climate, Layout, Regime, Regimes
from edge_agent.statemachine.turn import Step
from tests.support.core import SMALL, Core

S = 10**9
MIN = 60 * S
CHILLED = Packaging(200, 100, 300, 500, cooling_required=True)
WARM = Packaging(200, 100, 300, 500, heating_required=True)
BOTH = Packaging(200, 100, 300, 500, heating_required=True, cooling_required=True)
COLD = Regime("cold", 3.0, 1.0, 60 * S, 180 * S, 5.0, 30 * MIN, 20 * MIN, 10 * MIN, 0.5)
HOT = Regime("hot", 65.0, 2.0, 40 * S, 90 * S, 57.0, 120 * MIN, 45 * MIN, 15 * MIN, 0.8)
COOL_ON = SetClimate("F1", heating=False, cooling=True)
HEAT_ON = SetClimate("H1", heating=True, cooling=False)


def off(label: str) -> SetClimate:
    return SetClimate(label, heating=False, cooling=False)


def locker() -> Core:
    """A fridge, an oven, a cell that can be either, and a plain one with a thermometer."""
    sizes = (350, 250, 450, 10_000)
    built = [
        CellSpec("F1", "id_f1", *sizes, cooling=True),
        CellSpec("H1", "id_h1", *sizes, heating=True),
        CellSpec("X1", "id_x1", *sizes, heating=True, cooling=True),
        CellSpec("P1", "id_p1", *sizes),
    ]
    climate = {"F1": Regimes(cold=COLD), "H1": Regimes(hot=HOT), "X1": Regimes(COLD, HOT)}
    specs = {spec.label: spec for spec in built}
    return Core(Layout(specs=specs, climate=climate, thermometers=frozenset(specs)))


def feels(core: Core, degrees: float | None, label: str = "F1") -> tuple[object, ...]:
    return core.feed(TemperatureSeen(label, degrees)).effects


def stands(core: Core, alarm: Alarm, label: str = "F1") -> bool:
    return f"{alarm}/{label}" in core.state.alarms


def out_of_range(core: Core, label: str = "F1") -> bool:
    return stands(core, Alarm.TEMPERATURE_OUT_OF_RANGE, label)


def climate(core: Core, label: str = "F1") -> Climate:
    return core.state.climate[label]


def left_s(core: Core) -> float | None:
    due_ns = next_due_ns(core.state, core.layout, core.now)
    return None if due_ns is None else (due_ns - core.now.boottime_ns) / 1e9


def pass_ns(core: Core, ns: int) -> Step:
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + ns, wall_s=core.now.wall_s + ns / 1e9)
    return core.feed(Tick())


def wakes(core: Core, ns: int) -> Step:
    """Nothing is due before `ns` are over, and then something is; the step that does it."""
    due_ns = next_due_ns(core.state, core.layout, core.now)
    assert due_ns == core.now.boottime_ns + ns
    before = core.state
    done = pass_ns(core, ns - 1)
    assert (done.effects, core.state) == ((), before)
    return pass_ns(core, 1)


def cooling() -> tuple[Core, Reservation]:
    """A chilled parcel is awaited, and its cell is being cooled from 22 degrees."""
    core = locker()
    reservation = core.reserve(CHILLED)
    assert reservation.cell == "F1"
    assert feels(core, 22.0) == (COOL_ON,)
    return core, reservation


def stored(degrees: float = 4.0) -> tuple[Core, Reservation]:
    """A chilled parcel was dropped off in a fridge at `degrees`, which was told just then."""
    core = locker()
    reservation = core.reserve(CHILLED, grace_pickup_s=0)
    feels(core, degrees)
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    core.close("F1")
    feels(core, degrees)
    return core, core.live(reservation)


# When it is on.


@pytest.mark.behaviour("climate-02")
def test_without_an_eta_a_cell_is_prepared_at_once() -> None:
    core, _ = cooling()
    assert climate(core).active
    assert climate(core).running


@pytest.mark.behaviour("climate-02")
@pytest.mark.parametrize(("eta_min", "wait_min"), [(21, 1), (120, 100)])
def test_with_an_eta_it_begins_so_long_before(eta_min: int, wait_min: int) -> None:
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


def test_an_eta_of_which_no_clock_can_tell_begins_at_once() -> None:
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
    done = core.feed(core.wish(reservation, Purpose.PICKUP))
    assert not [e for e in done.effects if isinstance(e, SetClimate)]
    core.feed(DoorsSeen({"F1": Door.OPEN}))
    assert not climate(core).running


def test_a_drop_off_before_its_time_begins_at_once() -> None:
    core = locker()
    reservation = core.reserve(CHILLED, eta_minutes=600)
    core.opens(core.wish(reservation, Purpose.DROPOFF))
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
    assert not climate(core).active
    assert climate(core).temperature_c is None
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
    core.jams(core.feed(core.wish(reservation, Purpose.DROPOFF)))
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
    core.feed(core.wish(reservation, Purpose.DROPOFF))
    core.feed(DoorsSeen({"F1": Door.OPEN}))
    assert not climate(core).running
    alarms = {alarm.alarm for alarm in core.state.alarms.values()}
    assert alarms <= {Alarm.DOOR_FORCED}
    pass_ns(core, 200 * S)
    assert feels(core, 25.0) == ()
    assert core.close("F1").effects == (COOL_ON,)


def test_a_door_that_cannot_be_read_is_not_open() -> None:
    core, _ = cooling()
    core.feed(DoorsSeen({"F1": Door.UNKNOWN}))
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
    assert not core.state.alarms


@pytest.mark.behaviour("alarms-10")
def test_a_sensor_is_missed_also_where_nothing_is_heated_or_cooled() -> None:
    core = locker()
    done = core.feed(TemperatureSeen("P1", None))
    (fact,) = done.facts
    assert (fact.alarm, fact.cell) == (Alarm.SENSOR_FAULT, "P1")
    assert not core.feed(TemperatureSeen("P1", None)).facts
    (fact,) = core.feed(TemperatureSeen("P1", 20.0)).facts
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
    core.feed(core.cancel(reservation))
    assert not core.state.alarms


# Food.


@pytest.mark.behaviour("climate-10", "climate-11", "alarms-16")
def test_cold_food_may_be_too_warm_for_half_an_hour_and_the_alarm_stays_until_the_end() -> None:
    core, reservation = stored()
    pass_ns(core, 10 * S)
    feels(core, 5.1)
    climate_was = climate(core).good
    assert climate_was == core.now
    pass_ns(core, 30 * MIN)
    assert not out_of_range(core)
    assert left_s(core) == 1e-9
    pass_ns(core, 1)
    assert out_of_range(core)
    fact = core.facts[-1]
    assert fact.cell == "F1"
    assert fact.reason == f"{reservation.reservation_id}: warmer than 5.0 °C, or not proven else, for 30 min"
    feels(core, 3.0)
    pass_ns(core, 90 * MIN)
    assert out_of_range(core)
    core.opens(core.wish(reservation, Purpose.PICKUP))
    assert out_of_range(core)
    core.close("F1")
    core.pass_s(1)
    assert not core.state.alarms


@pytest.mark.behaviour("climate-10", "climate-11")
def test_hot_food_may_be_too_cold_for_two_hours() -> None:
    core = locker()
    reservation = core.reserve(WARM)
    feels(core, 66.0, "H1")
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    core.close("H1")
    feels(core, 57.0, "H1")
    pass_ns(core, 10 * S)
    feels(core, 56.9, "H1")
    pass_ns(core, 120 * MIN)
    assert not out_of_range(core, "H1")
    pass_ns(core, 1)
    assert out_of_range(core, "H1")
    why = f"{reservation.reservation_id}: colder than 57.0 °C, or not proven else, for 120 min"
    assert core.facts[-1].reason == why


@pytest.mark.parametrize(("degrees", "out"), [(5.0, False), (5.1, True)])
def test_the_limit_itself_is_within(degrees: float, out: bool) -> None:
    core, _ = stored()
    for _ in range(62):
        pass_ns(core, 30 * S)
        feels(core, degrees)
    assert out_of_range(core) is out


def test_a_measurement_within_ends_an_excursion() -> None:
    core, _ = stored()
    for _ in range(3):
        feels(core, 6.0)
        pass_ns(core, 30 * MIN)
        feels(core, 5.0)
        pass_ns(core, S)
    assert not out_of_range(core)


def test_the_time_counts_from_the_drop_off_where_nothing_was_within() -> None:
    core, _ = stored(22.0)
    pass_ns(core, 15 * MIN)
    feels(core, 6.0)
    pass_ns(core, 15 * MIN)
    assert not out_of_range(core)
    pass_ns(core, 1)
    assert out_of_range(core)


def test_the_way_to_the_first_warm_measurement_is_proven_only_if_it_is_short() -> None:
    core, _ = stored()
    pass_ns(core, UNBROKEN_NS)
    feels(core, 6.0)
    assert climate(core).good == core.now
    core, _ = stored()
    good = climate(core).good
    pass_ns(core, UNBROKEN_NS + 1)
    feels(core, 6.0)
    assert climate(core).good == good
    feels(core, 6.1)
    assert climate(core).good == good


def test_while_the_sensor_is_lost_nothing_is_proven() -> None:
    core, _ = stored()
    feels(core, None)
    assert climate(core).good == core.now
    pass_ns(core, 30 * MIN)
    assert not out_of_range(core)
    pass_ns(core, 1)
    assert out_of_range(core)


def test_two_measurements_within_prove_nothing_about_a_long_time_between() -> None:
    core, _ = stored()
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 30 * MIN + 1)
    feels(core, 4.0)
    assert out_of_range(core)
    core, _ = stored()
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 30 * MIN)
    feels(core, 4.0)
    assert not out_of_range(core)


def test_before_the_drop_off_and_after_the_pickup_nothing_is_food() -> None:
    core, reservation = cooling()
    feels(core, 4.0)
    feels(core, 22.0)
    pass_ns(core, 60 * MIN)
    assert climate(core).good is None
    assert not out_of_range(core)
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    core.close("F1")
    core.opens(core.wish(reservation, Purpose.PICKUP))
    pass_ns(core, 60 * MIN)
    assert not out_of_range(core)


# Restarts.


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
    assert wakes(core, 80 * S).effects == (COOL_ON,)


@pytest.mark.parametrize("synced", [True, False])
def test_a_rest_of_an_earlier_boot_runs_on_where_a_clock_can_tell(synced: bool) -> None:
    core, _ = cooling()
    feels(core, None)
    core.now = replace(core.now, synced=synced)
    core.restart({}, boot_id="boot-2", off_s=100)
    feels(core, 22.0)
    assert wakes(core, (80 if synced else 180) * S).effects == (COOL_ON,)


@pytest.mark.behaviour("climate-12")
@pytest.mark.parametrize(("off_s", "out"), [(1700, False), (1800, False), (1800.001, True), (90_000, True)])
def test_a_gap_longer_than_allowed_counts_as_out_of_range(off_s: float, out: bool) -> None:
    core, _ = stored()
    core.restart({}, boot_id="boot-2", off_s=off_s)
    feels(core, 4.0)
    assert out_of_range(core) is out
    core.restart({}, boot_id="boot-3")
    assert out_of_range(core) is out


@pytest.mark.behaviour("climate-12")
def test_a_gap_and_the_warmth_after_it_are_one_excursion() -> None:
    core, _ = stored()
    core.restart({}, boot_id="boot-2", off_s=1000)
    feels(core, 9.0)
    pass_ns(core, 800 * S)
    assert not out_of_range(core)
    pass_ns(core, 1)
    assert out_of_range(core)


def without_clock(core: Core, off_s: float) -> None:
    core.now = replace(core.now, synced=False)
    core.restart({}, boot_id="boot-2", off_s=off_s)


@pytest.mark.behaviour("climate-12")
@pytest.mark.parametrize(("off_s", "out"), [(1700, False), (1800, False), (1801, True)])
def test_a_gap_of_unknown_length_is_judged_when_the_clock_is_synchronised(off_s: float, out: bool) -> None:
    core, _ = stored()
    without_clock(core, off_s)
    feels(core, 4.0)
    for _ in range(3):
        pass_ns(core, 300 * S)
        feels(core, 4.0)
    assert not out_of_range(core)
    core.now = replace(core.now, synced=True)
    core.feed(Tick())
    assert out_of_range(core) is out
    assert (climate(core).gap_from, climate(core).gap_to) == (None, None)
    pass_ns(core, 29 * MIN)
    assert out_of_range(core) is out


@pytest.mark.behaviour("climate-12")
def test_a_gap_of_unknown_length_that_lasts_becomes_an_excursion_of_known_length() -> None:
    core, _ = stored()
    good = climate(core).good
    assert good is not None
    without_clock(core, 1000)
    feels(core, 9.0)
    pass_ns(core, 700 * S)
    core.now = replace(core.now, synced=True)
    core.feed(Tick())
    assert not out_of_range(core)
    assert climate(core).gap_from is None
    pass_ns(core, 100 * S)
    assert not out_of_range(core)
    pass_ns(core, S)
    assert out_of_range(core)


@pytest.mark.behaviour("climate-12")
def test_a_doubt_that_stands_too_long_counts_as_out_of_range() -> None:
    core, _ = stored()
    without_clock(core, 10)
    pass_ns(core, 20 * S)
    feels(core, 4.0)
    for _ in range(6):
        pass_ns(core, 290 * S)
        feels(core, 4.0)
    assert climate(core).gap_to is not None
    pass_ns(core, 60 * S)
    assert not out_of_range(core)
    assert left_s(core) == 1e-9
    pass_ns(core, 1)
    assert out_of_range(core)


def test_a_start_without_a_clock_counts_at_least_itself() -> None:
    core, _ = stored()
    without_clock(core, 10)
    feels(core, 9.0)
    pass_ns(core, 30 * MIN)
    assert not out_of_range(core)
    pass_ns(core, 1)
    assert out_of_range(core)


def test_two_starts_without_a_clock_are_one_gap() -> None:
    core, _ = stored()
    good = climate(core).good
    without_clock(core, 10)
    feels(core, 4.0)
    assert climate(core).gap_to == core.now
    core.restart({}, boot_id="boot-3", off_s=1900)
    assert (climate(core).gap_from, climate(core).gap_to) == (good, None)
    feels(core, 4.0)
    core.now = replace(core.now, synced=True)
    core.feed(Tick())
    assert out_of_range(core)


def test_a_restart_of_the_daemon_leaves_a_doubt_as_it_is() -> None:
    core, _ = stored()
    without_clock(core, 10)
    feels(core, 4.0)
    before = climate(core)
    core.restart({}, off_s=5)
    after = climate(core)
    assert (after.gap_from, after.gap_to, after.good) == (before.gap_from, before.gap_to, before.good)


def test_the_first_measurement_within_ends_the_gap_and_no_later_one() -> None:
    core, _ = stored()
    without_clock(core, 10)
    feels(core, 9.0)
    assert climate(core).gap_to is None
    feels(core, 4.0)
    first = climate(core).gap_to
    pass_ns(core, S)
    feels(core, 4.1)
    assert climate(core).gap_to == first


def test_an_empty_fridge_has_no_gap() -> None:
    core, _ = cooling()
    without_clock(core, 99_999)
    feels(core, 4.0)
    assert climate(core).gap_from is None
    pass_ns(core, 60 * MIN)
    assert not out_of_range(core)


def test_a_drop_off_before_a_gap_counts_also_without_any_measurement() -> None:
    core = locker()
    reservation = core.reserve(CHILLED)
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    core.close("F1")
    dropped_off = core.live(reservation).dropped_off
    without_clock(core, 10)
    assert climate(core).gap_from == dropped_off


def test_the_latch_and_what_led_to_it_end_with_the_reservation() -> None:
    core, reservation = stored()
    core.restart({}, boot_id="boot-2", off_s=90_000)
    assert out_of_range(core)
    core.feed(core.abandon(reservation))
    assert not core.state.alarms
    core.clear("F1")
    core.reserve(CHILLED)
    assert climate(core).good is None


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
