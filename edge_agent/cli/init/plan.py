"""From what was found on the buses to a machine: names for the boards, and cells on their channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edge_agent.cli.init.search import FoundBus
from edge_agent.cli.init.words import Kind
from edge_agent.cli.text.language import _
from edge_agent.drivers.profiles import Profile
from edge_agent.field.climate_outputs import HOLD_MS

PULSES_MS = (400, 500, 300, 1000)
"""How long a solenoid is energised, if its board can: the first of these that all boards can."""


@dataclass(frozen=True, slots=True)
class Board:
    """A board whose profile is known. `levels`: what its door contacts read when it was found."""

    bus: str
    address: int
    profile_name: str
    profile: Profile
    levels: tuple[int, ...] = ()

    @property
    def place(self) -> str:
        """Its bus and address, until it has a name."""
        return f"{self.bus}:{self.address}"

    @property
    def doors(self) -> int:
        """How many cells it can serve: channels that have a lock and a door contact."""
        return min(self.profile.channels("lock"), self.profile.channels("doors"))

    @property
    def relays(self) -> int:
        """How many of its relays may switch heaters or coolers: none if the board could not switch them off
        without the daemon, or if they are locks."""
        part = self.profile.relays
        if part is None or self.doors:
            return 0
        timed = part.pulse is not None and part.pulse.able(HOLD_MS)
        return part.channels if timed or part.communication_timeout_ms is not None else 0


@dataclass(slots=True)
class Cell:
    """A cell to be: where its lock and contact are, and what else serves it."""

    label: str
    device: str
    channel: int
    size: str = ""
    scale: str | None = None
    temperature: tuple[str, int] | None = None
    outputs: dict[Kind, tuple[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Machine:
    """All that was found, with names, in the order of buses and addresses."""

    buses: Sequence[FoundBus]
    boards: dict[str, Board]
    cells: list[Cell]

    def some(self, capability: str) -> dict[str, Board]:
        """The boards that have a capability."""
        return {name: board for name, board in self.boards.items() if board.profile.channels(capability)}

    @property
    def relays(self) -> dict[str, Board]:
        """The boards that heaters and coolers may hang on."""
        return {name: board for name, board in self.boards.items() if board.relays}

    @property
    def sensors(self) -> list[tuple[str, int]]:
        """Every channel of every thermometer."""
        found = self.some("temperature").items()
        return [(name, n + 1) for name, board in found for n in range(board.profile.channels("temperature"))]

    @property
    def outputs(self) -> list[tuple[str, int]]:
        """Every channel that a heater or cooler may hang on."""
        return [(name, n + 1) for name, board in self.relays.items() for n in range(board.relays)]


def closed_level(boards: Iterable[Board]) -> tuple[int, int, int]:
    """What most door contacts read, how many do, and how many there are: while all doors are closed, that is
    what a closed door reads."""
    levels = [level for board in boards for level in board.levels[: board.doors]]
    most = 1 if sum(levels) * 2 >= len(levels) else 0
    return most, levels.count(most), len(levels)


def pulse_ms(boards: Iterable[Board]) -> int | None:
    """A pulse that every lock board can do; None if there is none."""
    locks = [board.profile.lock for board in boards if board.doors]
    pulses = [lock.pulse for lock in locks if lock is not None]
    return next((ms for ms in PULSES_MS if all(pulse.able(ms) for pulse in pulses)), None)


def planned(buses: Sequence[FoundBus], boards: Sequence[Board]) -> Machine:
    """The boards with names, and a cell for every channel with a lock and a door: A01, A02, … on the first
    lock board, B01, … on the next."""
    named: dict[str, Board] = {}
    cells: list[Cell] = []
    counts: dict[str, int] = {}
    for board in boards:
        kind = _kind(board)
        counts[kind] = counts.get(kind, 0) + 1
        letter = _letters(counts[kind])
        name = f"locks_{letter.lower()}" if kind == "locks" else f"{kind}_{counts[kind]}"
        named[name] = board
        if kind == "locks":
            cells += [Cell(f"{letter}{n:02d}", name, n) for n in range(1, board.doors + 1)]
    return Machine(buses, named, cells)


def _kind(board: Board) -> str:
    if board.doors:
        return "locks"
    for capability, kind in (("temperature", "thermometer"), ("scale", "scale"), ("relays", "relays")):
        if board.profile.channels(capability):
            return kind
    return "board"


def _letters(number: int) -> str:
    """A to Z, then AA and so on."""
    number, letters = number - 1, ""
    while True:
        letters = chr(ord("A") + number % 26) + letters
        number = number // 26 - 1
        if number < 0:
            return letters


def notes(machine: Machine, level: int) -> list[str]:
    """What a person has to check, or add by hand."""
    otherwise: list[str] = []
    for cell in machine.cells:
        levels = machine.boards[cell.device].levels
        if cell.channel <= len(levels) and levels[cell.channel - 1] != level:
            otherwise.append(cell.label)
    found = []
    if otherwise:
        found.append(
            _(
                "the contacts of {cells} do not read {level}: doors that stood open, channels without a door"
                " (take those cells out), or wired otherwise (closed_level = {other} in their door)",
                cells=", ".join(otherwise),
                level=level,
                other=1 - level,
            )
        )
    for name, board in machine.boards.items():
        if board.profile.channels("lock") and not board.doors:
            found.append(
                _("{name} has locks and no door contacts: add its cells to the file by hand", name=name)
            )
        elif board.profile.relays is not None and not board.doors and not board.relays:
            found.append(
                _("{name} cannot switch off by itself: connect no heater or cooler to it", name=name)
            )
    weak = sorted({b.profile_name for b in machine.boards.values() if not b.profile.identity.hw_verified})
    if weak:
        text = _(
            "profiles not tested on hardware: {names}; check that the right locks move", names=", ".join(weak)
        )
        found.append(text)
    return found
