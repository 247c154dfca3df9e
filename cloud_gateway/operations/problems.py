"""What is wrong with a machine, and how urgent it is: the order of the fleet page. Pure.

A machine's score is the sum of the points of its problems (`docs/gateway.md` has the table). Two machines
with one id, a history in doubt, a fault and a lost link are each worth more than all smaller problems
together: a machine that is offline never stands below one that only has many small problems.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_OPEN_LOW = 0.95
"""Below this share of unlocks that open at the first pulse a machine's locks count as weak."""
FIRST_OPEN_LEAST = 20
"""Of fewer unlocks no share is judged."""
WAITING_MANY = 100
"""Events: a machine with a good link has next to none waiting."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What the score is made of."""

    online: bool
    verdict: str | None = None
    history: str | None = None
    twins: bool = False
    alarms: int = 0
    cells_out: int = 0
    worn: int = 0
    losses: int = 0
    refused_messages: int = 0
    events_waiting: int | None = None
    first_open_rate: float | None = None
    unlocks: int = 0
    tickets: dict[str, int] | None = None
    """Open tickets by severity."""
    shown: bool = True
    """False if its stored state cannot be read."""


Problem = tuple[str, int]
"""A problem's name and its points."""

POINTS: dict[str, tuple[int, int]] = {
    "two_machines": (3000, 3000),
    "history": (2500, 2500),
    "not_shown": (2000, 2000),
    "fault": (2000, 2000),
    "offline": (1000, 1000),
    "ticket_critical": (200, 200),
    "ticket_high": (60, 180),
    "degraded": (100, 100),
    "alarms": (10, 60),
    "cells_out": (5, 60),
    "refused_messages": (40, 40),
    "ticket_medium": (15, 60),
    "losses": (5, 50),
    "events_waiting": (30, 30),
    "first_open": (25, 25),
    "worn": (5, 25),
    "ticket_low": (5, 20),
}
"""By problem: the points of one, and the most that several of them add."""


def problems_of(signs: Signs) -> list[Problem]:
    """The problems of a machine, the weightiest first."""
    tickets = signs.tickets or {}
    weak = signs.first_open_rate is not None and signs.first_open_rate < FIRST_OPEN_LOW
    waiting = signs.events_waiting is not None and signs.events_waiting > WAITING_MANY
    counts = {
        "two_machines": int(signs.twins),
        "history": int(signs.history not in (None, "sound")),
        "not_shown": int(not signs.shown),
        "fault": int(signs.verdict == "fault"),
        "offline": int(not signs.online),
        "degraded": int(signs.verdict == "degraded"),
        "alarms": signs.alarms,
        "cells_out": signs.cells_out,
        "worn": signs.worn,
        "losses": signs.losses,
        "refused_messages": int(signs.refused_messages > 0),
        "events_waiting": int(waiting),
        "first_open": int(weak and signs.unlocks >= FIRST_OPEN_LEAST),
        **{f"ticket_{name}": tickets.get(name.upper(), 0) for name in ("critical", "high", "medium", "low")},
    }
    found = [(name, min(most, each * counts[name])) for name, (each, most) in POINTS.items() if counts[name]]
    return sorted(found, key=lambda problem: -problem[1])


def score_of(problems: list[Problem]) -> int:
    """The sum of the points; 0 for a machine without a problem."""
    return sum(points for _, points in problems)
