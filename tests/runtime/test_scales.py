"""Scales over the production composition: a technician's tare, and the settling of weights."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from edge_agent.console.api import ConsolePort, create_app
from tests.support.site import Site, at_site

LABEL = "B01"
"""A cell of the demo locker with a scale, for parcels up to 10,000 g."""


def row(site: Site) -> dict[str, object]:
    assert site.plant.agent is not None
    return next(row for row in site.plant.agent.report.cells() if row["label"] == LABEL)


async def lay(site: Site, grams: int) -> None:
    """Somebody opens the door by hand, puts something in (0: takes all out), and closes it."""
    world = site.plant.world
    world.open(LABEL)
    world.place(LABEL, grams) if grams else world.take(LABEL)
    await asyncio.sleep(1)
    world.close(LABEL)


@pytest.mark.behaviour("weight-05", "weight-06")
def test_a_technician_tares_and_a_restart_knows_it(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        transport = httpx.ASGITransport(app=create_app(ConsolePort(agent.desk, agent.report)))
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
        await site.until(lambda: bool(site.told("CELL_STATUS_CHANGED")))
        detail = site.told("CELL_STATUS_CHANGED")[-1]["cell_status_changed_event"]
        assert (detail["cause"], detail["cell"]["description"]) == ("TARED", LABEL)
        assert detail["reason"] == "137 g more are nothing now: 137 g in all"
        assert (row(site)["mass_g"], row(site)["tare_g"]) == (0, 137)
        await site.plant.kill()
        site.plant.start()
        await lay(site, 500)
        await site.until(lambda: row(site)["mass_g"] == 500)
        assert row(site)["tare_g"] == 137

    at_site(tmp_path, test)


def test_a_tare_takes_what_the_scale_reads_now(tmp_path: Path) -> None:
    """A change too small to be told by itself is told before the tare."""

    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: agent.loop.state.cells[LABEL].mass_g == 0)
        site.plant.world._cells[LABEL].grams = 13
        await asyncio.sleep(5)
        assert agent.loop.state.cells[LABEL].mass_g == 0
        answer = await agent.desk.tare(LABEL)
        assert answer.tare_g == 13

    at_site(tmp_path, test)
