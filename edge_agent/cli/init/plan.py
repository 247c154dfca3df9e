"""From what was found on the buses to a machine: names for the boards, and cells on their channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edge_agent.cli.init.search import FoundBus
from edge_agent.cli.init.words import Kind
from edge_agent.cli.text.language import _
from edge_agent.drivers.profiles import Profile
from edge_agent.field.climate_outputs import HOLD_MS

KINDS = {"temperature": "thermometer", "scale": "scale", "relays": "relays", "doors": "contacts"}
"""What a board without locks in use is called, by its capability."""
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
    joined: tuple[tuple[int, str, int], ...] = ()
    """Locks with their contact on another board: channel of the lock, place and channel of the contact."""
    lent: frozenset[int] = frozenset()
    """The channels of its contacts that belong to locks of another board."""

    @property
    def place(self) -> str:
        """Its bus and address, until it has a name."""
        return f"{self.bus}:{self.address}"

    @property
    def locks(self) -> list[tuple[int, str, int]]:
        """Its locks that serve cells: the channel of the lock, the place and channel of its contact."""
        joined = {lock for lock, _place, _contact in self.joined}
        pairs = range(1, min(self.profile.channels("lock"), self.profile.channels("doors")) + 1)
        own = [(n, self.place, n) for n in pairs if n not in joined and n not in self.lent]
        return sorted([*own, *self.joined])

    @property
    def bare_locks(self) -> list[int]:
        """The channels of its locks that serve no cell."""
        used = {lock for lock, _place, _contact in self.locks}
        return [n for n in range(1, self.profile.channels("lock") + 1) if n not in used]

    @property
    def doors(self) -> int:
        """How many cells its locks serve."""
        return len(self.locks)

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
    contact: tuple[str, int]
    size: str = ""
    scale: str | None = None
    temperature: tuple[str, int] | None = None
    outputs: dict[Kind, tuple[str, int]] = field(default_factory=dict)
    signal: tuple[str, int] | None = None


@dataclass(slots=True)
class Machine:
    """All that was found, with names, in the order of buses and addresses."""

    buses: Sequence[FoundBus]
    boards: dict[str, Board]
    cells: list[Cell]
    cabinets: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """Signals that serve several cells; no cells: all of them."""

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

    @property
    def signals(self) -> list[tuple[str, int]]:
        """Every channel that a light or buzzer may hang on: no lock, heater or cooler has the same output."""
        taken = {place for cell in self.cells for place in cell.outputs.values()}
        found = []
        for name, board in self.some("signal").items():
            own = board.profile.signal is not None and board.profile.signal.own_outputs
            locks = {lock for lock, _place, _contact in board.locks}
            channels = range(1, board.profile.channels("signal") + 1)
            found += [(name, n) for n in channels if own or (n not in locks and (name, n) not in taken)]
        return found

    def level(self, cell: Cell) -> int | None:
        """What the door contact of a cell read when its board was found; None if that is unknown."""
        name, channel = cell.contact
        levels = self.boards[name].levels
        return levels[channel - 1] if channel <= len(levels) else None


def closed_level(machine: Machine) -> tuple[int, int, int]:
    """What most door contacts read, how many do, and how many there are: while all doors are closed, that is
    what a closed door reads."""
    levels = [level for cell in machine.cells if (level := machine.level(cell)) is not None]
    most = 1 if sum(levels) * 2 >= len(levels) else 0
    return most, levels.count(most), len(levels)


def pulse_ms(boards: Iterable[Board]) -> int | None:
    """A pulse that every lock board can do; None if there is none."""
    locks = [board.profile.lock for board in boards if board.doors]
    pulses = [lock.pulse for lock in locks if lock is not None]
    return next((ms for ms in PULSES_MS if all(pulse.able(ms) for pulse in pulses)), None)


def planned(buses: Sequence[FoundBus], boards: Sequence[Board]) -> Machine:
    """The boards with names, and a cell for every lock with a door contact: A01, A02, … on the first lock
    board, B01, … on the next."""
    named: dict[str, Board] = {}
    counts: dict[str, int] = {}
    rows: dict[str, str] = {}
    for board in boards:
        kind = _kind(board)
        counts[kind] = counts.get(kind, 0) + 1
        letter = _letters(counts[kind])
        name = f"locks_{letter.lower()}" if kind == "locks" else f"{kind}_{counts[kind]}"
        named[name] = board
        if kind == "locks":
            rows[name] = letter
    names = {board.place: name for name, board in named.items()}
    cells = []
    for name, letter in rows.items():
        for lock, place, contact in named[name].locks:
            cells.append(Cell(f"{letter}{lock:02d}", name, lock, (names[place], contact)))
    return Machine(buses, named, cells)


def _kind(board: Board) -> str:
    if board.doors:
        return "locks"
    for capability, kind in KINDS.items():
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
        if machine.level(cell) not in (None, level):
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
        if board.joined:
            contacts = ", ".join(
                dict.fromkeys(cell.contact[0] for cell in machine.cells if cell.device == name)
            )
            text = _(
                "the locks of {name} have their door contacts on {contacts}: check each door with"
                " `edge-agent bus doors` before a parcel goes in",
                name=name,
                contacts=contacts,
            )
            found.append(text)
        if board.bare_locks:
            channels = ", ".join(map(str, board.bare_locks))
            text = _(
                "locks of {name} without a door contact have no cells: {channels}",
                name=name,
                channels=channels,
            )
            found.append(text)
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
