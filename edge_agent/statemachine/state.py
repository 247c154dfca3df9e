"""The state of a whole locker, and what about it never changes while the daemon runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_agent.model import Alarm, Cell, CellSpec, Instant, Purpose, Reservation, Source, Ticket
from edge_agent.statemachine.resting import RestingCodes


@dataclass(frozen=True, slots=True)
class Layout:
    """The cells as built and the rules of opening them, from the configuration."""

    specs: Mapping[str, CellSpec]
    attempts: int = 3
    max_concurrent_unlocks: int = 2
    duty_pulses: int = 6
    duty_window_ns: int = 10 * 10**9
    code_digits: int = 4
    door_ajar_ns: int = 120 * 10**9
    weighed: frozenset[str] = frozenset()
    """Cells with a scale that is looked at."""
    empty_below_g: int = 50
    """Less than this is nothing."""
    weight_change_g: int = 100
    """More than this is a change behind a closed door."""
    hold_empty_dropoff: bool = False
    """A drop-off that the scale finds empty leaves the reservation PENDING."""


@dataclass(frozen=True, slots=True)
class StandingAlarm:
    """An alarm that has been raised and not yet cleared; `place` is a cell's label, a device or empty."""

    alarm: Alarm
    place: str
    since: Instant
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Pulses:
    """The recent pulses of one lock, on CLOCK_BOOTTIME of one boot."""

    boot_id: str
    at_ns: tuple[int, ...]
    purpose: Purpose
    source: Source
    reservation_id: str
    """What the last one was for."""
    unspent: int = 1
    """How many of the last ones have not opened the door yet, and may still do so, if late."""


@dataclass(frozen=True, slots=True)
class Guesses:
    """Invalid entries of one way in (digits or QR texts), oldest first.

    `rests` is how often it had to rest since the last quiet day, `resting_since` when the last rest began,
    `last` when the last invalid entry was.
    """

    recent: tuple[Instant, ...] = ()
    rests: int = 0
    resting_since: Instant | None = None
    last: Instant | None = None


@dataclass(frozen=True, slots=True)
class LockerState:
    """Everything the machine knows. Only reservations that hold a cell are here; ended ones are journaled.

    `former` is, for a cell that nobody got since, the completed reservation that had it last. `queue` holds
    the unlock ids of waiting tickets, oldest first. `resting_codes` are codes that died.
    """

    cells: Mapping[str, Cell]
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    tickets: Mapping[str, Ticket] = field(default_factory=dict)
    queue: tuple[str, ...] = ()
    former: Mapping[str, Reservation] = field(default_factory=dict)
    resting_codes: RestingCodes = field(default_factory=RestingCodes)
    alarms: Mapping[str, StandingAlarm] = field(default_factory=dict)
    pulses: Mapping[str, Pulses] = field(default_factory=dict)
    guesses: Mapping[str, Guesses] = field(default_factory=dict)

    def at_work(self, label: str) -> Ticket | None:
        """The ticket that is at work on a cell's lock, from its turn to its outcome."""
        for ticket in self.tickets.values():
            if ticket.cell == label and ticket.stage != "waiting":
                return ticket
        return None

    def active_unlocks(self) -> int:
        """How many tickets are at work with a lock now."""
        return sum(ticket.stage in ("reading", "pulsing") for ticket in self.tickets.values())


def empty_state(layout: Layout) -> LockerState:
    """A locker with nothing in it, whose doors have not been read yet."""
    return LockerState(cells={label: Cell(label) for label in layout.specs})
