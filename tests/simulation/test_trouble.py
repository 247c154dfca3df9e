"""A whole agent on a bus that bites, in virtual time."""

from __future__ import annotations

import asyncio
import functools
import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.model import Alarm, Door
from tests.support.site import Site, at_site
from tools.bus_simulator.faults import FaultBody, Faults


def teeth(site: Site) -> Faults:
    return Faults(site.plant.world, site.plant.cables, site.plant.slaves)


async def reserved(site: Site, number: int, attempt: int) -> bool:
    """False while no cell can be had, as when no door is known."""
    try:
        await site.reserve(number, request_id=f"reserve-{number}-{attempt}")
    except KeyError:
        return False
    return True


async def drop_off(site: Site, number: int) -> str:
    """A parcel goes in, as a patient rider does it; returns the cell's label."""
    rid, attempt = f"res_{number}", 0
    async with asyncio.timeout(300):
        while not await reserved(site, number, attempt):
            attempt += 1
            await asyncio.sleep(1)
        while "result" not in (answer := await site.call("dropoff", rid, f"dropoff-{number}-{attempt}")):
            attempt += 1
            await asyncio.sleep(1)
    label: str = answer["result"]["reservation"]["cell"]["description"]
    world = site.plant.world
    await site.until(lambda: world.cell(label).door.value == "open")
    world.place(label, 500)
    world.close(label)
    await site.until(lambda: any(e["reservation_id"] == rid for e in site.published("DROPOFF")))
    return label


@pytest.mark.parametrize(
    "faults",
    [
        [{"kind": "noise", "value": 0.1}],
        [{"kind": "delay_ms", "value": 5}],
        [{"kind": "ghost_reply", "target": address, "value": 0.2} for address in (1, 5)],
        [{"kind": "door_bounce", "target": label, "value": 40} for label in ("A01", "A02")],
    ],
    ids=lambda faults: faults[0]["kind"],
)
def test_parcels_go_into_their_cells_on_a_bad_bus(tmp_path: Path, faults: list[dict[str, Any]]) -> None:
    async def test(site: Site) -> None:
        biting = teeth(site)
        ids = [biting.raise_fault(FaultBody(**fault)) for fault in faults]
        labels = [await drop_off(site, number) for number in range(1, 7)]
        assert len(set(labels)) == len(labels)
        opened = {actuation.label for actuation in site.plant.world.actuations()}
        assert opened >= set(labels)
        for fault in ids:
            biting.clear(fault)
        figures = site.plant.cables["main"].figures()
        if faults[0]["kind"] == "noise":
            assert figures.damaged > 0.05 * figures.requests
        if faults[0]["kind"] == "ghost_reply":
            assert figures.collisions > 5
        await asyncio.sleep(20)
        assert site.plant.agent is not None
        standing = {a.alarm for a in site.plant.agent.loop.state.alarms.values()}
        assert not standing & {Alarm.DEVICE_SILENT, Alarm.BUS_DOWN}

    at_site(tmp_path, test)


def test_an_unplugged_bus_raises_an_alarm_until_it_is_back(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        def down() -> bool:
            assert site.plant.agent is not None
            return any(a.alarm is Alarm.BUS_DOWN for a in site.plant.agent.loop.state.alarms.values())

        biting = teeth(site)
        fault = biting.raise_fault(FaultBody(kind="bus_unplugged"))
        await site.until(down)
        biting.clear(fault)
        await site.until(lambda: not down())
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: all(cell.answering for cell in agent.loop.state.cells.values()), 2)
        await drop_off(site, 1)

    at_site(tmp_path, test)


A_CELL = "A01"
IN_THE_WAY: list[dict[str, Any]] = [
    {"kind": "lock_jammed", "target": A_CELL},
    {"kind": "coil_stuck", "target": A_CELL},
    {"kind": "door_sensor_stuck", "target": A_CELL, "value": 0},
    {"kind": "door_sensor_stuck", "target": A_CELL, "value": 1},
    {"kind": "door_bounce", "target": A_CELL, "value": 500},
    {"kind": "scale_drift", "target": "B01", "value": 600},
    {"kind": "temperature_sensor_dead", "target": "B03"},
    {"kind": "heater_stuck", "target": "B05"},
    {"kind": "device_silent", "target": 1},
    {"kind": "device_silent", "target": 5},
    {"kind": "late_reply", "target": 1, "value": 100},
    {"kind": "late_reply", "target": 1, "value": 700},
    {"kind": "ghost_reply", "target": 1, "value": 0.3},
    {"kind": "noise", "value": 0.05},
    {"kind": "delay_ms", "value": 40},
]


@pytest.mark.parametrize("fault", IN_THE_WAY, ids=lambda f: f"{f['kind']} {f.get('value', '')}".strip())
def test_under_each_kind_of_fault_the_rest_works(tmp_path: Path, fault: dict[str, Any]) -> None:
    """Cells of other boards live whole lives; the cell in trouble delays no customer at another cell."""

    async def test(site: Site) -> None:
        teeth(site).raise_fault(FaultBody(**fault))
        await asyncio.sleep(5)
        cells = {cell["description"]: cell["cell_id"] for cell in machine(site)["all_cells"]}
        for label in [f"A0{n}" for n in range(1, 9)]:
            await site.on_cell("block-cell", cells[label], reason="parcels go elsewhere")
        world, before = site.plant.world, site.pulses()

        def is_open(label: str) -> bool:
            return world.cell(label).door is Door.OPEN

        labels = [await drop_off(site, number) for number in range(1, 5)]
        for number, label in enumerate(labels, 1):
            assert label[0] != "A"
            async with asyncio.timeout(60):
                attempt = 0
                while "result" not in await site.call("pickup", f"res_{number}", f"pick-{number}-{attempt}"):
                    attempt += 1
                    await asyncio.sleep(1)
            await site.until(functools.partial(is_open, label))
            world.take(label)
            await asyncio.sleep(0.5)
            world.close(label)
        await site.until(lambda: len(site.published("RESERVATION_COMPLETED")) == len(labels))
        pulsed = {actuation.label for actuation in site.plant.world.actuations(before)}
        assert pulsed == set(labels)

    at_site(tmp_path, test)


def machine(site: Site) -> dict[str, Any]:
    """The machine's own retained state."""
    machine: dict[str, Any] = json.loads(site.plant.broker.retained["locker/v1/machine_123/state/machine"])
    return machine
