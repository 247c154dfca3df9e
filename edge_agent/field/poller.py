"""Keeps the readings of the field fresh: doors as fast as the bus allows, active ones first; scales and
thermometers at their own beat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from edge_agent.drivers.bus import Priority
from edge_agent.drivers.interfaces import Scale, Thermometer, Weight
from edge_agent.errors import BusFault, DeviceFault, NotSent, PortLost
from edge_agent.field.doors import BUSY_LIMIT_S, SILENT_AFTER_FAILURES, Doors
from edge_agent.field.temperatures import Temperatures
from edge_agent.field.weighing import Weighing
from edge_agent.statemachine.inputs import DeviceHealth, Input

DOORS_PER_SLOW_READING = 3
WATCHED_IN_A_ROW = (1, 2, 3)
"""How many readings of boards worth watching come before one of another board; drawn each time, two on
average."""
UNEVEN_S = 0.004
"""The longest pause between two readings of a board with an open door, drawn each time."""
BACKED_OFF_S = 0.02
"""Pause before a device that failed just now is considered again."""
FAILING_AFTER, FAILING_S = 4, 0.4
"""A board that has failed this often in a row is asked after a pause that doubles up to this time: a late
reply then arrives while nothing is asked, and is recognised as late."""
SCALE_BEAT_S = 2.0
AWAITED_BEAT_S = 0.2
"""How often a scale is read while a settled weight is awaited."""
THERMOMETER_BEAT_S = 2.0
SILENT_RETRY_S = 1.0
"""How often a silent device is asked."""
SLOW_RETRY_S = 0.3
SLOW_SILENT_S = 2.0
"""A scale or thermometer that failed is asked again after `SLOW_RETRY_S`; it is silent after failing for
`SLOW_SILENT_S`."""
IDLE_S = 0.02
"""Pause when nothing can be asked."""


@dataclass(slots=True)
class FieldValues:
    """The last weights and temperatures by cell; None while the device does not answer."""

    weights: dict[str, Weight | None] = field(default_factory=dict)
    temperatures_c: dict[str, float | None] = field(default_factory=dict)


class SlowDevice:
    """A scale or thermometer: what its readings mean for the cells, and how often it is read."""

    def __init__(
        self,
        name: str,
        read: Callable[[], Awaitable[None]],
        lost: Callable[[], None],
        beat_s: Callable[[], float],
    ) -> None:
        self.name = name
        self.read = read
        self.lost = lost
        self.beat_s = beat_s
        self.failures = 0
        self.failing_since_s = 0.0
        self.silent = False
        self.due_s = 0.0


def scale_of(scale: Scale, label: str, values: FieldValues, weighing: Weighing) -> SlowDevice:
    """The scale in a cell."""

    async def read() -> None:
        weight = await scale.read()
        values.weights[label] = weight
        weighing.read(label, weight)

    def lost() -> None:
        values.weights[label] = None
        weighing.lost(label)

    def beat_s() -> float:
        return AWAITED_BEAT_S if weighing.awaited(label) else SCALE_BEAT_S

    return SlowDevice(scale.name, read, lost, beat_s)


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

    return SlowDevice(board.name, read, lost, lambda: THERMOMETER_BEAT_S)


class Poller:
    """Polls the devices of one bus until cancelled; the bus is never idle while there is anything to ask.

    On average two of three door readings go to boards worth watching, if there are any; every fourth reading
    goes to a scale or thermometer that is due. So no device starves.
    """

    def __init__(
        self,
        doors: Doors,
        boards: Sequence[str],
        slow: Sequence[SlowDevice],
        submit: Callable[[Input], None],
        silent: Container[str] = (),
        random: Random | None = None,
    ) -> None:
        """`silent`: devices that were reported silent before the start. `random` makes readings uneven."""
        for device in slow:
            device.silent = device.name in silent
        self._doors = doors
        self._boards = list(boards)
        """In the order of their turns: a board that was read goes to the end."""
        self._slow = slow
        self._submit = submit
        self._ask_after_s = dict.fromkeys(boards, 0.0)
        self._doors_in_a_row = 0
        self._watched_in_a_row = 0
        self._random = random or Random("uneven readings")
        self._watched_at_most = max(WATCHED_IN_A_ROW)
        self.turns = 0
        """Turns of the loop in `run`, for the watchdog."""

    async def run(self) -> None:
        """Reads one device after the other; a silent device costs the others one request a second."""
        while True:
            self.turns += 1
            now_s = asyncio.get_running_loop().time()
            board, device = self._next_board(now_s), self._next_slow(now_s)
            if device is not None and (board is None or self._doors_in_a_row >= DOORS_PER_SLOW_READING):
                self._doors_in_a_row = 0
                await self._read_slow(device)
            elif board is not None:
                self._doors_in_a_row += 1
                await self._read_board(board)
            else:
                await asyncio.sleep(self._idle_s(now_s))

    def _idle_s(self, now_s: float) -> float:
        """How long nothing can be asked, as far as is known."""
        times_s = [*self._ask_after_s.values(), *(device.due_s for device in self._slow)]
        return min([IDLE_S, *(at_s - now_s for at_s in times_s if at_s > now_s)])

    def _next_board(self, now_s: float) -> str | None:
        """The board whose turn it is; None if none can be asked."""
        ready = [board for board in self._boards if self._ask_after_s[board] <= now_s]
        watched = [board for board in ready if self._doors.is_active(board)]
        others = [board for board in ready if board not in watched]
        if watched and (self._watched_in_a_row < self._watched_at_most or not others):
            self._watched_in_a_row += 1
            return watched[0]
        self._watched_in_a_row = 0
        self._watched_at_most = self._random.choice(WATCHED_IN_A_ROW)
        return others[0] if others else None

    async def _read_board(self, board: str) -> None:
        self._boards.remove(board)
        self._boards.append(board)
        now_s = asyncio.get_running_loop().time()
        try:
            await self._doors.read_board(board, Priority.POLL)
        except (NotSent, PortLost):
            self._ask_after_s[board] = now_s + BACKED_OFF_S  # asking costs the bus nothing
        except (BusFault, DeviceFault):
            self._ask_after_s[board] = asyncio.get_running_loop().time() + self._pause_s(board)
        else:
            if self._doors.needs_uneven_readings(board):
                pause_s = self._random.uniform(0.0, UNEVEN_S)
                self._ask_after_s[board] = asyncio.get_running_loop().time() + pause_s

    def _pause_s(self, board: str) -> float:
        """How long a board that failed is not asked."""
        if self._doors.silent(board):
            return SILENT_RETRY_S
        doubled = min(10, max(0, self._doors.failures(board) - FAILING_AFTER))
        return min(BACKED_OFF_S * float(2**doubled), FAILING_S)

    def _next_slow(self, now_s: float) -> SlowDevice | None:
        """The scale or thermometer that is due first; None if none is due."""
        first = min(self._slow, key=lambda device: device.due_s, default=None)
        return first if first is not None and first.due_s <= now_s else None

    async def _read_slow(self, device: SlowDevice) -> None:
        now_s = asyncio.get_running_loop().time()
        try:
            await device.read()
        except NotSent:
            device.due_s = now_s + BACKED_OFF_S
        except PortLost:
            self._slow_failed(device, now_s, BACKED_OFF_S, SLOW_SILENT_S)
        except DeviceFault as fault:
            self._slow_failed(device, now_s, SLOW_RETRY_S, BUSY_LIMIT_S if fault.busy else SLOW_SILENT_S)
        except BusFault:
            self._slow_failed(device, now_s, SLOW_RETRY_S, SLOW_SILENT_S)
        else:
            device.due_s = now_s + device.beat_s()
            device.failures = 0
            if device.silent:
                device.silent = False
                self._submit(DeviceHealth(device.name, True, ()))

    def _slow_failed(self, device: SlowDevice, now_s: float, again_s: float, silent_after_s: float) -> None:
        """The device is asked again after `again_s`; it becomes silent after failing for `silent_after_s`."""
        if not device.failures:
            device.failing_since_s = now_s
        device.failures += 1
        device.due_s = now_s + (max(again_s, SILENT_RETRY_S) if device.silent else again_s)
        failing_long_enough = now_s - device.failing_since_s >= silent_after_s
        if device.failures >= SILENT_AFTER_FAILURES and failing_long_enough and not device.silent:
            device.silent = True
            device.lost()
            self._submit(DeviceHealth(device.name, False, ()))
