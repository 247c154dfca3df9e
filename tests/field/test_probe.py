"""What no sensor can have measured is no temperature (BEHAVIOUR.md, Doubt: Probe)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from edge_agent.drivers.profiles import TemperatureCapability
from edge_agent.field.temperatures import Temperatures
from edge_agent.statemachine.inputs import Input, TemperatureMeasured
from tools.simulate.virtual_loop import VirtualLoop

PROBE = TemperatureCapability(channels=1, function=3, address=0, degrees_per_count=0.1)


@pytest.mark.parametrize(
    ("temperature_c", "plausible"),
    [(-127.0, False), (-55.0, False), (-54.9, True), (4.0, True), (84.9, True), (85.0, False), (90.0, False)],
)
def test_w11_a_value_out_of_the_probe_s_range_is_no_reading(temperature_c: float, plausible: bool) -> None:
    assert PROBE.plausible(temperature_c) is plausible


@pytest.mark.behaviour("probe-01")
def test_w11_a_profile_may_set_another_range() -> None:
    oven = PROBE.model_copy(update={"below_c": 200.0, "no_sensor_c": (-127.0,)})
    assert oven.plausible(85.0)
    assert oven.plausible(190.0)
    assert not oven.plausible(200.0)


class Sensor:
    """Readings every 2 s of a sensor behind a door."""

    def __init__(self) -> None:
        self.reported: list[float | None] = []
        self.closed = True
        self.temperatures = Temperatures(self._submit, lambda label: True, lambda label: self.closed)

    def _submit(self, given: Input) -> None:
        assert isinstance(given, TemperatureMeasured)
        self.reported.append(given.temperature_c)

    async def reads(self, temperature_c: float | None, for_s: float = 2.0) -> None:
        for _ in range(round(for_s / 2)):
            self.temperatures.read("A01", temperature_c)
            await asyncio.sleep(2)


def run(test: Callable[[Sensor], object]) -> None:
    async def play() -> None:
        await test(Sensor())  # type: ignore[misc]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play())


def test_w11_a_missing_sensor_is_reported_at_its_first_reading() -> None:
    async def test(sensor: Sensor) -> None:
        await sensor.reads(4.0)
        await sensor.reads(None)
        assert sensor.reported == [4.0, None]
        await sensor.reads(4.0)
        assert sensor.reported == [4.0, None, 4.0]

    run(test)


def test_w11_a_jump_behind_a_closed_door_is_a_fault_until_a_minute_is_steady() -> None:
    async def test(sensor: Sensor) -> None:
        await sensor.reads(4.0, 20)
        await sensor.reads(14.1)
        assert sensor.reported == [4.0, None]
        await sensor.reads(14.0, 56)
        assert sensor.reported == [4.0, None]
        await sensor.reads(14.0, 4)
        assert sensor.reported == [4.0, None, 14.0]

    run(test)


def test_w11_another_jump_restarts_the_minute() -> None:
    async def test(sensor: Sensor) -> None:
        await sensor.reads(4.0, 4)
        for _ in range(5):
            await sensor.reads(30.0, 20)
            await sensor.reads(4.0, 20)
        assert sensor.reported == [4.0, None]

    run(test)


@pytest.mark.parametrize(("closed", "step_c"), [(False, 30.0), (True, 9.9)])
def test_w11_warm_air_that_comes_in_and_slow_changes_are_no_fault(closed: bool, step_c: float) -> None:
    async def test(sensor: Sensor) -> None:
        sensor.closed = closed
        for n in range(6):
            await sensor.reads(4.0 + n * step_c, 12)
        assert None not in sensor.reported

    run(test)
