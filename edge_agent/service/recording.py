"""Exchanges with one board, taken from the frames on its bus: what a profile's vectors are made of."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.drivers.boards import blocks, door_reads
from edge_agent.drivers.decode import Wire, codec_for, question_of, request_in_words, values_in_words
from edge_agent.drivers.modbus import as_rtu
from edge_agent.drivers.profiles import BoardPulse, ChannelWrite, Profile, SwitchedPulse, TimedPulse, Vector
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
from edge_agent.errors import BadReply, DeviceFault


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request to the board and its reply, as bytes on a serial line; `reply` is empty if there is none.

    `values`: the bits, registers or contacts that were read; empty for an action.
    """

    asked: Request
    request: bytes
    reply: bytes
    values: tuple[int, ...]

    def words(self, profile: Profile) -> str:
        """What it is, for the name of a vector."""
        said = values_in_words(self.asked, self.values)
        return request_in_words(self.asked, profile) + (f": {said}" if said else "")


class FramePairing:
    """Pairs the frames of one board. Frames of other boards, late, damaged and unasked ones are left out."""

    def __init__(self, wire: Wire, address: int, profile: Profile) -> None:
        self._wire: Wire = wire
        self._address = address
        self._profile = profile
        self._codec = codec_for(wire)
        self._pending: tuple[AddressedRequest, bytes] | None = None

    def take(self, direction: str, frame: bytes, note: str = "") -> list[Exchange]:
        """The exchanges that this frame completes. `direction` and `note`: see `ObservedFrame`."""
        if direction == "sent":
            done = self._unanswered()
            question = self._question(frame)
            mine = question is not None and question.address == self._address
            self._pending = (question, frame) if question is not None and mine else None
            return done
        if direction != "heard" or note or self._pending is None:
            return []
        (question, sent), self._pending = self._pending, None
        try:
            values = self._codec.parse(question, frame)
        except (BadReply, DeviceFault):
            return []
        return [Exchange(question.request, self._serial(sent), self._serial(frame), tuple(values))]

    def _unanswered(self) -> list[Exchange]:
        """The pending request, if its board answers none of its kind."""
        if self._pending is None or self._codec.reply_bytes(self._pending[0].request):
            return []
        return [Exchange(self._pending[0].request, self._serial(self._pending[1]), b"", ())]

    def _question(self, frame: bytes) -> AddressedRequest | None:
        doors, lock = self._profile.doors, self._profile.lock
        question = question_of(self._wire, frame, None if doors is None else doors.channels)
        if question is None:
            return None
        if isinstance(question.request, LockStatus) and doors is not None:
            return AddressedRequest(question.address, door_reads(doors)[0])
        if isinstance(question.request, Unlock) and lock is not None and isinstance(lock.pulse, BoardPulse):
            pulse = lock.pulse
            request = Unlock(question.request.channel, pulse.command, pulse.acknowledged)
            return AddressedRequest(question.address, request)
        return question

    def _serial(self, frame: bytes) -> bytes:
        return as_rtu(frame) if self._wire == "modbus-tcp" else frame


def reads_for(profile: Profile, capability: str) -> list[Request]:
    """The reads with which the daemon reads a capability."""
    doors, scale, temperature = profile.doors, profile.scale, profile.temperature
    if capability == "doors" and doors is not None:
        return door_reads(doors)
    if capability == "scale" and scale is not None:
        found: list[Request] = [Read(scale.function, scale.address, scale.count)]
        if scale.has_status and scale.status_address is not None:
            found.append(Read(scale.status_function or scale.function, scale.status_address, 1))
        return found
    if capability == "temperature" and temperature is not None:
        return [*blocks(temperature.function, temperature.address, temperature.registers, temperature.bulk)]
    if capability == "checks":
        return [Read(check.function, check.address, check.count) for check in profile.checks]
    return []


def is_pulse(request: Request, profile: Profile, channel: int) -> bool:
    """Whether a request belongs to the pulse of this lock: the pulse, or its switching on or off."""
    if profile.lock is None:
        return False
    pulse = profile.lock.pulse
    if isinstance(pulse, BoardPulse):
        return isinstance(request, Unlock) and request.channel == channel
    if isinstance(pulse, SwitchedPulse):
        return request in (pulse.on.request(channel), pulse.off.request(channel))
    if isinstance(pulse, TimedPulse):
        return _is_write(request, pulse, channel)
    return request == pulse.request(channel)


def is_signal(request: Request, profile: Profile, channel: int) -> bool:
    """Whether a request switches this signal."""
    signal = profile.signal
    if signal is None:
        return False
    held = signal.pulse is not None and _is_write(request, signal.pulse, channel)
    return held or request in (signal.on.request(channel), signal.off.request(channel))


def _is_write(request: Request, write: TimedPulse | ChannelWrite, channel: int) -> bool:
    address = write.address + (channel - 1) * write.stride
    if isinstance(request, WriteRegisters):
        return write.function == 16 and request.address == address
    if isinstance(request, WriteCoils):
        return write.function == 15 and request.address == address
    return isinstance(request, Write) and (request.function, request.address) == (write.function, address)


def vectors_toml(named: Sequence[tuple[str, Exchange]]) -> str:
    """The vectors as they stand in a profile. Raises `ValueError` if they could not be read again."""
    parts = []
    for name, exchange in named:
        lines = ["[[vectors]]", f'name = "{name}"', f'request = "{exchange.request.hex(" ").upper()}"']
        if exchange.reply:
            lines.append(f'reply = "{exchange.reply.hex(" ").upper()}"')
        if exchange.values:
            lines.append(f"values = [{', '.join(str(value) for value in exchange.values)}]")
        parts.append("\n".join(lines) + "\n")
    text = "\n".join(parts)
    for vector in tomllib.loads(text).get("vectors", []):
        Vector.model_validate(vector)
    return text
