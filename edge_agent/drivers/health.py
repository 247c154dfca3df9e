"""What the owner of a bus knows of each device there: what it owes, how it has answered, how quickly.

A reply that did not come in time may still come. Until it has, or is older than the device is ever late, the
device owes it: it is not asked anything whose answer could be mistaken for that one
(docs/decisions/0012-owed-replies.md).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal

from edge_agent.drivers.requests import Question, repeatable

DEAD_AFTER = 3
"""Timeouts in a row after which a device counts as dead: it is asked, but nobody waits for it."""
DOUBT_S = 2.0
"""How long after a fault single readings of a device are not believed."""
BOUNDS_MS = (2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000, 2000)
"""Upper bounds of a histogram's classes; the last class is open."""


@dataclass(slots=True)
class Histogram:
    """How long something took, in classes of `BOUNDS_MS`."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    longest_ms: float = 0.0

    def note(self, elapsed_s: float) -> None:
        """One more."""
        elapsed_ms = elapsed_s * 1000
        self.counts[bisect_left(BOUNDS_MS, elapsed_ms)] += 1
        self.longest_ms = max(self.longest_ms, elapsed_ms)

    def quantile_ms(self, share: float) -> float | None:
        """The upper bound of the class that this share lies within (of the last class: the longest); None if
        there is nothing."""
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
    """What has passed on the bus since the start."""

    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    bad_replies: int = 0
    exceptions: int = 0
    stray_bytes: int = 0
    late_replies: int = 0
    glitches: int = 0
    """Damaged replies that began with a stray 00 or FF, as when a line is turned round."""
    port_losses: int = 0
    bytes_passed: int = 0
    """What we sent and what we heard; not twice where the adapter lets us hear ourselves."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A frame as it passed, for whoever watches; `at_s` on the loop's clock."""

    at_s: float
    direction: Literal["sent", "heard"]
    data: bytes
    note: str = ""


@dataclass(slots=True)
class DeviceRecord:
    """One device; times are the event loop's, in seconds.

    `owed`: what it was asked in vain, with the time at which no answer can come any more. `rests_until_s`: it
    is not asked before.
    """

    address: int
    owed: list[tuple[Question, float]] = field(default_factory=list)
    rests_until_s: float = 0.0
    failures: int = 0
    """In a row."""
    unanswered: int = 0
    """Timeouts in a row. A damaged reply ends the row: something was there to answer."""
    last_fault_s: float = float("-inf")
    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    bad_replies: int = 0
    exceptions: int = 0
    late_replies: int = 0
    unasked: int = 0
    latency: Histogram = field(default_factory=Histogram)
    """From a request's last bit to its whole reply."""

    @property
    def dead(self) -> bool:
        """Whether it counts as dead."""
        return self.unanswered >= DEAD_AFTER

    def forget_barred(self, now_s: float) -> None:
        """Drops what is owed for so long that it will not come."""
        if self.owed:
            self.owed = [debt for debt in self.owed if debt[1] > now_s]

    def pay(self, question: Question) -> None:
        """A late answer has come."""
        for debt in self.owed:
            if debt[0] == question:
                self.owed.remove(debt)
                self.late_replies += 1
                break
        if not self.owed:
            self.rests_until_s = 0.0

    def may_ask_s(self, question: Question, now_s: float) -> float:
        """When a question may be asked: not while an answer to another one like it is owed."""
        self.forget_barred(now_s)
        when_s = self.rests_until_s
        for other, barred_s in self.owed:
            if other != question and _alike(other, question):
                when_s = max(when_s, barred_s)
        return when_s

    def readings_needed(self, now_s: float) -> int:
        """How many readings from separate requests must agree before they are believed.

        An answer that is owed may be taken for that to the same question asked again, and so on; one more
        reading than answers are owed is from a request of now.
        """
        self.forget_barred(now_s)
        doubt = 2 if now_s - self.last_fault_s < DOUBT_S else 1
        return max(doubt, 1 + len(self.owed))


def _alike(one: Question, other: Question) -> bool:
    """Whether the answer to one could be taken for that to the other."""
    if not (repeatable(one.request) and repeatable(other.request)):
        return False  # the answer to an act repeats it
    kinds = [(type(q.request), getattr(q.request, "function", 0)) for q in (one, other)]
    return kinds[0] == kinds[1]
