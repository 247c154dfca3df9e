"""How many requests are granted at the first attempt while frames are damaged, and how soon.

The production composition on the simulated bus, paced to the wire, in virtual time: the same seed gives the
same lives. Every request and every reply is damaged with the given probability.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from edge_agent.config import load_settings
from edge_agent.model import CellStatus
from tools.measure.figures import Figure, p50_p99
from tools.measure.rig import DEMO, MeasureFault, Run
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

PEOPLE = 2
PARCEL = {"width": 200, "height": 100, "depth": 300}
QUIET_S = 15.0
"""This long after the noise every cell must be available again."""
LONGEST_LIFE_S = 120.0


@dataclass(slots=True)
class Lives:
    """The results of the lives: per request how long its first attempt took, and its answer if it failed."""

    drop_offs_s: list[float] = field(default_factory=list)
    pick_ups_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    lost_cells: list[str] = field(default_factory=list)
    """Cells that are not available `QUIET_S` after the noise."""
    alarms: dict[str, int] = field(default_factory=dict)
    """How often each was raised."""
    damaged_share: float = 0.0

    def right(self) -> int:
        """How many requests were granted at the first attempt."""
        return len(self.drop_offs_s) + len(self.pick_ups_s)


class _Site:
    def __init__(self, plant: Plant, lives: int, seed: int) -> None:
        self.plant = plant
        self.found = Lives()
        self._left = lives
        self._rng = random.Random(f"{seed}/people")
        self._published: dict[str, set[str]] = {}
        plant.broker.on_event = self._event

    def _event(self, event: dict[str, Any]) -> None:
        kind = str(event["event_type"]).removeprefix("EVENT_TYPE_")
        self._published.setdefault(str(event.get("reservation_id")), set()).add(kind)
        if kind == "ALARM_RAISED":
            raised = event["alarm_raised_event"]
            alarm = f"{raised['alarm']} {raised.get('device', '')}".strip()
            self.found.alarms[alarm] = self.found.alarms.get(alarm, 0) + 1

    async def person(self, name: int) -> None:
        while self._left:
            self._left -= 1
            rid = f"res_{name}_{self._left}"
            try:
                async with asyncio.timeout(LONGEST_LIFE_S):
                    await self._live(rid)
            except TimeoutError:
                self.found.unfinished.append(rid)

    async def _live(self, rid: str) -> None:
        await self._reserve(rid)
        world = self.plant.world
        label = await self._open("dropoff", rid, self.found.drop_offs_s)
        world.place(label, 700)
        await self._pause()
        world.close(label)
        await self._until(rid, "DROPOFF")
        await self._pause()
        label = await self._open("pickup", rid, self.found.pick_ups_s)
        world.take(label)
        await self._pause()
        world.close(label)
        await self._until(rid, "RESERVATION_COMPLETED")

    async def _reserve(self, rid: str) -> None:
        body = {
            "request_id": f"reserve-{rid}",
            "reservation_id": rid,
            "machine_id": "machine_123",
            "platform_order_id": "o",
            "packaging": PARCEL,
            "grace_period_pickup_in_seconds": 0,
        }
        for attempt in range(100):
            reply = await self.plant.broker.call("reserve", body | {"request_id": f"reserve-{rid}-{attempt}"})
            if "result" in reply:
                return
            await asyncio.sleep(1)

    async def _open(self, command: str, rid: str, times_s: list[float]) -> str:
        """Opens; returns the label of the cell that opened, at the first attempt or at a later one."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            began_s = loop.time()
            body = {"request_id": f"{command}-{rid}-{attempt}", "reservation_id": rid}
            reply = await self.plant.broker.call(command, body)
            if "result" in reply:
                if not attempt:
                    times_s.append(loop.time() - began_s)
                label = str(reply["result"]["reservation"]["cell"]["description"])
                while self.plant.world.cell(label).door.value != "open":
                    await asyncio.sleep(0.01)
                return label
            if not attempt:
                self.found.failed.append(f"{command}: {reply['error']['message']}")
            attempt += 1
            await asyncio.sleep(1)

    async def _until(self, rid: str, kind: str) -> None:
        while kind not in self._published.get(rid, ()):
            await asyncio.sleep(0.02)

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.3, 1.5))


async def _lived(plant: Plant, noise: float, lives: int, seed: int) -> Lives:
    site = _Site(plant, lives, seed)
    plant.start()
    await asyncio.sleep(5)
    cable = plant.cables["main"]
    before = cable.figures()
    end = cable.trouble.noises.begin(noise)
    await asyncio.gather(*(site.person(name) for name in range(PEOPLE)))
    figures = cable.figures()
    frames = figures.requests + figures.replies - before.requests - before.replies
    site.found.damaged_share = (figures.damaged - before.damaged) / max(1, frames)
    end()
    await asyncio.sleep(QUIET_S)
    agent = plant.agent
    assert agent is not None
    site.found.lost_cells = [
        cell.label
        for cell in agent.loop.state.cells.values()
        if cell.status is not CellStatus.IDLE or cell.faulty is not None or not cell.answering
    ]
    await plant.stop()
    return site.found


def live_in_noise(noise: float, lives: int, seed: int, folder: Path) -> Lives:
    """Plays a number of reservations while frames are damaged with this probability."""

    async def run() -> Lives:
        settings = with_journal(load_settings(DEMO), folder / "journal.sqlite")
        return await _lived(Plant(settings, seed), noise, lives, seed)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


def noise(run: Run) -> list[Figure]:
    """Successful first attempts, and how long they took, at 5 % and 15 % damaged frames: MQTT, 19200 baud, 24
    cells, two people at once, virtual time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    lives = run.pick(1000, 20)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="measure-") as parent:
        for share, least, longest in ((0.05, 0.999, "<= 1500"), (0.15, 0.99, "")):
            folder = Path(parent) / f"{share}"
            folder.mkdir()
            found = live_in_noise(share, lives, 1, folder)
            if found.unfinished:
                raise MeasureFault(f"{len(found.unfinished)} lives came to no end")
            alarms = ", ".join(f"{name} {count} times" for name, count in sorted(found.alarms.items()))
            figures.append(
                Figure(
                    f"right at the first call, {share:.0%} noise",
                    found.right() / (2 * lives),
                    "share",
                    2 * lives,
                    target=f">= {least}",
                    note=f"{found.damaged_share:.1%} of all frames were damaged; cells lost {QUIET_S:.0f} s "
                    f"later: {', '.join(found.lost_cells) or 'none'}; alarms: {alarms or 'none'}",
                )
            )
            figures += p50_p99(
                f"command -> reply, {share:.0%} noise",
                found.drop_offs_s + found.pick_ups_s,
                targets=("", longest),
                note="command published to the reply that the door is open, first calls",
            )
    return figures
