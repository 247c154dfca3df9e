"""The bus owner's record of each device: what it owes, how it answered, how quickly.

A reply that did not arrive in time may still arrive. Until it does, or is older than the device's longest
delay, the device owes it: it is not sent any request whose answer could be mistaken for that one
(docs/decisions/0012-owed-replies.md).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal

from edge_agent.drivers.requests import AddressedRequest, Read, Request, Write, repeatable

DEAD_AFTER = 3
"""Timeouts in a row after which a device counts as dead: it is still asked, but other jobs do not wait for
it."""
DOUBT_S = 2.0
"""How long after a fault single readings of a device do not count."""
BOUNDS_MS = (2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000, 2000)
"""Upper bounds of a histogram's classes; the last class is open."""


@dataclass(slots=True)
class Histogram:
    """Durations in classes of `BOUNDS_MS`."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    longest_ms: float = 0.0

    def note(self, elapsed_s: float) -> None:
        """Adds one."""
        elapsed_ms = elapsed_s * 1000
        self.counts[bisect_left(BOUNDS_MS, elapsed_ms)] += 1
        self.longest_ms = max(self.longest_ms, elapsed_ms)

    def quantile_ms(self, share: float) -> float | None:
        """The upper bound of the class that holds this share (for the last class: the longest value); None if
        empty."""
        total = sum(self.counts)
        if not total:
            return None
        seen = 0
        for count, bound in zip(self.counts, BOUNDS_MS, strict=False):
            seen += count
            if seen >= share * total:
                return min(float(bound), self.longest_ms)
        return self.longest_ms


@dataclass(slots=True)
class Counters:
    """Traffic on the bus since the start."""

    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    bad_replies: int = 0
    exceptions: int = 0
    stray_bytes: int = 0
    late_replies: int = 0
    glitches: int = 0
    """Replies with a stray 00 or FF before them, as when the line changes direction; over serial lines
    only."""
    port_losses: int = 0
    bytes_passed: int = 0
    """Bytes sent and heard; an echo from the adapter is not counted twice."""


@dataclass(frozen=True, slots=True)
class ObservedFrame:
    """A frame as it passed, for observers; `at_s` on the loop's clock."""

    at_s: float
    direction: Literal["sent", "heard"]
    data: bytes
    note: str = ""


@dataclass(slots=True)
class DeviceRecord:
    """One device; times are the event loop's, in seconds.

    `owed`: requests without an answer, each with the time after which no answer can arrive. `rests_until_s`:
    it is not asked before that time.
    """

    address: int
    owed: list[tuple[AddressedRequest, float]] = field(default_factory=list)
    rests_until_s: float = 0.0
    failures: int = 0
    """Failures in a row."""
    unanswered: int = 0
    """Timeouts in a row. A damaged reply ends the row: a device was there to answer."""
    last_fault_s: float = float("-inf")
    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    bad_replies: int = 0
    exceptions: int = 0
    late_replies: int = 0
    unasked: int = 0
    padded: int = 0
    """Replies with stray bytes before or after them."""
    early: int = 0
    """Replies that arrived sooner than the line can carry them."""
    foreign: int = 0
    """Replies that name a request that was never sent (Modbus TCP)."""
    other_address: int = 0
    """Replies that name another device."""
    latency: Histogram = field(default_factory=Histogram)
    """From a request's last bit to its whole reply."""

    @property
    def dead(self) -> bool:
        """Whether it counts as dead."""
        return self.unanswered >= DEAD_AFTER

    def replied(self) -> None:
        """Records a usable reply."""
        self.replies += 1
        self.failures = self.unanswered = 0

    def refused(self) -> None:
        """Records a reply that refuses the request (a Modbus exception)."""
        self.exceptions += 1
        self.failures = self.unanswered = 0

    def timed_out(self, now_s: float) -> None:
        """Records a request without a reply."""
        self.timeouts += 1
        self.unanswered += 1
        self._failed(now_s)

    def replied_damaged(self, now_s: float, *, other_address: bool = False) -> None:
        """Records a reply that could not be used. `other_address`: it names another device."""
        self.bad_replies += 1
        self.other_address += other_address
        self.unanswered = 0
        self._failed(now_s)

    def _failed(self, now_s: float) -> None:
        self.failures += 1
        self.last_fault_s = now_s

    def spoke_unasked(self, now_s: float, *, foreign: bool = False) -> None:
        """Records a frame that was not asked for; the next one may also come during another request.
        `foreign`: it names a request that was never sent."""
        self.unasked += 1
        self.foreign += foreign
        self.last_fault_s = now_s

    def replied_padded(self) -> None:
        """Records stray bytes before or after a reply."""
        self.padded += 1

    def replied_early(self) -> None:
        """Records a reply that the line cannot have carried yet."""
        self.early += 1

    def add_owed(self, question: AddressedRequest, latest_s: float, rests_until_s: float) -> None:
        """Records that no answer has come; after `latest_s` none can arrive any more."""
        self.owed.append((question, latest_s))
        self.rests_until_s = rests_until_s

    def drop_too_late(self, now_s: float) -> None:
        """Drops owed replies that are too old to arrive."""
        if self.owed:
            self.owed = [entry for entry in self.owed if entry[1] > now_s]

    def late_reply_came(self, question: AddressedRequest) -> None:
        """Records that a late answer has arrived."""
        for entry in self.owed:
            if entry[0] == question:
                self.owed.remove(entry)
                self.late_replies += 1
                break
        if not self.owed:
            self.rests_until_s = 0.0

    def may_ask_s(self, question: AddressedRequest, now_s: float) -> float:
        """When a request may be sent: after the rest, and not while a reply is owed that could be taken for
        its own."""
        self.drop_too_late(now_s)
        when_s = self.rests_until_s
        for other, latest_s in self.owed:
            if other != question and _alike(other, question):
                when_s = max(when_s, latest_s)
        return when_s

    def readings_needed(self, now_s: float) -> int:
        """How many readings from separate requests must agree before they count.

        An owed answer may be taken for that of the same request sent again, and so on; with one more reading
        than owed answers at least one is current.
        """
        self.drop_too_late(now_s)
        doubt = 2 if now_s - self.last_fault_s < DOUBT_S else 1
        return max(doubt, 1 + len(self.owed))


def _alike(one: AddressedRequest, other: AddressedRequest) -> bool:
    """Whether the answer to one could be taken for that to the other."""
    if not (repeatable(one.request) and repeatable(other.request)):
        return False  # the reply to an action repeats the request, so it identifies it
    return _kind(one.request) == _kind(other.request)


def _kind(request: Request) -> tuple[type, int]:
    """Its type, and its function where the type has several."""
    return type(request), request.function if isinstance(request, Read | Write) else 0
