"""Whether the link to the broker is alive: its task, and the MQTT library's thread. Imports no MQTT
library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_agent.runtime.vitality import Proof

THREAD_SILENT_S, CONNECTING_SILENT_S = 30.0, 180.0
"""When the library's thread counts as hanging: it turns once a second, but looking up a name and trying each
of its addresses may take minutes."""
LOOKS = 3
"""The link's task checks its connection, or whether its pause is over, every `look_s`; it hangs if this many
checks are missing."""


class CountsTurns:
    """A base class before paho's `Client`: counts the turns of its thread once it is connected (paho-mqtt
    2.2, `Client._loop`)."""

    turns = 0

    def loop_misc(self) -> Any:
        """The library calls this with each turn."""
        self.turns += 1
        return super().loop_misc()  # type: ignore[misc]


class LinkLife:
    """Proofs of life of one link. A link without a broker is alive while it keeps trying."""

    def __init__(self, look_s: Callable[[], float]) -> None:
        """`look_s`: how often the link's task checks."""
        self._look_s = look_s
        self._turns = self._attempts = 0
        self._client: CountsTurns | None = None

    def turn(self) -> None:
        """Records that the link's task is alive."""
        self._turns += 1

    def begin(self, client: CountsTurns) -> None:
        """Records that a client's thread begins to connect."""
        self._client = client
        self._attempts += 1

    def end(self) -> None:
        """Records that there is no client any more."""
        self._client = None

    def proofs(self) -> list[Proof]:
        """See `edge_agent.runtime.vitality.Proven`."""
        return [
            Proof("link", lambda: self._turns, LOOKS * self._look_s()),
            Proof("link's thread", self._connected, THREAD_SILENT_S),
            Proof("link's thread, connecting", self._connecting, CONNECTING_SILENT_S),
        ]

    def _connected(self) -> int | None:
        return None if self._client is None else self._client.turns or None

    def _connecting(self) -> int | None:
        return None if self._client is None or self._client.turns else self._attempts
