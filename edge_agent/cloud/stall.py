"""Notices that this process stood still (starved, stopped, swapped out), so that messages waited unnoticed.

A machine without a synchronised clock knows a command's age only from its Message Expiry Interval, which the
broker no longer counts down once it has sent the message. A message that waited in our own socket meanwhile
is older than it looks.
"""

from __future__ import annotations

import asyncio

BEAT_S = 0.25
LATE_S = 0.5
"""A beat this late is a stall, not jitter."""
AFTERMATH_S = 1.0
"""Messages read within this time after a stall are assumed to have waited through it."""


class StallWatch:
    """Beats on the running event loop between `start` and `stop`."""

    def __init__(self) -> None:
        self._due_s = 0.0
        self._stall_s = 0.0
        self._stall_end_s = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts the beat."""
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + BEAT_S
        self._timer = loop.call_at(self._due_s, self._beat)

    def stop(self) -> None:
        """Stops the beat."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stalled_s(self) -> float:
        """How long, at most, a message that is read now may have waited for us; 0.0 without a stall."""
        now_s = asyncio.get_running_loop().time()
        late_s = now_s - self._due_s
        if late_s > LATE_S:
            return late_s + BEAT_S
        return self._stall_s if now_s - self._stall_end_s < AFTERMATH_S else 0.0

    def _beat(self) -> None:
        now_s = asyncio.get_running_loop().time()
        late_s = now_s - self._due_s
        if late_s > LATE_S:
            self._stall_s, self._stall_end_s = late_s + BEAT_S, now_s
        self.start()
