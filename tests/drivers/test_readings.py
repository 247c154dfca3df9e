"""What the registers of a board mean: door contacts and weights in every form that a profile can name."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Any, cast

import pytest
from pydantic import ValidationError

from edge_agent.drivers.boards import Device, DoorInputs, RegisterScale
from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.profiles import BusNeeds, DoorsCapability, ScaleCapability
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
        ({"function": 3}, "registers is for functions 3 and 4"),
        ({"function": 2, "registers": "each"}, "registers is for functions 3 and 4"),
        ({"function": 3, "registers": "each", "first_bit": 2}, "first_bit"),
        ({"function": 5}, "function"),
    ],
)
def test_f4_a_form_that_does_not_fit_is_refused_by_its_key(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        doors(**keys)


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
    ],
)
def test_f5_a_scale_that_does_not_fit_is_refused_by_its_key(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        scale(**keys)
