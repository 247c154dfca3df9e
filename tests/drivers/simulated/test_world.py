"""Doors, parcels and temperatures follow physics, at the instants when things happen."""

from __future__ import annotations

import pytest

from edge_agent.drivers.simulated.world import (
    OPENING_MS,
    SETTLING_NS,
    CellBuild,
    DoorIsClosed,
    NoSuchCell,
    World,
)
from edge_agent.errors import Code
from edge_agent.model import Door
from tests.support.steps import SteppedClock
from tools.bus_simulator.plant import restored

MS = 1_000_000
S = 1_000 * MS
WALL_S = 1_700_000_000.25


def make_world(clock: SteppedClock, *cells: CellBuild, seed: int = 0) -> World:
    builds = cells or (CellBuild("A01", opening_ms=60.0), CellBuild("A02", opening_ms=60.0))
    return World(builds, clock_ns=clock.now_ns, wall_s=lambda: WALL_S, seed=seed)


def pulse(world: World, clock: SteppedClock, duration_ms: int, label: str = "A01") -> None:
    world.solenoid(label)(clock.now, clock.now + duration_ms * MS)


def test_solenoid_frees_the_door_after_the_lock_s_own_time() -> None:
    clock = SteppedClock()
    world = make_world(clock)
    closed = world.contact("A01", closed_level=1)
    start_ns = clock.now
    pulse(world, clock, 500)
    clock.advance(59 * MS)
    assert world.cell("A01").door is Door.CLOSED
    clock.advance(441 * MS)
    # Asked only now, the door has been open since its own instant.
    assert world.cell("A01").door is Door.OPEN
    assert world.cell("A02").door is Door.CLOSED
    assert not world.cell("A01").solenoid
    fresh = make_world(SteppedClock(start_ns))
    contact = fresh.contact("A01", closed_level=1)
    fresh.solenoid("A01")(start_ns, start_ns + 500 * MS)
    assert [contact(start_ns + t * MS) for t in (0, 59, 60, 61)] == [1, 1, 0, 0]
    assert closed(clock.now) == 0


def test_contact_follows_its_wiring() -> None:
    clock = SteppedClock()
    world = make_world(clock)
    made, broken = world.contact("A01", closed_level=1), world.contact("A01", closed_level=0)
    assert (made(clock.now), broken(clock.now)) == (1, 0)
    world.open("A01")
    assert (made(clock.now), broken(clock.now)) == (0, 1)


def test_pulse_that_is_too_short_opens_nothing() -> None:
    clock = SteppedClock()
    world = make_world(clock)
    pulse(world, clock, 59)
    clock.advance(S)
    assert world.cell("A01").door is Door.CLOSED
    load = world.solenoid("A01")
    load(clock.now, None)
    clock.advance(30 * MS)
    load(clock.now, clock.now)
    clock.advance(S)
    assert world.cell("A01").door is Door.CLOSED
    assert [a.duration_ms for a in world.actuations()] == [59, 30]


def test_a_door_closed_after_the_pulse_stays_closed() -> None:
    clock = SteppedClock()
    world = make_world(clock)
    pulse(world, clock, 100)
    clock.advance(100 * MS)
    world.close("A01")
    clock.advance(S)
    assert world.cell("A01").door is Door.CLOSED


def test_a_door_closed_while_the_solenoid_is_energised_stays_closed() -> None:
    clock = SteppedClock()
    world = make_world(clock)
    pulse(world, clock, 500)
    clock.advance(200 * MS)
    assert world.cell("A01").door is Door.OPEN
    world.close("A01")
    assert world.cell("A01").door is Door.CLOSED
    clock.advance(S)
    assert world.cell("A01").door is Door.CLOSED


def test_every_lock_has_its_own_time_from_the_seed() -> None:
    def opening_times(seed: int) -> list[int]:
        clock = SteppedClock(0)
        labels = [f"A{n:02}" for n in range(1, 9)]
        world = make_world(clock, *(CellBuild(label) for label in labels), seed=seed)
        contacts = [world.contact(label, closed_level=1) for label in labels]
        for label in labels:
            world.solenoid(label)(0, S)
        times = []
        for contact in contacts:
            times.append(next(t for t in range(200) if contact(t * MS) == 0))
        return times

    first = opening_times(1)
    assert first == opening_times(1)
    assert first != opening_times(2)
    assert len(set(first)) > 4
    assert all(OPENING_MS[0] <= t <= OPENING_MS[1] + 1 for t in first)


def test_putting_in_and_taking_out_need_an_open_door() -> None:
    clock = SteppedClock()
    world = make_world(clock)
    with pytest.raises(DoorIsClosed) as refused:
        world.take("A01")
    assert refused.value.code is Code.NOT_ALLOWED
    with pytest.raises(DoorIsClosed):
        world.place("A01", 5)
    world.open("A01")
    world.place("A01", 1500)
    world.place("A01", 20)
    assert world.cell("A01").grams == 1520
    world.close("A01")
    world.close("A01")
    assert world.cell("A01").grams == 1520
    world.open("A01")
    world.take("A01")
    assert world.cell("A01").grams == 0


def test_unknown_label() -> None:
    world = make_world(SteppedClock())
    with pytest.raises(NoSuchCell) as refused:
        world.cell("Z99")
    assert refused.value.code is Code.NOT_FOUND
    with pytest.raises(NoSuchCell):
        world.solenoid("Z99")


def test_actuations_are_numbered_and_dated() -> None:
    clock = SteppedClock(5 * S)
    world = make_world(clock)
    clock.advance(10 * MS)
    # The board acted 4 ms before the world heard of it.
    world.solenoid("A02")(clock.now - 4 * MS, clock.now + 496 * MS)
    (only,) = world.actuations()
    assert (only.n, only.label, only.duration_ms) == (1, "A02", None)
    assert only.monotonic == pytest.approx(5.006, abs=1e-9)
    assert only.at == "2023-11-14T22:13:20.246Z"
    clock.advance(S)
    pulse(world, clock, 100)
    assert [(a.n, a.label, a.duration_ms) for a in world.actuations()] == [(1, "A02", 500), (2, "A01", None)]
    assert [a.n for a in world.actuations(since=1)] == [2]
    assert world.actuations(since=2) == []


def test_a_second_pulse_while_energised_is_one_longer_actuation() -> None:
    clock = SteppedClock()
    world = make_world(clock)
    pulse(world, clock, 500)
    clock.advance(300 * MS)
    pulse(world, clock, 500)
    clock.advance(S)
    assert [a.duration_ms for a in world.actuations()] == [800]


def test_weight_swings_then_settles() -> None:
    clock = SteppedClock()
    world = make_world(clock)
    weigh = world.platform("A01")
    assert weigh(clock.now).settled
    world.open("A01")
    world.place("A01", 700)
    assert (weigh(clock.now).grams, weigh(clock.now).settled) == (700, False)
    clock.advance(SETTLING_NS)
    assert weigh(clock.now).settled


def test_temperatures_relax_in_closed_form() -> None:
    one, many = SteppedClock(0), SteppedClock(0)
    builds = [CellBuild("B01"), CellBuild("B05")]
    worlds = [make_world(clock, *builds) for clock in (one, many)]
    for world in worlds:
        world.cooler("B01")(0, None)
        world.heater("B05")(0, 100 * S)
    one.advance(150 * S)
    for _ in range(1500):
        many.advance(S // 10)
        worlds[1].cells()
    lazy, busy = worlds[0].cells(), worlds[1].cells()
    for a, b in zip(lazy, busy, strict=True):
        assert a.temperature_c == pytest.approx(b.temperature_c, abs=1e-6)
    cooled, heated = lazy
    assert cooled.temperature_c == pytest.approx(-5 + 27 * 2.718281828**-2.5, abs=1e-3)
    assert (cooled.cooling, cooled.heating, heated.heating) == (True, False, False)
    warm_c = 85 - 63 * 2.718281828 ** (-100 / 60)
    assert heated.temperature_c == pytest.approx(22 + (warm_c - 22) * 2.718281828 ** (-50 / 600), abs=1e-3)


def test_an_open_door_lets_the_cold_out() -> None:
    clock = SteppedClock(0)
    world = make_world(clock, CellBuild("B01", temperature_c=3.0))
    world.cooler("B01")(0, None)
    world.open("B01")
    clock.advance(120 * S)
    assert world.cell("B01").temperature_c == pytest.approx(22 - 19 * 2.718281828**-2, abs=1e-3)
    world.close("B01")
    clock.advance(600 * S)
    assert world.cell("B01").temperature_c < 0


def test_restored_keeps_doors_and_grams_of_cells_that_are_still_there() -> None:
    builds = restored(
        [CellBuild("A01"), CellBuild("A02", grams=3)], {"A01": (Door.OPEN, 40), "X": (Door.OPEN, 1)}
    )
    assert builds == [CellBuild("A01", Door.OPEN, 40), CellBuild("A02", grams=3)]
