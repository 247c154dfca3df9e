"""Interfaces to locks, door contacts, scales, sensors and outputs, independent of the board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_agent.drivers.jobs import Priority


class Lock(Protocol):
    """One solenoid."""

    async def pulse(self, deadline_s: float) -> None:
        """Energises the solenoid once for the configured time; the board ends the pulse, or the daemon if the
        board cannot.

        Raises `NotSent` if it was not sent before `deadline_s` (loop time): then nothing has moved. Raises
        any other `BusFault` if no acknowledgement came (the pulse may have been given), and `DeviceFault` if
        the board refuses.
        """


class OutputBoard(Protocol):
    """A board with outputs that must be off when not in use."""

    name: str

    async def all_off(self) -> None:
        """Switches every output off. Raises `BusFault` or `DeviceFault`."""


class HeldOutput(Protocol):
    """One output that goes off by itself when it is no longer held on."""

    board: str
    timed: bool
    """A hold ends by itself; otherwise only when the whole board receives nothing any more."""

    async def hold(self, ms: int) -> None:
        """Switches on for `ms` from now, or extends that. Raises `BusFault` or `DeviceFault`."""

    async def off(self) -> None:
        """Switches off at once. Raises `BusFault` or `DeviceFault`."""


class SignalOutput(Protocol):
    """One light or buzzer. Its writes have the priority of polls: every pulse of a lock overtakes them."""

    board: str
    hold_s: float
    """How long it stays on after a `hold` at least, in seconds; longer if its board ends no pulse."""

    async def hold(self) -> None:
        """Switches on, or keeps on. Raises `BusFault` or `DeviceFault`."""

    async def off(self) -> None:
        """Switches off. Raises `BusFault` or `DeviceFault`."""


class DoorBoard(Protocol):
    """A board with door contacts, read together."""

    name: str
    least_readings: int
    """How many readings must agree even if no reply can be a late one."""
    oldest_reply_s: float
    """The board made any reply that arrives now at most this long ago."""

    async def read_levels(self, priority: Priority) -> list[int]:
        """The level (0 or 1) of each input, channel 1 first, from a request sent after this call.

        Raises `BusFault` or `DeviceFault`.
        """

    def readings_needed(self) -> int:
        """How many readings must agree at present before they count: 1, more after a fault."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight in grams, and whether the scale, or the last few readings, show it as stable."""

    mass_g: int
    stable: bool


class Scale(Protocol):
    """One weight transmitter."""

    name: str

    async def read(self) -> Weight:
        """The gross weight. Raises `BusFault` or `DeviceFault` (also if the scale reports an error)."""


class Thermometer(Protocol):
    """A board with temperature sensors."""

    name: str

    async def read_all(self) -> list[float | None]:
        """Degrees Celsius of each channel; None if there is no sensor. Raises `BusFault` or `DeviceFault`."""
