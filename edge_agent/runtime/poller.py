"""Keeps the picture of the field fresh: three readings of doors, then one of a scale or thermometer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from edge_agent.drivers.bus import Priority
from edge_agent.drivers.interfaces import Scale, Thermometer, Weight
from edge_agent.errors import BusFault, DeviceFault
from edge_agent.runtime.doors import SILENT_AFTER, Doors
from edge_agent.runtime.temperatures import Temperatures
from edge_agent.runtime.weighing import Weighing
from edge_agent.statemachine.inputs import DeviceHealth, Input

DOORS_PER_SLOW_READING = 3
SILENT_RETRY_S = 1.0
"""How often a device that does not answer is asked."""
IDLE_S = 0.05
"""Pause of a round in which nothing could be asked."""


@dataclass(slots=True)
class FieldValues:
    """The last weights and temperatures by cell; None while the device does not answer."""

    weights: dict[str, Weight | None] = field(default_factory=dict)
    temperatures_c: dict[str, float | None] = field(default_factory=dict)


class SlowDevice:
    """A scale or thermometer with what a reading of it means for the cells."""

    def __init__(self, name: str, read: Callable[[], Awaitable[None]], lost: Callable[[], None]) -> None:
        self.name = name
        self.read = read
        self.lost = lost
        self.failures = 0
        self.ask_after_s = 0.0


def scale_of(scale: Scale, label: str, values: FieldValues, weighing: Weighing) -> SlowDevice:
    """The scale in a cell."""

    async def read() -> None:
        weight = await scale.read()
        values.weights[label] = weight
        weighing.read(label, weight)

    def lost() -> None:
        values.weights[label] = None
        weighing.lost(label)

    return SlowDevice(scale.name, read, lost)


def thermometer_of(
    board: Thermometer, channels: Mapping[str, int], values: FieldValues, temperatures: Temperatures
) -> SlowDevice:
    """A temperature board; `channels` gives the channel (from 1) of each cell."""

    async def read() -> None:
        degrees = await board.read_all()
        for label, channel in channels.items():
            values.temperatures_c[label] = degrees[channel - 1]
            temperatures.read(label, degrees[channel - 1])

    def lost() -> None:
        for label in channels:
            values.temperatures_c[label] = None
            temperatures.lost(label)

    return SlowDevice(board.name, read, lost)


class Poller:
    """Polls what hangs on one bus, for as long as `run` runs."""

    def __init__(
        self,
        doors: Doors,
        boards: Sequence[str],
        slow: Sequence[SlowDevice],
        submit: Callable[[Input], None],
        silent: Container[str] = (),
    ) -> None:
        for device in slow:
            if device.name in silent:
                device.failures = SILENT_AFTER
        self._doors = doors
        self._boards = boards
        self._slow = slow
        self._submit = submit
        self._retry_s = dict.fromkeys(boards, 0.0)
        self._next_board = 0
        self._next_slow = 0

    async def run(self) -> None:
        """Round after round; a device that does not answer costs the others one time-out a second."""
        while True:
            asked = 0
            for _ in range(DOORS_PER_SLOW_READING):
                asked += await self._read_board()
            asked += await self._read_slow()
            if not asked:
                await asyncio.sleep(IDLE_S)

    async def _read_board(self) -> int:
        now_s = asyncio.get_running_loop().time()
        for _ in self._boards:
            board = self._boards[self._next_board % len(self._boards)]
            self._next_board += 1
            if self._retry_s[board] > now_s:
                continue
            try:
                await self._doors.look(board, Priority.POLL)
            except (BusFault, DeviceFault):
                if self._doors.silent(board):
                    self._retry_s[board] = now_s + SILENT_RETRY_S
                await asyncio.sleep(0.001)
            return 1
        return 0

    async def _read_slow(self) -> int:
        now_s = asyncio.get_running_loop().time()
        for _ in self._slow:
            device = self._slow[self._next_slow % len(self._slow)]
            self._next_slow += 1
            if device.ask_after_s > now_s:
                continue
            try:
                await device.read()
            except (BusFault, DeviceFault):
                self._slow_failed(device, now_s)
            else:
                if device.failures >= SILENT_AFTER:
                    self._submit(DeviceHealth(device.name, True, ()))
                device.failures = 0
            return 1
        return 0

    def _slow_failed(self, device: SlowDevice, now_s: float) -> None:
        device.failures += 1
        if device.failures >= SILENT_AFTER:
            device.ask_after_s = now_s + SILENT_RETRY_S
        if device.failures == SILENT_AFTER:
            device.lost()
            self._submit(DeviceHealth(device.name, False, ()))
