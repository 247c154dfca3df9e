"""Readings of temperature sensors, told to the loop as far as it has a use for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.statemachine.inputs import Input, TemperatureSeen

DEADBAND_C = 0.2
AT_LEAST_S = 30.0
"""A temperature that is looked at is told so often at least (`UNBROKEN_NS` of the core is twice that)."""
LOST_AFTER = 3
"""Readings in a row without a sensor after which it is lost."""


@dataclass(slots=True)
class _Told:
    temperature_c: float | None
    at_s: float
    active: bool


class Temperatures:
    """The sensors of one machine.

    `active` says whether the climate of a cell is at work, so that its temperature counts; of other cells
    only is told that the sensor is lost or answers again.
    """

    def __init__(self, submit: Callable[[Input], None], active: Callable[[str], bool]) -> None:
        self._submit = submit
        self._active = active
        self._told: dict[str, _Told] = {}
        self._missing: dict[str, int] = {}

    def read(self, label: str, temperature_c: float | None) -> None:
        """A reading of the sensor in a cell; None: the board answers, and finds no sensor."""
        if temperature_c is None:
            self._missing[label] = self._missing.get(label, 0) + 1
            if self._missing[label] >= LOST_AFTER:
                self.lost(label)
            return
        self._missing[label] = 0
        told, active = self._told.get(label), self._active(label)
        now_s = asyncio.get_running_loop().time()
        if told is not None and told.temperature_c is not None:
            quiet = abs(temperature_c - told.temperature_c) < DEADBAND_C and now_s - told.at_s < AT_LEAST_S
            if not active or (told.active and quiet):
                told.active = active
                return
        self._tell(label, temperature_c, now_s, active=active)

    def lost(self, label: str) -> None:
        """The sensor does not answer any more."""
        told = self._told.get(label)
        if told is None or told.temperature_c is not None:
            self._tell(label, None, asyncio.get_running_loop().time(), active=self._active(label))

    def _tell(self, label: str, temperature_c: float | None, now_s: float, *, active: bool) -> None:
        self._told[label] = _Told(temperature_c, now_s, active)
        self._submit(TemperatureSeen(label, temperature_c))
