"""How frames are told apart on a wire: a part that every protocol plays its own way."""

from __future__ import annotations

from typing import Protocol

from edge_agent.drivers.simulated.slave import BROADCAST, intact, request_length


class Framing(Protocol):
    """What the wire must know of the protocol that is spoken on it."""

    def intact(self, frame: bytes) -> bool:
        """Whether these bytes are one whole frame, of either side, whose checksum holds."""

    def request_length(self, start: bytes) -> int | None:
        """How long the request beginning like this is, checksum included; None if that cannot be told
        (yet)."""

    def addressee(self, request: bytes) -> int | None:
        """The device that an intact request is for; None: all of them."""


class ModbusRtu:
    """Modbus RTU (serial line guide 1.02): the address comes first, 0 is a broadcast."""

    def intact(self, frame: bytes) -> bool:
        """See `Framing.intact`."""
        return intact(frame)

    def request_length(self, start: bytes) -> int | None:
        """See `Framing.request_length`."""
        return request_length(start)

    def addressee(self, request: bytes) -> int | None:
        """See `Framing.addressee`."""
        return None if request[0] == BROADCAST else request[0]
