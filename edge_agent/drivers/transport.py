"""The bus owner's interfaces: to the line below it (implemented by `TtyTransport`, `TcpTransport`, the
adapter check in `app/adapters.py` and a simulated cable), and to the listener above it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Transport(Protocol):
    """A line that carries bytes both ways. Everything happens on the event loop's thread."""

    async def dial(self) -> None:
        """Makes the connection, if one is needed. Raises `PortLost`."""

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """Opens the line. `on_bytes` gets what arrives, in any pieces; `on_lost` gets a reason, once.

        Raises `PortLost` if the line is not there or another process has it.
        """

    def write(self, frame: bytes) -> None:
        """Sends bytes. Raises `PortLost` if the line has gone."""

    def close(self) -> None:
        """Closes the line; harmless when it is not open."""


class BusListener(Protocol):
    """What a bus owner reports."""

    def port_changed(self, up: bool) -> None:
        """The port was opened, or was lost or cannot be opened."""

    def spoke_unasked(self, address: int) -> None:
        """A device has sent a frame unasked: a change is likely, so it should be read."""
