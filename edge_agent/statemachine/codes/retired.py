"""Codes of ended reservations, kept from use for a while; shared between states, so that a step stays cheap.

A code is retired when its reservation ends, and may be used again after a week. Thousands may be retired at
once. A plain dictionary would be copied with every reservation that ends, and searched whenever few are left.
Here the codes are in buckets by their last digits, of which a change copies one, and in a queue in the order
in which they were retired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edge_agent.model import Instant
from edge_agent.statemachine.amend import amend

REUSE_AFTER_NS = 7 * 24 * 3600 * 10**9
"""How long a retired code is not used again while others are left."""
BUCKET_DIGITS = 2
CHUNK = 64
RELEASED_AT_ONCE = 4
"""At most this many codes that may be used again are released with each new reservation."""

RetiredCode = tuple[str, Instant]
"""A code, and when it was retired."""


def may_be_reused(retired_at: Instant, now: Instant) -> bool:
    """Whether a code that was retired then may be used again; not while no clock shows the time."""
    elapsed_ns = retired_at.elapsed_ns(now)
    return elapsed_ns is not None and elapsed_ns > REUSE_AFTER_NS


@dataclass(frozen=True, slots=True)
class RetiredCodes:
    """When each code was retired, and in which order.

    `chunks` is the queue, `first` and `after` the numbers of its oldest place and of the one after its
    youngest; the place of a code that has been used again is empty. `cursor` is where the search for a code
    that was never used continues.
    """

    buckets: Mapping[str, Mapping[str, Instant]] = field(default_factory=dict)
    count: int = 0
    chunks: Mapping[int, tuple[RetiredCode, ...]] = field(default_factory=dict, compare=False)
    first: int = field(default=0, compare=False)
    after: int = field(default=0, compare=False)
    cursor: int = field(default=0, compare=False)

    def get(self, code: str) -> Instant | None:
        """When a code was retired; None if it is not retired."""
        bucket = self.buckets.get(code[-BUCKET_DIGITS:])
        return None if bucket is None else bucket.get(code)

    def __contains__(self, code: str) -> bool:
        return self.get(code) is not None

    def __iter__(self) -> Iterator[str]:
        for bucket in self.buckets.values():
            yield from bucket

    def __len__(self) -> int:
        return self.count

    def with_code(self, code: str, at: Instant) -> RetiredCodes:
        """A copy with one more code, retired last."""
        number = self.after // CHUNK
        chunks = {**self.chunks, number: (*self.chunks.get(number, ()), (code, at))}
        count = self.count + (code not in self)
        return amend(self, buckets=self._with(code, at), count=count, chunks=chunks, after=self.after + 1)

    def without(self, code: str) -> RetiredCodes:
        """A copy without one code; its place in the queue is then empty."""
        if code not in self:
            return self
        return amend(self, buckets=self._with(code, None), count=self.count - 1)

    def _with(self, code: str, at: Instant | None) -> Mapping[str, Mapping[str, Instant]]:
        key = code[-BUCKET_DIGITS:]
        bucket = dict(self.buckets.get(key, {}))
        if at is None:
            bucket.pop(code, None)
        else:
            bucket[code] = at
        if bucket:
            return {**self.buckets, key: bucket}
        return {other: codes for other, codes in self.buckets.items() if other != key}

    def oldest_first(self) -> Iterator[RetiredCode]:
        """The codes in the order in which they were retired."""
        for place in range(self.first, self.after):
            entry = self.chunks[place // CHUNK][place % CHUNK]
            if self._still(*entry):
                yield entry

    def _still(self, code: str, at: Instant) -> bool:
        """Whether a place of the queue is not empty: the code has been retired since then."""
        retired_at = self.get(code)
        return retired_at is at or retired_at == at  # mostly the same object: comparing values is slow

    def trimmed(self) -> RetiredCodes:
        """A copy without the empty places at the head of the queue."""
        first, chunks = self.first, self.chunks
        while first < self.after:
            code, at = chunks[first // CHUNK][first % CHUNK]
            if self._still(code, at):
                break
            first += 1
            if first % CHUNK == 0:
                chunks = {number: chunk for number, chunk in chunks.items() if number >= first // CHUNK}
        return self if first == self.first else amend(self, first=first, chunks=chunks)
