"""What the doors show: readings of the boards made into doors, told to the loop when they change.

An opening is believed at once, a closing when two readings `DEBOUNCE_S` apart agree (a contact bounces, and
a bounce must not conclude a drop-off). For a while after any fault of the bus every change needs two readings
from separate requests: a reply that came too late cannot be told from a true one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from edge_agent.drivers.bus import Priority
from edge_agent.drivers.interfaces import DoorBoard
from edge_agent.errors import BusFault, DeviceFault
from edge_agent.model import Door
from edge_agent.statemachine.inputs import DeviceHealth, DoorsSeen, Input

DEBOUNCE_S = 0.05
DOUBT_S = 2.0
"""How long after a fault of the bus single readings are not believed."""
LOOKS = 3
"""How often a fresh reading is tried: one damaged frame is no silent board."""
SILENT_AFTER = 3
"""Failed readings in a row after which a board counts as silent."""


@dataclass(frozen=True, slots=True)
class DoorPlace:
    """Where a door's contact is wired: board, channel from 1, and the level it reads when closed."""

    board: str
    channel: int
    closed_level: int


@dataclass(slots=True)
class _Board:
    board: DoorBoard
    labels: list[str]
    failures: int = 0
    silent: bool = False


class Doors:
    """Reads door boards and tells what changed. `doubt_since` gives the loop time of a bus's last fault."""

    def __init__(
        self,
        boards: Mapping[str, DoorBoard],
        places: Mapping[str, DoorPlace],
        doubt_since: Mapping[str, Callable[[], float]],
        submit: Callable[[Input], None],
        silent: Container[str] = (),
    ) -> None:
        """`silent`: boards that were told to be so before the start."""
        self._places = places
        self._doubt_since = doubt_since
        self._submit = submit
        self._boards = {
            name: _Board(
                board,
                [label for label, place in places.items() if place.board == name],
                silent=name in silent,
            )
            for name, board in boards.items()
        }
        self._told: dict[str, Door] = dict.fromkeys(places, Door.UNKNOWN)
        self._candidates: dict[str, tuple[Door, float]] = {}

    @property
    def boards(self) -> list[str]:
        """Names of the boards."""
        return list(self._boards)

    def silent(self, board: str) -> bool:
        """Whether a board has ceased to answer."""
        return self._boards[board].silent

    def believed(self, label: str) -> Door:
        """The door as last told to the loop."""
        return self._told[label]

    async def look(self, board: str, priority: Priority) -> dict[str, Door]:
        """One reading of a board, from a request sent after this call; changes are told.

        Raises `BusFault` or `DeviceFault` when there was none.
        """
        entry = self._boards[board]
        try:
            levels = await entry.board.read_levels(priority)
        except (BusFault, DeviceFault):
            self._failed(board)
            raise
        seen = {label: self._door(label, levels) for label in entry.labels}
        self._answered(board)
        self._tell(board, seen)
        return seen

    async def look_closely(self, label: str, priority: Priority) -> Door:
        """A door's fresh reading; where readings are in doubt, two that agree, else UNKNOWN.

        A door that is told open and now reads closed is looked at until that is believed or read otherwise:
        what follows must not take what was told before for what a pulse did.
        """
        board = self._places[label].board
        for _ in range(LOOKS):
            try:
                return await self._settled(label, board, priority)
            except (BusFault, DeviceFault):
                continue
        return Door.UNKNOWN

    async def _settled(self, label: str, board: str, priority: Priority) -> Door:
        door = (await self.look(board, priority))[label]
        if self._in_doubt(board) and (await self.look(board, priority))[label] is not door:
            return Door.UNKNOWN
        while door is Door.CLOSED and self._told[label] is Door.OPEN:
            await asyncio.sleep(DEBOUNCE_S)
            door = (await self.look(board, priority))[label]
        return door

    def forget(self, label: str) -> None:
        """What was told of a door counts no longer: its next believed reading is told again."""
        self._told[label] = Door.UNKNOWN
        self._candidates.pop(label, None)

    def board_of(self, label: str) -> str:
        """The board that reads a door."""
        return self._places[label].board

    async def read_at_start(self) -> dict[str, Door]:
        """Every door from two readings that agree; UNKNOWN where there are none. Tells nothing."""
        seen: dict[str, Door] = {}
        for entry in self._boards.values():
            try:
                first = await entry.board.read_levels(Priority.COMMAND)
                await asyncio.sleep(DEBOUNCE_S)
                second = await entry.board.read_levels(Priority.COMMAND)
            except (BusFault, DeviceFault):
                continue
            for label in entry.labels:
                door = self._door(label, first)
                if door is self._door(label, second):
                    seen[label] = door
        self._told.update(seen)
        return seen

    def _door(self, label: str, levels: list[int]) -> Door:
        place = self._places[label]
        return Door.CLOSED if levels[place.channel - 1] == place.closed_level else Door.OPEN

    def _in_doubt(self, board: str) -> bool:
        return asyncio.get_running_loop().time() - self._doubt_since[board]() < DOUBT_S

    def _tell(self, board: str, seen: dict[str, Door]) -> None:
        now_s = asyncio.get_running_loop().time()
        doubt = self._in_doubt(board)
        changed: dict[str, Door] = {}
        for label, door in seen.items():
            if door is self._told[label]:
                self._candidates.pop(label, None)
                continue
            before, since_s = self._candidates.get(label, (None, 0.0))
            if door is Door.OPEN and (before is door or not doubt):
                changed[label] = door
            elif before is not door:
                self._candidates[label] = (door, now_s)
            elif now_s - since_s >= DEBOUNCE_S:
                changed[label] = door
        if changed:
            self._told.update(changed)
            for label in changed:
                self._candidates.pop(label, None)
            self._submit(DoorsSeen(changed))

    def _failed(self, board: str) -> None:
        entry = self._boards[board]
        entry.failures += 1
        if entry.failures >= SILENT_AFTER and not entry.silent:
            entry.silent = True
            for label in entry.labels:
                self._told[label] = Door.UNKNOWN
                self._candidates.pop(label, None)
            self._submit(DeviceHealth(board, False, tuple(entry.labels)))

    def _answered(self, board: str) -> None:
        entry = self._boards[board]
        entry.failures = 0
        if entry.silent:
            entry.silent = False
            self._submit(DeviceHealth(board, True, tuple(entry.labels)))
