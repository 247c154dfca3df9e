"""Scales over the production composition: tares, drifts, errors, and the settling of weights."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from edge_agent.console.api import ConsolePort, create_app
from edge_agent.drivers.interfaces import Weight
from edge_agent.drivers.simulated.instruments import LaumasTransmitter
from edge_agent.drivers.simulated.slave import Rejected
from edge_agent.field.weighing import DEADBAND_G, Weighing
from edge_agent.model import Alarm
from edge_agent.statemachine.inputs import Input, Weighed
from tests.support.site import Site, at_site
from tools.simulate.virtual_loop import VirtualLoop

LABEL = "B01"
"""A cell of the demo locker with a scale, for parcels up to 10,000 g."""


def row(site: Site) -> dict[str, object]:
    assert site.plant.agent is not None
    return next(row for row in site.plant.agent.report.cells() if row["label"] == LABEL)


def scale(site: Site) -> LaumasTransmitter:
    """The transmitter in the cell."""
    (device,) = [
        cell.scale.device for cell in site.plant.settings.cells if cell.label == LABEL and cell.scale
    ]
    address = site.plant.settings.devices[device].address
    (found,) = [slave for slave in site.plant.slaves["main"] if slave.address == address]
    assert isinstance(found, LaumasTransmitter)
    return found


def drift(site: Site, grams: int) -> None:
    """From now on the transmitter reads too much by this mass."""
    scale(site)._zero_g = -grams


def faults(site: Site) -> list[tuple[str, str | None, str | None]]:
    assert site.plant.agent is not None
    return [(a["alarm"], a["label"], a["device"]) for a in site.plant.agent.report.alarms()]


async def lay(site: Site, grams: int) -> None:
    """A technician opens the door, puts something in (0: takes all out), and closes it."""
    world = site.plant.world
    assert site.plant.agent is not None
    answer = await site.plant.agent.local.open_cell(LABEL, "to put something in")
    assert answer.refusal is None
    world.place(LABEL, grams) if grams else world.take(LABEL)
    await asyncio.sleep(1)
    world.close(LABEL)


@pytest.mark.behaviour("weight-05", "weight-06")
def test_a_tare_survives_a_restart(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        transport = httpx.ASGITransport(app=create_app(ConsolePort(agent.local, agent.report)))
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as console:
            await lay(site, 137)
            early = await console.post(f"/v1/cells/{LABEL}/tare")
            assert (early.status_code, early.json()["code"]) == (400, 9)
            cells = agent.loop.state.cells
            await site.until(lambda: agent.loop.state.cells[LABEL].mass_g == 137)
            done = await console.post(f"/v1/cells/{LABEL}/tare")
            assert done.json() == {"cell": {"description": LABEL}, "tare_g": 137}
            assert (await console.post("/v1/cells/A01/tare")).json()["message"] == "cell A01 has no scale"
            assert (await console.post("/v1/cells/Z9/tare")).status_code == 404
            assert cells is not agent.loop.state.cells
        await site.until(lambda: bool(site.published("CELL_STATUS_CHANGED")))
        detail = site.published("CELL_STATUS_CHANGED")[-1]["cell_status_changed_event"]
        assert (detail["cause"], detail["cell"]["description"]) == ("TARED", LABEL)
        assert detail["reason"] == "137 g more count as zero now: 137 g in all"
        assert (row(site)["mass_g"], row(site)["tare_g"]) == (0, 137)
        await site.plant.kill()
        site.plant.start()
        await site.until(lambda: site.plant.broker.link is not None)
        await lay(site, 500)
        await site.until(lambda: row(site)["mass_g"] == 500)
        assert row(site)["tare_g"] == 137

    at_site(tmp_path, test)


def test_a_tare_takes_what_the_scale_reads_now(tmp_path: Path) -> None:
    """A change too small to be reported by itself is reported before the tare."""

    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: agent.loop.state.cells[LABEL].mass_g == 0)
        drift(site, 13)
        await asyncio.sleep(5)
        assert agent.loop.state.cells[LABEL].mass_g == 0
        answer = await agent.local.tare(LABEL)
        assert answer.tare_g == 13

    at_site(tmp_path, test)


@pytest.mark.behaviour("alarms-10")
def test_a_drift_is_followed_until_it_is_too_much_and_a_tare_ends_it(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: agent.loop.state.cells[LABEL].empty is True)
        for grams in range(0, 290, 7):
            drift(site, grams)
            await asyncio.sleep(4)
        assert faults(site) == []
        assert agent.loop.state.cells[LABEL].empty is True
        assert abs(row(site)["mass_g"]) < DEADBAND_G  # type: ignore[arg-type]
        drift(site, 340)
        await site.until(lambda: bool(faults(site)), 10)
        assert faults(site) == [(Alarm.SENSOR_FAULT, LABEL, "scale zero")]
        assert (await agent.local.tare(LABEL)).tare_g == 340
        await site.until(lambda: faults(site) == [], 10)
        await site.until(lambda: bool(site.published("ALARM_CLEARED")))
        raised = [e["alarm_raised_event"] for e in site.published("ALARM_RAISED")]
        assert [(d["alarm"], d["cell"]["description"], d["device"]) for d in raised] == [
            ("SENSOR_FAULT", LABEL, "scale zero")
        ]

    at_site(tmp_path, test)


@pytest.mark.behaviour("alarms-10")
def test_a_scale_that_answers_with_errors_is_a_fault_and_not_silent(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: row(site)["mass_g"] == 0)
        transmitter = scale(site)
        read = transmitter._functions[3]

        def broken(body: bytes, at_ns: int) -> bytes:
            raise Rejected(4)

        transmitter._functions[3] = broken
        await site.until(lambda: bool(faults(site)), 10)
        await asyncio.sleep(60)
        assert faults(site) == [(Alarm.SENSOR_FAULT, LABEL, "scale")]
        assert row(site)["mass_g"] is None
        assert agent.loop.state.cells[LABEL].empty is None
        end = site.plant.cables["main"].trouble.silences[transmitter.address].begin(None)
        await site.until(lambda: len(faults(site)) == 2, 10)
        assert {alarm for alarm, _, _ in faults(site)} == {Alarm.SENSOR_FAULT, Alarm.DEVICE_SILENT}
        end()
        transmitter._functions[3] = read
        await site.until(lambda: not faults(site), 10)
        assert agent.loop.state.cells[LABEL].empty is True

    at_site(tmp_path, test)


class WeighedCell:
    """One cell whose readings the test feeds in."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.weighing = Weighing(["X"], self.inputs.append)

    async def reads(self, *readings_g: int, every_s: float = 0.3) -> list[int | None]:
        """The masses reported for these stable readings."""
        for reading_g in readings_g:
            self.weighing.read("X", Weight(reading_g, stable=True))
            await asyncio.sleep(every_s)
        masses = [one.mass_g for one in self.inputs if isinstance(one, Weighed)]
        self.inputs.clear()
        return masses


def virtually(test: Callable[[WeighedCell], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(WeighedCell())

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_a_single_wrong_reading_neither_counts_nor_delays() -> None:
    async def test(cell: WeighedCell) -> None:
        assert await cell.reads(500, 500) == []
        assert await cell.reads(500) == [500]
        assert await cell.reads(500, 9000, 500, 500, -40, 500) == []
        assert await cell.reads(800, 800, 800) == []
        assert await cell.reads(800) == [800]
        cell.weighing.weigh_again("X")
        assert await cell.reads(800, 9000, 800) == [800]

    virtually(test)


def test_a_swinging_weight_is_not_reported() -> None:
    async def test(cell: WeighedCell) -> None:
        await cell.reads(500, 500, 500)
        for reading_g in (900, 700, 800, 750) * 3:
            cell.weighing.read("X", Weight(reading_g, stable=False))
            await asyncio.sleep(0.3)
        cell.weighing.report("X")
        assert await cell.reads(780, 780) == []
        assert await cell.reads(780) == [780]

    virtually(test)


def test_a_scale_that_answers_with_three_errors_in_a_row_cannot_weigh() -> None:
    async def test(cell: WeighedCell) -> None:
        await cell.reads(500, 500, 500)
        for _ in range(2):
            cell.weighing.error("X")
        assert await cell.reads(500, 500, 500) == []
        for _ in range(9):
            cell.weighing.error("X")
        assert cell.inputs == [Weighed("X", None, error=True)]
        cell.weighing.lost("X")
        cell.weighing.report("X")
        assert cell.inputs == [Weighed("X", None, error=True)]
        assert await cell.reads(500, 500, 500) == [None, 500]

    virtually(test)
