"""Messages on their way from the library's thread to the event loop: in order, bounded, a few in each turn.

A flood of messages must neither delay the other work of the event loop (buses, doors, local API) nor fill the
memory. Messages with QoS 1 are bounded by our receive maximum (MQTT 5, 3.1.2.11.3), as we acknowledge them;
those with QoS 0 are dropped and counted when too many wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from edge_agent.mqtt.interfaces import LibraryMessage

log = structlog.get_logger()

Message = TypeVar("Message", bound=LibraryMessage)


class ReceiveQueue(Generic[Message]):
    """Gives each message to `take` on the event loop. `put` is called on the library's thread."""

    def __init__(self, take: Callable[[Message], None], most_waiting: int | None, burst: int) -> None:
        """A message with QoS 0 is dropped if `most_waiting` wait; None: none is dropped. `burst`: at most
        this many are handled in one turn of the event loop."""
        self._loop = asyncio.get_running_loop()
        self._take = take
        self._most_waiting = most_waiting
        self._burst = burst
        self._waiting: deque[Message] = deque()
        self._running = False
        self.dropped = 0
        self._logged = 0
        """How many of the dropped messages have been logged."""

    def put(self, message: Message) -> None:
        """Queues a message; drops one with QoS 0 if too many wait."""
        most = self._most_waiting
        if message.qos == 0 and most is not None and len(self._waiting) >= most:
            self.dropped += 1
            return
        self._waiting.append(message)
        with contextlib.suppress(RuntimeError):  # the loop has been closed: there is no receiver any more
            self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        if not self._running:
            self._running = True
            self._next()

    def _next(self) -> None:
        if not self._waiting:
            self._running = False
            if self.dropped != self._logged:
                log.warning("messages with QoS 0 were dropped", count=self.dropped - self._logged)
                self._logged = self.dropped
            return
        self._loop.call_soon(self._next)
        for _ in range(min(self._burst, len(self._waiting))):
            self._take(self._waiting.popleft())
