"""The parts of a device profile that measure: weight transmitters and temperature probes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_agent.drivers.profile_types import Bit, Bulk, Channels, Offset, ProfilePart, Word


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
    mass_format: Literal["int16", "int32", "float32"] = "int32"
    """One register, two registers, or two registers with an IEEE 754 number."""
    word_order: Literal["high-first", "low-first"] = "high-first"
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
    status_offset: Offset = 0
    """Where in the block the status is, without `status_address`."""
    stable_bit: Bit | None = None
    """The bit of the status that shows whether the weight is stable."""
    stable_level: Literal[0, 1] = 1
    """The value of that bit when the weight is stable."""
    stable_within_g: Annotated[float, Field(gt=0)] = 5.0
    """Without `stable_bit`: the range of the last three readings of a stable weight."""
    error_mask: Word = 0
    """Bits of the status of which each is an error."""
    negative_bit: Bit | None = None
    """The bit of the status that is the sign of a magnitude."""

    @model_validator(mode="after")
    def _inside(self) -> ScaleCapability:
        size = 1 if self.mass_format == "int16" else 2
        inside = self.status_offset + 1 if self.has_status and self.status_address is None else 0
        if max(self.mass_offset + size, inside) > self.count:
            raise ValueError("mass_offset and status_offset must lie inside the block of count registers")
        if not self.mass_signed and (self.negative_bit is None or self.mass_format == "float32"):
            raise ValueError("a magnitude is an integer with negative_bit")
        return self

    @property
    def has_status(self) -> bool:
        """Whether anything of a status is used."""
        bits = self.stable_bit is not None or self.negative_bit is not None
        return bits or bool(self.error_mask or self.decimals_mask)

    def counts(self, registers: Sequence[int], *, negative: bool = False) -> float:
        """The weight in counts from the block; it may be no number (NaN). `negative`: a magnitude's sign."""
        size = 1 if self.mass_format == "int16" else 2
        words = list(registers[self.mass_offset : self.mass_offset + size])
        if self.word_order == "low-first":
            words.reverse()
        order: Literal["big", "little"] = "little" if self.bytes_swapped else "big"
        data = b"".join(word.to_bytes(2, order) for word in words)
        if self.mass_format == "float32":
            (number,) = struct.unpack(">f", data)
            return float(number)
        counts = int.from_bytes(data, "big", signed=self.mass_signed)
        return -counts if negative and not self.mass_signed else counts


class TemperatureCapability(ProfilePart):
    """Temperatures as signed 16-bit registers, one a channel, read in one block."""

    channels: Channels
    """How many probes it reads."""
    function: Literal[3, 4]
    """The Modbus function of the read."""
    address: Word
    """The register of probe 1, on the wire, counted from 0."""
    bulk: Bulk = None
    """The most registers in one read; absent: all of them."""
    degrees_per_count: Annotated[float, Field(gt=0)]
    """How many degrees Celsius one count is."""
    no_sensor: Word | None = None
    """The register's value if there is no sensor."""
    above_c: Annotated[float, Field(allow_inf_nan=False)] = -55.0
    """See `below_c`."""
    below_c: Annotated[float, Field(allow_inf_nan=False)] = 85.0
    """A temperature is plausible above `above_c` and below `below_c`, in degrees Celsius."""
    no_sensor_c: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = (-127.0, 85.0)
    """Temperatures that mean that there is no sensor: a broken wire, or the value at power-on."""

    def plausible(self, temperature_c: float) -> bool:
        """Whether a sensor can have measured this."""
        return self.above_c < temperature_c < self.below_c and temperature_c not in self.no_sensor_c
