"""A site in virtual time: the production composition on simulated wires, and what people do there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from edge_agent.config import load_settings
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

PARCEL = {"width": 200, "height": 100, "depth": 300}


class Site:
    """A plant with an agent, and short words for what people do there."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.events: list[dict[str, Any]] = []
        plant.broker.on_event = self.events.append

    async def reserve(self, number: int = 1, **fields: Any) -> dict[str, Any]:
        body = {
            "request_id": f"reserve-{number}",
            "reservation_id": f"res_{number}",
            "machine_id": "machine_123",
            "platform_order_id": "o",
            "packaging": PARCEL,
            "grace_period_pickup_in_seconds": 5,
        }
        reply = await self.plant.broker.call("reserve", body | fields)
        made: dict[str, Any] = reply["result"]["reservation"]
        return made

    async def call(self, name: str, rid: str, request_id: str = "", **options: Any) -> dict[str, Any]:
        body = {"request_id": request_id or f"{name}-{rid}", "reservation_id": rid}
        return await self.plant.broker.call(name, body | options.pop("body", {}), **options)

    async def on_cell(self, name: str, cell_id: str, **fields: Any) -> dict[str, Any]:
        body = {"request_id": f"{name}-{cell_id}-{len(self.plant.broker.replies)}", "cell_id": cell_id}
        return await self.plant.broker.call(name, body | fields)

    def published(self, kind: str) -> list[dict[str, Any]]:
        """The events of one type."""
        return [e for e in self.events if e["event_type"] == f"EVENT_TYPE_{kind}"]

    def pulses(self) -> int:
        return len(self.plant.world.actuations())

    def types(self) -> list[str]:
        return [e["event_type"].removeprefix("EVENT_TYPE_") for e in self.events]

    async def until(self, condition: Callable[[], bool], limit_s: float = 60) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.01)


def at_site(
    tmp_path: Path,
    test: Callable[[Site], Awaitable[None]],
    *,
    baud: Literal[1200, 19200] = 19200,
    climate: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Runs a test at a site whose agent is up and online; `climate`: changed keys of climate sections."""

    async def run() -> None:
        settings = load_settings(REPOSITORY / "config" / "demo.toml")
        settings.buses["main"] = settings.buses["main"].model_copy(update={"baud": baud})
        for name, changed in (climate or {}).items():
            settings.climate[name] = settings.climate[name].model_copy(update=changed)
        site = Site(Plant(with_journal(settings, tmp_path / "journal.sqlite"), 7))
        site.plant.start()
        await site.until(lambda: "locker/v1/machine_123/state/machine" in site.plant.broker.retained)
        await test(site)
        await site.plant.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
