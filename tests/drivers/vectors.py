"""What a published request asks, in the words of the daemon; read from its bytes without the codecs."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.drivers.profiles import BoardPulse, Profile, Vector
from edge_agent.drivers.requests import (
    AddressedRequest,
    LockStatus,
    Read,
    Request,
    Unlock,
    Write,
    WriteCoils,
    WriteRegisters,
)


def asked_by(profile: Profile, vector: Vector) -> AddressedRequest:
    """The question of a vector. Raises `ValueError` for bytes that the daemon never sends."""
    frame = bytes.fromhex(vector.request)
    protocol = profile.bus.protocol
    if protocol == "modbus":
        return AddressedRequest(frame[0], _modbus(frame))
    unlock, status = _lock_requests(profile, vector)
    if protocol == "8a":
        asked = unlock(frame[2]) if frame[0] == 0x8A else status
        return AddressedRequest(frame[1], asked)
    if protocol == "kerong-cu12":
        return AddressedRequest(frame[1], unlock(frame[2] + 1) if frame[3] == 0x81 else status)
    if protocol == "kerong-cu16":
        return AddressedRequest(frame[1] >> 4, unlock((frame[1] & 15) + 1) if frame[2] == 0x31 else status)
    if protocol == "kerong-cu48":
        return AddressedRequest(frame[1], unlock(frame[2] + 1) if frame[3] == 0x61 else status)
    return AddressedRequest(frame[5], unlock(frame[7]) if frame[6] == 0x82 else status)


def _lock_requests(profile: Profile, vector: Vector) -> tuple[Callable[[int], Unlock], LockStatus]:
    assert profile.lock is not None
    assert profile.doors is not None
    pulse = profile.lock.pulse
    assert isinstance(pulse, BoardPulse)
    channels = profile.doors.channels if vector.values is None else len(vector.values)
    status = LockStatus(channels, profile.doors.command, profile.doors.feedback == "sensor")
    return lambda channel: Unlock(channel, pulse.command, pulse.acknowledged), status


def _modbus(frame: bytes) -> Request:
    function, address = frame[1], int.from_bytes(frame[2:4], "big")
    value = int.from_bytes(frame[4:6], "big")
    if function in (1, 2, 3, 4):
        return Read(function, address, value)
    if function in (5, 6):
        return Write(function, address, value)
    if function == 15:
        packed = int.from_bytes(frame[7:-2], "little")
        return WriteCoils(address, tuple(packed >> place & 1 for place in range(value)))
    if function == 16:
        data = frame[7:-2]
        words = [int.from_bytes(data[n : n + 2], "big") for n in range(0, len(data), 2)]
        return WriteRegisters(address, tuple(words))
    raise ValueError(f"function {function} is not one of the daemon's")
