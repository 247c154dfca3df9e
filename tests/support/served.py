"""The service on simulated wires, in real time: one agent after the other, each with its configuration."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from edge_agent.app import Agent, Environment, Service, system_environment
from edge_agent.config import Settings, load_settings
from edge_agent.journal.store import JournalStore
from edge_agent.model import Packaging
from edge_agent.runtime.loop import LOCAL_KEY_PREFIX
from edge_agent.runtime.writer import ThreadWriter, Writer
from edge_agent.statemachine.inputs import Reserve
from tests.support.machines import CONFIG
from tools.simulate.plant import Plant


@dataclass
class Served:
    """A service that runs, and its file."""

    file: Path
    service: Service
    task: asyncio.Task[None]
    stop: asyncio.Event

    @property
    def agent(self) -> Agent:
        return self.service._agent

    async def until(self, condition: Callable[[], Any], limit_s: float = 20) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.01)

    def change(self, how: Callable[[dict[str, Any]], object]) -> None:
        document = tomllib.loads(self.file.read_text(encoding="utf-8"))
        how(document)
        self.file.write_text(tomli_w.dumps(document), encoding="utf-8")

    def reserve(self, rid: str = "res_1") -> None:
        self.agent.loop.submit(
            Reserve(
                request_key=f"{LOCAL_KEY_PREFIX}{rid}",
                reservation_id=rid,
                platform="p",
                platform_order_id="o",
                packaging=Packaging(width_mm=200, height_mm=100, depth_mm=300),
                candidate_codes=("1111", "2222", "3333"),
            )
        )

    async def works(self) -> None:
        """Until every door is read."""
        await self.until(lambda: all(c.answering for c in self.agent.loop.state.cells.values()))


def machine(folder: Path, change: Callable[[dict[str, Any]], object] = lambda document: None) -> Path:
    """The file of the smallest machine, without a broker that can be reached."""
    document = tomllib.loads((CONFIG / "tiny.toml").read_text(encoding="utf-8"))
    document["mqtt"] = {"host": "127.0.0.1", "port": 1}
    document["paths"] = {
        "journal": str(folder / "journal.sqlite"),
        "socket": str(folder / "agent.sock"),
        "profiles": str(CONFIG / "devices"),
    }
    document.pop("scanner", None)
    change(document)
    file = folder / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    return file


@asynccontextmanager
async def served(
    folder: Path,
    writer: Callable[[JournalStore], Writer] = ThreadWriter,
    console: Callable[[Settings], Any] = lambda _: None,
    content: str | None = None,
    change: Callable[[dict[str, Any]], object] = lambda document: None,
    **ports_changed: Any,
) -> AsyncIterator[Served]:
    """Runs the service for the length of a `with`. `content`: the whole file; `change` changes the usual
    one; `ports_changed`: fields of the environment."""
    file = machine(folder, change)
    if content is not None:
        file.write_text(content, encoding="utf-8")
    settings = load_settings(file)
    plant = Plant(settings, 1)
    cables = {settings.buses[name].port: cable for name, cable in plant.cables.items()}

    def environment(settings: Settings) -> Environment:
        system = system_environment(settings)
        return replace(
            system,
            transport=lambda bus: cables[bus.port],
            writer=writer,
            console=console(settings),
            scanner=False,
            **ports_changed,
        )

    service, stop = Service(file, settings, environment), asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    await asyncio.sleep(0)
    site = Served(file, service, task, stop)
    try:
        await site.works()
        yield site
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
