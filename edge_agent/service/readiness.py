"""Whether the daemon may be replaced now, and whether it is well: for the updater."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_agent import __version__
from edge_agent.drivers.bus import BusOwner
from edge_agent.model import Door
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.loop import LockerLoop

QUIET_S = 60.0
"""A door that moved within this time means that somebody may stand at the machine."""


class Readiness:
    """Answers `/v1/readiness`. `busy` says which other work is under way; "" if there is none."""

    def __init__(
        self,
        loop: LockerLoop,
        clock: Clock,
        buses: Mapping[str, BusOwner],
        broker_up: Callable[[], bool],
        busy: Callable[[], str],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._buses = buses
        self._broker_up = broker_up
        self._busy = busy

    def report(self) -> dict[str, Any]:
        """`version`; `quiet`, and `busy` with the reason if it is not; `broker`, `journal`: whether they
        work; `buses`: the names of those that are up."""
        busy = self._busy_with()
        return {
            "version": __version__,
            "quiet": not busy,
            "busy": busy,
            "broker": self._broker_up(),
            "journal": self._loop.storage_fault is None,
            "buses": [name for name, bus in self._buses.items() if bus.up],
        }

    def _busy_with(self) -> str:
        state, now = self._loop.state, self._clock.now()
        if state.unlock_attempts:
            return "a door is being opened"
        for label, cell in state.cells.items():
            since = cell.door_since
            moved = since is not None and since.boot_id == now.boot_id and cell.door is not Door.UNKNOWN
            if moved and since is not None and (now.boottime_ns - since.boottime_ns) / 1e9 < QUIET_S:
                return f"the door of {label} moved a moment ago"
        return self._busy()
