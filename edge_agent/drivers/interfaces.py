"""What can be asked of the field, whatever board answers. The registers stand in the profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_agent.drivers.bus import Priority


class Lock(Protocol):
    """One solenoid."""

    async def pulse(self, deadline_s: float) -> None:
        """Energises it once for the configured time; the board or a guard ends the pulse.

        Raises `NotSent` if its turn on the wire did not come before `deadline_s` (loop time): then nothing
        has moved. Raises any other `BusFault` when no acknowledgement came (the pulse may have been given),
        and `DeviceFault` when the board says that it cannot.
        """


class OutputBoard(Protocol):
    """A board with outputs that must be off when nobody asks for them."""

    name: str

    async def all_off(self) -> None:
        """Switches every output off. Raises `BusFault` or `DeviceFault`."""


class HeldOutput(Protocol):
    """One output that goes off by itself when nobody holds it on any more."""

    board: str
    timed: bool
    """A hold ends by itself; else only when the whole board hears nothing any more."""

    async def hold(self, ms: int) -> None:
        """Switches on for so long from now, or prolongs that. Raises `BusFault` or `DeviceFault`."""

    async def off(self) -> None:
        """Switches off at once. Raises `BusFault` or `DeviceFault`."""


class DoorBoard(Protocol):
    """A board with door contacts, read together."""

    name: str
    least_readings: int
    """How many readings must agree even where no reply can be a late one."""
    memory_s: float
    """A reply that comes now was made by the board no longer ago than this."""

    async def read_levels(self, priority: Priority) -> list[int]:
        """The level (0 or 1) of each input, channel 1 first, from a request sent after this call.

        Raises `BusFault` or `DeviceFault`.
        """

    def readings_needed(self) -> int:
        """How many readings must agree just now before they are believed: 1, more after a fault."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight in grams, and whether the scale says that it has settled."""

    mass_g: int
    stable: bool


class Scale(Protocol):
    """One weight transmitter."""

    name: str

    async def read(self) -> Weight:
        """The gross weight. Raises `BusFault` or `DeviceFault` (also where the scale reports an error)."""


class Thermometer(Protocol):
    """A board with temperature sensors."""

    name: str

    async def read_all(self) -> list[float | None]:
        """Degrees Celsius of each channel; None where no sensor is. Raises `BusFault` or `DeviceFault`."""
