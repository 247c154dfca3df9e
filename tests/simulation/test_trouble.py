"""A whole agent on a bus that bites, in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edge_agent.model import Alarm
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
    await site.until(lambda: any(e["reservation_id"] == rid for e in site.told("DROPOFF")))
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
def test_parcels_go_in_where_they_should_although_the_bus_bites(
    tmp_path: Path, faults: list[dict[str, Any]]
) -> None:
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


def test_a_pulled_plug_is_an_alarm_until_it_is_back(tmp_path: Path) -> None:
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
