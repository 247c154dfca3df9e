"""Where a scenario is played: a site in virtual time, or the whole bench with its processes and ports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from edge_agent.config import Settings
from edge_agent.model import Door
from tests.support.bench import SMALL, Bench
from tests.support.site import Site
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop
from tools.simulate.weather import Weather

PATIENCE_S = 60.0


class Stage(Protocol):
    """What a scenario asks of the place it is played at. A reply is `{"result": …}` or `{"error": …}`."""

    async def call(self, name: str, rid: str) -> dict[str, Any]:
        """A command about a reservation."""

    async def reserve(self) -> dict[str, Any]:
        """A reservation's view with its codes."""

    async def enter(self, code: str) -> bool:
        """Digits at the kiosk; whether a door opened."""

    def hands(self, act: str, label: str) -> None:
        """A person's act on a cell: close, open, place, take."""

    def door(self, label: str) -> Door:
        """How a door physically stands."""

    def pulses(self) -> list[str]:
        """The labels of all locks that were energised, in order."""

    def fault(self, kind: str, target: str | int | None = None) -> Callable[[], None]:
        """Begins a fault; what is returned ends it."""

    def published(self, rid: str | None = None) -> list[str]:
        """Types of the events so far (of one reservation), alarms as TYPE:ALARM."""

    def address_of(self, label: str) -> int:
        """The address of the board that serves a cell's lock."""

    async def pause(self, seconds: float) -> None:
        """Time goes on."""


async def until(stage: Stage, what: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    """Waits for something to become true."""
    for _ in range(round(limit_s / 0.05)):
        if what():
            return
        await stage.pause(0.05)
    raise AssertionError(f"nothing came of it in {limit_s} s")


def board_address(settings: Settings, label: str) -> int:
    """Where a cell's lock hangs."""
    (cell,) = [cell for cell in settings.cells if cell.label == label]
    return settings.devices[cell.lock.device].address


def kind_of(event: dict[str, Any]) -> str:
    """An event's type, an alarm's with its name."""
    detail: dict[str, Any] = next((v for k, v in event.items() if k.endswith("_event")), {})
    name = str(event["event_type"]).removeprefix("EVENT_TYPE_")
    return f"{name}:{detail['alarm']}" if detail.get("alarm") else name


class VirtualStage:
    """A site in virtual time."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._count = 0

    async def call(self, name: str, rid: str) -> dict[str, Any]:
        self._count += 1
        body = {"request_id": f"{name}-{self._count}", "reservation_id": rid}
        return await self._site.plant.broker.call(name, body, 20)

    async def reserve(self) -> dict[str, Any]:
        self._count += 1
        machine_id = self._site.plant.settings.machine.machine_id
        return await self._site.reserve(self._count, machine_id=machine_id)

    async def enter(self, code: str) -> bool:
        agent = self._site.plant.agent
        assert agent is not None
        return (await agent.local.enter_code(code)).refusal is None

    def hands(self, act: str, label: str) -> None:
        world = self._site.plant.world
        if act == "place":
            world.place(label, 900)
        else:
            {"close": world.close, "open": world.open, "take": world.take}[act](label)

    def door(self, label: str) -> Door:
        return self._site.plant.world.cell(label).door

    def pulses(self) -> list[str]:
        return [actuation.label for actuation in self._site.plant.world.actuations()]

    def fault(self, kind: str, target: str | int | None = None) -> Callable[[], None]:
        plant = self._site.plant
        (cable,) = plant.cables.values()
        if kind == "bus_unplugged":
            cable.unplug()
            return cable.plug
        if kind == "device_silent":
            assert isinstance(target, int)
            return cable.trouble.silences[target].begin(None)
        assert kind == "lock_jammed"
        label = str(target)
        plant.world.jam(label, True)
        return lambda: plant.world.jam(label, False)

    def published(self, rid: str | None = None) -> list[str]:
        mine = [e for e in self._site.events if rid is None or e.get("reservation_id") == rid]
        return [kind_of(event) for event in mine]

    def address_of(self, label: str) -> int:
        return board_address(self._site.plant.settings, label)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class BenchStage:
    """The bench: REST, the simulator's control API, the daemon's own commands."""

    def __init__(self, bench: Bench, settings: Settings) -> None:
        self._bench = bench
        self._settings = settings
        self.begin()

    def begin(self) -> None:
        """Counts from now on events and pulses: a bench is played on more than once."""
        self._events, self._pulses = len(self._bench.events()), len(self._bench.actuations())

    async def call(self, name: str, rid: str) -> dict[str, Any]:
        answer = self._bench.api.post(f"/reservations/{rid}/{name}s")
        return {"result": answer.json()} if answer.is_success else {"error": answer.json()}

    async def reserve(self) -> dict[str, Any]:
        machine_id = self._settings.machine.machine_id
        made = self._bench.reserve(SMALL, machine_id=machine_id, grace_period_pickup_in_seconds=1)
        return made | {"cell": self._bench.reservation(made["reservation_id"])["cell"]}

    async def enter(self, code: str) -> bool:
        return self._bench.command("code", code).returncode == 0

    def hands(self, act: str, label: str) -> None:
        body = {"grams": 900} if act == "place" else None
        self._bench.sim.post(f"/cells/{label}/{act}", json=body).raise_for_status()

    def door(self, label: str) -> Door:
        return Door(self._bench.cell(label)["door"])

    def pulses(self) -> list[str]:
        return [actuation["label"] for actuation in self._bench.actuations(self._pulses)]

    def fault(self, kind: str, target: str | int | None = None) -> Callable[[], None]:
        body = {"kind": kind} | ({} if target is None else {"target": target})
        fault_id = self._bench.sim.post("/faults", json=body).raise_for_status().json()["id"]

        def end() -> None:
            self._bench.sim.delete(f"/faults/{fault_id}").raise_for_status()

        return end

    def published(self, rid: str | None = None) -> list[str]:
        new = self._bench.events()[self._events :]
        return [kind_of(event) for event in new if rid is None or event.get("reservation_id") == rid]

    def address_of(self, label: str) -> int:
        return board_address(self._settings, label)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (nothing else runs on this loop)


Scenario = Callable[[Stage], Coroutine[Any, Any, None]]


def play_virtually(
    settings: Settings,
    folder: Path,
    scenario: Scenario,
    *,
    weather: Weather | None = None,
    split: int | None = None,
) -> None:
    """One scenario at a fresh site in virtual time."""

    async def run() -> None:
        site = Site(Plant(with_journal(settings, folder / "journal.sqlite"), 7, split=split))
        troubles = [] if weather is None else weather.troubles(site.plant, 7)
        tasks = [asyncio.create_task(trouble) for trouble in troubles]
        site.plant.start()
        topic = f"locker/v1/{settings.machine.machine_id}/state/machine"
        await site.until(lambda: topic in site.plant.broker.retained)
        await asyncio.sleep(3)
        await scenario(VirtualStage(site))
        for task in tasks:
            task.cancel()
        await site.plant.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
