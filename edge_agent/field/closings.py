"""Which doors have been read closed long enough, without one open reading, for the closing to count.

A contact that chatters reads closed now and then, also twice in a row. The consequences of a closing cannot
be undone, so it counts only when every reading for `SETTLE_S` was closed (docs/decisions/0028-closings.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edge_agent.model import Door
from edge_agent.statemachine.inputs import ClosingSettled, Input

SETTLE_S = 0.6
"""How long a door must have been read closed."""
CREDIT_S = 0.1
"""The most that the time between two readings counts: time without readings proves nothing."""
BROKEN_S = 1.0
"""A longer time without any reading ends a run of closed readings."""


@dataclass(slots=True)
class _Run:
    """Closed readings in a row: time of the first (CLOCK_BOOTTIME), time of the last (loop time), and how
    much time they cover."""

    since_ns: int
    last_s: float
    covered_s: float = 0.0


class Closings:
    """Follows the doors whose closing has not settled; submits one `ClosingSettled` for each that settles.

    After a start or a silent spell it is unknown what a door did meanwhile, so each door settles once.
    """

    def __init__(
        self, labels: Iterable[str], submit: Callable[[Input], None], now_ns: Callable[[], int]
    ) -> None:
        """`now_ns` reads CLOCK_BOOTTIME."""
        self._submit = submit
        self._now_ns = now_ns
        self._unsettled: dict[str, _Run | None] = dict.fromkeys(labels)
        """Doors whose closing has not settled, each with its run of closed readings, if any."""

    def settling(self, label: str) -> bool:
        """Whether a door has not been closed for long enough yet."""
        return label in self._unsettled

    def restart(self, labels: Iterable[str]) -> None:
        """These doors are open or their board is silent: a run of closed readings starts again."""
        self._unsettled.update(dict.fromkeys(labels))

    def take_reading(self, seen: Mapping[str, Door], reported: Mapping[str, Door], now_s: float) -> None:
        """Takes one reading of some doors at `now_s` (loop time). A closing settles only when it is also
        reported."""
        if self._unsettled.keys().isdisjoint(seen):
            return
        for label, door in seen.items():
            if label not in self._unsettled:
                continue
            if door is not Door.CLOSED:
                self._unsettled[label] = None
                continue
            run = self._unsettled[label]
            if run is None or now_s - run.last_s > BROKEN_S:
                self._unsettled[label] = _Run(self._now_ns(), now_s)
                continue
            run.covered_s += min(now_s - run.last_s, CREDIT_S)
            run.last_s = now_s
            if run.covered_s >= SETTLE_S and reported[label] is Door.CLOSED:
                del self._unsettled[label]
                self._submit(ClosingSettled(label, run.since_ns))
