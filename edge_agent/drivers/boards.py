"""Modbus boards behind the interfaces; what is where comes from the profile."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.interfaces import Weight
from edge_agent.drivers.modbus import Read, Request, Write
from edge_agent.drivers.profiles import (
    BusNeeds,
    ConstantWrite,
    DoorsCapability,
    RelaysCapability,
    ScaleCapability,
    TemperatureCapability,
    TimedPulse,
)
from edge_agent.errors import DeviceFault

RELAY_ON, RELAY_OFF = 0xFF00, 0x0000
"""Values of a single coil (Modbus application protocol 1.1b3, 6.5)."""
SLAVE_DEVICE_FAILURE = 4
"""Modbus exception code that stands for an error the device reports in its data."""


@dataclass(frozen=True, slots=True)
class Device:
    """A place on a bus."""

    name: str
    bus: BusOwner
    address: int
    needs: BusNeeds

    async def ask(self, request: Request, priority: Priority, deadline_s: float = float("inf")) -> list[int]:
        """One transaction with this device, see `BusOwner.transact`. Raises `BusFault` or `DeviceFault`."""
        return await self.bus.transact(self.address, request, self.needs, priority, deadline_s)


class TimedLock:
    """A solenoid on a board that ends the pulse itself."""

    def __init__(self, device: Device, pulse: TimedPulse, channel: int, pulse_ms: int) -> None:
        if not pulse.min_ms <= pulse_ms <= pulse.max_ms or pulse_ms % pulse.unit_ms:
            raise ValueError(f"pulse_ms: {device.name} cannot do {pulse_ms} ms")
        self._device = device
        self._request = Write(pulse.function, pulse.address + channel - 1, pulse_ms // pulse.unit_ms)

    async def pulse(self, deadline_s: float) -> None:
        """See `Lock.pulse`. Sent once: an unlock is not repeatable."""
        await self._device.ask(self._request, Priority.COMMAND, deadline_s)


class TimedRelay:
    """One relay held on by timed pulses, which the board itself ends, or by a board that switches off when it
    hears nothing any more."""

    def __init__(self, device: Device, relays: RelaysCapability, channel: int) -> None:
        self.board = device.name
        self.timed = relays.pulse is not None
        self._device = device
        self._pulse = relays.pulse
        self._channel = channel
        self._address = relays.address + channel - 1
        self._function = relays.function

    async def hold(self, ms: int) -> None:
        """See `HeldOutput.hold`. A lost reply is harmless: the same again holds it on as well."""
        request = Write(self._function, self._address, RELAY_ON)
        if self._pulse is not None:
            address = self._pulse.address + self._channel - 1
            request = Write(self._pulse.function, address, ms // self._pulse.unit_ms)
        await self._device.ask(request, Priority.POLL)

    async def off(self) -> None:
        """See `HeldOutput.off`."""
        await self._device.ask(Write(self._function, self._address, RELAY_OFF), Priority.WATCH)


class Outputs:
    """All outputs of a board."""

    def __init__(self, device: Device, all_off: ConstantWrite) -> None:
        self.name = device.name
        self._device = device
        self._request = Write(all_off.function, all_off.address, all_off.value)

    async def all_off(self) -> None:
        """See `OutputBoard.all_off`."""
        await self._device.ask(self._request, Priority.COMMAND)


class DoorInputs:
    """Door contacts on discrete inputs."""

    def __init__(self, device: Device, doors: DoorsCapability) -> None:
        self.name = device.name
        self._device = device
        self._request = Read(doors.function, doors.address, doors.channels)

    async def read_levels(self, priority: Priority) -> list[int]:
        """See `DoorBoard.read_levels`."""
        return await self._device.ask(self._request, priority)


class RegisterScale:
    """A weight transmitter read as one block of registers."""

    def __init__(self, device: Device, scale: ScaleCapability) -> None:
        self.name = device.name
        self._device = device
        self._scale = scale
        self._request = Read(scale.function, scale.address, scale.count)

    async def read(self) -> Weight:
        """See `Scale.read`."""
        registers = await self._device.ask(self._request, Priority.POLL)
        scale = self._scale
        status = registers[scale.status_offset]
        if status & scale.error_mask:
            raise DeviceFault(self.name, SLAVE_DEVICE_FAILURE)
        counts = registers[scale.mass_offset] << 16 | registers[scale.mass_offset + 1]
        if scale.mass_signed:
            counts -= (counts >> 31) << 32
        elif scale.negative_bit is not None and status >> scale.negative_bit & 1:
            counts = -counts
        stable = status >> scale.stable_bit & 1 == scale.stable_level
        return Weight(round(counts * scale.grams_per_count), stable)


class TemperatureInputs:
    """Temperature sensors, one signed register each."""

    def __init__(self, device: Device, temperature: TemperatureCapability) -> None:
        self.name = device.name
        self._device = device
        self._temperature = temperature
        self._request = Read(temperature.function, temperature.address, temperature.channels)

    async def read_all(self) -> list[float | None]:
        """See `Thermometer.read_all`."""
        registers = await self._device.ask(self._request, Priority.POLL)
        return [self._degrees(register) for register in registers]

    def _degrees(self, register: int) -> float | None:
        if register == self._temperature.no_sensor:
            return None
        signed = register - 0x10000 if register >= 0x8000 else register
        return round(signed * self._temperature.degrees_per_count, 2)
