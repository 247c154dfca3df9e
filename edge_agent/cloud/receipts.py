"""Handles the usual receipt without the objects that the library makes for absent parts, which cost a third
of an event (docs/decisions/0016-backlog.md)."""

from __future__ import annotations

from typing import Any

SHORTEST_BYTES = 2
"""A PUBACK with a packet id alone means success (MQTT 5, 3.4.2.1)."""


class QuickReceipts:
    """A base class before the library's client."""

    usual: tuple[Any, Any]
    """Reason code and properties of a receipt that has none."""

    def _handle_pubackcomp(self, cmd: Any) -> Any:
        here: Any = self
        packet = here._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) != SHORTEST_BYTES:
            return super()._handle_pubackcomp(cmd)  # type: ignore[misc]  # the library's
        mid = packet[0] << 8 | packet[1]
        with here._out_message_mutex:
            return here._do_on_publish(mid, *self.usual) if mid in here._out_messages else 0
