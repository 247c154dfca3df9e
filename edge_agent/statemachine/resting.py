"""Codes that died and are not given again for a while; shared between states, so that a step stays cheap.

The codes of a whole week may rest. A plain dictionary would be copied with every reservation that ends; this
one is kept in buckets by the code's last digits, of which a change copies one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edge_agent.model import Instant

CODE_REST_NS = 7 * 24 * 3600 * 10**9
"""How long a code that died is not given again while others are left."""
BUCKET_DIGITS = 3


def rested(died: Instant, now: Instant) -> bool:
    """Whether a code that died then may be given again; not while no clock can tell."""
    elapsed_ns = died.elapsed_ns(now)
    return elapsed_ns is not None and elapsed_ns > CODE_REST_NS


@dataclass(frozen=True, slots=True)
class RestingCodes:
    """When each resting code died."""

    buckets: Mapping[str, Mapping[str, Instant]] = field(default_factory=dict)

    def get(self, code: str) -> Instant | None:
        """When a code died; None if it does not rest."""
        return self.buckets.get(code[-BUCKET_DIGITS:], {}).get(code)

    def __contains__(self, code: str) -> bool:
        return self.get(code) is not None

    def __iter__(self) -> Iterator[str]:
        for bucket in self.buckets.values():
            yield from bucket

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets.values())

    def beside(self, code: str) -> tuple[tuple[str, Instant], ...]:
        """The codes in one bucket with this one, oldest first."""
        return tuple(self.buckets.get(code[-BUCKET_DIGITS:], {}).items())

    def died(self, code: str, at: Instant) -> RestingCodes:
        """With one more code, the youngest of its bucket."""
        key = code[-BUCKET_DIGITS:]
        bucket = {other: when for other, when in self.buckets.get(key, {}).items() if other != code}
        return RestingCodes({**self.buckets, key: {**bucket, code: at}})

    def without(self, code: str) -> RestingCodes:
        """Without one code."""
        key = code[-BUCKET_DIGITS:]
        bucket = {other: when for other, when in self.buckets[key].items() if other != code}
        return RestingCodes({**self.buckets, key: bucket})
