"""Events on their way to the broker: the event loop adds them by the page, the library's thread takes them
and records their PUBACKs. The event loop does nothing for a single event."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

EventRow = tuple[int, str]
"""The sequence of an event and its body."""


class EventQueue:
    """Events from one point of the outbox on, in order.

    `fill` and `report_progress` are called on the event loop; the other methods may be called on any thread.
    """

    def __init__(self, through: int, on_progress: Callable[[], None] = lambda: None) -> None:
        """`on_progress` is called on the event loop when `through` or `refused` have changed, once for many
        PUBACKs."""
        self.through = through
        """The broker has this event and all earlier ones."""
        self.refused = False
        """The broker refused one of the events. PUBACKs of others are recorded all the same."""
        self._on_progress = on_progress
        self._waiting: deque[EventRow] = deque()
        self._in_flight: deque[int] = deque()
        """Sequences that were sent, starting with the first one that the broker has not acknowledged."""
        self._early: set[int] = set()
        """Later ones in `_in_flight` that the broker has already acknowledged."""
        self._reported = through, False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many wait to be sent."""
        return len(self._waiting)

    def fill(self, rows: Iterable[EventRow]) -> None:
        """Adds events behind those that wait."""
        self._waiting.extend(rows)

    def next(self) -> EventRow | None:
        """The next one to send, by one thread at a time; None if none waits."""
        if not self._waiting:
            return None
        row = self._waiting.popleft()
        self._in_flight.append(row[0])
        return row

    def record_puback(self, sequence: int, accepted: bool) -> None:
        """Records the PUBACK of an event that was sent, or that the event cannot be sent."""
        if not accepted:
            self.refused = True
            return
        with self._lock:
            in_flight = self._in_flight
            if in_flight[0] != sequence:
                self._early.add(sequence)
                return
            in_flight.popleft()
            while in_flight and in_flight[0] in self._early:
                sequence = in_flight.popleft()
                self._early.discard(sequence)
            self.through = sequence

    def report_progress(self) -> None:
        """On the event loop: calls `on_progress` if there was progress since the last call."""
        now = self.through, self.refused
        if now != self._reported:
            self._reported = now
            self._on_progress()
