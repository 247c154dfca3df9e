"""What food went through, also while the machine had no power."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Purpose
from edge_agent.statemachine.climate import UNBROKEN_NS
from edge_agent.statemachine.inputs import Tick
from edge_agent.statemachine.state import Climate
from tests.support.pure_core.core import Core
from tests.support.pure_core.fridge import (
    CHILLED,
    MIN,
    WARM,
    S,
    climate,
    cooling,
    feels,
    left_s,
    locker,
    out_of_range,
    pass_ns,
    stored,
    wakes,
)


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
    core.opens(core.command(reservation, Purpose.PICKUP))
    assert out_of_range(core)
    core.close("F1")
    core.pass_s(1)
    assert not core.state.alarms


@pytest.mark.behaviour("climate-10", "climate-11")
def test_hot_food_may_be_too_cold_for_two_hours() -> None:
    core = locker()
    reservation = core.reserve(WARM)
    feels(core, 66.0, "H1")
    core.opens(core.command(reservation, Purpose.DROPOFF))
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
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("F1")
    core.opens(core.command(reservation, Purpose.PICKUP))
    pass_ns(core, 60 * MIN)
    assert not out_of_range(core)


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
    pass_ns(core, 600 * S)
    feels(core, 4.0)
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


def test_a_start_in_doubt_is_a_start_as_well() -> None:
    core, reservation = stored(8.0)
    wakes(core, 180 * S)
    assert climate(core).running
    good = climate(core).good or core.live(reservation).dropped_off
    without_clock(core, 10)
    expected = Climate("cold", active=True, switched=core.now, good=core.now, gap_from=good)
    assert climate(core) == expected


def test_what_was_proven_ends_with_the_reservation() -> None:
    core, reservation = stored()
    without_clock(core, 10)
    feels(core, 4.0)
    core.opens(core.command(reservation, Purpose.PICKUP))
    after = climate(core)
    assert (after.active, after.good, after.gap_from, after.gap_to) == (False, None, None, None)


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
    core.opens(core.command(reservation, Purpose.DROPOFF))
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
