"""Reservations by REST: couriers and customers of a whole fleet, and the duration of each request."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx

from tools.fleet.worker import machine_id
from tools.measure.lives import PARCEL
from tools.measure.rig import API, API_KEY

LOOK_S = 0.5
PATIENCE_S = 30.0


@dataclass(slots=True)
class Tally:
    """The results: seconds of each answered request by its kind, and how often each code was the answer."""

    taken_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    seconds: float = 0.0

    def commands_s(self) -> list[float]:
        """Of all commands together."""
        return [taken for kind in ("reserve", "dropoff", "pickup") for taken in self.taken_s[kind]]


class People:
    """Customers of a fleet behind one gateway."""

    def __init__(
        self, base_url: str, machines: int, seed: int, name_of: Callable[[int], str] = machine_id
    ) -> None:
        """`name_of`: the machine_id of a number from 0 to `machines` - 1."""
        self._name_of = name_of
        self.tally = Tally()
        self._machines = machines
        self._rng = random.Random(seed)
        limits = httpx.Limits(max_connections=400, max_keepalive_connections=400)
        self._http = httpx.AsyncClient(
            base_url=base_url + API, headers={"X-API-Key": API_KEY}, timeout=PATIENCE_S, limits=limits
        )

    async def at_a_rate(self, lives_per_s: float, seconds: float) -> Tally:
        """Starts lives at random instants, at an average rate a second; returns when the last has ended."""
        begin_s, tasks = monotonic(), []
        while monotonic() < begin_s + seconds:
            tasks.append(asyncio.create_task(self._life()))
            await asyncio.sleep(self._rng.expovariate(lives_per_s))
        self.tally.seconds = monotonic() - begin_s
        await asyncio.gather(*tasks)
        return self.tally

    async def as_fast_as_it_goes(self, at_once: int, seconds: float) -> Tally:
        """Simulates a number of people, each starting a new life when the last is over."""
        begin_s = monotonic()

        async def person() -> None:
            while monotonic() < begin_s + seconds:
                await self._life()

        await asyncio.gather(*(person() for _ in range(at_once)))
        self.tally.seconds = monotonic() - begin_s
        return self.tally

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _life(self) -> None:
        body = {
            "machine_id": self._name_of(self._rng.randrange(self._machines)),
            "platform_order_id": "fleet",
            "packaging": PARCEL,
            "grace_period_pickup_in_seconds": 0,
        }
        made = await self._call("reserve", "POST", "/reservations", body)
        if made is None:
            return
        rid = made["reservation_id"]
        if await self._call("dropoff", "POST", f"/reservations/{rid}/dropoffs", {}) is None:
            return
        end_s = monotonic() + PATIENCE_S
        while monotonic() < end_s:
            await asyncio.sleep(LOOK_S)
            found = await self._call("get", "GET", f"/reservations/{rid}")
            if found is not None and found["status"] == "RESERVATION_STATUS_DROPPED_OFF":
                break
        else:
            self.tally.refused["never dropped off"] += 1
            return
        if await self._call("pickup", "POST", f"/reservations/{rid}/pickups", {}) is not None:
            self.tally.lives += 1

    async def _call(
        self, kind: str, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        began_s = monotonic()
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            self.tally.refused[f"{kind} {type(error).__name__}"] += 1
            return None
        if answer.status_code != 200:
            self.tally.refused[f"{kind} code {answer.json().get('code')}"] += 1
            return None
        self.tally.taken_s[kind].append(monotonic() - began_s)
        found: dict[str, Any] = answer.json()
        return found
