"""What the bus owner needs of a serial line; a tty offers it, and so does a cable in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Transport(Protocol):
    """A line that carries bytes both ways. Everything happens on the event loop's thread."""

    async def dial(self) -> None:
        """Makes the connection, where there is one to be made. Raises `PortLost`."""

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """Takes the line. `on_bytes` gets what arrives, in any pieces; `on_lost` gets a reason, once.

        Raises `PortLost` if the line is not there or somebody else has it.
        """

    def write(self, frame: bytes) -> None:
        """Sends bytes. Raises `PortLost` if the line has gone."""

    def close(self) -> None:
        """Gives the line back; harmless when it is not open."""
