"""Describes frames in words for people, and decodes sent frames into requests.

A reply carries less than its request, which gives the registers or the number of inputs. So a `Decoder`
remembers the last request of each kind to each address, and needs the frames in the order in which they
passed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from edge_agent.drivers.lock_protocols import (
    Cu12Codec,
    Cu16Codec,
    Cu48Codec,
    FramedCodec,
    WklyCodec,
    Xor8aCodec,
    codec_of,
)
from edge_agent.drivers.modbus import MBAP_LENGTH, TcpCodec, function_of, intact
from edge_agent.drivers.profiles import (
    ChannelWrite,
    ConstantWrite,
    FixedPulse,
    LockCapability,
    Profile,
    Protocol,
    RelaysCapability,
    SignalCapability,
    SwitchedPulse,
    TimedPulse,
)
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
from edge_agent.errors import BadReply, DeviceFault

Wire = Protocol | Literal["modbus-tcp"]
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, not done yet",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}
"""Modbus application protocol 1.1b3, section 7."""
_WHAT = {1: "coils", 2: "inputs", 3: "registers", 4: "input registers"}
USUAL_CHANNELS = {"8a": 8, "kerong-cu12": 12, "kerong-cu16": 16, "kerong-cu48": 48, "wkly": 1}
"""The number of channels assumed for a lock board's status if no profile gives it."""


def codec_for(wire: Wire) -> Codec:
    """A separate codec for the monitor of the bus."""
    return TcpCodec() if wire == "modbus-tcp" else codec_of(wire)


def question_of(wire: Wire, frame: bytes, channels: int | None = None) -> AddressedRequest | None:
    """The request in a sent frame; None if it is none that this program sends.

    `channels`: the number of channels of a lock board, which its frames do not contain.
    """
    if wire in ("modbus", "modbus-tcp"):
        return _modbus_question(wire, frame)
    codec = codec_for(wire)
    found = _lock_question(codec, frame, channels or USUAL_CHANNELS[wire])
    return found if found is not None and codec.encode(found) == frame else None


def _modbus_question(wire: Wire, frame: bytes) -> AddressedRequest | None:
    if wire == "modbus-tcp":
        body = frame[MBAP_LENGTH - 1 :]
        if len(frame) < MBAP_LENGTH or frame[5] != len(body):
            return None
    elif len(frame) < 8 or not intact(frame):
        return None
    else:
        body = frame[:-2]
    if len(body) < 6:
        return None
    address, function, first, second = struct.unpack(">BBHH", body[:6])
    request: Request
    if function in _WHAT and len(body) == 6:
        request = Read(function, first, second)
    elif function in (5, 6) and len(body) == 6:
        request = Write(function, first, second)
    elif function == 15 and second and len(body) == 7 + (second + 7) // 8 and body[6] == len(body) - 7:
        packed = int.from_bytes(body[7:], "little")
        request = WriteCoils(first, tuple(packed >> place & 1 for place in range(second)))
    elif function == 16 and len(body) == 7 + 2 * second and body[6] == 2 * second:
        request = WriteRegisters(first, struct.unpack(f">{second}H", body[7:]))
    else:
        return None
    return AddressedRequest(address, request)


def _lock_question(codec: Codec, frame: bytes, channels: int) -> AddressedRequest | None:
    match codec, len(frame):
        case Xor8aCodec(), 5 if frame[0] == Xor8aCodec.UNLOCK:
            return AddressedRequest(frame[1], Unlock(frame[2], frame[3]))
        case Xor8aCodec(), 5 if frame[0] == Xor8aCodec.STATUS:
            return AddressedRequest(frame[1], LockStatus(channels, frame[3]))
        case Cu12Codec(), 8 if frame[3] == Cu12Codec.UNLOCK:
            return AddressedRequest(frame[1], Unlock(frame[2] + 1))
        case Cu12Codec(), 8:
            return AddressedRequest(frame[1], LockStatus(channels))
        case Cu16Codec(), 5 if frame[2] == Cu16Codec.UNLOCK:
            return AddressedRequest(frame[1] >> 4, Unlock((frame[1] & 15) + 1))
        case Cu16Codec(), 5:
            return AddressedRequest(frame[1] >> 4, LockStatus(channels))
        case Cu48Codec(), 6 if frame[3] == Cu48Codec.UNLOCK:
            return AddressedRequest(frame[1], Unlock(frame[2] + 1))
        case Cu48Codec(), 6:
            return AddressedRequest(frame[1], LockStatus(channels))
        case WklyCodec(), 9:
            return AddressedRequest(frame[5], Unlock(frame[7]))
        case WklyCodec(), 8:
            return AddressedRequest(frame[5], LockStatus(channels))
    return None


def values_in_words(request: Request, values: Sequence[int]) -> str:
    """The values of an answer; empty for an acknowledged action."""
    if isinstance(request, LockStatus):
        return f"contacts {_high(values, 1)}"
    if not isinstance(request, Read):
        return ""
    if request.function in (1, 2):
        return f"{_WHAT[request.function]} {_high(values, request.address + 1)}"
    what = _WHAT[request.function] if len(values) != 1 else _WHAT[request.function].removesuffix("s")
    return f"{what} from {request.address}: {' '.join(str(value) for value in values)}"


def _high(values: Sequence[int], first: int) -> str:
    high = ",".join(str(first + index) for index, value in enumerate(values) if value)
    return f"{high} high" if high else "all low"


class Decoder:
    """Describes the traffic on one bus; channels are counted from 1, addresses from 0 as on the wire.

    `devices`: name and profile by address.
    """

    def __init__(self, wire: Wire, devices: Mapping[int, tuple[str, Profile]]) -> None:
        self._wire: Wire = wire
        self._devices = devices
        self._codec = codec_for(wire)
        self._asked: dict[tuple[int, int], AddressedRequest] = {}
        self._last: AddressedRequest | None = None

    def words(self, direction: Literal["sent", "heard"], data: bytes, note: str = "") -> str:
        """One frame; `note` is the bus owner's classification (`ObservedFrame.note`)."""
        return f"-> {self._sent(data)}" if direction == "sent" else f"<- {self._heard(data, note)}"

    def _name(self, address: int) -> str:
        known = self._devices.get(address)
        return f"?({address})" if known is None else f"{known[0]}({address})"

    def _channels(self, data: bytes) -> int | None:
        """The number of channels of the lock board that a frame was sent to."""
        first = question_of(self._wire, data)
        profile = None if first is None else self._devices.get(first.address, ("", None))[1]
        doors = None if profile is None else profile.doors
        return None if doors is None else doors.channels

    def _sent(self, data: bytes) -> str:
        question = self._last = question_of(self._wire, data, self._channels(data))
        if question is None:
            return "not a request that is known"
        self._asked[question.address, _kind(question.request)] = question
        profile = self._devices.get(question.address, ("", None))[1]
        return f"{self._name(question.address)} {request_in_words(question.request, profile)}"

    def _heard(self, data: bytes, note: str) -> str:
        if note == "rubbish":
            return f"rubbish, {len(data)} bytes"
        if note == "unasked":
            address = self._speaker(data)
            who = "" if address is None else f" from {self._name(address)}"
            return f"unasked{who}"
        question = self._question_of_late(data) if note == "late" else self._last
        if question is None:
            return note or "nobody was asked"
        before = f"{self._name(question.address)} " + ("late: " if note == "late" else "")
        try:
            said = values_in_words(question.request, self._codec.parse(question, data))
        except DeviceFault as fault:
            code = fault.exception_code
            return f"{before}exception {code}: {EXCEPTIONS.get(code, 'unknown')}"
        except BadReply as fault:
            return f"{before}damaged: {fault}"
        return before + (said or "done")

    def _speaker(self, data: bytes) -> int | None:
        if isinstance(self._codec, FramedCodec):
            return self._codec.speaker(data) if self._whole(self._codec, data) else None
        place = 0 if self._wire == "modbus" else MBAP_LENGTH - 1
        return data[place] if len(data) > place else None

    def _whole(self, codec: FramedCodec, data: bytes) -> bool:
        """Whether this is one frame; the bus owner may have cut it out without a request to compare it
        with."""
        return bool(data) and len(data) in [codec.frame_length(data, q) for q in (self._last, None)]

    def _question_of_late(self, data: bytes) -> AddressedRequest | None:
        if isinstance(self._codec, FramedCodec):
            codec, asked = self._codec, self._asked.values() if self._whole(self._codec, data) else ()
            return next((question for question in asked if codec.answers(question, data)), None)
        return self._asked.get((data[0], data[1] & 0x7F)) if len(data) > 1 else None


def _kind(request: Request) -> int:
    """Distinguishes requests whose answers differ."""
    if isinstance(request, Unlock):
        return 0x100
    return 0x101 if isinstance(request, LockStatus) else function_of(request)


def request_in_words(request: Request, profile: Profile | None = None) -> str:
    """A request; with its device's profile also its effect there."""
    if isinstance(request, Read):
        return f"read {request.count} {_WHAT[request.function]} from {request.address}"
    if isinstance(request, LockStatus):
        return "read the contacts"
    if isinstance(request, Unlock):
        return f"unlock {request.channel}"
    meant = None if profile is None else _meant(request, profile)
    if meant is not None:
        return meant
    if isinstance(request, WriteRegisters):
        return f"write registers from {request.address}: {' '.join(str(value) for value in request.values)}"
    if isinstance(request, WriteCoils):
        return f"write coils from {request.address}: {' '.join(str(value) for value in request.values)}"
    what = "coil" if request.function == 5 else "register"
    return f"write {what} {request.address}: 0x{request.value:04X}"


def _meant(request: Write | WriteCoils | WriteRegisters, profile: Profile) -> str | None:
    """The effect of a write on a board of this profile; None if unknown."""
    for part in (profile.lock, profile.relays):
        if part is None:
            continue
        if _is_constant(request, part.all_off):
            return "all outputs off"
        pulse = part.pulse
        for channel in range(1, part.channels + 1):
            if isinstance(pulse, TimedPulse):
                ms = _pulse_ms(request, pulse, channel)
                if ms is not None:
                    return f"pulse channel {channel} for {ms} ms"
            elif isinstance(pulse, FixedPulse) and pulse.request(channel) == request:
                return f"pulse channel {channel} for {pulse.ms} ms"
            for switch, state in _switches(part):
                if switch.request(channel) == request:
                    return f"channel {channel} {state}"
    signal = profile.signal
    if signal is not None and signal.own_outputs and (said := _signal(request, signal)):
        return said
    relays = profile.relays
    if relays is not None and isinstance(request, Write) and request.function == relays.function:
        channel = request.address - relays.address + 1
        known = {relays.on: "on", relays.off: "off"}
        if 1 <= channel <= relays.channels and request.value in known:
            return f"channel {channel} {known[request.value]}"
    return None


def _signal(request: Write | WriteCoils | WriteRegisters, signal: SignalCapability) -> str | None:
    """The effect of a write on a signal that is an output of its own."""
    if _is_constant(request, signal.all_off):
        return "all signals off"
    for channel in range(1, signal.channels + 1):
        pulsed = signal.pulse is not None and _pulse_ms(request, signal.pulse, channel) is not None
        if pulsed or signal.on.request(channel) == request:
            return f"signal {channel} on"
        if signal.off.request(channel) == request:
            return f"signal {channel} off"
    return None


def _switches(part: LockCapability | RelaysCapability) -> Iterable[tuple[ChannelWrite, str]]:
    pulse = part.pulse
    if isinstance(part, LockCapability) and part.off is not None:
        yield part.off, "off"
    if isinstance(pulse, SwitchedPulse):
        yield pulse.on, "on"
        yield pulse.off, "off"


def _is_constant(request: Write | WriteCoils | WriteRegisters, constant: ConstantWrite | None) -> bool:
    return constant is not None and request == constant.request()


def _pulse_ms(request: Write | WriteCoils | WriteRegisters, pulse: TimedPulse, channel: int) -> int | None:
    """The duration of a timed pulse requested on this channel; None if the request is no such pulse."""
    value = request.value if isinstance(request, Write) else request.values[-1]
    ms = (value - pulse.base) * pulse.unit_ms
    return ms if ms > 0 and pulse.able(ms) and pulse.request(channel, ms) == request else None
