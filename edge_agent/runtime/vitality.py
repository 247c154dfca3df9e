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


def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Proof:
    """How a loop proves that it is alive.

    `turns`: 0 at first, then another number after each turn; None: it has nothing to prove now. The loop is
    silent when the number has not changed for `bound_s`. `nudge` makes it turn when it waits.
    """

    name: str
    turns: Callable[[], int | None]
    bound_s: float
    nudge: Callable[[], None] = _nothing


@runtime_checkable
class Proven(Protocol):
    """A part of the daemon that has loops or threads of its own."""

    def proofs(self) -> list[Proof]:
        """One proof for each loop or thread."""


class Vitality:
    """The state of all loops, checked every `check_s` seconds."""

    def __init__(self, proofs: Sequence[Proof], check_s: float) -> None:
        self._proofs = [(proof, max(2, math.ceil(proof.bound_s / check_s))) for proof in proofs]
        self._seen: dict[str, int | None] = {proof.name: proof.turns() for proof in proofs}
        self._still: dict[str, int] = dict.fromkeys(self._seen, 0)

    @property
    def unborn(self) -> list[str]:
        """Names of the loops that have not made a turn yet."""
        return [proof.name for proof, _ in self._proofs if proof.turns() == 0]

    def look(self) -> list[str]:
        """Checks once; returns the names of the silent loops."""
        silent = []
        for proof, bound in self._proofs:
            turns, before = proof.turns(), self._seen[proof.name]
            self._seen[proof.name] = turns
            if turns is None or turns != before:
                self._still[proof.name] = 0
                continue
            self._still[proof.name] += 1
            if self._still[proof.name] >= bound:
                silent.append(proof.name)
            if self._still[proof.name] * 3 >= bound:
                proof.nudge()
        return silent
