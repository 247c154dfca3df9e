"""For each codec: requests, and replies that are sound before they are damaged (HARDWARE's published frames
and similar ones)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.drivers.lock_protocols import Cu12Codec, Cu16Codec, Cu48Codec, WklyCodec, Xor8aCodec
from edge_agent.drivers.modbus import RtuCodec, TcpCodec
from edge_agent.drivers.requests import (
    AddressedRequest,
    Codec,
    LockStatus,
    Read,
    Request,
    Unlock,
    Write,
    WriteCoils,
    WriteRegisters,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One codec with its request and reply."""

    name: str
    codec: Callable[[], Codec]
    questions: list[AddressedRequest]
    replies: list[bytes]


def _asked(addresses: tuple[int, ...], *requests: Request) -> list[AddressedRequest]:
    return [AddressedRequest(address, request) for address in addresses for request in requests]


def _hex(*frames: str) -> list[bytes]:
    return [bytes.fromhex(frame) for frame in frames]


MODBUS = _asked(
    (1, 2),
    Read(1, 0, 8),
    Read(2, 0, 8),
    Read(3, 6, 5),
    Read(3, 0x50, 2),
    Read(4, 1, 2),
    Write(5, 0x0200, 5),
    Write(6, 1, 0x0100),
    WriteCoils(3, (1,)),
    WriteRegisters(5, (7,)),
)
RTU = _hex(
    "01 02 01 05 61 8B",
    "01 03 0A 08 00 00 00 04 D2 00 00 04 D2 9E 57",
    "01 03 04 00 00 00 84 FA 50",
    "01 04 04 01 31 02 22 2A CE",
    "01 05 02 00 00 05 0C 71",
    "01 06 00 01 01 00 D9 9A",
    "01 0F 00 03 00 01 64 0B",
    "01 83 02 C0 F1",
    "01 10 00 05 00 01 11 C8",
)

CASES = [
    Case("modbus-rtu", RtuCodec, MODBUS, RTU),
    Case(
        "modbus-tcp",
        TcpCodec,
        MODBUS,
        [b"\x00\x01\x00\x00" + (len(frame) - 2).to_bytes(2, "big") + frame[:-2] for frame in RTU],
    ),
    Case(
        "8a",
        Xor8aCodec,
        _asked((1, 2), Unlock(1), Unlock(5), LockStatus(8), LockStatus(24), LockStatus(50)),
        _hex(
            "8A 01 01 00 8A",
            "8A 01 01 11 9B",
            "80 01 00 00 00 33 B2",
            "82 01 01 11 93",
            "80 01 05 33 B7",
        ),
    ),
    Case(
        "kerong-cu12",
        Cu12Codec,
        _asked((0, 1), Unlock(1), LockStatus(12), LockStatus(12, sensor=True)),
        _hex(
            "02 00 00 80 10 02 03 97 FF 0F",
            "02 01 00 80 10 04 03 9A FE 0F 00 00",
            "02 00 00 81 10 00 03 96",
        ),
    ),
    Case(
        "kerong-cu16",
        Cu16Codec,
        _asked((0, 1), Unlock(1, acknowledged=False), LockStatus(16), LockStatus(16, sensor=True)),
        _hex("02 00 35 FE FF 01 00 03 38", "02 00 31 03 36", "02 10 35 00 00 00 00 03 4A"),
    ),
    Case(
        "kerong-cu48",
        Cu48Codec,
        _asked((0, 1), Unlock(1, acknowledged=False), LockStatus(48), LockStatus(48, sensor=True)),
        _hex(
            "02 00 00 75 FE FF FF FF FF FF 01 00 00 00 00 00 03 74",
            "02 01 00 75 00 00 00 00 00 00 00 00 00 00 00 00 03 7B",
        ),
    ),
    Case(
        "wkly",
        WklyCodec,
        _asked((0, 1), Unlock(1), LockStatus(4), LockStatus(12)),
        _hex(
            "57 4B 4C 59 0B 00 82 00 01 00 81",
            "57 4B 4C 59 0E 00 84 00 04 00 01 01 00 87",
            "57 4B 4C 59 0A 00 85 01 01 86",
        ),
    ),
]
