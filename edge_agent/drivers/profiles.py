"""Device profiles: what is where on a board, as data (`config/devices/*.toml`).

A profile names the board's maker and the quality of its evidence (`identity`), the board's timing on the bus
(`bus`) and its abilities (`lock`, `doors`, `relays`, `signal`, `scale`, `temperature`), and gives request and
reply frames that the tests run against the real codec (`vectors`). Addresses are those on the wire, counted
from 0; channels of a board are counted from 1, as printed on it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from edge_agent.drivers.measuring import ScaleCapability as ScaleCapability
from edge_agent.drivers.measuring import TemperatureCapability as TemperatureCapability
from edge_agent.drivers.profile_types import Bit, Bulk, Channels, Milliseconds, ProfilePart, Word
from edge_agent.drivers.profile_writes import BoardPulse as BoardPulse
from edge_agent.drivers.profile_writes import ChannelWrite as ChannelWrite
from edge_agent.drivers.profile_writes import ConstantWrite as ConstantWrite
from edge_agent.drivers.profile_writes import FixedPulse as FixedPulse
from edge_agent.drivers.profile_writes import Pulse as Pulse
from edge_agent.drivers.profile_writes import SwitchedPulse as SwitchedPulse
from edge_agent.drivers.profile_writes import TimedPulse as TimedPulse
from edge_agent.drivers.profile_writes import addresses_of
from edge_agent.drivers.requests import Write, WriteCoils, WriteRegisters
from edge_agent.errors import ConfigError, Finding
from edge_agent.validation_findings import findings_of

Protocol = Literal["modbus", "8a", "kerong-cu12", "kerong-cu16", "kerong-cu48", "wkly"]


MOST_CHANNELS: dict[Protocol, int] = {"kerong-cu12": 12, "kerong-cu16": 16, "kerong-cu48": 48, "wkly": 54}
"""The most channels that fit into the frames of a protocol; a higher one would be another board's."""


SIGNAL_HOLD_MS, SIGNAL_LEAST_MS = 10_000, 2_000
"""How long a signal stays on after the daemon's last write where its board ends a pulse; the least of it."""

Grade = Literal["bronze", "silver", "gold"]
"""How far a profile was tried: written from documents, with frames of a real board, or on a board by us."""


class Identity(ProfilePart):
    """The board's maker, and how certain the profile is."""

    vendor: str
    """Who makes or sells it."""
    models: list[str]
    """Names under which it is sold."""
    evidence: Literal["official", "community", "single-source"]
    """Where its registers are known from: the maker's paper, several users, or one source."""
    source: str
    """The paper or page, so that others find it."""
    hw_verified: bool
    """Whether somebody has tried the profile on a real board."""
    firmware: str = ""
    """The firmware that the profile was tried on, or is limited to."""
    recorded: str = ""
    """Who recorded frames of a real board, and where they are published; empty if nobody is known to have."""

    @property
    def grade(self) -> Grade:
        """How far the profile was tried; the criteria are in `docs/devices.md`."""
        if self.hw_verified:
            return "gold"
        return "silver" if self.recorded else "bronze"


class BusNeeds(ProfilePart):
    """The device's timing on the bus, in milliseconds."""

    protocol: Protocol = "modbus"
    """How it is framed: Modbus, or a lock board's own protocol."""
    gap_ms: Milliseconds = 0
    """Silence it needs before a request, if that is more than 3.5 characters."""
    turnaround_ms: Milliseconds = 50
    """Longest time from the end of a request to the start of its reply."""
    drain_ms: Milliseconds = 100
    """How long the device is not asked after a timeout: a reply is hardly ever later."""
    late_ms: Milliseconds = 2000
    """No reply arrives after this time, however late the device is at its worst."""


def _leaves_none(all_off: ConstantWrite | None, offs: Sequence[Write | WriteCoils | WriteRegisters]) -> None:
    """Raises `ValueError` if some of the outputs stay on."""
    left = [] if all_off is None else all_off.leaves(offs)
    if left:
        raise ValueError(f"all_off does not switch off channels {', '.join(map(str, left))}")


class LockCapability(ProfilePart):
    """Solenoids: every channel can be pulsed.

    `all_off` switches all outputs off at once; `off` one of them, if there is no such command; both are
    absent if the board only knows pulses.
    """

    channels: Channels
    """How many locks it drives."""
    pulse: Pulse
    """How a lock is pulsed."""
    all_off: ConstantWrite | None = None
    """The write that switches all outputs off."""
    off: ChannelWrite | None = None
    """The write that switches one output off."""

    @model_validator(mode="after")
    def _all_off(self) -> LockCapability:
        off = self.pulse.off if self.off is None and isinstance(self.pulse, SwitchedPulse) else self.off
        if off is not None:
            _leaves_none(self.all_off, [off.request(channel + 1) for channel in range(self.channels)])
        return self

    def addresses(self) -> set[tuple[int, int]]:
        """The addresses of all writes, see `addresses_of`."""
        pulse = self.pulse
        if isinstance(pulse, BoardPulse):
            return set()
        writes = (pulse.on, pulse.off) if isinstance(pulse, SwitchedPulse) else (pulse,)
        return addresses_of((*writes, self.off), self.channels)


class DoorsCapability(ProfilePart):
    """Door contacts, read together: bits (functions 01 and 02), registers (03 and 04), or the status of a
    lock board with its own protocol."""

    channels: Channels
    """How many contacts it reads."""
    function: Literal[1, 2, 3, 4] | None = None
    """The Modbus function of the read; absent for a board with its own protocol."""
    address: Word = 0
    """The address of contact 1, on the wire, counted from 0."""
    registers: Literal["each", "mask"] | None = None
    """For functions 03 and 04: a register for each contact (0 is low, any other value high), or a bit."""
    first_bit: Bit = 0
    """In a mask: the bit of contact 1 in the first register; contact 2 is the next higher bit."""
    word_order: Literal["low-first", "high-first"] = "low-first"
    """In a mask of several registers: whether the contacts go on in the next register or the one before."""
    bytes_swapped: bool = False
    """In a mask: whether the two bytes of each register are swapped."""
    bits_reversed: bool = False
    """In a mask: whether bits count from the highest of each register, as `first_bit` then does, too."""
    bit: Bit | None = None
    """With a register for each contact: the bit that is its level; absent: any value but 0 is high."""
    bulk: Bulk = None
    """The most bits or registers in one read; absent: all of them."""
    command: Annotated[int, Field(strict=True, ge=0, le=0xFF)] | None = None
    """The byte that asks for the status, where dialects differ."""
    feedback: Literal["lock", "sensor"] = "lock"
    """Which contact counts, where a lock board has two for each door."""

    @model_validator(mode="after")
    def _form_known(self) -> DoorsCapability:
        if (self.function in (3, 4)) is (self.registers is None):
            if self.registers is None:
                raise ValueError(f"function {self.function} needs registers, as it reads no bits")
            raise ValueError(f"function {self.function} reads bits: registers is for functions 3 and 4")
        if self.first_bit and self.registers != "mask":
            raise ValueError(f'first_bit = {self.first_bit} is for registers = "mask"')
        if self.registers != "mask" and (
            self.word_order != "low-first" or self.bytes_swapped or self.bits_reversed
        ):
            raise ValueError('word_order, bytes_swapped and bits_reversed are for registers = "mask"')
        if self.bit is not None and self.registers != "each":
            raise ValueError(f'bit = {self.bit} is for registers = "each"')
        return self

    @property
    def points(self) -> int:
        """How many bits or registers are read."""
        return self.channels if self.registers != "mask" else (self.first_bit + self.channels + 15) // 16

    def levels(self, values: Sequence[int]) -> list[int]:
        """The level (0 or 1) of each contact, from the bits or registers that were read."""
        if self.registers == "mask":
            ordered = values if self.word_order == "low-first" else values[::-1]
            words = [self._turned(value) for value in ordered]
            mask = sum(word << 16 * place for place, word in enumerate(words)) >> self.first_bit
            return [mask >> channel & 1 for channel in range(self.channels)]
        if self.bit is not None:
            return [value >> self.bit & 1 for value in values]
        return [int(value != 0) for value in values]

    def mask_of(self, levels: Sequence[int]) -> list[int]:
        """The registers of a mask with these levels, the inverse of `levels`."""
        mask = sum(level << channel for channel, level in enumerate(levels)) << self.first_bit
        words = [self._turned(mask >> 16 * place & 0xFFFF, back=True) for place in range(self.points)]
        return words if self.word_order == "low-first" else words[::-1]

    def _turned(self, word: int, *, back: bool = False) -> int:
        """A register with its bytes and bits in the usual order, or back in the board's."""
        steps = [self._bytes_turned, self._bits_turned]
        for step in reversed(steps) if back else steps:
            word = step(word)
        return word

    def _bytes_turned(self, word: int) -> int:
        return (word & 0xFF) << 8 | word >> 8 if self.bytes_swapped else word

    def _bits_turned(self, word: int) -> int:
        return int(f"{word:016b}"[::-1], 2) if self.bits_reversed else word


class RelaysCapability(ProfilePart):
    """Outputs switched by function 05 or 06: address + channel - 1; `on` and `off` are the values.

    An output that must not outlive the daemon (a heater, a cooler) needs `pulse`, which the board ends itself
    and a new one prolongs, or `communication_timeout_ms`: the board switches off after a silence of this
    length. `cancel`: what must be written before `off` if a board ignores `off` while a pulse runs.
    """

    channels: Channels
    """How many outputs it has."""
    function: Literal[5, 6]
    """The Modbus function that switches an output."""
    address: Word
    """The address of output 1, on the wire, counted from 0."""
    on: Word = 0xFF00
    """The value that switches an output on."""
    off: Word = 0x0000
    """The value that switches an output off."""
    cancel: Word | None = None
    """The value that ends a running pulse, where `off` alone does not."""
    all_off: ConstantWrite | None = None
    """The write that switches all outputs off."""
    pulse: TimedPulse | None = None
    """A pulse that the board ends itself, for outputs that must not outlive the daemon."""
    communication_timeout_ms: Annotated[int, Field(strict=True, ge=1_000, le=600_000)] | None = None
    """After this silence on the bus the board switches its outputs off by itself."""

    @model_validator(mode="after")
    def _all_off(self) -> RelaysCapability:
        offs = [Write(self.function, self.address + place, self.off) for place in range(self.channels)]
        _leaves_none(self.all_off, offs)
        return self

    def addresses(self) -> set[tuple[int, int]]:
        """The addresses of all writes, see `addresses_of`."""
        switched = ChannelWrite(function=self.function, address=self.address, value=self.on)
        return addresses_of((switched, self.pulse), self.channels)

    def switch_off(self, channel: int) -> list[Write]:
        """The writes that certainly switch a channel, counted from 1, off."""
        values = [self.off] if self.cancel is None else [self.cancel, self.off]
        return [Write(self.function, self.address + channel - 1, value) for value in values]


class SignalCapability(ProfilePart):
    """Outputs for lights or buzzers at the doors, switched by any writes."""

    channels: Channels
    """How many signals it has."""
    on: ChannelWrite
    """The write that switches a signal on."""
    off: ChannelWrite
    """The write that switches a signal off."""
    pulse: TimedPulse | None = None
    """A pulse that the board ends itself: used in place of `on`, so that a signal outlives no daemon."""
    all_off: ConstantWrite | None = None
    """The write that switches all signals off."""
    own_outputs: bool = False
    """Whether the signals are outputs of their own. Otherwise signal 1 is the same output as lock 1 and relay
    1, and a channel that is wired to one of these cannot be used as a signal."""

    @model_validator(mode="after")
    def _holds(self) -> SignalCapability:
        if self.pulse is not None and not self.pulse.able(self.hold_ms):
            raise ValueError(f"pulse must be able to do {self.hold_ms} ms")
        _leaves_none(self.all_off, [self.off.request(channel + 1) for channel in range(self.channels)])
        return self

    @property
    def hold_ms(self) -> int:
        """The length of the pulses that hold a signal on, each sent before the last one ends."""
        if self.pulse is None:
            return SIGNAL_HOLD_MS
        longest_ms = min(SIGNAL_HOLD_MS, self.pulse.max_ms)
        return max(SIGNAL_LEAST_MS, longest_ms // self.pulse.unit_ms * self.pulse.unit_ms)

    def addresses(self) -> set[tuple[int, int]]:
        """The addresses of all writes, see `addresses_of`."""
        found = addresses_of((self.on, self.off, self.pulse), self.channels)
        return found if self.all_off is None else found | self.all_off.points().keys()


class Check(ProfilePart):
    """A register that must hold a value before the board may be trusted, and why."""

    name: str
    """What is checked, for people."""
    function: Literal[1, 2, 3, 4]
    """The Modbus function of the read."""
    address: Word
    """The first point that is read, on the wire, counted from 0."""
    count: Annotated[int, Field(strict=True, ge=1, le=125)] = 1
    """How many points are read."""
    values: tuple[Word, ...]
    """The values that are allowed."""
    why: str
    """What happens if the board is set otherwise."""


class Sign(ProfilePart):
    """A harmless read that identifies a board found on a bus: it answers that read, or refuses it."""

    function: Literal[1, 2, 3, 4]
    """The Modbus function of the read."""
    address: Word
    """The first point that is read, on the wire, counted from 0."""
    count: Annotated[int, Field(strict=True, ge=1, le=125)] = 1
    """How many points are read."""
    answers: bool = True
    """Whether such a board answers the read; otherwise it refuses it with an exception."""


class Vector(ProfilePart):
    """Bytes that were seen or published: a request and its reply, in hex; no reply if there is none."""

    name: str
    """What the frames do."""
    request: str
    """The request in hex, with its checksum."""
    reply: str = ""
    """The reply in hex; empty if there is none."""
    values: tuple[int, ...] | None = None
    """What the reply means: bits, registers, contacts."""


class Profile(ProfilePart):
    """One family of boards."""

    identity: Identity
    """The board's maker, and the quality of the evidence."""
    bus: BusNeeds
    """Its protocol and timing on the bus."""
    lock: LockCapability | None = None
    """Its solenoids, if it drives locks."""
    doors: DoorsCapability | None = None
    """Its door contacts, if it reads any."""
    relays: RelaysCapability | None = None
    """Its outputs for heaters and coolers."""
    signal: SignalCapability | None = None
    """Its lights or buzzers at the doors."""
    scale: ScaleCapability | None = None
    """Its weight transmitter."""
    temperature: TemperatureCapability | None = None
    """Its temperature probes."""
    checks: tuple[Check, ...] = ()
    """Checked when the machine is commissioned."""
    signs: tuple[Sign, ...] = ()
    """Reads that identify such a board, besides its regular reads and its checks."""
    vectors: Annotated[list[Vector], Field(min_length=1)]
    """Frames that the tests run against the real codec."""

    @model_validator(mode="after")
    def _speaks_its_protocol(self) -> Profile:
        framed = self.bus.protocol != "modbus"
        if self.lock is not None and (self.lock.pulse.kind == "board") is not framed:
            raise ValueError("lock.pulse: kind board is for boards with a protocol of their own, and only it")
        if self.doors is not None and (self.doors.function is None) is not framed:
            raise ValueError("doors.function is for Modbus boards, and needed there")
        most = MOST_CHANNELS.get(self.bus.protocol, 64)
        if max(self.channels("lock"), self.channels("doors")) > most:
            many = max(self.channels("lock"), self.channels("doors"))
            raise ValueError(f"a board that uses {self.bus.protocol} has {most} channels at most, not {many}")
        if framed and (
            self.relays or self.signal or self.scale or self.temperature or self.checks or self.signs
        ):
            raise ValueError("a lock board with a protocol of its own has locks and doors only")
        if self.signal is not None and self.signal.own_outputs:
            for name, part in (("lock", self.lock), ("relays", self.relays)):
                if part is not None and part.addresses() & self.signal.addresses():
                    raise ValueError(f"signal.own_outputs: its writes go to addresses of {name}, too")
        return self

    def channels(self, capability: str) -> int:
        """How many channels a capability has; 0 if the board lacks it."""
        parts = {
            "lock": self.lock,
            "doors": self.doors,
            "relays": self.relays,
            "signal": self.signal,
            "scale": self.scale,
            "temperature": self.temperature,
        }
        part = parts[capability]
        if part is None:
            return 0
        return 1 if isinstance(part, ScaleCapability) else part.channels


def load_profile(path: Path) -> Profile:
    """Reads one profile. Raises `ConfigError` with the path of each wrong key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError([Finding("", f"no such profile: {path}")]) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([Finding("", f"{path.name}: {error}")]) from None
    try:
        return Profile.model_validate(document)
    except ValidationError as error:
        findings = findings_of(error, document)
        raise ConfigError([Finding(f"{path.name}: {one.path}", one.message) for one in findings]) from None
