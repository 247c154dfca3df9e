"""The whole daemon on simulated wires, in real time, with the real link to a real broker."""

from __future__ import annotations

import asyncio
import random
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import tomli_w

from edge_agent.app import Agent
from edge_agent.app.environment import link_settings, system_environment
from edge_agent.cloud.link import MqttLink
from edge_agent.config import Settings, load_settings
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.model import Alarm, Instant, Packaging
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.clock import SystemClock
from edge_agent.runtime.loop import LOCAL_KEY_PREFIX
from edge_agent.statemachine.inputs import Reserve
from tests.support.machines import CONFIG
from tools.simulate.plant import Plant


@dataclass
class RealSite:
    """An agent that runs, and the hands of people at its doors."""

    plant: Plant
    agent: Agent
    clock: KnownClock

    async def until(self, condition: Any, limit_s: float = 60) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.01)

    def alarm(self, alarm: Alarm) -> str | None:
        """The detail of a standing alarm."""
        found = self.agent.loop.state.alarms.get(f"{alarm}/")
        return None if found is None else found.detail

    def held(self, rid: str) -> str | None:
        """The status of a reservation that holds a cell; None of any other one."""
        found = self.agent.loop.state.reservations.get(rid)
        return None if found is None else found.status.name

    def pulses(self) -> int:
        return len(self.plant.world.actuations())

    def reserve_here(self) -> str:
        """A reservation made without any link; gives its id."""
        rid = f"res_{uuid4().hex}"
        self.agent.loop.submit(
            Reserve(
                request_key=f"{LOCAL_KEY_PREFIX}{rid}",
                reservation_id=rid,
                platform="p",
                platform_order_id="o",
                packaging=Packaging(width_mm=200, height_mm=100, depth_mm=300),
                candidate_codes=self.agent._environment.ids.candidate_codes(4),
            )
        )
        return rid

    async def serves_a_parcel_by_codes(self) -> None:
        """A drop-off and a pick-up with the codes at the kiosk, the doors opening each time."""
        rid = self.reserve_here()
        await self.until(lambda: rid in self.agent.loop.state.reservations)
        made = self.agent.loop.state.reservations[rid]
        for code in (made.drop_off_code, made.pickup_code):
            before = self.pulses()
            answer = await self.agent.local.enter_code(code)
            assert answer.refusal is None, answer.refusal
            assert self.pulses() == before + 1
            self.plant.world.close(made.cell)
            if code == made.drop_off_code:
                await self.until(lambda: self.agent.loop.state.reservations[rid].dropped_off is not None)


class KnownClock:
    """The kernel's clocks; the test says whether they are synchronised, and how far the date is behind."""

    def __init__(self, *, synced: bool, behind_s: float = 0.0) -> None:
        self.synced = synced
        self.behind_s = behind_s
        self._clock = SystemClock()

    def now(self) -> Instant:
        """See `Clock.now`."""
        now = self._clock.now()
        return replace(now, wall_s=now.wall_s - self.behind_s, synced=self.synced)


def machine_file(
    folder: Path,
    mqtt: dict[str, Any],
    access: dict[str, Any] | None = None,
    mark: Path | None = None,
    change: Callable[[dict[str, Any]], None] = lambda document: None,
    example: str = "tiny",
) -> Path:
    """The file of an example, the smallest if none is named, with this `[mqtt]` and `[access]`, and its
    commissioning mark; `change` changes the rest of it."""
    document = tomllib.loads((CONFIG / f"{example}.toml").read_text(encoding="utf-8"))
    document["machine"]["machine_id"] = "m1"
    document["mqtt"] = mqtt
    document["paths"] = {
        "journal": str(folder / "journal.sqlite"),
        "socket": str(folder / "agent.sock"),
        "profiles": str(CONFIG / "devices"),
    }
    if mark is not None:
        document["paths"]["mark"] = str(mark)
    if access is not None:
        document["access"] = access
    document.pop("scanner", None)
    change(document)
    file = folder / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    return file


@asynccontextmanager
async def real_site(
    folder: Path,
    mqtt: dict[str, Any],
    *,
    synced: bool = False,
    behind_s: float = 0.0,
    access: dict[str, Any] | None = None,
    mark: Path | None = None,
    parcels: Mapping[str, int] | None = None,
    change: Callable[[dict[str, Any]], None] = lambda document: None,
    example: str = "tiny",
    **ports_changed: Any,
) -> AsyncIterator[RealSite]:
    """Runs the daemon for the length of a `with`; its link looks at its files often.

    With `access` it serves its local API at `agent.sock` of the folder. `change`, `example`: see
    `machine_file`. `parcels`: what lies in cells before
    it starts, in grams.
    """
    settings = load_settings(machine_file(folder, mqtt, access, mark, change, example))
    plant = Plant(settings, 1)
    for label, grams in (parcels or {}).items():
        plant.world.open(label)
        plant.world.place(label, grams)
        plant.world.close(label)
    cables: dict[str, MemoryCable] = {settings.buses[name].port: c for name, c in plant.cables.items()}
    clock = KnownClock(synced=synced, behind_s=behind_s)
    system = system_environment(settings)

    def link(settings: Settings, online: Callable[[bool], str]) -> MqttLink:
        often = replace(link_settings(settings), check_s=0.1)
        return MqttLink(often, Topics(settings.machine.machine_id), online, random.Random(), system.clock)

    environment = replace(
        system,
        clock=clock,
        transport=lambda bus: cables[bus.port],
        link=link,
        **{"console": None if access is None else system.console, "scanner": False, **ports_changed},
    )
    agent = Agent(settings, environment)
    ready = asyncio.Event()
    task = asyncio.create_task(agent.run(ready.set))
    try:
        while not (ready.is_set() or task.done()):
            await asyncio.sleep(0.01)
        yield RealSite(plant, agent, clock)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
