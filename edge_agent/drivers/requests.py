"""What can be asked of a device on a bus, whatever protocol is spoken there; the codecs make bytes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Read:
    """Modbus: `count` coils (1), discrete inputs (2), holding (3) or input registers (4) from `address`."""

    function: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """Modbus: one coil (5) or register (6); `value` goes on the wire as it is, as vendors' coils want it."""

    function: int
    address: int
    value: int


@dataclass(frozen=True, slots=True)
class WriteRegisters:
    """Modbus: several holding registers (16) from `address`, each 16 bits."""

    address: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unlock:
    """A lock board with a protocol of its own: one pulse on a channel, counted from 1.

    `command`: the byte that means unlock, where dialects differ. `acknowledged`: whether the board answers.
    """

    channel: int
    command: int | None = None
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class LockStatus:
    """A lock board with a protocol of its own: the contact of each channel, channel 1 first.

    `sensor`: the second contact of each door, where the board has two.
    """

    channels: int
    command: int | None = None
    sensor: bool = False


Request = Read | Write | WriteRegisters | Unlock | LockStatus


def repeatable(request: Request) -> bool:
    """Whether asking twice is the same as asking once, and its answer a value."""
    return isinstance(request, Read | LockStatus)


@dataclass(frozen=True, slots=True)
class Question:
    """A request together with the device that it goes to."""

    address: int
    request: Request


@dataclass(frozen=True, slots=True)
class Frame:
    """The first frame in what was heard.

    `skipped` bytes of rubbish stand before it. `answers` is the question that it is taken for the answer to;
    None: one that nobody asked for, from the device `address`.
    """

    skipped: int
    length: int
    answers: Question | None
    address: int | None = None


class Codec(Protocol):
    """One protocol: how a question is sent and its answer known."""

    tells_apart: bool
    """An answer says to which question it belongs, so that a late one cannot be taken for another."""
    least_readings: int
    """How many readings must agree at least: more than one where a checksum is weak."""

    def encode(self, question: Question) -> bytes:
        """The bytes of a question. Raises `TypeError` for a request of another protocol."""

    def reply_bytes(self, request: Request) -> int:
        """How long the usual answer is; 0 where none is given."""

    def first_frame(self, heard: bytes, wanted: Question | None, owed: Sequence[Question]) -> Frame | None:
        """The first frame in `heard`; None while there is none yet.

        `wanted` is waited for; `owed` are questions whose time is over, and whose answers may still come.
        """

    def parse(self, question: Question, reply: bytes) -> list[int]:
        """The bits or registers of an answer; empty for an act.

        Raises `BadReply` for what is no answer to this very question, `DeviceFault` where the device says
        that it cannot.
        """
