"""How frames are separated on a wire, for each protocol."""

from __future__ import annotations

from typing import Protocol

from edge_agent.drivers.simulated.slave import BROADCAST, intact, request_length


class Framing(Protocol):
    """What the wire must know of its protocol."""

    def intact(self, frame: bytes) -> bool:
        """Whether these bytes are one whole frame, of either side, with a right checksum."""

    def request_length(self, start: bytes) -> int | None:
        """The length of the request that begins like this, checksum included; None if that is not known
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
