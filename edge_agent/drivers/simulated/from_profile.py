"""A Modbus board that does what its profile says: for boards that nobody has written a simulated device for.

It knows the board from the same file as the driver, so it proves that a profile works on the bench, and not
that the profile is right: that is what the vectors and recordings of a profile are for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_agent.drivers.measuring import size_of, words_of
from edge_agent.drivers.profiles import (
    ChannelWrite,
    ConstantWrite,
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
from edge_agent.drivers.simulated.slave import (
    DEVICE_FAILURE,
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    Execute,
    Rejected,
    Slave,
    address_and_value,
    read_bits,
    read_words,
    written_bits,
    written_words,
)
from edge_agent.drivers.simulated.waveshare import Relay
from edge_agent.drivers.simulated.world import Load, Weighing

MS = 1_000_000
MOST_COILS = 0x10000
Write = Callable[[tuple[int, ...], int], None]
"""Carries out values written at an instant (ns). Raises `Rejected`."""


@dataclass(slots=True)
class Terminals:
    """What is fastened to the board, by channel counted from 1."""

    loads: Mapping[int, Load]
    inputs: Mapping[int, Callable[[int], int]]
    probes: Mapping[int, Callable[[int], float | None]]
    weigh: Callable[[int], Weighing] | None
    signals: Mapping[int, Load] = field(default_factory=dict)
    """Where the board has outputs of their own for signals."""


@dataclass(slots=True)
class _Map:
    """Where the board takes and gives what, by function and address."""

    writes: dict[tuple[int, int], list[Write]] = field(default_factory=dict)
    bits: dict[tuple[int, int], Callable[[int], int]] = field(default_factory=dict)
    words: dict[tuple[int, int], Callable[[int], int]] = field(default_factory=dict)

    def write(self, function: int, address: int, act: Write) -> None:
        self.writes.setdefault((function, address), []).append(act)


class ProfiledBoard(Slave):
    """Locks, doors, relays, signals, scale and temperatures of one Modbus profile.

    Every channel of `lock` and `relays` is one relay, and of `signal` unless these have `own_outputs`.
    Registers of checks read their first right value, those of signs 0.
    """

    def __init__(self, address: int, profile: Profile, terminals: Terminals) -> None:
        super().__init__(address)
        self._map = _Map()
        signal = profile.signal
        shared = signal is not None and not signal.own_outputs
        count = max(
            profile.channels("lock"), profile.channels("relays"), profile.channels("signal") if shared else 0
        )
        self._relays = [Relay(terminals.loads.get(channel)) for channel in range(1, count + 1)]
        self._put_constants(profile)
        if profile.lock is not None:
            self._put_lock(profile.lock)
        if profile.relays is not None:
            self._put_relays(profile.relays)
        if signal is not None:
            own = [Relay(terminals.signals.get(channel)) for channel in range(1, signal.channels + 1)]
            self._put_signals(signal, self._relays if shared else own)
        if profile.doors is not None and profile.doors.function is not None:
            self._put_doors(profile.doors, profile.doors.function, terminals.inputs)
        if profile.temperature is not None:
            self._put_temperatures(profile.temperature, terminals.probes)
        if profile.scale is not None:
            self._put_scale(profile.scale, terminals.weigh or (lambda _: Weighing(0, settled=True)))
        self._functions: dict[int, Execute] = {
            function: self._execute(function)
            for function, _ in (*self._map.bits, *self._map.words, *self._map.writes)
        }

    def functions(self) -> Mapping[int, Execute]:
        """Those that the profile names."""
        return self._functions

    # What the board has.

    def _put_constants(self, profile: Profile) -> None:
        for sign in profile.signs:
            if sign.answers:
                self._put_constant(sign.function, sign.address, sign.count, 0)
        for check in profile.checks:
            self._put_constant(check.function, check.address, check.count, check.values[0])

    def _put_constant(self, function: int, address: int, count: int, value: int) -> None:
        where = self._map.bits if function in (1, 2) else self._map.words
        for offset in range(count):
            where[function, address + offset] = _constant(value)

    def _put_lock(self, lock: LockCapability) -> None:
        for channel, relay in enumerate(self._relays[: lock.channels], 1):
            pulse = lock.pulse
            if isinstance(pulse, TimedPulse):
                self._put_timed(pulse, channel, relay)
            elif isinstance(pulse, FixedPulse):
                self._put_channel(pulse, channel, _switching(relay, pulse.ms * MS))
            elif isinstance(pulse, SwitchedPulse):
                self._put_channel(pulse.on, channel, _switching(relay, None))
                self._put_channel(pulse.off, channel, _switching(relay, 0))
            if lock.off is not None:
                self._put_channel(lock.off, channel, _switching(relay, 0))
        self._put_all_off(lock.all_off, self._relays)

    def _put_relays(self, relays: RelaysCapability) -> None:
        for channel, relay in enumerate(self._relays[: relays.channels], 1):
            address = relays.address + channel - 1
            for value, until_ns in ((relays.on, None), (relays.off, 0), (relays.cancel, 0)):
                if value is not None:
                    act = _on_values((value,), _switching(relay, until_ns))
                    self._map.write(relays.function, address, act)
            if relays.pulse is not None:
                self._put_timed(relays.pulse, channel, relay)
        self._put_all_off(relays.all_off, self._relays)

    def _put_signals(self, signal: SignalCapability, relays: Sequence[Relay]) -> None:
        for channel, relay in enumerate(relays[: signal.channels], 1):
            self._put_channel(signal.on, channel, _switching(relay, None))
            self._put_channel(signal.off, channel, _switching(relay, 0))
            if signal.pulse is not None:
                self._put_timed(signal.pulse, channel, relay)
        self._put_all_off(signal.all_off, relays)

    def _put_channel(self, write: ChannelWrite, channel: int, act: Callable[[int], None]) -> None:
        address = write.address + (channel - 1) * write.stride
        values = write.values if write.value is None else (write.value,)
        self._map.write(write.function, address, _on_values(values, act))

    def _put_timed(self, pulse: TimedPulse, channel: int, relay: Relay) -> None:
        def act(values: tuple[int, ...], at_ns: int) -> None:
            *before, last = values
            ms = (last - pulse.base) * pulse.unit_ms
            if tuple(before) != pulse.before or not pulse.able(ms):
                raise Rejected(ILLEGAL_VALUE)
            relay.switch(at_ns, at_ns + ms * MS)

        self._map.write(pulse.function, pulse.address + (channel - 1) * pulse.stride, act)

    def _put_all_off(self, all_off: ConstantWrite | None, relays: Sequence[Relay]) -> None:
        if all_off is not None:

            def act(at_ns: int) -> None:
                for relay in relays:
                    relay.switch(at_ns, at_ns)

            values = all_off.values if all_off.value is None else (all_off.value,)
            self._map.write(all_off.function, all_off.address, _on_values(values, act))

    def _put_doors(
        self, doors: DoorsCapability, function: int, inputs: Mapping[int, Callable[[int], int]]
    ) -> None:
        levels = [inputs.get(channel, _zero) for channel in range(1, doors.channels + 1)]
        if doors.registers == "mask":
            for place in range(doors.points):
                self._map.words[function, doors.address + place] = _mask(doors, levels, place)
            return
        where = self._map.words if doors.registers == "each" else self._map.bits
        for offset, level in enumerate(levels):
            where[function, doors.address + offset] = (
                level if doors.bit is None else _at_bit(level, doors.bit)
            )

    def _put_temperatures(
        self, part: TemperatureCapability, probes: Mapping[int, Callable[[int], float | None]]
    ) -> None:
        for channel in range(1, part.channels + 1):
            first = part.address + (channel - 1) * part.stride
            for place in range(size_of(part.number_format)):
                read = _temperature(part, probes.get(channel), place)
                self._map.words[part.function, first + place] = read
        for register in range(part.address, part.address + part.registers):
            self._map.words.setdefault((part.function, register), _zero)

    def _put_scale(self, part: ScaleCapability, weigh: Callable[[int], Weighing]) -> None:
        for offset in range(part.count):
            self._map.words.setdefault((part.function, part.address + offset), _zero)
        for place in range(size_of(part.mass_format)):
            register = (part.function, part.address + part.mass_offset + place)
            self._map.words[register] = _mass(part, weigh, place)
        if part.has_status:
            status: tuple[int, int] = (part.function, part.address + part.status_offset)
            if part.status_address is not None:
                status = (part.status_function or part.function, part.status_address)
            where = self._map.bits if status[0] in (1, 2) else self._map.words
            where[status] = _status(part, weigh)

    # What it is asked.

    def _execute(self, function: int) -> Execute:
        if function in (1, 2):
            return lambda body, at_ns: self._read_bits(function, body, at_ns)
        if function in (3, 4):
            return lambda body, at_ns: self._read_words(function, body, at_ns)
        return lambda body, at_ns: self._write(function, body, at_ns)

    def _read_words(self, function: int, body: bytes, at_ns: int) -> bytes:
        def register(address: int) -> int | None:
            found = self._map.words.get((function, address))
            return None if found is None else found(at_ns)

        return read_words(body, register)

    def _read_bits(self, function: int, body: bytes, at_ns: int) -> bytes:
        first, count = address_and_value(body)
        bits = [self._map.bits.get((function, first + offset)) for offset in range(min(count, 2000))]
        if None in bits:
            raise Rejected(ILLEGAL_ADDRESS)
        known = [bit for bit in bits if bit is not None]
        return read_bits(b"\0\0" + body[2:], at_ns, known)

    def _write(self, function: int, body: bytes, at_ns: int) -> bytes:
        if function == 16:
            address, several = written_words(body)
            self._carry_out(function, address, tuple(several), at_ns)
            return body[:4]
        if function == 15:
            first, levels = written_bits(body, MOST_COILS)
            if self._carried_out(function, first, tuple(levels), at_ns):
                return body[:4]
            if any((function, first + place) not in self._map.writes for place in range(len(levels))):
                raise Rejected(ILLEGAL_ADDRESS)
            for place, level in enumerate(levels):
                self._carry_out(function, first + place, (level,), at_ns)
            return body[:4]
        address, value = address_and_value(body)
        self._carry_out(function, address, (value,), at_ns)
        return body

    def _carry_out(self, function: int, address: int, values: tuple[int, ...], at_ns: int) -> None:
        """The first meaning of the values at this address that fits."""
        if (function, address) not in self._map.writes:
            raise Rejected(ILLEGAL_ADDRESS)
        if not self._carried_out(function, address, values, at_ns):
            raise Rejected(ILLEGAL_VALUE)

    def _carried_out(self, function: int, address: int, values: tuple[int, ...], at_ns: int) -> bool:
        """Whether the values mean anything at this address; if so, it is done."""
        for act in self._map.writes.get((function, address), ()):
            try:
                act(values, at_ns)
            except Rejected:
                continue
            return True
        return False


def _zero(_: int) -> int:
    return 0


def _constant(value: int) -> Callable[[int], int]:
    return lambda _: value


def _switching(relay: Relay, for_ns: int | None) -> Callable[[int], None]:
    """Closes the relay for this time; None: until it is switched off; 0 opens it."""
    return lambda at_ns: relay.switch(at_ns, None if for_ns is None else at_ns + for_ns)


def _on_values(expected: Iterable[int], act: Callable[[int], None]) -> Write:
    wanted = tuple(expected)

    def write(values: tuple[int, ...], at_ns: int) -> None:
        if values != wanted:
            raise Rejected(ILLEGAL_VALUE)
        act(at_ns)

    return write


def _temperature(
    part: TemperatureCapability, probe: Callable[[int], float | None] | None, place: int
) -> Callable[[int], int]:
    """The register at this place of a probe's temperature."""

    def read(at_ns: int) -> int:
        temperature_c = None if probe is None else probe(at_ns)
        if temperature_c is not None:
            counts = (temperature_c - part.offset_c) / part.degrees_per_count
        elif part.no_sensor_ranges:
            return part.no_sensor_ranges[0][0]
        elif part.number_format == "float32":
            counts = math.nan
        else:
            raise Rejected(DEVICE_FAILURE)
        words = words_of(counts, part.number_format, part.word_order, bytes_swapped=part.bytes_swapped)
        return words[place]

    return read


def _at_bit(level: Callable[[int], int], bit: int) -> Callable[[int], int]:
    return lambda at_ns: level(at_ns) << bit


def _mask(doors: DoorsCapability, levels: Sequence[Callable[[int], int]], place: int) -> Callable[[int], int]:
    """The register at this place of a mask."""
    return lambda at_ns: doors.mask_of([level(at_ns) for level in levels])[place]


def _mass(part: ScaleCapability, weigh: Callable[[int], Weighing], place: int) -> Callable[[int], int]:
    """The register at this place of the weight."""

    def read(at_ns: int) -> int:
        number = weigh(at_ns).grams / part.grams_per_count
        shown = number if part.mass_signed else abs(number)
        words = words_of(shown, part.stored_format, part.word_order, bytes_swapped=part.bytes_swapped)
        return words[place]

    return read


def _status(part: ScaleCapability, weigh: Callable[[int], Weighing]) -> Callable[[int], int]:
    def read(at_ns: int) -> int:
        weighing = weigh(at_ns)
        status = part.ok_mask
        if part.stable_bit is not None:
            status |= ((1 if weighing.settled else 0) ^ (1 - part.stable_level)) << part.stable_bit
        if part.negative_bit is not None and weighing.grams < 0:
            status |= 1 << part.negative_bit
        return status

    return read
