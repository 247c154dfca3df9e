"""Turns readings of the boards into door states and reports changes to the loop.

An opening is reported at once, a closing when two readings `DEBOUNCE_S` apart agree; a closing takes effect
only later (`Closings`). For a while after any fault of a board a change there needs more readings from
separate requests, because a late reply looks like a current one. One exception: the opening of a
door that was closed for longer than any late reply can take is reported at once, because no older reply can
report it (docs/decisions/0027-patience.md). A board that sends damaged frames or answers that it is busy does
not count as silent before `SILENT_AFTER_FAILURES` and `BUSY_LIMIT_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace

from edge_agent.drivers.bus import Priority
from edge_agent.drivers.interfaces import DoorBoard
from edge_agent.errors import BusFault, DeviceFault, NotSent
from edge_agent.field.closings import Closings
from edge_agent.model import Door
from edge_agent.statemachine.inputs import DeviceHealth, DoorsChanged, Input

DEBOUNCE_S = 0.05
SILENT_TRIES = 3
"""How often a fresh reading of a silent board is tried."""
RETRY_S, LONGEST_RETRY_S = 0.02, 0.1
"""Pause before a failed reading is retried; it doubles, so that a dead board leaves the bus to others."""
LONGEST_READING_S = 10.0
"""How long a fresh reading is tried if the caller gives no limit."""
SILENT_AFTER_FAILURES = 12
SILENT_AFTER_S = 1.0
"""A board counts as silent when this many readings in a row have failed and the first failed at least this
long ago: noise alone never causes that."""
PULSE_EXCUSE_S = 1.0
"""A board may stay silent while it pulses a lock, and for this time afterwards."""
BUSY_LIMIT_S = 30.0
"""A board that answers nothing but "busy" for this long counts as silent."""
SETTLE_AT_START_S = 2.0
"""How long a start waits for doors to settle before it takes commands."""
EXPECT_S = 2.0
"""How long a board is read more often after a lock there was pulsed, or after it sent a frame unasked."""


@dataclass(frozen=True, slots=True)
class DoorPlace:
    """Where a door's contact is wired: board, channel from 1, and the level that it reads when closed."""

    board: str
    channel: int
    closed_level: int


@dataclass(slots=True)
class _Board:
    """A board, its cells, and how it has answered; times are the loop's, in seconds.

    Until `excused_until_s` its silence does not count, because it may be pulsing a lock.
    """

    board: DoorBoard
    labels: list[str]
    failures: int = 0
    failing_since_s: float | None = None
    busy_since_s: float | None = None
    silent: bool = False
    expected_until_s: float = 0.0
    excused_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A door that reads otherwise than reported: since when, and how often in a row."""

    door: Door
    since_s: float
    readings: int


class Doors:
    """Reads door boards and reports changes."""

    def __init__(
        self,
        boards: Mapping[str, DoorBoard],
        places: Mapping[str, DoorPlace],
        submit: Callable[[Input], None],
        silent: Container[str] = (),
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        """`silent`: boards that were reported silent before the start. `now_ns` reads CLOCK_BOOTTIME (None:
        the loop's clock)."""
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
        self._reported: dict[str, Door] = dict.fromkeys(places, Door.UNKNOWN)
        self._candidates: dict[str, _Candidate] = {}
        self._not_closed_s: dict[str, float] = {}
        """When each door was last read open, or not known to be closed."""
        self._closings = Closings(places, submit, now_ns or _loop_ns)
        self.reading_observers: list[Callable[[Mapping[str, Door]], None]] = []
        """Called with every reading of a board, confirmed or not."""

    @property
    def boards(self) -> list[str]:
        """Names of the boards."""
        return list(self._boards)

    def silent(self, board: str) -> bool:
        """Whether a board has stopped answering."""
        return self._boards[board].silent

    def failures(self, board: str) -> int:
        """How many readings of a board failed in a row; busy answers do not count."""
        return self._boards[board].failures

    def expect_change(self, board: str) -> None:
        """A change is expected at a board: a lock there was pulsed, or the board sent a frame unasked."""
        self._boards[board].expected_until_s = asyncio.get_running_loop().time() + EXPECT_S

    def expect_pulse(self, board: str, pulse_s: float) -> None:
        """A lock of the board is energised for `pulse_s` from now; some boards do not answer meanwhile."""
        self.expect_change(board)
        until_s = asyncio.get_running_loop().time() + pulse_s + PULSE_EXCUSE_S
        self._boards[board].excused_until_s = max(until_s, self._boards[board].excused_until_s)

    def is_active(self, board: str) -> bool:
        """Whether a door of the board is open, may be changing, or is expected to change."""
        entry = self._boards[board]
        return asyncio.get_running_loop().time() < entry.expected_until_s or self.needs_uneven_readings(board)

    def needs_uneven_readings(self, board: str) -> bool:
        """Whether a door of the board is open or has not settled: readings at even intervals could all meet
        the closed moments of a chattering contact."""
        return any(
            self._reported[label] is Door.OPEN or label in self._candidates or self._closings.settling(label)
            for label in self._boards[board].labels
        )

    def reported(self, label: str) -> Door:
        """The state of a door as it was last reported to the loop."""
        return self._reported[label]

    async def read_board(self, board: str, priority: Priority) -> dict[str, Door]:
        """Reads a board once, with a request sent after this call; reports changes.

        Raises `BusFault` or `DeviceFault` if there was no reading.
        """
        entry = self._boards[board]
        try:
            levels = await entry.board.read_levels(priority)
        except NotSent:
            raise  # the board was not asked
        except (BusFault, DeviceFault) as fault:
            self._reading_failed(board, busy=isinstance(fault, DeviceFault) and fault.busy)
            raise
        seen = {label: self._door(label, levels) for label in entry.labels}
        self._board_answered(board)
        self._report(board, seen)
        self._closings.take_reading(seen, self._reported, asyncio.get_running_loop().time())
        for observer in tuple(self.reading_observers):
            observer(seen)
        return seen

    async def read_fresh(self, label: str, priority: Priority, until_s: float | None = None) -> Door:
        """A door's fresh reading; several that agree where readings are in doubt. Tried until `until_s` (loop
        time; None: for `LONGEST_READING_S`), then UNKNOWN; on a silent board only `SILENT_TRIES` times.

        A door that was reported open and now reads closed is read until that is confirmed or a reading
        differs. Otherwise the caller could take the earlier opening for an effect of its pulse.
        """
        if until_s is None:
            until_s = asyncio.get_running_loop().time() + LONGEST_READING_S
        try:
            async with asyncio.timeout_at(until_s):
                return await self._read_until_agreed(label, self._places[label].board, priority)
        except TimeoutError:
            return Door.UNKNOWN

    async def _read_until_agreed(self, label: str, board: str, priority: Priority) -> Door:
        door, agreeing, failures = Door.UNKNOWN, 0, 0
        pause_s = RETRY_S
        while failures < SILENT_TRIES or not self._boards[board].silent:
            try:
                seen = (await self.read_board(board, priority))[label]
            except (BusFault, DeviceFault):
                failures += 1
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
                continue
            failures, pause_s = 0, RETRY_S
            door, agreeing = seen, agreeing + 1 if seen is door else 1
            if agreeing < self._readings_needed_for(label, door):
                continue
            if door is Door.OPEN or self._reported[label] is not Door.OPEN:
                return door
            await asyncio.sleep(DEBOUNCE_S)
        return Door.UNKNOWN

    def readings_needed(self, label: str) -> int:
        """How many readings of a door must agree at present before a change is confirmed."""
        return self._boards[self._places[label].board].board.readings_needed()

    def _readings_needed_for(self, label: str, door: Door) -> int:
        """How many readings of `door` are needed to confirm it. Fewer suffice where no reading can be an old
        one, and where an old one does no harm: a door that is still closed only leads to a pulse."""
        board = self._boards[self._places[label].board].board
        reported, now_s = self._reported[label], asyncio.get_running_loop().time()
        same = door is Door.CLOSED and reported is Door.CLOSED
        known_s = now_s - self._not_closed_s.get(label, float("-inf"))
        new = door is Door.OPEN and reported is Door.CLOSED and known_s > board.oldest_reply_s
        return board.least_readings if same or new else board.readings_needed()

    def report_again(self, label: str) -> None:
        """Discards what was reported of a door: its next confirmed reading is reported again."""
        self._reported[label] = Door.UNKNOWN
        self._candidates.pop(label, None)

    def board_of(self, label: str) -> str:
        """The board that reads a door."""
        return self._places[label].board

    async def read_at_start(self) -> dict[str, Door]:
        """Every door from at least two readings that agree; a door without them is left out. Reports
        nothing."""
        readings = await asyncio.gather(*(self._readings(entry.board) for entry in self._boards.values()))
        seen: dict[str, Door] = {}
        for entry, levels in zip(self._boards.values(), readings, strict=True):
            for label in entry.labels if levels else ():
                doors = {self._door(label, reading) for reading in levels}
                if len(doors) == 1:
                    seen[label] = doors.pop()
        self._reported.update(seen)
        now_s = asyncio.get_running_loop().time()
        self._not_closed_s = dict.fromkeys(self._places, now_s)
        return seen

    async def settle(self, labels: Iterable[str]) -> None:
        """Reads these doors until each has settled closed, for `SETTLE_AT_START_S` at most."""
        waiting = list(labels)
        end_s = asyncio.get_running_loop().time() + SETTLE_AT_START_S
        while waiting and asyncio.get_running_loop().time() < end_s:
            for board in dict.fromkeys(self.board_of(label) for label in waiting):
                try:
                    await self.read_board(board, Priority.COMMAND)
                except (BusFault, DeviceFault):
                    continue
            waiting = [label for label in waiting if self._closings.settling(label)]
            await asyncio.sleep(RETRY_S)

    @staticmethod
    async def _readings(board: DoorBoard) -> list[list[int]]:
        """As many readings as needed, at least two; empty if one fails."""
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

    def _report(self, board: str, seen: dict[str, Door]) -> None:
        now_s = asyncio.get_running_loop().time()
        changed: dict[str, Door] = {}
        for label, door in seen.items():
            if door is self._reported[label]:
                self._candidates.pop(label, None)
                continue
            before = self._candidates.get(label)
            if before is None or before.door is not door:
                before = _Candidate(door, now_s, 0)
            candidate = self._candidates[label] = replace(before, readings=before.readings + 1)
            long_enough = door is Door.OPEN or (
                candidate.readings > 1 and now_s - candidate.since_s >= DEBOUNCE_S
            )
            if long_enough and candidate.readings >= self._readings_needed_for(label, door):
                changed[label] = door
        for label, door in seen.items():
            if door is Door.OPEN or self._reported[label] is not Door.CLOSED:
                self._not_closed_s[label] = now_s
        if changed:
            self._reported.update(changed)
            for label in changed:
                self._candidates.pop(label, None)
            self._closings.restart(label for label, door in changed.items() if door is Door.OPEN)
            self._submit(DoorsChanged(changed))

    def _reading_failed(self, board: str, *, busy: bool) -> None:
        """A reading failed. `busy`: the board answered that it is busy."""
        entry, now_s = self._boards[board], asyncio.get_running_loop().time()
        if busy:
            entry.busy_since_s = now_s if entry.busy_since_s is None else entry.busy_since_s
            if now_s - entry.busy_since_s < BUSY_LIMIT_S:
                entry.failures, entry.failing_since_s = 0, None
                return
        if now_s < entry.excused_until_s:
            return
        entry.failures += 1
        if entry.failing_since_s is None:
            entry.failing_since_s = now_s
        failing_long_enough = now_s - entry.failing_since_s >= SILENT_AFTER_S
        if entry.failures >= SILENT_AFTER_FAILURES and failing_long_enough and not entry.silent:
            entry.silent = True
            for label in entry.labels:
                self._reported[label] = Door.UNKNOWN
                self._candidates.pop(label, None)
            self._closings.restart(entry.labels)
            self._submit(DeviceHealth(board, False, tuple(entry.labels)))

    def _board_answered(self, board: str) -> None:
        entry = self._boards[board]
        entry.failures = 0
        entry.failing_since_s = entry.busy_since_s = None
        if entry.silent:
            entry.silent = False
            self._submit(DeviceHealth(board, True, tuple(entry.labels)))


def _loop_ns() -> int:
    return round(asyncio.get_running_loop().time() * 1e9)
