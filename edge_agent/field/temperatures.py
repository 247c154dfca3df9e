"""Readings of temperature sensors, reported to the loop if it uses them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.statemachine.inputs import Input, TemperatureMeasured

DEADBAND_C = 0.2
REPORTED_AT_LEAST_S = 30.0
"""A temperature in use is reported at least this often (`UNBROKEN_NS` of the core is twice that)."""
JUMP_C, JUMP_S = 10.0, 10.0
"""No cell behind a closed door warms or cools by more than this in this time: otherwise its sensor is
faulty."""
STEADY_S = 60.0
"""The readings of a sensor that jumped count again after this long without a jump."""


@dataclass(slots=True)
class _Reported:
    temperature_c: float | None
    at_s: float
    active: bool


class _Steadiness:
    """The last readings of one sensor behind a closed door, and until when none of them counts."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque()
        self._doubted_until_s = float("-inf")

    def begin_anew(self) -> None:
        """Drops the earlier readings: the door is open, or nothing was read."""
        self._recent.clear()

    def is_plausible(self, temperature_c: float, now_s: float) -> bool:
        """Whether a reading counts, given those before it."""
        while self._recent and self._recent[0][0] < now_s - JUMP_S:
            self._recent.popleft()
        if any(abs(temperature_c - before_c) > JUMP_C for _, before_c in self._recent):
            self._doubted_until_s = now_s + STEADY_S
            self._recent.clear()
        self._recent.append((now_s, temperature_c))
        return now_s >= self._doubted_until_s


class Temperatures:
    """The sensors of one machine.

    `active` says whether a cell's climate is at work, so that its temperature counts; for other cells only
    the loss and return of the sensor are reported. `closed` says whether its door is known to be closed: only
    then jumps are judged.
    """

    def __init__(
        self,
        submit: Callable[[Input], None],
        active: Callable[[str], bool],
        closed: Callable[[str], bool] = lambda label: False,
    ) -> None:
        self._submit = submit
        self._active = active
        self._closed = closed
        self._reported: dict[str, _Reported] = {}
        self._steadiness: dict[str, _Steadiness] = {}

    def read(self, label: str, temperature_c: float | None) -> None:
        """A reading of the sensor in a cell; None: the board answers, but no sensor measured this value."""
        steadiness = self._steadiness.setdefault(label, _Steadiness())
        if temperature_c is None:
            self.lost(label)
            return
        if not self._closed(label):
            steadiness.begin_anew()
        if not steadiness.is_plausible(temperature_c, asyncio.get_running_loop().time()):
            self._lose(label)
            return
        last, active = self._reported.get(label), self._active(label)
        now_s = asyncio.get_running_loop().time()
        if last is not None and last.temperature_c is not None:
            quiet = (
                abs(temperature_c - last.temperature_c) < DEADBAND_C
                and now_s - last.at_s < REPORTED_AT_LEAST_S
            )
            if not active or (last.active and quiet):
                last.active = active
                return
        self._report(label, temperature_c, now_s, active=active)

    def lost(self, label: str) -> None:
        """The sensor no longer answers."""
        if label in self._steadiness:
            self._steadiness[label].begin_anew()
        self._lose(label)

    def _lose(self, label: str) -> None:
        last = self._reported.get(label)
        if last is None or last.temperature_c is not None:
            self._report(label, None, asyncio.get_running_loop().time(), active=self._active(label))

    def _report(self, label: str, temperature_c: float | None, now_s: float, *, active: bool) -> None:
        self._reported[label] = _Reported(temperature_c, now_s, active)
        self._submit(TemperatureMeasured(label, temperature_c))
