"""The demo locker in virtual time with an example of everything on its wall: the bodies of its local API."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from edge_agent.app.agent import Agent
from edge_agent.config import load_settings
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

PARCEL = {"width": 200, "height": 100, "depth": 300}
COLD = PARCEL | {"cooling_required": True, "weight": 1500}
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Bodies of `/v1/status`, `/v1/cells`, `/v1/bus` and `/v1/events`."""

    status: dict[str, Any]
    cells: list[dict[str, Any]]
    buses: list[dict[str, Any]]
    events: list[dict[str, Any]]


Then = Callable[[Agent], Awaitable[None]]


async def _no_more(agent: Agent) -> None:
    """Nothing else is asked of the machine."""


def scene(then: Then = _no_more) -> Scene:
    """Plays the scene; the same every time. `then`: what is asked of the machine at its end."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        return runner.run(_play(Path(folder), then))


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.05)


async def _play(folder: Path, then: Then) -> Scene:
    settings = load_settings(REPOSITORY / "config" / "demo.toml")
    plant = Plant(with_journal(settings, folder / "journal.sqlite"), 7)
    plant.start()
    await _until(lambda: plant.broker.retained)
    agent, world = plant.agent, plant.world
    assert agent is not None
    report = agent.report

    async def reserve(number: int, packaging: dict[str, Any]) -> str:
        body = {
            "request_id": f"reserve-{number}",
            "reservation_id": f"res_{number:04d}",
            "machine_id": settings.machine.machine_id,
            "platform_order_id": f"order {number}",
            "packaging": packaging,
        }
        made = (await plant.broker.call("reserve", body))["result"]["reservation"]
        return str(made["cell"]["description"])

    async def open_for(what: str, number: int) -> None:
        body = {"request_id": f"{what}-{number}", "reservation_id": f"res_{number:04d}"}
        await plant.broker.call(what, body)

    full = [await reserve(1, PARCEL), await reserve(2, COLD)]
    for number, label in enumerate(full, 1):
        await open_for("dropoff", number)
        world.place(label, 1500)
        await asyncio.sleep(3)
        world.close(label)
        await asyncio.sleep(3)
    await reserve(3, PARCEL)
    opened = await reserve(4, PARCEL)
    await open_for("dropoff", 4)
    assert world.cell(opened).door == "open"
    await agent.local.block("C05", "hinge is bent", "maria")
    plant.cables["main"].trouble.silences[18].begin(None)
    await _until(lambda: report.alarms())
    await asyncio.sleep(2)
    seen = Scene(report.status(), report.cells(), agent.buses.stats(), report.timeline(limit=40))
    await then(agent)
    await plant.stop()
    return seen
