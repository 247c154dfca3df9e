"""Requests to a device on a bus, independent of the protocol; the codecs turn them into bytes."""

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
    """Modbus: one coil (5) or register (6); `value` goes on the wire unchanged, as vendors' coils need it."""

    function: int
    address: int
    value: int


@dataclass(frozen=True, slots=True)
class WriteCoils:
    """Modbus: several coils (15) from `address`, each 0 or 1."""

    address: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WriteRegisters:
    """Modbus: several holding registers (16) from `address`, each 16 bits."""

    address: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unlock:
    """A lock board with a protocol of its own: one pulse on a channel, counted from 1.

    `command`: the byte that means unlock, where dialects differ. `acknowledged`: whether the board replies.
    """

    channel: int
    command: int | None = None
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class LockStatus:
    """A lock board with a protocol of its own: the contact of each channel, channel 1 first.

    `sensor`: the second contact of each door, if the board has two.
    """

    channels: int
    command: int | None = None
    sensor: bool = False


Request = Read | Write | WriteCoils | WriteRegisters | Unlock | LockStatus


def repeatable(request: Request) -> bool:
    """Whether sending it twice has the same effect as once, and its reply is a value."""
    return isinstance(request, Read | LockStatus)


@dataclass(frozen=True, slots=True)
class AddressedRequest:
    """A request together with its device."""

    address: int
    request: Request


@dataclass(frozen=True, slots=True)
class Frame:
    """The first frame in the received bytes.

    `skipped` bytes of rubbish precede it. `question` is the request whose reply it is taken for; None: a
    frame that was not asked for, from the device `address`. `foreign`: it names a request that was never
    sent.
    """

    skipped: int
    length: int
    question: AddressedRequest | None
    address: int | None = None
    foreign: bool = False


class Codec(Protocol):
    """One protocol: how a request is sent and its reply recognised."""

    replies_identify_requests: bool
    """A reply names its request, so that a late one cannot be taken for another."""
    least_readings: int
    """How many readings must agree at least: more than one if the checksum is weak."""

    def encode(self, question: AddressedRequest) -> bytes:
        """The bytes of a question. Raises `TypeError` for a request of another protocol."""

    def reply_bytes(self, request: Request) -> int:
        """The length of the usual reply; 0 if there is none."""

    def first_frame(
        self, heard: bytes, wanted: AddressedRequest | None, owed: Sequence[AddressedRequest]
    ) -> Frame | None:
        """The first frame in `heard`; None if there is none yet.

        `wanted` is awaited; `owed` are requests past their time limit whose replies may still arrive.
        """

    def is_long_enough(self, request: Request, heard: bytes) -> bool:
        """Whether `heard`, in which there is no frame, is as long as the reply: when the line falls silent
        then, the reply was damaged."""

    def parse(self, question: AddressedRequest, reply: bytes) -> list[int]:
        """The bits or registers of a reply; empty for an action.

        Raises `BadReply` for anything that is not the reply to this very request, `DeviceFault` if the device
        refuses.
        """
