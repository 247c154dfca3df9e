"""Lock boards with protocols of their own ("8A", Kerong CU12, CU16 and CU48, WKLY): codecs.

Their checksums are one byte, and no answer names its request. So a board's answer to an unlock only means
that it was received; whether the door moved is read from the status. A frame sent unasked is no reading
either, only a reason to read. After rubbish a codec continues at the next byte that a frame may begin with.
Sources: integrators' public code; each profile names its evidence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from operator import xor

from edge_agent.drivers.modbus import RtuCodec
from edge_agent.drivers.profiles import Protocol
from edge_agent.drivers.requests import AddressedRequest, Codec, Frame, LockStatus, Request, Unlock
from edge_agent.errors import BadReply, DeviceFault

DEVICE_FAILURE = 4
"""A board's report that it could not act, numbered as in Modbus."""


class FramedCodec(ABC):
    """The common part: frames that begin with a known byte and end with a checksum."""

    replies_identify_requests = False
    least_readings = 2  # one damaged frame in 256 has a right checksum of one byte

    @abstractmethod
    def encode(self, question: AddressedRequest) -> bytes:
        """See `Codec.encode`."""

    @abstractmethod
    def reply_bytes(self, request: Request) -> int:
        """See `Codec.reply_bytes`."""

    @abstractmethod
    def frame_length(self, heard: bytes, question: AddressedRequest | None) -> int | None:
        """The length of the frame at the beginning of `heard`; 0: no frame; None: not known yet.

        Where the end can only be guessed, `question` gives the status that is awaited or owed.
        """

    @abstractmethod
    def answers(self, question: AddressedRequest, frame: bytes) -> bool:
        """Whether a whole frame may be the answer to a question."""

    @abstractmethod
    def speaker(self, frame: bytes) -> int:
        """The address of the board that sent a whole frame."""

    @abstractmethod
    def values(self, question: AddressedRequest, frame: bytes) -> list[int]:
        """The values of an answer frame. Raises `DeviceFault`, `BadReply`."""

    def first_frame(
        self, heard: bytes, wanted: AddressedRequest | None, owed: Sequence[AddressedRequest]
    ) -> Frame | None:
        """See `Codec.first_frame`."""
        questions = [*([] if wanted is None else [wanted]), *owed]
        status = next((q for q in questions if isinstance(q.request, LockStatus)), None)
        for start in range(len(heard)):
            length = self.frame_length(heard[start:], status)
            if length is None:
                return None
            if length:
                found = heard[start : start + length]
                whose = next((q for q in questions if self.answers(q, found)), None)
                return Frame(start, length, whose, self.speaker(found))
        return None

    def is_long_enough(self, request: Request, heard: bytes) -> bool:
        """See `Codec.is_long_enough`; rubbish may look like the beginning of a longer frame."""
        return False

    def parse(self, question: AddressedRequest, reply: bytes) -> list[int]:
        """See `Codec.parse`. In what was heard until the time limit the answer may follow rubbish that looked
        like the beginning of a longer frame."""
        for start in range(len(reply)):
            length = self.frame_length(reply[start:], question)
            if length and self.answers(question, reply[start : start + length]):
                return self.values(question, reply[start : start + length])
        raise BadReply(f"{len(reply)} bytes without an answer")


def checksum_xor(data: bytes) -> int:
    """All bytes, exclusive or."""
    return reduce(xor, data, 0)


def checksum_sum(data: bytes) -> int:
    """The low byte of the sum."""
    return sum(data) & 0xFF


def bits_of(data: bytes, channels: int) -> list[int]:
    """One bit a channel, the lowest bit of the first byte first."""
    number = int.from_bytes(data, "little")
    return [number >> channel & 1 for channel in range(channels)]


def _other(request: Request) -> TypeError:
    return TypeError(f"not a lock board's request: {request}")


class Xor8aCodec(FramedCodec):
    """The boards whose unlock begins with 8A: XOR checksum, boards and locks from 1.

    An answer to a query of all has no length field: it ends at the query's command byte and a right checksum,
    but not before every group of eight locks has arrived. The codec never queries a single lock: with some
    doors open, that answer's five bytes equal the beginning of the answer about all.
    """

    UNLOCK, STATUS, CHANGED = 0x8A, 0x80, 0x82
    LONGEST = 12

    def encode(self, question: AddressedRequest) -> bytes:
        """`8A ADDR LOCK 11 BCC`, `80 ADDR 00 33 BCC`; dialects have other bytes for 11 and 33."""
        request = question.request
        if isinstance(request, Unlock):
            command = 0x11 if request.command is None else request.command
            body = bytes([self.UNLOCK, question.address, request.channel, command])
        elif isinstance(request, LockStatus):
            body = bytes([self.STATUS, question.address, 0, self._asked(request)])
        else:
            raise _other(request)
        return body + bytes([checksum_xor(body)])

    @staticmethod
    def _asked(request: LockStatus) -> int:
        return 0x33 if request.command is None else request.command

    def reply_bytes(self, request: Request) -> int:
        """See `Codec.reply_bytes`."""
        if isinstance(request, LockStatus):
            return 4 + (request.channels + 7) // 8
        return 5 if isinstance(request, Unlock) and request.acknowledged else 0

    def frame_length(self, heard: bytes, question: AddressedRequest | None) -> int | None:
        """See `FramedCodec.frame_length`."""
        if heard[0] not in (self.UNLOCK, self.STATUS, self.CHANGED):
            return 0
        if len(heard) < 5:
            return None
        if heard[0] != self.STATUS:
            return 5 if checksum_xor(heard[:5]) == 0 else 0
        request = None if question is None else question.request
        least, end = (5, 0x33)
        if isinstance(request, LockStatus):
            least, end = self.reply_bytes(request), self._asked(request)
        for length in range(least, min(len(heard), self.LONGEST) + 1):
            if heard[length - 2] == end and checksum_xor(heard[: length - 1]) == heard[length - 1]:
                return length
        return 0 if len(heard) >= self.LONGEST else None

    def answers(self, question: AddressedRequest, frame: bytes) -> bool:
        """See `FramedCodec.answers`."""
        request = question.request
        if frame[1] != question.address:
            return False
        if isinstance(request, Unlock):
            return frame[0] == self.UNLOCK and frame[2] == request.channel
        if not isinstance(request, LockStatus) or frame[0] != self.STATUS:
            return False
        return frame[-2] == self._asked(request) and len(frame) >= self.reply_bytes(request)

    def speaker(self, frame: bytes) -> int:
        """See `FramedCodec.speaker`."""
        return frame[1]

    def values(self, question: AddressedRequest, frame: bytes) -> list[int]:
        """See `FramedCodec.values`; groups come highest first."""
        if isinstance(question.request, LockStatus):
            return bits_of(frame[2:-2][::-1], question.request.channels)
        return []


class KerongCodec(FramedCodec):
    """Kerong's boards: 02 … 03 and the low byte of the sum. An unlock is usually not answered."""

    STATUS_LENGTH = 0

    def frame_length(self, heard: bytes, question: AddressedRequest | None) -> int | None:
        """See `FramedCodec.frame_length`: a status, or a frame that only repeats a command."""
        if heard[0] != 0x02:
            return 0
        for length in (self.COMMAND_LENGTH, self.STATUS_LENGTH):
            if len(heard) < length:
                return None
            whole = heard[length - 2] == 0x03 and checksum_sum(heard[: length - 1]) == heard[length - 1]
            if whole and self._fits(heard[:length]):
                return length
        return 0

    COMMAND_LENGTH = 0

    @abstractmethod
    def _fits(self, frame: bytes) -> bool:
        """Whether a frame has the length of its kind."""

    def reply_bytes(self, request: Request) -> int:
        """See `Codec.reply_bytes`."""
        return self.STATUS_LENGTH if isinstance(request, LockStatus) else 0


class Cu16Codec(KerongCodec):
    """Kerong CU16: `02 ADDR CMD 03 SUM`, ADDR = board × 16 + lock, both from 0."""

    COMMAND_LENGTH, STATUS_LENGTH = 5, 9
    UNLOCK, ASK, STATUS = 0x31, 0x30, 0x35

    def encode(self, question: AddressedRequest) -> bytes:
        """See `Codec.encode`."""
        request = question.request
        if isinstance(request, Unlock):
            body = bytes([2, question.address << 4 | request.channel - 1, self.UNLOCK, 3])
        elif isinstance(request, LockStatus):
            body = bytes([2, question.address << 4, self.ASK, 3])
        else:
            raise _other(request)
        return body + bytes([checksum_sum(body)])

    def _fits(self, frame: bytes) -> bool:
        return (frame[2] == self.STATUS) is (len(frame) == self.STATUS_LENGTH)

    def answers(self, question: AddressedRequest, frame: bytes) -> bool:
        """See `FramedCodec.answers`."""
        asked = isinstance(question.request, LockStatus) and frame[2] == self.STATUS
        return asked and self.speaker(frame) == question.address

    def speaker(self, frame: bytes) -> int:
        """See `FramedCodec.speaker`."""
        return frame[1] >> 4

    def values(self, question: AddressedRequest, frame: bytes) -> list[int]:
        """See `FramedCodec.values`: 16 contacts of the locks, then 16 sensors."""
        request = question.request
        assert isinstance(request, LockStatus)
        return bits_of(frame[5:7] if request.sensor else frame[3:5], request.channels)


class Cu48Codec(KerongCodec):
    """Kerong CU48: `02 BOARD LOCK CMD 03 SUM`, boards and locks from 0."""

    COMMAND_LENGTH, STATUS_LENGTH = 6, 18
    UNLOCK, ASK, STATUS = 0x61, 0x60, 0x75

    def encode(self, question: AddressedRequest) -> bytes:
        """See `Codec.encode`."""
        request = question.request
        if isinstance(request, Unlock):
            body = bytes([2, question.address, request.channel - 1, self.UNLOCK, 3])
        elif isinstance(request, LockStatus):
            body = bytes([2, question.address, 0, self.ASK, 3])
        else:
            raise _other(request)
        return body + bytes([checksum_sum(body)])

    def _fits(self, frame: bytes) -> bool:
        return (frame[3] == self.STATUS) is (len(frame) == self.STATUS_LENGTH)

    def answers(self, question: AddressedRequest, frame: bytes) -> bool:
        """See `FramedCodec.answers`."""
        asked = isinstance(question.request, LockStatus) and frame[3] == self.STATUS
        return asked and frame[1] == question.address

    def speaker(self, frame: bytes) -> int:
        """See `FramedCodec.speaker`."""
        return frame[1]

    def values(self, question: AddressedRequest, frame: bytes) -> list[int]:
        """See `FramedCodec.values`: 48 contacts of the locks, then 48 sensors."""
        request = question.request
        assert isinstance(request, LockStatus)
        return bits_of(frame[10:16] if request.sensor else frame[4:10], request.channels)


class Cu12Codec(FramedCodec):
    """Kerong CU12: `02 BOARD LOCK CMD ASK LEN 03 SUM DATA`, boards and locks from 0.

    The sum covers what precedes it; the LEN bytes of a status follow it uncovered, so that three readings
    must agree. A board that gives LEN as 0 in a status sends two bytes all the same. ASK is 0 in a request.
    """

    least_readings = 3
    HEAD = 8
    UNLOCK, STATUS = 0x81, 0x80
    LEAST_DATA, MOST_DATA = 2, 8
    REFUSED = (0x11, 0x12, 0x13, 0x14)
    """Values of ASK in an answer: failed, timed out, unknown command, wrong checksum."""

    def encode(self, question: AddressedRequest) -> bytes:
        """See `Codec.encode`."""
        request = question.request
        if isinstance(request, Unlock):
            lock, command = request.channel - 1, self.UNLOCK
        elif isinstance(request, LockStatus):
            lock, command = 0, self.STATUS
        else:
            raise _other(request)
        body = bytes([2, question.address, lock, command, 0, 0, 3])
        return body + bytes([checksum_sum(body)])

    def reply_bytes(self, request: Request) -> int:
        """See `Codec.reply_bytes`."""
        if isinstance(request, LockStatus):
            return self.HEAD + (2 * self.LEAST_DATA if request.sensor else self.LEAST_DATA)
        return self.HEAD if isinstance(request, Unlock) and request.acknowledged else 0

    def frame_length(self, heard: bytes, question: AddressedRequest | None) -> int | None:
        """See `FramedCodec.frame_length`."""
        if heard[0] != 0x02:
            return 0
        if len(heard) < self.HEAD:
            return None
        if heard[6] != 0x03 or checksum_sum(heard[:7]) != heard[7] or heard[5] > self.MOST_DATA:
            return 0
        data = max(heard[5], self.LEAST_DATA) if heard[3] == self.STATUS else heard[5]
        return self.HEAD + data if len(heard) >= self.HEAD + data else None

    def answers(self, question: AddressedRequest, frame: bytes) -> bool:
        """See `FramedCodec.answers`."""
        request = question.request
        if frame[1] != question.address:
            return False
        if isinstance(request, Unlock):
            return frame[3] == self.UNLOCK and frame[2] == request.channel - 1
        return isinstance(request, LockStatus) and frame[3] == self.STATUS

    def speaker(self, frame: bytes) -> int:
        """See `FramedCodec.speaker`."""
        return frame[1]

    def values(self, question: AddressedRequest, frame: bytes) -> list[int]:
        """See `FramedCodec.values`: 12 contacts of the locks in two bytes, then 12 sensors if it has any."""
        if frame[4] in self.REFUSED:
            raise DeviceFault(f"board {question.address}", DEVICE_FAILURE)
        request = question.request
        if not isinstance(request, LockStatus):
            return []
        data = frame[self.HEAD + 2 :] if request.sensor else frame[self.HEAD : self.HEAD + 2]
        if len(data) < self.LEAST_DATA:
            raise BadReply(f"{len(data)} bytes of sensors, not {self.LEAST_DATA}")
        return bits_of(data[:2], request.channels)


class WklyCodec(FramedCodec):
    """WKLY: `57 4B 4C 59 LEN BOARD CMD DATA XOR`; LEN counts all bytes, boards from 0, channels from 1."""

    HEADER = b"WKLY"
    UNLOCK, ASK, CHANGED = 0x82, 0x84, 0x85
    SHORTEST, LONGEST = 8, 64
    OPEN, CLOSED = 0x00, 0x01
    DONE = 0x00

    def encode(self, question: AddressedRequest) -> bytes:
        """See `Codec.encode`."""
        request = question.request
        if isinstance(request, Unlock):
            data = bytes([self.UNLOCK, request.channel])
        elif isinstance(request, LockStatus):
            data = bytes([self.ASK])
        else:
            raise _other(request)
        body = self.HEADER + bytes([len(data) + 7, question.address]) + data
        return body + bytes([checksum_xor(body)])

    def reply_bytes(self, request: Request) -> int:
        """See `Codec.reply_bytes`."""
        if isinstance(request, LockStatus):
            return 10 + request.channels
        return 11 if isinstance(request, Unlock) and request.acknowledged else 0

    def frame_length(self, heard: bytes, question: AddressedRequest | None) -> int | None:
        """See `FramedCodec.frame_length`."""
        start = heard[:4]
        if start != self.HEADER[: len(start)]:
            return 0
        if len(heard) < 5:
            return None
        length = heard[4]
        if not self.SHORTEST <= length <= self.LONGEST:
            return 0
        if len(heard) < length:
            return None
        return length if checksum_xor(heard[: length - 1]) == heard[length - 1] else 0

    def answers(self, question: AddressedRequest, frame: bytes) -> bool:
        """See `FramedCodec.answers`."""
        request = question.request
        if frame[5] != question.address or len(frame) < self.reply_bytes(request):
            return False
        if isinstance(request, Unlock):
            return frame[6] == self.UNLOCK and len(frame) == 11 and frame[8] == request.channel
        return isinstance(request, LockStatus) and frame[6] == self.ASK

    def speaker(self, frame: bytes) -> int:
        """See `FramedCodec.speaker`."""
        return frame[5]

    def values(self, question: AddressedRequest, frame: bytes) -> list[int]:
        """See `FramedCodec.values`: one byte a contact."""
        if frame[7] != self.DONE:
            raise DeviceFault(f"board {question.address}", DEVICE_FAILURE)
        if not isinstance(question.request, LockStatus):
            return []
        contacts = frame[9 : 9 + frame[8]][: question.request.channels]
        if len(contacts) < question.request.channels or not set(contacts) <= {self.OPEN, self.CLOSED}:
            raise BadReply(f"contacts {contacts.hex()}, not {question.request.channels} of 00 and 01")
        return list(contacts)


_CODECS: dict[Protocol, type[Codec]] = {
    "modbus": RtuCodec,
    "8a": Xor8aCodec,
    "kerong-cu12": Cu12Codec,
    "kerong-cu16": Cu16Codec,
    "kerong-cu48": Cu48Codec,
    "wkly": WklyCodec,
}


def codec_of(protocol: Protocol) -> Codec:
    """The codec of a protocol on a serial line."""
    return _CODECS[protocol]()
