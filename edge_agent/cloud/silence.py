"""Notices a broker that answers pings and nothing else."""

from __future__ import annotations

from edge_agent.errors import LinkFault

SILENT_S = 30.0
"""A broker that owes us receipts and sends none for this long is useless."""


class ReceiptWatch:
    """Checked every `look_s`. Checks are counted, not seconds: a process that was stopped for a minute has
    made one check in it, and what arrived meanwhile is still to be read."""

    def __init__(self, look_s: float) -> None:
        self._look_s = look_s
        self._before: int | None = None
        self._silent_looks = 0

    def look(self, receipts: int | None) -> None:
        """`receipts`: see `Channel.receipts`. Raises `LinkFault` if the broker sends none any more."""
        silent = receipts is not None and receipts == self._before
        self._silent_looks = self._silent_looks + 1 if silent else 0
        self._before = receipts
        if self._silent_looks * self._look_s >= SILENT_S:
            raise LinkFault("the broker acknowledges nothing that we send")
