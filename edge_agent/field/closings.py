"""Which doors have been closed for so long, without one open reading, that the closing counts.

A contact that chatters reads closed now and then, also twice in a row. What a closing concludes cannot be
undone, so it waits until every reading for `SETTLE_S` was closed (BEHAVIOUR.md, Doubt: Closing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edge_agent.model import Door
from edge_agent.statemachine.inputs import ClosingSettled, Input

SETTLE_S = 0.6
"""How long a door must have been read closed."""
CREDIT_S = 0.1
"""The most that the time between two readings counts: what was not read proves nothing."""
BROKEN_S = 1.0
"""A longer time without any reading ends a run of closed ones."""


@dataclass(slots=True)
class _Run:
    """Closed readings in a row: when the first was (CLOCK_BOOTTIME), when the last was (loop time), and how
    much time they cover."""

    since_ns: int
    last_s: float
    covered_s: float = 0.0


class Closings:
    """Follows the doors whose closing has not settled, and submits one `ClosingSettled` for each that does.

    After a start and after a silent spell nobody knows what a door has done meanwhile, so each one settles
    once.
    """

    def __init__(
        self, labels: Iterable[str], submit: Callable[[Input], None], now_ns: Callable[[], int]
    ) -> None:
        """`now_ns` reads CLOCK_BOOTTIME."""
        self._submit = submit
        self._now_ns = now_ns
        self._open: dict[str, _Run | None] = dict.fromkeys(labels)
        """Doors whose closing has not settled, each with its run of closed readings if there is one."""

    def settling(self, label: str) -> bool:
        """Whether a door was not closed for long enough yet."""
        return label in self._open

    def unknown(self, labels: Iterable[str]) -> None:
        """These doors stand open, or their board is silent: a run of closed readings begins anew."""
        self._open.update(dict.fromkeys(labels))

    def read(self, seen: Mapping[str, Door], believed: Mapping[str, Door], now_s: float) -> None:
        """One reading of some doors at `now_s` (loop time). A closing settles once it is believed too."""
        if self._open.keys().isdisjoint(seen):
            return
        for label, door in seen.items():
            if label not in self._open:
                continue
            if door is not Door.CLOSED:
                self._open[label] = None
                continue
            run = self._open[label]
            if run is None or now_s - run.last_s > BROKEN_S:
                self._open[label] = _Run(self._now_ns(), now_s)
                continue
            run.covered_s += min(now_s - run.last_s, CREDIT_S)
            run.last_s = now_s
            if run.covered_s >= SETTLE_S and believed[label] is Door.CLOSED:
                del self._open[label]
                self._submit(ClosingSettled(label, run.since_ns))
