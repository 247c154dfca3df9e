"""Whether the vectors of a profile are what the daemon would send, and read in the reply.

What a recorded request asks is read from its bytes without the codecs, so that a codec does not judge itself.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.config.sections import Settings
from edge_agent.drivers.lock_protocols import codec_of
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
from edge_agent.errors import BusFault, DeviceFault, Finding


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
    if profile.lock is None or profile.doors is None or not isinstance(profile.lock.pulse, BoardPulse):
        raise ValueError("a board with this protocol has [lock] with a pulse of the board, and [doors]")
    pulse = profile.lock.pulse
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


def vector_findings(settings: Settings) -> list[Finding]:
    """A finding for each vector of the profiles in use that does not hold."""
    findings = []
    for name, profile in settings._profiles.items():
        for number, vector in enumerate(profile.vectors):
            key, problem = _problem(profile, vector)
            if problem:
                findings.append(Finding(f"profile {name}: vectors[{number}].{key}", problem))
    return findings


def _problem(profile: Profile, vector: Vector) -> tuple[str, str]:
    """The key of a vector that is wrong, and why; two empty texts if it holds."""
    codec = codec_of(profile.bus.protocol)
    try:
        asked = asked_by(profile, vector)
        sent = codec.encode(asked).hex(" ").upper()
    except (ValueError, IndexError) as error:
        return "request", f"the daemon sends no such request: {error}"
    if sent != bytes.fromhex(vector.request).hex(" ").upper():
        return "request", f"the daemon would send {sent}: compare checksum and bytes"
    if not vector.reply:
        return ("values", "there is no reply to read them from") if vector.values is not None else ("", "")
    reply = bytes.fromhex(vector.reply)
    frame = codec.first_frame(reply, asked, [])
    if frame is None or (frame.skipped, frame.length) != (0, len(reply)):
        return "reply", "it is no whole reply to this request: compare address, function, length and checksum"
    try:
        values = codec.parse(asked, reply)
    except (BusFault, DeviceFault) as fault:
        return "reply", f"it is refused: {fault}"
    if vector.values is not None and values != list(vector.values):
        return "values", f"the reply reads {', '.join(map(str, values))}"
    return "", ""
