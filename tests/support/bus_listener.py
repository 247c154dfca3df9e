"""A listener of a bus that keeps what the bus reports."""

from __future__ import annotations


class RecordingListener:
    """A `BusListener`."""

    def __init__(self) -> None:
        self.ports: list[bool] = []
        """Each opening of the port as True, each loss as False."""
        self.unasked: list[int] = []
        """Addresses of devices that sent a frame unasked."""

    def port_changed(self, up: bool) -> None:
        """See `BusListener`."""
        self.ports.append(up)

    def spoke_unasked(self, address: int) -> None:
        """See `BusListener`."""
        self.unasked.append(address)
