"""Turns readings of scales into settled weights; reports them to the loop on a change or on request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from statistics import median_low

from edge_agent.drivers.interfaces import Weight
from edge_agent.statemachine.inputs import Input, Weighed

SETTLED_S = 0.5
"""A weight is reported when two readings this far apart, both stable, agree."""
AGREE_G = 10
DEADBAND_G = 20
"""A smaller change is not reported."""
MEDIAN_OF = 3
"""The median of this many stable readings in a row counts, so that a single wrong one does not matter."""
ERRORS_IN_A_ROW = 3
"""Errors in a row after which a scale cannot weigh."""


class Weighing:
    """The scales of one machine. Takes readings from the pollers; reports settled weights and silence to the
    loop."""

    def __init__(self, labels: Iterable[str], submit: Callable[[Input], None]) -> None:
        self._submit = submit
        self._reported: dict[str, int | None] = dict.fromkeys(labels)
        self._recent: dict[str, deque[int]] = {label: deque(maxlen=MEDIAN_OF) for label in self._reported}
        self._candidates: dict[str, tuple[int, float]] = {}
        self._settled: dict[str, int] = {}
        self._errors: dict[str, int] = {}

    def read(self, label: str, weight: Weight) -> None:
        """A reading of the scale in a cell."""
        self._errors.pop(label, None)
        if not weight.stable:
            self._unsettle(label)
            return
        self._recent[label].append(weight.mass_g)
        mass_g = median_low(self._recent[label])
        now_s = asyncio.get_running_loop().time()
        candidate = self._candidates.get(label)
        if candidate is None or abs(candidate[0] - mass_g) > AGREE_G:
            self._candidates[label] = (mass_g, now_s)
            self._settled.pop(label, None)
        elif now_s - candidate[1] >= SETTLED_S:
            self._settled[label] = mass_g
            reported = self._reported[label]
            if reported is None or abs(reported - mass_g) >= DEADBAND_G:
                self.report(label)

    def report(self, label: str) -> None:
        """Reports the present reading, however small the change; nothing if it has not settled."""
        if label in self._settled:
            self._reported[label] = self._settled[label]
            self._submit(Weighed(label, self._settled[label]))

    def lost(self, label: str) -> None:
        """The scale no longer answers."""
        self._errors.pop(label, None)
        self._unsettle(label)
        if self._reported[label] is not None:
            self._reported[label] = None
            self._submit(Weighed(label, None))

    def error(self, label: str) -> None:
        """The scale answers that it cannot weigh; reported after `ERRORS_IN_A_ROW` such answers in a row."""
        self._unsettle(label)
        self._errors[label] = self._errors.get(label, 0) + 1
        if self._errors[label] == ERRORS_IN_A_ROW:
            self._reported[label] = None
            self._submit(Weighed(label, None, error=True))

    def weigh_again(self, label: str) -> None:
        """Discards the last report: the next settled weight, from readings after this call, is reported."""
        self._reported[label] = None
        self._unsettle(label)

    def awaited(self, label: str) -> bool:
        """Whether a settled weight is awaited."""
        return label not in self._settled and label not in self._errors

    def _unsettle(self, label: str) -> None:
        self._recent[label].clear()
        self._candidates.pop(label, None)
        self._settled.pop(label, None)
