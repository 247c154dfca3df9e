"""A clock that a test moves by hand, with the timers that hang on it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count


@dataclass(order=True)
class Timer:
    """One callback and its instant."""

    when_ns: int
    number: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Takes it off the clock."""
        self.cancelled = True


class SteppedClock:
    """Nanoseconds that pass only by `run_until` and `advance`; callbacks run at their own instants."""

    def __init__(self, start_ns: int = 1_000_000_000_000) -> None:
        self.now = start_ns
        self._timers: list[Timer] = []
        self._numbers = count()

    def now_ns(self) -> int:
        """The time."""
        return self.now

    def call_at_ns(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """A timer; one in the past runs at the next move."""
        timer = Timer(when_ns, next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def pending(self) -> int:
        """How many timers have neither run nor been cancelled."""
        return sum(not timer.cancelled for timer in self._timers)

    def run_until(self, end_ns: int) -> None:
        """Moves the clock to `end_ns`, running what is due, that instant included."""
        while self._timers and self._timers[0].when_ns <= end_ns:
            timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self.now = max(self.now, timer.when_ns)
                timer.callback()
        self.now = end_ns

    def advance(self, ns: int) -> None:
        """Moves the clock on."""
        self.run_until(self.now + ns)
