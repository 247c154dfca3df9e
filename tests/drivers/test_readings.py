"""What the registers of a board mean: door contacts, weights and temperatures in every form of a profile."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_agent.drivers.boards import Device, DoorInputs, RegisterScale, TemperatureInputs
from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.measuring import words_of
from edge_agent.drivers.profiles import (
    BusNeeds,
    DoorsCapability,
    ScaleCapability,
    TemperatureCapability,
)
from edge_agent.drivers.requests import Read, Request
from edge_agent.errors import DeviceFault


class Registers:
    """A bus whose devices answer each read with the next of the given values."""

    least_readings = 1

    def __init__(self, *answers: Sequence[int]) -> None:
        self.asked: list[Request] = []
        self._answers = list(answers)

    async def transact(self, _: int, request: Request, *__: Any) -> list[int]:
        self.asked.append(request)
        return list(self._answers.pop(0))

    @property
    def device(self) -> Device:
        return Device("board", cast("BusOwner", self), 1, BusNeeds())


def doors(**keys: Any) -> DoorsCapability:
    return DoorsCapability.model_validate({"channels": 8, "address": 0x81, **keys})


@pytest.mark.parametrize(
    ("keys", "answers", "levels", "asked"),
    [
        ({"function": 1}, [[1, 0, 0, 1, 0, 0, 0, 1]], [1, 0, 0, 1, 0, 0, 0, 1], [Read(1, 0x81, 8)]),
        (
            {"function": 3, "registers": "each"},
            [[1, 0, 0, 0xFF00, 0, 0, 0, 1]],
            [1, 0, 0, 1, 0, 0, 0, 1],
            [Read(3, 0x81, 8)],
        ),
        ({"function": 4, "registers": "mask"}, [[0x0089]], [1, 0, 0, 1, 0, 0, 0, 1], [Read(4, 0x81, 1)]),
        (
            {"function": 3, "registers": "mask", "first_bit": 8},
            [[0x89FF]],
            [1, 0, 0, 1, 0, 0, 0, 1],
            [Read(3, 0x81, 1)],
        ),
        (
            {"function": 3, "registers": "mask", "first_bit": 12, "bulk": 1},
            [[0x9000], [0x0008]],
            [1, 0, 0, 1, 0, 0, 0, 1],
            [Read(3, 0x81, 1), Read(3, 0x82, 1)],
        ),
        (
            {"function": 3, "registers": "mask", "bytes_swapped": True},
            [[0x8900]],
            [1, 0, 0, 1, 0, 0, 0, 1],
            [Read(3, 0x81, 1)],
        ),
        (
            {"function": 3, "registers": "mask", "bits_reversed": True},
            [[0x9100]],
            [1, 0, 0, 1, 0, 0, 0, 1],
            [Read(3, 0x81, 1)],
        ),
        (
            {"function": 4, "registers": "mask", "bits_reversed": True, "first_bit": 8},
            [[0xFF91]],
            [1, 0, 0, 1, 0, 0, 0, 1],
            [Read(4, 0x81, 1)],
        ),
        (
            {"function": 3, "registers": "mask", "word_order": "high-first", "channels": 20},
            [[0x0008, 0x8001]],
            [1, *[0] * 14, 1, 0, 0, 0, 1],
            [Read(3, 0x81, 2)],
        ),
        (
            {"function": 3, "registers": "each", "bit": 4},
            [[0x10, 0x0F, 0, 0x1F, 0, 0, 0, 0x8010]],
            [1, 0, 0, 1, 0, 0, 0, 1],
            [Read(3, 0x81, 8)],
        ),
    ],
)
def test_f4_contacts_are_read_from_bits_and_registers(
    keys: dict[str, Any], answers: list[list[int]], levels: list[int], asked: list[Request]
) -> None:
    bus = Registers(*answers)
    assert asyncio.run(DoorInputs(bus.device, doors(**keys)).read_levels(Priority.POLL)) == levels
    assert bus.asked == asked


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"function": 3}, "function 3 needs registers"),
        ({"function": 2, "registers": "each"}, "registers is for functions 3 and 4"),
        ({"function": 3, "registers": "each", "first_bit": 2}, "first_bit"),
        ({"function": 5}, "function"),
        ({"function": 3, "registers": "each", "bytes_swapped": True}, "bytes_swapped"),
        ({"function": 1, "word_order": "high-first"}, "word_order"),
        ({"function": 3, "registers": "mask", "bit": 2}, "bit = 2"),
    ],
)
def test_f4_a_form_that_does_not_fit_is_refused_by_its_key(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        doors(**keys)


@given(
    st.lists(st.integers(0, 1), min_size=1, max_size=64),
    st.integers(0, 15),
    st.sampled_from(["low-first", "high-first"]),
    st.booleans(),
    st.booleans(),
)
def test_f4_a_mask_is_read_as_it_was_made(
    levels: list[int], first_bit: int, word_order: str, swapped: bool, turned: bool
) -> None:
    keys = {
        "first_bit": first_bit,
        "word_order": word_order,
        "bytes_swapped": swapped,
        "bits_reversed": turned,
    }
    part = doors(function=3, registers="mask", channels=len(levels), **keys)
    registers = part.mask_of(levels)
    assert len(registers) == part.points
    assert all(0 <= register <= 0xFFFF for register in registers)
    assert part.levels(registers) == levels


def scale(**keys: Any) -> ScaleCapability:
    return ScaleCapability.model_validate(
        {"function": 3, "address": 0, "count": 2, "grams_per_count": 1.0, **keys}
    )


def registers_of(number: float, mass_format: str, word_order: str, *, bytes_swapped: bool) -> list[int]:
    """What a transmitter has in its registers, worked out byte by byte."""
    data = struct.pack({"int16": ">h", "int32": ">i", "float32": ">f"}[mass_format], number)
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if word_order == "low-first":
        words.reverse()
    return [int.from_bytes(word[::-1] if bytes_swapped else word, "big") for word in words]


@pytest.mark.parametrize("bytes_swapped", [False, True])
@pytest.mark.parametrize("word_order", ["high-first", "low-first"])
@pytest.mark.parametrize("mass_format", ["int16", "int32", "float32"])
@pytest.mark.parametrize("mass_g", [0, 1250, -37, 30_000])
def test_f5_a_weight_is_read_in_every_format_and_order(
    mass_g: int, mass_format: Any, word_order: Any, *, bytes_swapped: bool
) -> None:
    number: Any = float(mass_g) if mass_format == "float32" else mass_g
    answer = registers_of(number, mass_format, word_order, bytes_swapped=bytes_swapped)
    part = scale(
        count=len(answer), mass_format=mass_format, word_order=word_order, bytes_swapped=bytes_swapped
    )
    weight = asyncio.run(RegisterScale(Registers(answer).device, part).read())
    assert weight.mass_g == mass_g


@pytest.mark.parametrize(
    ("mass_format", "registers", "mass_g"),
    [
        ("uint16", [0xEA60], 60_000),
        ("uint32", [0x0000, 0xEA60], 60_000),
        ("sign16", [0x8025], -37),
        ("sign16", [0x0025], 37),
        ("sign32", [0x8000, 0x04E2], -1250),
        ("bcd16", [0x1250], 1250),
        ("bcd32", [0x0001, 0x2500], 12_500),
    ],
)
def test_f5_a_weight_is_read_in_other_packings(mass_format: Any, registers: list[int], mass_g: int) -> None:
    part = scale(count=len(registers), mass_format=mass_format)
    assert asyncio.run(RegisterScale(Registers(registers).device, part).read()).mass_g == mass_g
    assert words_of(mass_g, mass_format, "high-first", bytes_swapped=False) == registers


def test_f5_what_is_no_decimal_digit_is_a_fault_of_the_scale() -> None:
    driver = RegisterScale(Registers([0x12A0]).device, scale(count=1, mass_format="bcd16"))
    with pytest.raises(DeviceFault):
        asyncio.run(driver.read())


def test_f5_without_a_stable_bit_three_equal_readings_are_stable() -> None:
    part = scale(count=1, mass_format="int16")
    driver = RegisterScale(Registers([100], [400], [402], [403], [500]).device, part)
    stable = [asyncio.run(driver.read()).stable for _ in range(5)]
    assert stable == [False, False, False, True, False]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_f5_no_number_is_a_fault_of_the_scale(number: float) -> None:
    answer = registers_of(number, "float32", "high-first", bytes_swapped=False)
    driver = RegisterScale(Registers(answer).device, scale(mass_format="float32"))
    with pytest.raises(DeviceFault):
        asyncio.run(driver.read())


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"count": 1}, "must lie inside the block"),
        ({"mass_format": "float32", "mass_signed": False, "negative_bit": 3}, "a magnitude is an integer"),
        ({"mass_signed": False}, "negative_bit"),
        ({"mass_format": "double"}, "mass_format"),
        ({"status_function": 4}, "status_function is for a status at status_address"),
    ],
)
def test_f5_a_scale_that_does_not_fit_is_refused_by_its_key(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        scale(**keys)


def test_f5_a_bit_that_is_set_while_the_scale_works_is_an_error_when_it_is_clear() -> None:
    part = scale(count=2, mass_format="int16", status_offset=1, ok_mask=0x0003, error_mask=0x0100)
    assert asyncio.run(RegisterScale(Registers([50, 0x0003]).device, part).read()).mass_g == 50
    for status in (0x0001, 0x0002, 0x0000, 0x0103):
        with pytest.raises(DeviceFault):
            asyncio.run(RegisterScale(Registers([50, status]).device, part).read())


def test_f5_a_status_may_be_read_by_another_function() -> None:
    part = scale(count=1, mass_format="int16", status_address=7, status_function=2, stable_bit=0)
    bus = Registers([50], [1], [50], [0])
    driver = RegisterScale(bus.device, part)
    assert [asyncio.run(driver.read()).stable for _ in range(2)] == [True, False]
    assert bus.asked[:2] == [Read(3, 0, 1), Read(2, 7, 1)]


def temperature(**keys: Any) -> TemperatureCapability:
    return TemperatureCapability.model_validate(
        {"channels": 2, "function": 4, "address": 0, "degrees_per_count": 0.1, **keys}
    )


def read_temperatures(part: TemperatureCapability, *answers: Sequence[int]) -> list[float | None]:
    return asyncio.run(TemperatureInputs(Registers(*answers).device, part).read_all())


@pytest.mark.parametrize(
    ("no_sensor", "missing"),
    [
        (None, []),
        (0x8000, [0x8000]),
        ([0x8000, 0x7FFF], [0x8000, 0x7FFF]),
        ([[0x0258, 0x7FFF], 0x8000], [0x0258, 0x0300, 0x7FFF, 0x8000]),
    ],
)
def test_several_values_and_ranges_mean_that_there_is_no_sensor(no_sensor: Any, missing: list[int]) -> None:
    part = temperature(channels=3, no_sensor=no_sensor)
    for register in (0x0258, 0x0300, 0x7FFF, 0x8000):
        # Beside the named values only what no sensor can measure is left out.
        plausible = None if register in missing or register > 850 else register / 10
        assert read_temperatures(part, [215, register, 0xFFE0]) == [21.5, plausible, -3.2]


@pytest.mark.parametrize("bytes_swapped", [False, True])
@pytest.mark.parametrize("word_order", ["high-first", "low-first"])
@pytest.mark.parametrize("number_format", ["int16", "int32", "float32"])
def test_temperatures_are_read_in_every_format_and_order(
    number_format: Any, word_order: Any, *, bytes_swapped: bool
) -> None:
    def stored(temperature_c: float) -> list[int]:
        number: Any = temperature_c if number_format == "float32" else round(temperature_c * 10)
        return registers_of(number, number_format, word_order, bytes_swapped=bytes_swapped)

    size = len(stored(0))
    part = temperature(
        stride=size + 1,
        number_format=number_format,
        word_order=word_order,
        bytes_swapped=bytes_swapped,
        degrees_per_count=1.0 if number_format == "float32" else 0.1,
    )
    # Between the probes is a register of something else; after the last one nothing is read.
    assert part.registers == 2 * size + 1
    assert read_temperatures(part, [*stored(21.5), 0x1234, *stored(-18.25 if size > 1 else -18.2)]) == [
        21.5,
        pytest.approx(-18.2, abs=0.06),
    ]


def test_a_temperature_may_have_an_offset_and_no_sign() -> None:
    part = temperature(number_format="uint16", offset_c=-40.0)
    assert read_temperatures(part, [0, 615]) == [-40.0, 21.5]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_no_number_is_no_sensor(number: float) -> None:
    words = registers_of(number, "float32", "high-first", bytes_swapped=False)
    part = temperature(channels=1, stride=2, number_format="float32", degrees_per_count=1.0)
    assert read_temperatures(part, words) == [None]


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"number_format": "float32"}, "stride must be at least 2"),
        ({"stride": 4, "bulk": 6}, "bulk must be a multiple of stride"),
        ({"channels": 64, "stride": 2}, "bulk is needed"),
        ({"number_format": "int32", "stride": 2, "no_sensor": 1}, "no_sensor is the value of one register"),
        ({"no_sensor": [[5, 4]]}, "a range is"),
        ({"no_sensor": 0x10000}, "no_sensor"),
    ],
)
def test_a_thermometer_that_does_not_fit_is_refused_by_its_key(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        temperature(**keys)
