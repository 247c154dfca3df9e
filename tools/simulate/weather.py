"""Faults of a simulated site's wires during use."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from edge_agent.drivers.simulated.cable import MemoryCable
from tools.simulate.plant import Plant

RECOVERED_S = 2.0
"""A port that returns is opened again within this time."""


class NotRecovered(AssertionError):
    """A port that returned was not opened again in time."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Faults of every bus. `noise`: the probability that a frame is damaged. `delay_ms`: every reply comes
    this much later. `ghosts`: the probability that a device sends unasked after another's transaction.
    `echo`: adapters that echo what we send. `unplug_every_s`, `silence_every_s`: how often, on average, a
    port vanishes for a while, or a device falls silent."""

    noise: float = 0.0
    delay_ms: float = 0.0
    ghosts: float = 0.0
    echo: bool = False
    unplug_every_s: float | None = None
    silence_every_s: float | None = None

    def troubles(self, plant: Plant, seed: int) -> list[Coroutine[Any, Any, None]]:
        """Begins the permanent faults; the temporary ones are returned, to be run."""
        rng = random.Random(f"{seed}/weather")
        coming: list[Coroutine[Any, Any, None]] = []
        for name, cable in plant.cables.items():
            if self.noise:
                cable.trouble.noises.begin(self.noise)
            if self.delay_ms:
                cable.trouble.delays_ns.begin(round(self.delay_ms * 1e6))
            if self.echo:
                cable.trouble.echoes.begin(None)
            addresses = sorted(slave.address for slave in plant.slaves[name])
            if self.ghosts:
                for address in addresses:
                    cable.trouble.ghosts[address].begin(self.ghosts)
            if self.unplug_every_s is not None:
                coming.append(self._unplug(plant, name, cable, rng))
            if self.silence_every_s is not None:
                coming.append(self._silence(cable, addresses, rng))
        return coming

    async def _unplug(self, plant: Plant, name: str, cable: MemoryCable, rng: random.Random) -> None:
        assert self.unplug_every_s is not None
        while True:
            await asyncio.sleep(rng.expovariate(1 / self.unplug_every_s))
            cable.unplug()
            await asyncio.sleep(rng.uniform(0.05, 4.0))
            cable.plug()
            agent = plant.agent
            if agent is None:
                continue
            taken = await agent.devices.buses[name].wait_open(RECOVERED_S)
            if not taken and plant.agent is agent:
                raise NotRecovered(f"bus {name} was not taken again within {RECOVERED_S} s")

    async def _silence(self, cable: MemoryCable, addresses: list[int], rng: random.Random) -> None:
        assert self.silence_every_s is not None
        while True:
            await asyncio.sleep(rng.expovariate(1 / self.silence_every_s))
            end = cable.trouble.silences[rng.choice(addresses)].begin(None)
            await asyncio.sleep(rng.uniform(0.2, 8.0))
            end()
