"""Messages on their way to the broker over one connection: a window of them unacknowledged, events in order.

The window counts every message with QoS 1 and is never wider than the broker's receive maximum (MQTT 5,
4.9). A receipt (PUBACK) makes room for the next message at once, on the library's own thread: a backlog
drains as fast as the library alone would send it, and the event loop is woken once for many receipts
(docs/decisions/0016-backlog.md).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish. Replies carry the Correlation Data of their command.

    A `patient` message lets all others pass; among themselves they keep their order.
    """

    topic: str
    payload: str
    qos: int = 1
    retain: bool = False
    correlation: bytes | None = None
    patient: bool = False


Receipt = Callable[[bool], None]
"""Called when the broker has answered: whether it has taken the message."""


class Channel:
    """One connection's way out. `send` gives a message to the library and returns its packet id; None if the
    connection cannot take it any more. `wake` is called on the library's thread when there are receipts to be
    taken and nobody has been told yet.

    `put` and `take_receipts` belong to the event loop, `receipt` to the library's thread.
    """

    def __init__(self, window: int, send: Callable[[Message], int | None], wake: Callable[[], None]) -> None:
        self._send = send
        self._wake = wake
        self._window = window
        self._room = deque([True] * window)
        self._urgent: deque[tuple[Message, Receipt | None]] = deque()
        self._patient: deque[tuple[Message, Receipt | None]] = deque()
        self._in_flight: dict[int, Receipt | None] = {}
        self._receipts: deque[tuple[int, object, bool]] = deque()
        """Packet id, reason code, and whether its room has been given back."""
        self._told = False
        self._came = 0
        self._resting = False
        # Never waited for: the library calls `receipt` holding a lock that `send` needs.
        self._sending = threading.Lock()

    @property
    def receipts(self) -> int | None:
        """How many receipts came so far; None while none is awaited."""
        return self._came if self._in_flight else None

    def put(self, message: Message, on_acknowledged: Receipt | None = None) -> None:
        """Sends now if there is room, else when there is."""
        if message.qos == 0:
            self._send(message)
            return
        (self._patient if message.patient else self._urgent).append((message, on_acknowledged))
        # While much is under way a receipt comes soon, and sends on the library's thread; the event loop has
        # better things to do than to empty a backlog. One message in flight is enough for that.
        if not message.patient or len(self._room) >= max(1, self._window // 2):
            self._pump(1)

    def rest(self, resting: bool) -> None:
        """Whether patient messages that are not sent yet wait until further notice."""
        self._resting = resting
        self._pump(1)

    def receipt(self, packet_id: int, reason: object) -> None:
        """A PUBACK came; or the library says so of something that needs none, which makes no room."""
        known = packet_id in self._in_flight
        self._came += 1
        self._receipts.append((packet_id, reason, known))
        if known:
            self._room.append(True)
            self._pump(self._window)
        if not self._told:
            self._told = True
            self._wake()

    def take_receipts(self) -> Iterator[tuple[Receipt | None, object]]:
        """The receipts since the last call: what was to be called, and the reason code."""
        self._told = False
        while self._receipts:
            packet_id, reason, roomed = self._receipts.popleft()
            if packet_id not in self._in_flight:
                continue
            receipt = self._in_flight.pop(packet_id)
            if not roomed:  # it came before we had noted what was sent
                self._room.append(True)
                self._pump(1)
            yield receipt, reason

    def _pump(self, most: int) -> None:
        """Sends so many at most while there is room; one thread at a time, so that nothing is overtaken.

        Whoever finds the other one sending leaves it to him: what that one sends will have a receipt, and the
        receipt sends on.
        """
        while most and self._room and self._due():
            if not self._sending.acquire(blocking=False):
                return
            try:
                self._send_next()
            finally:
                self._sending.release()
            most -= 1

    def _due(self) -> deque[tuple[Message, Receipt | None]] | None:
        """The queue whose turn it is."""
        return self._urgent or (None if self._resting else self._patient)

    def _send_next(self) -> None:
        queue = self._due()
        if not queue or not self._room:
            return
        message, on_acknowledged = queue[0]
        packet_id = self._send(message)
        queue.popleft()
        if packet_id is not None:
            self._room.pop()
            self._in_flight[packet_id] = on_acknowledged
