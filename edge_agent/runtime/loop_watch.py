"""Detects loops of the daemon that hang.

A loop only counts its turns. The watcher checks the counters at a steady beat. It nudges a loop that waits
for input: a live loop wakes, finds nothing to do, and has turned. Checks are counted, not seconds, so that a
process that was stopped for a minute does not count as dead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

HANGS_AFTER_S = 30.0
"""A loop that was woken and has made no turn for this long counts as hanging, unless it says otherwise."""


def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class MonitoredLoop:
    """A loop or thread that is monitored.

    `turns`: 0 at first, then another number after each turn; None: the loop is not monitored now. The loop is
    silent when the number has not changed for `bound_s`. `nudge` makes it turn when it waits.
    """

    name: str
    turns: Callable[[], int | None]
    bound_s: float
    nudge: Callable[[], None] = _nothing


@runtime_checkable
class HasLoops(Protocol):
    """A part of the daemon that has loops or threads of its own."""

    def monitored_loops(self) -> list[MonitoredLoop]:
        """One entry for each loop or thread."""


class LoopWatch:
    """The state of all loops, checked every `check_s` seconds."""

    def __init__(self, loops: Sequence[MonitoredLoop], check_s: float) -> None:
        self._loops = [(loop, max(2, math.ceil(loop.bound_s / check_s))) for loop in loops]
        self._seen: dict[str, int | None] = {loop.name: loop.turns() for loop in loops}
        self._still: dict[str, int] = dict.fromkeys(self._seen, 0)

    @property
    def not_started(self) -> list[str]:
        """Names of the loops that have not made a turn yet."""
        return [loop.name for loop, _ in self._loops if loop.turns() == 0]

    def check(self) -> list[str]:
        """Checks once; returns the names of the silent loops."""
        silent = []
        for loop, bound in self._loops:
            turns, before = loop.turns(), self._seen[loop.name]
            self._seen[loop.name] = turns
            if turns is None or turns != before:
                self._still[loop.name] = 0
                continue
            self._still[loop.name] += 1
            if self._still[loop.name] >= bound:
                silent.append(loop.name)
            if self._still[loop.name] * 3 >= bound:
                loop.nudge()
        return silent
