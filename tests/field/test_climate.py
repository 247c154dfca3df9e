"""Heaters and coolers on simulated wires: cold comes, doors switch off, nothing outlives the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from edge_agent.console.api import ConsolePort, create_app
from edge_agent.errors import BusFault, BusTimeout
from edge_agent.field.climate_outputs import (
    BOARD_RETRY_S,
    HOLD_MS,
    PULSE_MARGIN_S,
    RENEWED_EVERY_S,
    ClimateOutputs,
)
from edge_agent.field.temperatures import REPORTED_AT_LEAST_S, Temperatures
from edge_agent.model import Alarm
from edge_agent.statemachine.climate import UNBROKEN_NS
from edge_agent.statemachine.inputs import Input, TemperatureMeasured
from edge_agent.statemachine.outputs import SetClimate
from tests.support.site import PARCEL, Site, at_site
from tools.simulate.virtual_loop import VirtualLoop

CHILLED = PARCEL | {"cooling_required": True}


def row(site: Site, label: str) -> dict[str, object]:
    assert site.plant.agent is not None
    return next(row for row in site.plant.agent.report.cells() if row["label"] == label)


def alarms(site: Site) -> set[str]:
    assert site.plant.agent is not None
    return {alarm.alarm for alarm in site.plant.agent.loop.state.alarms.values()}


async def chilled(site: Site) -> str:
    """A chilled parcel is reserved for; its cell is cold."""
    made = await site.reserve(packaging=CHILLED)
    label: str = made["cell"]["description"]
    await site.until(lambda: site.plant.world.cell(label).temperature_c < 4, 200)
    return label


@pytest.mark.behaviour("climate-01", "climate-02", "climate-03", "climate-07")
@pytest.mark.long
def test_a_chilled_parcel_has_a_cold_cell_until_its_pick_up(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        world = site.plant.world
        label = await chilled(site)
        assert row(site, label)["climate"] == "cooling"
        assert not any(cell.heating or cell.cooling for cell in world.cells() if cell.label != label)
        await site.call("dropoff", "res_1")
        await site.until(lambda: not world.cell(label).cooling, 2)
        assert row(site, label)["climate"] == "off"
        await asyncio.sleep(60)
        assert not world.cell(label).cooling
        world.close(label)
        await site.until(lambda: world.cell(label).cooling, 10)
        await asyncio.sleep(180)
        assert 1.5 < world.cell(label).temperature_c < 4.5
        await site.call("pickup", "res_1")
        await site.until(lambda: not world.cell(label).cooling, 2)
        world.close(label)
        await asyncio.sleep(60)
        assert not world.cell(label).cooling
        assert not alarms(site)

    at_site(tmp_path, test)


@pytest.mark.behaviour("climate-08")
def test_nothing_stays_on_when_the_daemon_dies(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        world = site.plant.world
        made = await site.reserve(packaging=CHILLED)
        label = made["cell"]["description"]
        await site.until(lambda: world.cell(label).cooling, 5)
        await asyncio.sleep(30)
        assert world.cell(label).cooling
        await site.plant.kill()
        assert world.cell(label).cooling
        await asyncio.sleep(HOLD_MS / 1000)
        assert not world.cell(label).cooling
        site.plant.start()
        await site.until(lambda: world.cell(label).cooling, 15)

    at_site(tmp_path, test)


@pytest.mark.behaviour("time-17")
def test_cooling_goes_on_without_the_cloud(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(packaging=CHILLED)
        label = made["cell"]["description"]
        link, site.plant.broker.link = site.plant.broker.link, None
        assert link is not None
        link._up = False
        await site.until(lambda: site.plant.world.cell(label).temperature_c < 2.5, 200)
        link._up = True
        link.report_up()

    at_site(tmp_path, test)


def test_while_the_journal_cannot_be_written_nothing_is_cooled(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        world = site.plant.world
        made = await site.reserve(packaging=CHILLED)
        label = made["cell"]["description"]
        await site.until(lambda: world.cell(label).cooling, 5)
        site.plant.lifeline.disk_full = True
        await site.until(lambda: not world.cell(label).cooling, 40)
        site.plant.lifeline.disk_full = False
        await site.until(lambda: world.cell(label).cooling, 10)

    at_site(tmp_path, test)


@pytest.mark.behaviour("climate-07", "alarms-10")
def test_a_silent_thermometer_switches_off_until_it_answers(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        world = site.plant.world
        made = await site.reserve(packaging=CHILLED)
        label = made["cell"]["description"]
        await site.until(lambda: world.cell(label).cooling, 5)
        end = site.plant.cables["main"].trouble.silences[5].begin(None)
        await site.until(lambda: not world.cell(label).cooling, 10)
        assert Alarm.SENSOR_FAULT in alarms(site)
        end()
        await site.until(lambda: world.cell(label).cooling, 20)
        await site.until(lambda: not alarms(site), 10)

    at_site(tmp_path, test)


@pytest.mark.behaviour("probe-01", "probe-02")
@pytest.mark.parametrize("reads_c", [85.0, pytest.param(-127.0, marks=pytest.mark.long)])
def test_w11_a_reading_out_of_range_switches_off_and_counts_as_a_gap(tmp_path: Path, reads_c: float) -> None:
    async def test(site: Site) -> None:
        world = site.plant.world
        label = await chilled(site)
        await site.call("dropoff", "res_1")
        world.place(label, 900)
        world.close(label)
        await site.until(lambda: len(site.published("DROPOFF")) == 1)
        await site.until(lambda: world.cell(label).cooling, 200)
        end = world.kill_probe(label, reads_c)
        await site.until(lambda: not world.cell(label).cooling, 10)
        assert Alarm.SENSOR_FAULT in alarms(site)
        assert row(site, label)["temperature_c"] is None
        assert Alarm.TEMPERATURE_OUT_OF_RANGE not in alarms(site)
        await site.until(lambda: Alarm.TEMPERATURE_OUT_OF_RANGE in alarms(site), 90)
        end()
        await site.until(lambda: Alarm.SENSOR_FAULT not in alarms(site), 90)
        assert Alarm.TEMPERATURE_OUT_OF_RANGE in alarms(site)  # it stays until the reservation ends

    at_site(tmp_path, test, climate={"cold": {"allowed_min": 1}})


class Relay:
    """Records its commands with their times; `deaf`: the board does not answer."""

    def __init__(self, name: str, commands: list[tuple[float, str]], *, timed: bool = True) -> None:
        self.board = name.partition(" ")[0]
        self.timed = timed
        self.deaf = False
        self._name = name
        self._commands = commands

    async def hold(self, ms: int) -> None:
        assert ms == HOLD_MS
        self._note("on")

    async def off(self) -> None:
        self._note("off")

    def _note(self, word: str) -> None:
        self._commands.append((round(asyncio.get_running_loop().time(), 3), f"{self._name} {word}"))
        if self.deaf:
            raise BusTimeout("nothing")


class Hands:
    """One cell with a heater and a cooler, whose relays the test controls."""

    def __init__(self, *, timed: bool = True, board: str = "b") -> None:
        self.commands: list[tuple[float, str]] = []
        self.steered = True
        self.heater = Relay("b heater", self.commands, timed=timed)
        self.cooler = Relay(f"{board} cooler", self.commands, timed=timed)
        self.outputs = ClimateOutputs({"X": self.heater}, {"X": self.cooler}, lambda: self.steered)

    def set(self, *, heating: bool = False, cooling: bool = False) -> None:
        self.outputs.set(SetClimate("X", heating, cooling))

    def take(self) -> list[tuple[float, str]]:
        commands = self.commands.copy()
        self.commands.clear()
        return commands


def virtually(test: Callable[[Hands], Awaitable[None]], hands: Callable[[], Hands] = Hands) -> None:
    async def run() -> None:
        made = hands()
        task = asyncio.create_task(made.outputs.run())
        await test(made)
        task.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_an_output_is_renewed_long_before_its_pulse_ends() -> None:
    async def test(hands: Hands) -> None:
        begin_s = asyncio.get_running_loop().time()
        hands.set(heating=True)
        hands.set(heating=True)
        await asyncio.sleep(2 * RENEWED_EVERY_S + 1)
        assert [(at - begin_s, word) for at, word in hands.take()] == [
            (0, "b heater on"),
            (RENEWED_EVERY_S, "b heater on"),
            (2 * RENEWED_EVERY_S, "b heater on"),
        ]
        hands.set()
        await asyncio.sleep(60)
        assert [word for _, word in hands.take()] == ["b heater off"]

    assert 2 * RENEWED_EVERY_S * 1000 < HOLD_MS
    virtually(test)


@pytest.mark.behaviour("climate-06")
def test_the_other_output_waits_until_the_first_is_known_to_be_off() -> None:
    async def test(hands: Hands) -> None:
        hands.set(heating=True)
        await asyncio.sleep(1)
        hands.heater.deaf = True
        end_s = hands.take()[-1][0] + HOLD_MS / 1000 + PULSE_MARGIN_S
        hands.set(cooling=True)
        await asyncio.sleep(40)
        words = hands.take()
        at_s = next(at for at, word in words if word == "c cooler on")
        assert end_s <= at_s <= end_s + 2
        assert all(word == "b heater off" for at, word in words if at < at_s)
        hands.heater.deaf = False
        hands.set(heating=True)
        await asyncio.sleep(2)
        assert [word for _, word in hands.take()] == ["c cooler off", "b heater on"]

    virtually(test, lambda: Hands(board="c"))


def test_a_board_that_does_not_answer_is_asked_once_a_second() -> None:
    async def test(hands: Hands) -> None:
        hands.heater.deaf = hands.cooler.deaf = True
        hands.set(heating=True)
        await asyncio.sleep(0.1)
        hands.set(cooling=True)
        await asyncio.sleep(10)
        times = [at for at, _ in hands.take()]
        assert len(times) >= 8
        assert min(b - a for a, b in pairwise(times)) > BOARD_RETRY_S - 0.001

    virtually(test)


def test_a_board_with_a_timeout_of_its_own_is_off_only_when_it_reads_off() -> None:
    async def test(hands: Hands) -> None:
        hands.set(heating=True)
        await asyncio.sleep(1)
        hands.heater.deaf = True
        hands.set(cooling=True)
        await asyncio.sleep(600)
        assert "c cooler on" not in {word for _, word in hands.take()}
        hands.heater.deaf = False
        await asyncio.sleep(3)
        assert [word for _, word in hands.take()] == ["b heater off", "c cooler on"]

    virtually(test, lambda: Hands(timed=False, board="c"))


def test_an_output_without_control_goes_off_and_comes_on_again() -> None:
    async def test(hands: Hands) -> None:
        hands.set(heating=True)
        await asyncio.sleep(3)
        hands.steered = False
        await asyncio.sleep(30)
        assert [word for _, word in hands.take()] == ["b heater on", "b heater off"]
        hands.steered = True
        await asyncio.sleep(2)
        assert [word for _, word in hands.take()] == ["b heater on"]

    virtually(test)


def test_an_output_request_for_a_cell_without_outputs_is_ignored() -> None:
    async def test(hands: Hands) -> None:
        hands.outputs.set(SetClimate("Y", heating=True, cooling=False))
        await asyncio.sleep(5)
        assert not hands.take()

    virtually(test)
    assert issubclass(BusTimeout, BusFault)


class Sensor:
    """The reporting of temperatures, fed by the test."""

    def __init__(self) -> None:
        self.reported: list[Input] = []
        self.active = False
        self.temperatures = Temperatures(self.reported.append, lambda label: self.active)

    def read(self, degrees: float | None) -> list[float | None]:
        """What is reported of a reading."""
        self.temperatures.read("F1", degrees)
        temperatures = [one.temperature_c for one in self.reported if isinstance(one, TemperatureMeasured)]
        self.reported.clear()
        return temperatures


def sensing(test: Callable[[Sensor], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(Sensor())

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_a_temperature_in_use_is_reported_at_each_change_and_every_half_minute() -> None:
    async def test(sensor: Sensor) -> None:
        assert sensor.read(22.0) == [22.0]
        assert sensor.read(15.0) == []
        sensor.active = True
        assert sensor.read(15.0) == [15.0]
        assert sensor.read(15.1) == []
        assert sensor.read(15.3) == [15.3]
        await asyncio.sleep(REPORTED_AT_LEAST_S - 0.1)
        assert sensor.read(15.3) == []
        await asyncio.sleep(0.1)
        assert sensor.read(15.3) == [15.3]
        sensor.active = False
        await asyncio.sleep(60)
        assert sensor.read(25.0) == []
        sensor.active = True
        assert sensor.read(15.3) == [15.3]

    assert UNBROKEN_NS == 2 * REPORTED_AT_LEAST_S * 10**9
    sensing(test)


def test_a_board_that_answers_no_sensor_makes_the_sensor_lost_at_once() -> None:
    async def test(sensor: Sensor) -> None:
        sensor.read(22.0)
        assert [sensor.read(None) for _ in range(3)] == [[None], [], []]
        assert sensor.read(22.0) == [22.0]

    sensing(test)


def test_a_sensor_that_was_never_there_is_lost() -> None:
    async def test(sensor: Sensor) -> None:
        sensor.temperatures.lost("F1")
        sensor.temperatures.lost("F1")
        assert sensor.reported == [TemperatureMeasured("F1", None)]

    sensing(test)


@pytest.mark.long
def test_a_parcel_that_was_picked_up_has_a_temperature_log(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        world = site.plant.world
        label = await chilled(site)
        await site.call("dropoff", "res_1")
        await asyncio.sleep(60)
        world.close(label)
        await asyncio.sleep(30)
        end = site.plant.cables["main"].trouble.silences[5].begin(None)
        await asyncio.sleep(20)
        end()
        await asyncio.sleep(30)
        await site.plant.kill()
        site.plant.start()
        await asyncio.sleep(60)
        await site.call("pickup", "res_1")
        await asyncio.sleep(1)
        world.take(label)
        world.close(label)
        await site.until(lambda: bool(site.published("RESERVATION_COMPLETED")))
        await site.reserve(2)
        agent = site.plant.agent
        assert agent is not None
        transport = httpx.ASGITransport(app=create_app(ConsolePort(agent.local, agent.report)))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as console:
            log = (await console.get("/v1/reservations/res_1/temperatures")).json()
            unknown = await console.get("/v1/reservations/res_x/temperatures")
            assert (unknown.status_code, unknown.json()["message"]) == (404, "no such reservation: res_x")
            plain = await console.get("/v1/reservations/res_2/temperatures")
            assert plain.json()["message"] == "reservation res_2 needs no heating or cooling"
        assert (log["reservation_id"], log["cell"]) == ("res_1", label)
        assert log["dropped_off_at"] < log["picked_up_at"]
        readings = log["readings"]
        assert [r["at"] for r in readings] == sorted(r["at"] for r in readings)
        assert readings[0]["temperature_c"] > 20
        assert min(r["temperature_c"] for r in readings if r["temperature_c"] is not None) < 4
        assert sum(r["temperature_c"] is None for r in readings) == 1
        assert {(r["door"], r["output"]) for r in readings} >= {("open", "off"), ("closed", "cooling")}
        times = [datetime.fromisoformat(r["at"]).timestamp() for r in readings]
        assert max(b - a for a, b in pairwise(times)) <= REPORTED_AT_LEAST_S + 5
        rising = [r["temperature_c"] for r in readings if r["door"] == "open"]
        assert rising == sorted(rising)
        assert len(rising) > 3

    at_site(tmp_path, test)
