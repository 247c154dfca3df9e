"""What a profile says of writes to a board: single ones, and pulses of an output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_agent.drivers.profile_types import Milliseconds, ProfilePart, Word
from edge_agent.drivers.requests import Write, WriteCoils, WriteRegisters

MOST_VALUES = 123
"""The most registers of one write (MODBUS Application Protocol V1.1b3, 6.12)."""


class ChannelWrite(ProfilePart):
    """One write for one channel: function 05, 06 or 15 with `value`, or 16 with `values`.

    It goes to `address` + (channel - 1) × `stride`. Function 15 writes one coil, so its value is 0 or 1.
    """

    function: Literal[5, 6, 15, 16]
    """The Modbus function of the write."""
    address: Word
    """The address of channel 1, on the wire, counted from 0."""
    stride: Annotated[int, Field(strict=True, ge=0, le=64)] = 1
    """How much the address grows from channel to channel."""
    value: Word | None = None
    """The value for function 05, 06 or 15."""
    values: tuple[Word, ...] = ()
    """The registers for function 16."""

    @model_validator(mode="after")
    def _value_there(self) -> ChannelWrite:
        if (self.function == 16) is (self.value is not None) or (self.function == 16) is not bool(
            self.values
        ):
            needed = "values" if self.function == 16 else "value"
            raise ValueError(f"function {self.function} needs {needed}, alone")
        if self.function == 15 and self.value not in (0, 1):
            raise ValueError(f"function 15 writes one coil: value must be 0 or 1, not {self.value}")
        return self

    def request(self, channel: int) -> Write | WriteCoils | WriteRegisters:
        """The write for a channel, counted from 1."""
        address = self.address + (channel - 1) * self.stride
        if self.value is None:
            return WriteRegisters(address, self.values)
        if self.function == 15:
            return WriteCoils(address, (self.value,))
        return Write(self.function, address, self.value)


class ConstantWrite(ProfilePart):
    """One write of constants: function 05 or 06 with `value`, 15 or 16 with `values`, one for each point."""

    function: Literal[5, 6, 15, 16]
    """The Modbus function of the write."""
    address: Word
    """The first address on the wire, counted from 0."""
    value: Word | None = None
    """The value for function 05 or 06."""
    values: Annotated[tuple[Word, ...], Field(max_length=MOST_VALUES)] = ()
    """The coils (each 0 or 1) for function 15, the registers for function 16."""

    @model_validator(mode="after")
    def _value_there(self) -> ConstantWrite:
        several = self.function in (15, 16)
        if several is (self.value is not None) or several is not bool(self.values):
            needed = "values" if several else "value"
            raise ValueError(f"function {self.function} needs {needed}, alone")
        if self.function == 15 and not set(self.values) <= {0, 1}:
            raise ValueError("function 15 writes coils: each of values must be 0 or 1")
        return self

    def request(self) -> Write | WriteCoils | WriteRegisters:
        """The write."""
        if self.value is not None:
            return Write(self.function, self.address, self.value)
        return (WriteCoils if self.function == 15 else WriteRegisters)(self.address, self.values)

    def points(self) -> dict[tuple[int, int], int | None]:
        """What it writes where: by function (05 stands for 15, too, and 06 for 16) and address; None for a
        value of function 05 that is neither on nor off."""
        return points_of(self.request())

    def leaves(self, offs: Sequence[Write | WriteCoils | WriteRegisters]) -> list[int]:
        """The channels, counted from 1, that it leaves on, where it writes to addresses of the outputs
        themselves. `offs`: the write that switches each channel off.

        A write to any other address is a command of the board's own, whose extent the profile cannot show.
        """
        written, wanted = self.points(), [points_of(off) for off in offs]
        if not any(written.keys() & off.keys() for off in wanted):
            return []
        return [channel for channel, off in enumerate(wanted, 1) if not off.items() <= written.items()]


class TimedPulse(ProfilePart):
    """A pulse that the board itself ends: address + (channel - 1) × stride, `base` + time in units.

    With function 16 the registers `before` precede the time.
    """

    kind: Literal["timed"] = "timed"
    """A pulse whose length is written with it."""
    function: Literal[5, 6, 16]
    """The Modbus function of the write."""
    address: Word
    """The address of channel 1, on the wire, counted from 0."""
    stride: Annotated[int, Field(strict=True, ge=0, le=64)] = 1
    """How much the address grows from channel to channel."""
    base: Word = 0
    """What is added to the time in units."""
    before: tuple[Word, ...] = ()
    """With function 16: the registers before the time, for instance the mode."""
    unit_ms: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    """The unit of the board's timer, in milliseconds."""
    min_ms: Milliseconds
    """The shortest pulse that the board can give."""
    max_ms: Milliseconds
    """The longest pulse that the board can give."""
    reply: Literal["echo"] = "echo"
    """The board answers with an echo of the write."""
    idempotent: Literal[False] = False
    """Always false: a pulse that is sent twice may open twice, so it is never repeated."""

    def able(self, ms: int) -> bool:
        """Whether the board can do a pulse of exactly this length."""
        return self.min_ms <= ms <= self.max_ms and ms % self.unit_ms == 0

    @property
    def ability(self) -> str:
        """Its possible pulses, for people."""
        return f"{self.min_ms} to {self.max_ms} ms in steps of {self.unit_ms} ms"

    def request(self, channel: int, ms: int) -> Write | WriteRegisters:
        """The pulse on a channel, counted from 1."""
        address, value = self.address + (channel - 1) * self.stride, self.base + ms // self.unit_ms
        if self.function == 16:
            return WriteRegisters(address, (*self.before, value))
        return Write(self.function, address, value)


class FixedPulse(ChannelWrite):
    """A pulse of fixed length that the board ends."""

    kind: Literal["fixed"]
    """A pulse whose length is set in the board."""
    ms: Milliseconds
    """The length of the pulse."""
    idempotent: Literal[False] = False
    """Always false, see `TimedPulse`."""

    def able(self, ms: int) -> bool:
        """See `TimedPulse.able`."""
        return ms == self.ms

    @property
    def ability(self) -> str:
        """See `TimedPulse.ability`."""
        return f"{self.ms} ms only"


class SwitchedPulse(ProfilePart):
    """A pulse that the daemon switches on and off: for boards that cannot end one themselves.

    If the daemon dies in between, the solenoid stays energised until the next start; so such a board needs a
    solenoid that withstands it, or a fuse.
    """

    kind: Literal["switched"]
    """Switched on and off by two writes."""
    on: ChannelWrite
    """The write that energises the solenoid."""
    off: ChannelWrite
    """The write that releases it."""
    min_ms: Milliseconds = 100
    """The shortest pulse that may be configured."""
    max_ms: Milliseconds = 2000
    """The longest pulse that may be configured."""
    idempotent: Literal[False] = False
    """Always false, see `TimedPulse`."""

    def able(self, ms: int) -> bool:
        """See `TimedPulse.able`."""
        return self.min_ms <= ms <= self.max_ms

    @property
    def ability(self) -> str:
        """See `TimedPulse.ability`."""
        return f"{self.min_ms} to {self.max_ms} ms"


class BoardPulse(ProfilePart):
    """The unlock command of a board with a protocol of its own; the board ends the pulse."""

    kind: Literal["board"]
    """The unlock command of the board's own protocol."""
    ms: Milliseconds
    """The length of the pulse that the board gives."""
    command: Annotated[int, Field(strict=True, ge=0, le=0xFF)] | None = None
    """The byte that means unlock, where dialects differ."""
    acknowledged: bool = True
    """Whether the board answers an unlock."""
    idempotent: Literal[False] = False
    """Always false, see `TimedPulse`."""

    def able(self, ms: int) -> bool:
        """See `TimedPulse.able`."""
        return ms == self.ms

    @property
    def ability(self) -> str:
        """See `TimedPulse.ability`."""
        return f"{self.ms} ms only"


Pulse = Annotated[TimedPulse | FixedPulse | SwitchedPulse | BoardPulse, Field(discriminator="kind")]


def addresses_of(writes: Sequence[ChannelWrite | TimedPulse | None], channels: int) -> set[tuple[int, int]]:
    """Where the writes to all channels go, as function and address; 05 stands for 15, too, and 06 for 16."""
    found: set[tuple[int, int]] = set()
    for write in writes:
        if write is None:
            continue
        points = len(write.values) if isinstance(write, ChannelWrite) else 1 + len(write.before)
        kind = 5 if write.function in (5, 15) else 6
        for channel in range(channels):
            first = write.address + channel * write.stride
            found |= {(kind, first + point) for point in range(points or 1)}
    return found


COILS = {0xFF00: 1, 0x0000: 0}
"""What the values of function 05 mean by the standard."""


def points_of(request: Write | WriteCoils | WriteRegisters) -> dict[tuple[int, int], int | None]:
    """What a write does to which points, see `ConstantWrite.points`."""
    if isinstance(request, Write):
        value = COILS.get(request.value) if request.function == 5 else request.value
        return {(request.function, request.address): value}
    kind = 5 if isinstance(request, WriteCoils) else 6
    return {(kind, request.address + place): value for place, value in enumerate(request.values)}
