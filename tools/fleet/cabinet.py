"""A cabinet in memory instead of a bus: locks and door contacts that answer as boards do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from edge_agent.drivers.bus import Priority

READ_S = 0.012
"""How long a reading of a board takes, as on a wire of 19200 baud."""
SPRINGS_S = 0.06
"""From a pulse to the open door."""
STAYS_OPEN_S = (0.5, 1.5)
"""How long a customer takes at an open door before closing it."""


class Cabinet:
    """A number of doors, all closed. A customer closes every open door after a while."""

    name = "cabinet"
    least_readings = 1
    oldest_reply_s = 0.0

    def __init__(self, doors: int, rng: random.Random) -> None:
        self.pulses = 0
        self.on_change: Callable[[], None] = lambda: None
        """Called when a contact has changed."""
        self._levels = [1] * doors
        self._rng = rng

    async def read_levels(self, priority: Priority) -> list[int]:
        """See `DoorBoard`: 1 is closed."""
        await asyncio.sleep(READ_S)
        return list(self._levels)

    def readings_needed(self) -> int:
        """See `DoorBoard`."""
        return 1

    def pulse(self, channel: int) -> None:
        """A solenoid was energised; its door springs open."""
        self.pulses += 1
        asyncio.get_running_loop().call_later(SPRINGS_S, self._set, channel, 0)

    def _set(self, channel: int, level: int) -> None:
        self._levels[channel - 1] = level
        self.on_change()
        if level == 0:
            stays_s = self._rng.uniform(*STAYS_OPEN_S)
            asyncio.get_running_loop().call_later(stays_s, self._set, channel, 1)


class CabinetLock:
    """One solenoid of a cabinet."""

    def __init__(self, cabinet: Cabinet, channel: int) -> None:
        self._cabinet = cabinet
        self._channel = channel

    async def pulse(self, deadline_s: float) -> None:
        """See `Lock`."""
        await asyncio.sleep(READ_S)
        self._cabinet.pulse(self._channel)
