"""What the doors show: readings of the boards made into doors, told to the loop when they change.

An opening is believed at once, a closing when two readings `DEBOUNCE_S` apart agree (a contact bounces, and
a bounce must not conclude a drop-off). For a while after any fault of a board every change there needs more
readings from separate requests: a reply that came too late cannot be told from a true one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace

from edge_agent.drivers.bus import Priority
from edge_agent.drivers.interfaces import DoorBoard
from edge_agent.errors import BusFault, DeviceFault, NotSent
from edge_agent.model import Door
from edge_agent.statemachine.inputs import DeviceHealth, DoorsSeen, Input

DEBOUNCE_S = 0.05
LOOKS = 3
"""How often a fresh reading is tried: one damaged frame is no silent board."""
SILENT_AFTER = 3
"""Failed readings in a row after which a board counts as silent."""
EXPECT_S = 2.0
"""How long a board is worth watching after something is expected of it."""


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
    expected_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A door that reads otherwise than was told: since when, and how often in a row."""

    door: Door
    since_s: float
    readings: int


class Doors:
    """Reads door boards and tells what changed."""

    def __init__(
        self,
        boards: Mapping[str, DoorBoard],
        places: Mapping[str, DoorPlace],
        submit: Callable[[Input], None],
        silent: Container[str] = (),
    ) -> None:
        """`silent`: boards that were told to be so before the start."""
        self._places = places
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
        self._candidates: dict[str, _Candidate] = {}
        self.lookers: list[Callable[[Mapping[str, Door]], None]] = []
        """Get every reading of a board as it is, believed or not."""

    @property
    def boards(self) -> list[str]:
        """Names of the boards."""
        return list(self._boards)

    def silent(self, board: str) -> bool:
        """Whether a board has ceased to answer."""
        return self._boards[board].silent

    def expect(self, board: str) -> None:
        """Something is about to happen at a board: a lock there was pulsed, or it has spoken unasked."""
        self._boards[board].expected_until_s = asyncio.get_running_loop().time() + EXPECT_S

    def worth_watching(self, board: str) -> bool:
        """Whether a door of the board stands open, may be changing, or is expected to."""
        entry = self._boards[board]
        return asyncio.get_running_loop().time() < entry.expected_until_s or any(
            self._told[label] is Door.OPEN or label in self._candidates for label in entry.labels
        )

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
        except NotSent:
            raise  # the board was not asked
        except (BusFault, DeviceFault):
            self._failed(board)
            raise
        seen = {label: self._door(label, levels) for label in entry.labels}
        self._answered(board)
        self._tell(board, seen)
        for looker in tuple(self.lookers):
            looker(seen)
        return seen

    async def look_closely(self, label: str, priority: Priority) -> Door:
        """A door's fresh reading; where readings are in doubt, several that agree, else UNKNOWN.

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
        for _ in range(self._boards[board].board.readings_needed() - 1):
            if (await self.look(board, priority))[label] is not door:
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
        """Every door from readings that agree, two at least; UNKNOWN where there are none. Tells nothing."""
        readings = await asyncio.gather(*(self._readings(entry.board) for entry in self._boards.values()))
        seen: dict[str, Door] = {}
        for entry, levels in zip(self._boards.values(), readings, strict=True):
            for label in entry.labels if levels else ():
                doors = {self._door(label, reading) for reading in levels}
                if len(doors) == 1:
                    seen[label] = doors.pop()
        self._told.update(seen)
        return seen

    @staticmethod
    async def _readings(board: DoorBoard) -> list[list[int]]:
        """As many as are needed, two at least; none if one fails."""
        found: list[list[int]] = []
        try:
            found.append(await board.read_levels(Priority.COMMAND))
            for _ in range(max(1, board.readings_needed() - 1)):
                await asyncio.sleep(DEBOUNCE_S)
                found.append(await board.read_levels(Priority.COMMAND))
        except (BusFault, DeviceFault):
            return []
        return found

    def _door(self, label: str, levels: list[int]) -> Door:
        place = self._places[label]
        return Door.CLOSED if levels[place.channel - 1] == place.closed_level else Door.OPEN

    def _tell(self, board: str, seen: dict[str, Door]) -> None:
        now_s = asyncio.get_running_loop().time()
        needed = self._boards[board].board.readings_needed()
        changed: dict[str, Door] = {}
        for label, door in seen.items():
            if door is self._told[label]:
                self._candidates.pop(label, None)
                continue
            before = self._candidates.get(label)
            if before is None or before.door is not door:
                before = _Candidate(door, now_s, 0)
            here = self._candidates[label] = replace(before, readings=before.readings + 1)
            settled = door is Door.OPEN or (here.readings > 1 and now_s - here.since_s >= DEBOUNCE_S)
            if settled and here.readings >= needed:
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
