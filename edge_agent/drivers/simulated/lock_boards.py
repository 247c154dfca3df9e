"""Lock boards with protocols of their own: "8A", Kerong CU16 and CU48, WKLY.

Written independently from the frames that integrators published, so that a mistake in the daemon's codecs is
not repeated here. An unlock energises the solenoid for `PULSE_NS`, whatever the board answers. A request for
a channel that a board does not have gets no answer, except from WKLY, which reports a failure. Where the
frames leave something open, the assumption is named at the place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from edge_agent.drivers.simulated.world import Load

PULSE_NS = 500_000_000
"""How long an unlock energises the solenoid: an assumption, boards differ and some can be set."""
Inputs = Mapping[int, Callable[[int], int]]


def xor_of(data: bytes) -> int:
    """All bytes, exclusive or; 0 for a frame together with its checksum."""
    result = 0
    for byte in data:
        result ^= byte
    return result


def low_sum(data: bytes) -> int:
    """The low byte of the sum of all bytes."""
    return sum(data) % 256


def _unwired(_: int) -> int:
    return 0


class LockBoard(ABC):
    """Solenoids and door contacts, by channel counted from 1; an unconnected input reads 0.

    `reports_changes`: the board reports a door's change unasked, if the protocol can.
    """

    def __init__(
        self,
        address: int,
        loads: Mapping[int, Load],
        inputs: Inputs,
        *,
        channels: int,
        reports_changes: bool = False,
    ) -> None:
        self.address = address
        self.channels = channels
        self._loads = dict(loads)
        self._inputs = dict(inputs)
        self._reports_changes = reports_changes
        self._reported: list[int] | None = None

    @abstractmethod
    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        """See `LineDevice.answer`."""

    def unasked(self, at_ns: int) -> list[bytes]:
        """See `Talker.unasked`."""
        if not self._reports_changes:
            return []
        levels, before = self.levels(at_ns), self._reported
        self._reported = levels
        moved = [] if before is None else [n for n in range(self.channels) if levels[n] != before[n]]
        words = [self.change(n + 1, levels[n]) for n in moved]
        return [word for word in words if word is not None]

    def change(self, channel: int, level: int) -> bytes | None:
        """The frame that reports a door's change; None if the protocol has none."""
        return None

    def has(self, channel: int) -> bool:
        """Whether this channel exists."""
        return 1 <= channel <= self.channels

    def level(self, channel: int, at_ns: int) -> int:
        """The reading of a door contact."""
        return self._inputs.get(channel, _unwired)(at_ns)

    def levels(self, at_ns: int, inputs: Inputs | None = None) -> list[int]:
        """The readings of all door contacts, or of all `inputs`; channel 1 first."""
        wired = self._inputs if inputs is None else inputs
        return [wired.get(channel, _unwired)(at_ns) for channel in range(1, self.channels + 1)]

    def switch(self, channel: int, at_ns: int, until_ns: int | None) -> None:
        """Energises a solenoid until an instant (None: no end); one not after `at_ns` switches it off."""
        load = self._loads.get(channel)
        if load is not None:
            load(at_ns, until_ns)

    def pulse(self, channel: int, at_ns: int) -> None:
        """Gives one unlock pulse."""
        self.switch(channel, at_ns, at_ns + PULSE_NS)


def packed(levels: list[int]) -> bytes:
    """Eight channels a byte, channel 1 in the lowest bit of the first byte."""
    number = sum(level << index for index, level in enumerate(levels))
    return number.to_bytes((len(levels) + 7) // 8, "little")


class Framing8a:
    """`HEADER ADDR ... BCC`, the exclusive or of everything before it; requests have five bytes."""

    HEADERS = (0x80, 0x82, 0x8A, 0x9A, 0x9B)

    def intact(self, frame: bytes) -> bool:
        """See `Framing.intact`; 50 locks at most, seven groups."""
        return 5 <= len(frame) <= 11 and frame[0] in self.HEADERS and xor_of(frame) == 0

    def request_length(self, start: bytes) -> int | None:
        """See `Framing.request_length`."""
        return 5 if start[:1] and start[0] in self.HEADERS else None

    def addressee(self, request: bytes) -> int | None:
        """See `Framing.addressee`."""
        return request[1]


class Board8a(LockBoard):
    """An "8A" board: unlock 8A, query 80, hold 9A and 9B, a change 82; boards and locks from 1.

    `unlock` and `query`: the command bytes, where dialects differ. A contact that reads 1 is reported as 11.
    Assumptions: a status ends with the query's own byte, and a hold is not answered.
    """

    def __init__(
        self,
        address: int,
        loads: Mapping[int, Load],
        inputs: Inputs,
        *,
        channels: int = 24,
        unlock: int = 0x11,
        query: int = 0x33,
        reports_changes: bool = False,
    ) -> None:
        super().__init__(address, loads, inputs, channels=channels, reports_changes=reports_changes)
        self._unlock = unlock
        self._query = query

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        """See `LineDevice.answer`."""
        if not Framing8a().intact(frame) or len(frame) != 5 or frame[1] != self.address:
            return None
        header, channel, command = frame[0], frame[2], frame[3]
        if header == 0x80 and channel == 0 and command == self._query:
            groups = packed(self.levels(at_ns))[::-1]
            return self._closed(bytes([0x80, self.address]) + groups + bytes([self._query]))
        if not self.has(channel):
            return None
        if header == 0x8A and command == self._unlock:
            self.pulse(channel, at_ns)
            return self._status_frame(0x8A, channel, self.level(channel, at_ns))
        if header == 0x80 and command == self._query:
            return self._status_frame(0x80, channel, self.level(channel, at_ns))
        if header in (0x9A, 0x9B) and command == 0x11:
            self.switch(channel, at_ns, None if header == 0x9A else at_ns)
        return None

    def change(self, channel: int, level: int) -> bytes:
        """See `LockBoard.change`."""
        return self._status_frame(0x82, channel, level)

    def _status_frame(self, header: int, channel: int, level: int) -> bytes:
        return self._closed(bytes([header, self.address, channel, 0x11 if level else 0x00]))

    @staticmethod
    def _closed(body: bytes) -> bytes:
        return body + bytes([xor_of(body)])


class FramingKerong:
    """`02 ... 03 SUM`: requests of `request` bytes, a status of `status` bytes."""

    def __init__(self, request: int, status: int) -> None:
        self._lengths = (request, status)

    def intact(self, frame: bytes) -> bool:
        """See `Framing.intact`."""
        whole = len(frame) in self._lengths and frame[0] == 0x02 and frame[-2] == 0x03
        return whole and low_sum(frame[:-1]) == frame[-1]

    def request_length(self, start: bytes) -> int | None:
        """See `Framing.request_length`."""
        return self._lengths[0] if start[:1] == b"\x02" else None

    def addressee(self, request: bytes) -> int | None:
        """See `Framing.addressee`; on the CU16 the board is the high half of the byte."""
        return request[1] >> 4 if self._lengths[0] == 5 else request[1]


CU16, CU48 = FramingKerong(5, 9), FramingKerong(6, 18)


class KerongBoard(LockBoard):
    """The common part of both: an unlock is not answered, a status has the locks and then the sensors.

    `sensors`: the second contact of each door, by channel; an unconnected one reads 0.
    """

    FRAMING: FramingKerong
    CHANNELS: int

    def __init__(
        self, address: int, loads: Mapping[int, Load], inputs: Inputs, sensors: Inputs | None = None
    ) -> None:
        super().__init__(address, loads, inputs, channels=self.CHANNELS)
        self._sensors = dict(sensors or {})

    def status(self, head: bytes, at_ns: int) -> bytes:
        """A whole status that begins with these bytes."""
        sensed = self.levels(at_ns, self._sensors)
        body = head + packed(self.levels(at_ns)) + packed(sensed) + b"\x03"
        return body + bytes([low_sum(body)])


class KerongCu16(KerongBoard):
    """Kerong CU16: 16 locks; 30 status, 31 unlock; boards and locks from 0.

    Assumptions: 38, which clears a stuck busy state, is carried out without an answer; 37, which sets the
    unlock time, is ignored, because no frame of it was published.
    """

    FRAMING, CHANNELS = CU16, 16

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        """See `LineDevice.answer`."""
        if not CU16.intact(frame) or len(frame) != 5 or frame[1] >> 4 != self.address:
            return None
        if frame[2] == 0x30:
            return self.status(bytes([0x02, frame[1], 0x35]), at_ns)
        if frame[2] == 0x31:
            self.pulse((frame[1] & 0x0F) + 1, at_ns)
        return None


class KerongCu48(KerongBoard):
    """Kerong CU48: 48 locks; 60 status, 61 unlock; boards and locks from 0, lock 30 (hex) means all."""

    FRAMING, CHANNELS = CU48, 48

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        """See `LineDevice.answer`."""
        if not CU48.intact(frame) or len(frame) != 6 or frame[1] != self.address:
            return None
        lock, command = frame[2], frame[3]
        if command == 0x60:
            return self.status(bytes([0x02, self.address, lock, 0x75]), at_ns)
        if command == 0x61:
            all_of_them = range(1, self.channels + 1)
            for channel in all_of_them if lock == 0x30 else [lock + 1]:
                self.pulse(channel, at_ns)
        return None


class FramingCu12:
    """`02 BOARD LOCK CMD ASK LEN 03 SUM DATA`; LEN bytes of data follow the sum."""

    HEAD = 8

    def intact(self, frame: bytes) -> bool:
        """See `Framing.intact`."""
        if len(frame) < self.HEAD or len(frame) != self.HEAD + frame[5]:
            return False
        return frame[0] == 0x02 and frame[6] == 0x03 and low_sum(frame[:7]) == frame[7]

    def request_length(self, start: bytes) -> int | None:
        """See `Framing.request_length`."""
        return self.HEAD if start[:1] == b"\x02" else None

    def addressee(self, request: bytes) -> int | None:
        """See `Framing.addressee`."""
        return request[1]


class KerongCu12(LockBoard):
    """Kerong CU12: 12 locks; 80 status, 81 unlock; boards and locks from 0. An answer has ASK 10 (hex)."""

    FRAMING = FramingCu12()

    def __init__(self, address: int, loads: Mapping[int, Load], inputs: Inputs) -> None:
        super().__init__(address, loads, inputs, channels=12)

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        """See `LineDevice.answer`."""
        if not self.FRAMING.intact(frame) or len(frame) != 8 or frame[1] != self.address:
            return None
        lock, command = frame[2], frame[3]
        if command == 0x80:
            return self._head(0, command, 2) + packed(self.levels(at_ns))
        if command == 0x81 and self.has(lock + 1):
            self.pulse(lock + 1, at_ns)
            return self._head(lock, command, 0)
        return None

    def _head(self, lock: int, command: int, length: int) -> bytes:
        body = bytes([0x02, self.address, lock, command, 0x10, length, 0x03])
        return body + bytes([low_sum(body)])


class FramingWkly:
    """`57 4B 4C 59 LEN BOARD CMD ... XOR`; LEN counts every byte, including itself and the checksum."""

    HEADER = bytes.fromhex("57 4B 4C 59")

    def intact(self, frame: bytes) -> bool:
        """See `Framing.intact`."""
        whole = len(frame) >= 8 and frame[:4] == self.HEADER and frame[4] == len(frame)
        return whole and xor_of(frame) == 0

    def request_length(self, start: bytes) -> int | None:
        """See `Framing.request_length`."""
        return start[4] if start[:4] == self.HEADER and len(start) > 4 else None

    def addressee(self, request: bytes) -> int | None:
        """See `Framing.addressee`."""
        return request[5]


class WklyBoard(LockBoard):
    """WKLY with 12 or 24 locks: 82 unlock, 83 query one, 84 query all, 85 a change.

    Boards count from 0, locks from 1. A contact that reads 1 is reported as 01 (closed). Assumption: the
    answer about one lock is like that to an unlock.
    """

    DONE, FAILED = 0x00, 0xFF

    def __init__(
        self,
        address: int,
        loads: Mapping[int, Load],
        inputs: Inputs,
        *,
        channels: int = 12,
        reports_changes: bool = False,
    ) -> None:
        super().__init__(address, loads, inputs, channels=channels, reports_changes=reports_changes)

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        """See `LineDevice.answer`."""
        if not FramingWkly().intact(frame) or frame[5] != self.address:
            return None
        command, data = frame[6], frame[7:-1]
        if command == 0x84 and not data:
            levels = bytes(self.levels(at_ns))
            return self._say(0x84, bytes([self.DONE, len(levels)]) + levels)
        if command not in (0x82, 0x83) or len(data) != 1:
            return None
        channel = data[0]
        if not self.has(channel):
            return self._say(command, bytes([self.FAILED, channel, 0]))
        if command == 0x82:
            self.pulse(channel, at_ns)
        return self._say(command, bytes([self.DONE, channel, self.level(channel, at_ns)]))

    def change(self, channel: int, level: int) -> bytes:
        """See `LockBoard.change`."""
        return self._say(0x85, bytes([channel, level]))

    def _say(self, command: int, data: bytes) -> bytes:
        body = FramingWkly.HEADER + bytes([8 + len(data), self.address, command]) + data
        return body + bytes([xor_of(body)])
