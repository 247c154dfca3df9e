"""The Modbus codec: values, and everything that must not be taken for a reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.modbus import build_frame, parse_reply
from edge_agent.drivers.requests import Read, Write, WriteCoils
from edge_agent.errors import BadReply, BusFault, DeviceFault


def test_values_of_a_reply() -> None:
    frame = bytes.fromhex("01 02 01 05 61 8B")
    assert parse_reply(1, Read(2, 0, 8), frame) == [1, 0, 1, 0, 0, 0, 0, 0]
    registers = bytes.fromhex("01 03 0A 08 00 00 00 04 D2 00 00 04 D2 9E 57")
    assert parse_reply(1, Read(3, 6, 5), registers) == [0x0800, 0, 1234, 0, 1234]


GOOD = bytes.fromhex("01 02 01 05 61 8B")


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (b"", "bytes"),
        (GOOD[:-1], "bytes"),
        (GOOD + b"\x00", "bytes"),
        (b"\x00" + GOOD, "bytes"),
        (GOOD[:-1] + b"\x00", "checksum"),
    ],
)
def test_frames_that_are_not_a_reply(reply: bytes, word: str) -> None:
    with pytest.raises(BadReply, match=word):
        parse_reply(1, Read(2, 0, 8), reply)


def test_a_reply_of_another_device_is_not_accepted() -> None:
    with pytest.raises(BadReply, match="device 1 answered instead of 2"):
        parse_reply(2, Read(2, 0, 8), GOOD)
    with pytest.raises(BadReply, match="function 2 answered instead of 1"):
        parse_reply(1, Read(1, 0, 8), GOOD)
    with pytest.raises(BadReply, match="bytes"):
        parse_reply(1, Read(2, 0, 16), GOOD)
    echo = build_frame(1, Write(5, 0x201, 5))
    with pytest.raises(BadReply, match="echo"):
        parse_reply(1, Write(5, 0x200, 5), echo)


def test_a_modbus_exception_is_a_reply_of_the_device() -> None:
    with pytest.raises(DeviceFault, match="exception 2"):
        parse_reply(1, Read(3, 0, 1), bytes.fromhex("01 83 02 C0 F1"))


@given(st.binary(max_size=300), st.integers(1, 247))
def test_any_bytes_are_a_fault_or_a_reply(data: bytes, device: int) -> None:
    for request in (Read(2, 0, 8), Read(3, 0, 5), Write(5, 0x200, 5)):
        try:
            parse_reply(device, request, data)
        except (BusFault, DeviceFault):
            continue


def test_several_coils_are_written_with_function_15() -> None:
    """The request and its reply as in the Modbus application protocol 1.1b3, 6.11, with a computed CRC."""
    ten = WriteCoils(0x13, (1, 0, 1, 1, 0, 0, 1, 1, 1, 0))
    assert build_frame(1, ten)[:-2] == bytes.fromhex("01 0F 00 13 00 0A 02 CD 01")
    one = WriteCoils(3, (1,))
    assert build_frame(1, one) == bytes.fromhex("01 0F 00 03 00 01 01 01 AB 57")
    assert parse_reply(1, one, bytes.fromhex("01 0F 00 03 00 01 64 0B")) == []
    with pytest.raises(BadReply, match="echo"):
        parse_reply(1, WriteCoils(4, (1,)), bytes.fromhex("01 0F 00 03 00 01 64 0B"))
