"""The parts of a device profile that measure: weight transmitters and temperature probes."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_agent.drivers.profile_types import Bit, Bulk, Channels, Offset, ProfilePart, Word

NumberFormat = Literal["int16", "uint16", "int32", "uint32", "float32", "sign16", "sign32", "bcd16", "bcd32"]
"""How a number is stored: two's complement, without a sign, an IEEE 754 number, a magnitude whose highest bit
is the sign, or a decimal digit in every four bits."""
WordOrder = Literal["high-first", "low-first"]
REGISTERS_MAX = 125
"""The most registers of one read (MODBUS Application Protocol V1.1b3, 6.3)."""
NoSensor = Word | tuple[Word | tuple[Word, Word], ...] | None
"""A register value, or several values and ranges `[low, high]`."""


def size_of(number_format: NumberFormat) -> int:
    """How many registers a number takes."""
    return 1 if number_format.endswith("16") else 2


def number_in(
    words: Sequence[int], number_format: NumberFormat, word_order: WordOrder, *, bytes_swapped: bool
) -> float:
    """The number in its registers; it may be no number (NaN)."""
    ordered = list(words) if word_order == "high-first" else list(reversed(words))
    order: Literal["big", "little"] = "little" if bytes_swapped else "big"
    data = b"".join(word.to_bytes(2, order) for word in ordered)
    if number_format == "float32":
        (number,) = struct.unpack(">f", data)
        return float(number)
    if number_format.startswith("bcd"):
        digits = data.hex()
        return int(digits) if digits.isdecimal() else math.nan
    number = int.from_bytes(data, "big", signed=number_format.startswith("int"))
    if number_format.startswith("sign"):
        sign = 1 << (8 * len(data) - 1)
        return sign - number if number & sign else number
    return number


def words_of(
    number: float, number_format: NumberFormat, word_order: WordOrder, *, bytes_swapped: bool
) -> list[int]:
    """The registers that hold a number, the inverse of `number_in`."""
    size = 2 * size_of(number_format)
    if number_format == "float32":
        data = struct.pack(">f", number)
    elif number_format.startswith("bcd"):
        data = bytes.fromhex(f"{max(0, round(number)):0{2 * size}d}"[-2 * size :])
    elif number_format.startswith("sign"):
        sign = (1 << (8 * size - 1)) if number < 0 else 0
        data = (sign | abs(round(number))).to_bytes(size, "big")
    else:
        data = (round(number) % (1 << 8 * size)).to_bytes(size, "big")
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if word_order == "low-first":
        words.reverse()
    return [int.from_bytes(word, "little" if bytes_swapped else "big") for word in words]


class ScaleCapability(ProfilePart):
    """A weight transmitter read as one block of registers (function 03 or 04), and its status if it has one.

    A status, if any of its bits is named, is in the block at `status_offset`, or is read separately, at
    `status_address`. Without `stable_bit` a weight is stable when the last three readings are within
    `stable_within_g`.
    """

    function: Literal[3, 4]
    """The Modbus function of the read."""
    address: Word
    """The first register of the block, on the wire, counted from 0."""
    count: Annotated[int, Field(strict=True, ge=1, le=125)]
    """How many registers the block has."""
    mass_offset: Offset = 0
    """Where in the block the weight begins."""
    mass_format: NumberFormat = "int32"
    """How the weight is stored, in one register (16) or two (32)."""
    word_order: WordOrder = "high-first"
    """Which register of two comes first: the high or the low half."""
    bytes_swapped: bool = False
    """Whether the two bytes of each register are swapped."""
    mass_signed: bool = True
    """Two's complement; otherwise a magnitude whose sign is `negative_bit` of the status."""
    grams_per_count: Annotated[float, Field(gt=0)]
    """How many grams one count, or the number 1.0, is."""
    decimals_mask: Word = 0
    """Bits of the status that give the number of decimals of the weight; 0: none do."""
    status_address: Word | None = None
    """The register of the status, if it is outside the block."""
    status_function: Literal[1, 2, 3, 4] | None = None
    """The function that reads `status_address`; absent: that of the block. By 1 and 2 it is one bit."""
    status_offset: Offset = 0
    """Where in the block the status is, without `status_address`."""
    stable_bit: Bit | None = None
    """The bit of the status that shows whether the weight is stable."""
    stable_level: Literal[0, 1] = 1
    """The value of that bit when the weight is stable."""
    stable_within_g: Annotated[float, Field(gt=0)] = 5.0
    """Without `stable_bit`: the range of the last three readings of a stable weight."""
    error_mask: Word = 0
    """Bits of the status of which each is an error when it is 1."""
    ok_mask: Word = 0
    """Bits of the status of which each is an error when it is 0."""
    negative_bit: Bit | None = None
    """The bit of the status that is the sign of a magnitude."""

    @model_validator(mode="after")
    def _inside(self) -> ScaleCapability:
        size = size_of(self.mass_format)
        inside = self.status_offset + 1 if self.has_status and self.status_address is None else 0
        if max(self.mass_offset + size, inside) > self.count:
            raise ValueError(
                f"mass_offset and status_offset must lie inside the block of count registers, {self.count}"
            )
        if self.status_function is not None and self.status_address is None:
            raise ValueError("status_function is for a status at status_address")
        if not self.mass_signed and (self.negative_bit is None or not self.mass_format.startswith("int")):
            raise ValueError("a magnitude is an integer with negative_bit")
        return self

    @property
    def stored_format(self) -> NumberFormat:
        """How the number is stored, its sign considered."""
        if self.mass_signed or not self.mass_format.startswith("int"):
            return self.mass_format
        return "uint16" if self.mass_format == "int16" else "uint32"

    @property
    def has_status(self) -> bool:
        """Whether anything of a status is used."""
        bits = self.stable_bit is not None or self.negative_bit is not None
        return bits or bool(self.error_mask or self.ok_mask or self.decimals_mask)

    def fails(self, status: int) -> bool:
        """Whether the status names an error."""
        return bool(status & self.error_mask or ~status & self.ok_mask)

    def counts(self, registers: Sequence[int], *, negative: bool = False) -> float:
        """The weight in counts from the block; it may be no number (NaN). `negative`: a magnitude's sign."""
        size = size_of(self.mass_format)
        words = registers[self.mass_offset : self.mass_offset + size]
        counts = number_in(words, self.stored_format, self.word_order, bytes_swapped=self.bytes_swapped)
        return -counts if negative and not self.mass_signed else counts


class TemperatureCapability(ProfilePart):
    """Temperatures of one or more probes, each in registers of its own, read in one block."""

    channels: Channels
    """How many probes it reads."""
    function: Literal[3, 4]
    """The Modbus function of the read."""
    address: Word
    """The first register of probe 1, on the wire, counted from 0."""
    bulk: Bulk = None
    """The most registers in one read; absent: all of them."""
    stride: Annotated[int, Field(strict=True, ge=1, le=16)] = 1
    """How many registers it is from one probe to the next."""
    number_format: NumberFormat = "int16"
    """How a temperature is stored, in one register (16) or two (32)."""
    word_order: WordOrder = "high-first"
    """Which register of two comes first: the high or the low half."""
    bytes_swapped: bool = False
    """Whether the two bytes of each register are swapped."""
    degrees_per_count: Annotated[float, Field(gt=0)]
    """How many degrees Celsius one count, or the number 1.0, is."""
    offset_c: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """The temperature at count 0."""
    no_sensor: NoSensor = None
    """The register's value if there is no sensor; or several values and ranges: `[0x8000, [1000, 32767]]`."""
    above_c: Annotated[float, Field(allow_inf_nan=False)] = -55.0
    """See `below_c`."""
    below_c: Annotated[float, Field(allow_inf_nan=False)] = 85.0
    """A temperature is plausible above `above_c` and below `below_c`, in degrees Celsius."""
    no_sensor_c: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = (-127.0, 85.0)
    """Temperatures that mean that there is no sensor: a broken wire, or the value at power-on."""

    @model_validator(mode="after")
    def _consistent(self) -> TemperatureCapability:
        size = size_of(self.number_format)
        if self.stride < size:
            raise ValueError(f"stride must be at least {size}: a {self.number_format} has {size} registers")
        if self.bulk is not None and self.bulk % self.stride:
            raise ValueError("bulk must be a multiple of stride, so that no probe is read in two parts")
        if (self.bulk or self.registers) > REGISTERS_MAX:
            raise ValueError(f"bulk is needed: one read has at most {REGISTERS_MAX} registers")
        if self.no_sensor is not None and size > 1:
            raise ValueError("no_sensor is the value of one register; use no_sensor_c, above_c and below_c")
        if any(low > high for low, high in self.no_sensor_ranges):
            raise ValueError("no_sensor: a range is [low, high]")
        return self

    @property
    def registers(self) -> int:
        """How many registers all probes take."""
        return (self.channels - 1) * self.stride + size_of(self.number_format)

    @property
    def no_sensor_ranges(self) -> tuple[tuple[int, int], ...]:
        """The register values of a missing sensor, as (low, high), both inclusive."""
        named = self.no_sensor
        if named is None:
            return ()
        several = (named,) if isinstance(named, int) else named
        return tuple((one, one) if isinstance(one, int) else one for one in several)

    def temperature_c(self, registers: Sequence[int], channel: int) -> float | None:
        """The temperature of probe `channel` (from 1) in the block; None without a plausible one."""
        first, size = (channel - 1) * self.stride, size_of(self.number_format)
        words = registers[first : first + size]
        if any(low <= words[0] <= high for low, high in self.no_sensor_ranges):
            return None
        counts = number_in(words, self.number_format, self.word_order, bytes_swapped=self.bytes_swapped)
        temperature_c = counts * self.degrees_per_count + self.offset_c
        if not math.isfinite(temperature_c):  # an IEEE 754 number may be
            return None
        rounded_c = round(temperature_c, 2)
        return rounded_c if self.plausible(rounded_c) else None

    def plausible(self, temperature_c: float) -> bool:
        """Whether a sensor can have measured this."""
        return self.above_c < temperature_c < self.below_c and temperature_c not in self.no_sensor_c
