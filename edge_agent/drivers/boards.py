"""Implements `drivers.interfaces` for boards; the profile of a board gives its registers."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.interfaces import Weight
from edge_agent.drivers.profiles import (
    BoardPulse,
    BusNeeds,
    DoorsCapability,
    FixedPulse,
    LockCapability,
    Profile,
    RelaysCapability,
    ScaleCapability,
    SignalCapability,
    SwitchedPulse,
    TemperatureCapability,
    TimedPulse,
)
from edge_agent.drivers.requests import (
    LockStatus,
    Read,
    Request,
    Unlock,
    Write,
    WriteCoils,
    WriteRegisters,
)
from edge_agent.errors import BusFault, DeviceFault, NotSent

FIRST_OFF_RETRY_S = 0.1
LONGEST_OFF_RETRY_S = 1.0
"""Pauses before a solenoid that could not be switched off is switched off again; they double."""
MEMORY_MARGIN_S = 1.0
"""Added to a device's `late_ms`: a board may also repeat its last reply unasked, which is as old as the last
reading."""
PulseEndedByBoard = TimedPulse | FixedPulse | BoardPulse
"""A pulse that the board itself ends."""
STABLE_READINGS = 3
"""How many readings show that a weight is stable, if the transmitter does not report it."""
DEVICE_FAILURE = 4
"""Modbus exception code for an error that the device reports in its data."""


@dataclass(frozen=True, slots=True)
class Device:
    """A configured device: its bus, its address there, and its timing."""

    name: str
    bus: BusOwner
    address: int
    needs: BusNeeds

    async def ask(self, request: Request, priority: Priority, deadline_s: float = float("inf")) -> list[int]:
        """One transaction with this device, see `BusOwner.transact`. Raises `BusFault` or `DeviceFault`."""
        return await self.bus.transact(self.address, request, self.needs, priority, deadline_s)


class BoardLock:
    """A solenoid whose board ends the pulse itself."""

    def __init__(self, device: Device, pulse: PulseEndedByBoard, channel: int, pulse_ms: int) -> None:
        """Raises `ValueError` if the board cannot do a pulse of `pulse_ms`."""
        if not pulse.able(pulse_ms):
            raise ValueError(f"pulse_ms: {device.name} can do {pulse.ability}, not {pulse_ms} ms")
        self._device = device
        self._request: Request
        if isinstance(pulse, TimedPulse):
            self._request = pulse.request(channel, pulse_ms)
        elif isinstance(pulse, FixedPulse):
            self._request = pulse.request(channel)
        else:
            self._request = Unlock(channel, pulse.command, pulse.acknowledged)

    async def pulse(self, deadline_s: float) -> None:
        """See `Lock.pulse`. Sent once: a repetition could pulse the lock again."""
        await self._device.ask(self._request, Priority.COMMAND, deadline_s)


class SwitchedLock:
    """A solenoid that the daemon switches on and off, because its board cannot end a pulse.

    Whatever the result of switching on, switching off follows and is repeated until the board has accepted
    it; a stop of the daemon also switches everything off.
    """

    def __init__(self, device: Device, pulse: SwitchedPulse, channel: int, pulse_ms: int) -> None:
        """Raises `ValueError` if the board cannot do a pulse of `pulse_ms`."""
        if not pulse.able(pulse_ms):
            raise ValueError(f"pulse_ms: {device.name} can do {pulse.ability}, not {pulse_ms} ms")
        self._device = device
        self._on, self._off = pulse.on.request(channel), pulse.off.request(channel)
        self._pulse_s = pulse_ms / 1000
        self._ending: asyncio.Task[None] | None = None
        self._owed_until_s = 0.0
        """Until when a late reply to switching on may come, on the loop's clock."""

    async def pulse(self, deadline_s: float) -> None:
        """See `Lock.pulse`. Returns once the solenoid is on; it is switched off later."""
        try:
            await self._device.ask(self._on, Priority.COMMAND, deadline_s)
        except NotSent:
            raise
        except BaseException:
            self._owed_until_s = asyncio.get_running_loop().time() + self._device.needs.late_ms / 1000
            self._end_after(0.0)  # it may be on
            raise
        self._end_after(self._pulse_s)

    def _end_after(self, seconds: float) -> None:
        if self._ending is not None:
            self._ending.cancel()  # the end of the new pulse also switches it off, later
        self._ending = asyncio.get_running_loop().create_task(
            self._end(seconds), name=f"end {self._device.name}"
        )

    async def _end(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._switch_off()
        owed_s = self._owed_until_s - asyncio.get_running_loop().time()
        if owed_s > 0 and isinstance(self._off, WriteCoils | WriteRegisters):
            # Such a reply does not repeat the value: that to "on" may have been taken for that to "off".
            await asyncio.sleep(owed_s)
            await self._switch_off()

    async def _switch_off(self) -> None:
        again_s = FIRST_OFF_RETRY_S
        while True:
            try:
                await self._device.ask(self._off, Priority.COMMAND)
            except (BusFault, DeviceFault):
                await asyncio.sleep(again_s)
                again_s = min(2 * again_s, LONGEST_OFF_RETRY_S)
            else:
                return


def lock_at(device: Device, lock: LockCapability, channel: int, pulse_ms: int) -> BoardLock | SwitchedLock:
    """The solenoid on a channel. Raises `ValueError` if the board cannot do a pulse of `pulse_ms`."""
    if isinstance(lock.pulse, SwitchedPulse):
        return SwitchedLock(device, lock.pulse, channel, pulse_ms)
    return BoardLock(device, lock.pulse, channel, pulse_ms)


class TimedRelay:
    """One relay held on by timed pulses that the board ends itself, or by a board that switches off when it
    receives nothing any more."""

    def __init__(self, device: Device, relays: RelaysCapability, channel: int) -> None:
        self.board = device.name
        self.timed = relays.pulse is not None
        self._device = device
        self._relays = relays
        self._channel = channel

    async def hold(self, ms: int) -> None:
        """See `HeldOutput.hold`. A lost reply is harmless: a repetition also holds it on."""
        relays = self._relays
        request: Request = Write(relays.function, relays.address + self._channel - 1, relays.on)
        if relays.pulse is not None:
            request = relays.pulse.request(self._channel, ms)
        await self._device.ask(request, Priority.POLL)

    async def off(self) -> None:
        """See `HeldOutput.off`."""
        for request in self._relays.switch_off(self._channel):
            await self._device.ask(request, Priority.WATCH)


class SignalLine:
    """One light or buzzer, held on by timed pulses where the board has them."""

    def __init__(self, device: Device, signal: SignalCapability, channel: int) -> None:
        self.board = device.name
        self.hold_s = signal.hold_ms / 1000
        self._device = device
        pulse = signal.pulse
        self._on: Request = signal.on.request(channel)
        if pulse is not None:
            self._on = pulse.request(channel, signal.hold_ms)
        self._off: Request = signal.off.request(channel)

    async def hold(self) -> None:
        """See `SignalOutput.hold`."""
        await self._device.ask(self._on, Priority.POLL)

    async def off(self) -> None:
        """See `SignalOutput.off`."""
        await self._device.ask(self._off, Priority.POLL)


class Outputs:
    """All outputs of a board."""

    def __init__(self, device: Device, requests: Sequence[Request]) -> None:
        self.name = device.name
        self._device = device
        self._requests = requests

    async def all_off(self) -> None:
        """See `OutputBoard.all_off`."""
        for request in self._requests:
            await self._device.ask(request, Priority.COMMAND)


def outputs_of(device: Device, profile: Profile) -> Outputs | None:
    """The outputs of a board that must be off when not in use; None if it has none, or ends every pulse
    itself."""
    requests: list[Request] = []
    for part in (profile.lock, profile.relays, profile.signal):
        if part is None:
            continue
        channels = range(1, part.channels + 1)
        if isinstance(part, RelaysCapability) and (part.cancel is not None or part.all_off is None):
            requests += [write for channel in channels for write in part.switch_off(channel)]
        if part.all_off is not None:
            requests.append(part.all_off.request())
        elif isinstance(part, SignalCapability):
            requests += [part.off.request(channel) for channel in channels]
        elif isinstance(part, LockCapability):
            off = part.pulse.off if part.off is None and isinstance(part.pulse, SwitchedPulse) else part.off
            requests += [] if off is None else [off.request(channel) for channel in channels]
    return Outputs(device, tuple(dict.fromkeys(requests))) if requests else None


def blocks(function: int, address: int, count: int, bulk: int | None) -> list[Read]:
    """The fewest reads of `count` points that the board allows."""
    most = bulk or count
    return [Read(function, address + first, min(most, count - first)) for first in range(0, count, most)]


def door_reads(doors: DoorsCapability) -> list[Request]:
    """The requests that read all door contacts of a board."""
    if doors.function is None:
        return [LockStatus(doors.channels, doors.command, doors.feedback == "sensor")]
    return [*blocks(doors.function, doors.address, doors.points, doors.bulk)]


class DoorInputs:
    """Door contacts on inputs or in registers, or on a lock board that reports their state."""

    def __init__(self, device: Device, doors: DoorsCapability) -> None:
        self.name = device.name
        self.least_readings = device.bus.least_readings
        self.oldest_reply_s = device.needs.late_ms / 1000 + MEMORY_MARGIN_S
        self._device = device
        self._doors = doors
        self._requests = door_reads(doors)

    async def read_levels(self, priority: Priority) -> list[int]:
        """See `DoorBoard.read_levels`."""
        values: list[int] = []
        for request in self._requests:
            values += await self._device.ask(request, priority)
        return self._doors.levels(values)

    def readings_needed(self) -> int:
        """See `DoorBoard.readings_needed`."""
        return self._device.bus.readings_needed(self._device.address)


class RegisterScale:
    """A weight transmitter read as one block of registers, and its status separately if it is elsewhere."""

    def __init__(self, device: Device, scale: ScaleCapability) -> None:
        self.name = device.name
        self._device = device
        self._scale = scale
        self._block = Read(scale.function, scale.address, scale.count)
        self._recent_g: deque[float] = deque(maxlen=STABLE_READINGS)
        self._status = None
        if scale.has_status and scale.status_address is not None:
            self._status = Read(scale.status_function or scale.function, scale.status_address, 1)

    async def read(self) -> Weight:
        """See `Scale.read`."""
        scale = self._scale
        registers = await self._device.ask(self._block, Priority.POLL)
        status = 0
        if self._status is not None:
            (status,) = await self._device.ask(self._status, Priority.POLL)
        elif scale.has_status:
            status = registers[scale.status_offset]
        negative = scale.negative_bit is not None and bool(status >> scale.negative_bit & 1)
        counts = scale.counts(registers, negative=negative)
        if scale.fails(status) or not math.isfinite(counts):
            self._recent_g.clear()
            raise DeviceFault(self.name, DEVICE_FAILURE)
        mass_g = counts * scale.grams_per_count / 10 ** self._decimals(status)
        return Weight(round(mass_g), self._stable(mass_g, status))

    def _stable(self, mass_g: float, status: int) -> bool:
        scale = self._scale
        if scale.stable_bit is not None:
            return status >> scale.stable_bit & 1 == scale.stable_level
        self._recent_g.append(mass_g)
        spread_g = max(self._recent_g) - min(self._recent_g)
        return len(self._recent_g) == STABLE_READINGS and spread_g <= scale.stable_within_g

    def _decimals(self, status: int) -> int:
        mask = self._scale.decimals_mask
        return (status & mask) // (mask & -mask) if mask else 0


class TemperatureInputs:
    """Temperature sensors, each in registers of its own."""

    def __init__(self, device: Device, temperature: TemperatureCapability) -> None:
        self.name = device.name
        self._device = device
        self._temperature = temperature
        part = temperature
        self._requests = blocks(part.function, part.address, part.registers, part.bulk)

    async def read_all(self) -> list[float | None]:
        """See `Thermometer.read_all`."""
        registers: list[int] = []
        for request in self._requests:
            registers += await self._device.ask(request, Priority.POLL)
        part = self._temperature
        return [part.temperature_c(registers, channel) for channel in range(1, part.channels + 1)]
