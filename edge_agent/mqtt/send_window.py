"""Messages to the broker over one connection: a window of unacknowledged messages, events in order.

The window counts every message with QoS 1 and is never wider than the broker's receive maximum (MQTT 5,
4.9). A PUBACK makes room for the next message at once, on the library's own thread: a backlog
drains as fast as the library alone would send it, and the event loop is woken once for many PUBACKs
(docs/decisions/0016-backlog.md).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from edge_agent.errors import LinkFault
from edge_agent.mqtt.event_queue import EventQueue
from edge_agent.mqtt.messages import Message, OnPuback

TOO_BIG = 0
"""Returned instead of a packet id, which is never 0 (MQTT 5, 2.2.1): the event is too big for the broker."""


class _QueuedPuback(NamedTuple):
    packet_id: int
    reason: object
    accepted: bool
    freed_place: bool
    """Whether its place in the window was freed."""


class SendWindow:
    """The sending side of one connection.

    `send` gives a message to the library, `send_event` the body of an event. Both return the packet id, or
    None if the connection no longer accepts it; `send_event` may also return `TOO_BIG`. `wake` is called on
    the library's thread when PUBACKs are waiting and the event loop has not been woken yet.

    `put`, `send_events`, `pause_events` and `take_pubacks` are called on the event loop, `puback_arrived` on
    the library's thread.
    """

    def __init__(
        self,
        window: int,
        send: Callable[[Message], int | None],
        send_event: Callable[[str], int | None],
        wake: Callable[[], None],
    ) -> None:
        self._send = send
        self._send_event = send_event
        self._wake = wake
        self._window = window
        self._room = deque([True] * window)
        """One entry for each free place of the window; both threads add and remove entries."""
        self._urgent: deque[tuple[Message, OnPuback | None]] = deque()
        self._event_queue = EventQueue(0)
        self._in_flight: dict[int, OnPuback | None] = {}
        self._events: dict[int, tuple[EventQueue, int]] = {}
        """Events in flight by packet id: the queue that records their PUBACK, and their sequence."""
        self._puback_queue: deque[_QueuedPuback] = deque()
        """PUBACKs for the event loop: those of other messages, or of messages not yet known to be sent."""
        self._loop_woken = False
        self._puback_count = 0
        self._events_paused = False
        # Never blocks: the library calls `puback_arrived` while it holds a lock that `send` needs.
        self._sending = threading.Lock()

    @property
    def puback_count(self) -> int | None:
        """The number of PUBACKs so far; None while none is owed."""
        return self._puback_count if self._in_flight or self._events else None

    def put(self, message: Message, on_puback: OnPuback | None = None) -> bool:
        """Sends now if there is room, else as soon as there is; before any event that waits. False if the
        connection no longer accepts it."""
        if message.qos == 0:
            return self._send(message) is not None
        self._urgent.append((message, on_puback))
        return self._pump(1)

    def send_events(self, events: EventQueue) -> None:
        """The queue has more events to send; it replaces any earlier queue."""
        self._event_queue = events
        # While many messages are in flight a PUBACK arrives soon, and the library's thread then sends more,
        # so the event loop need not drain the backlog. One message in flight is enough for that.
        if len(self._room) >= max(1, self._window // 2):
            self._pump(1)

    def pause_events(self, paused: bool) -> None:
        """`paused`: events that are not sent yet wait until further notice."""
        self._events_paused = paused
        self._pump(1)

    def puback_arrived(self, packet_id: int, reason: object, accepted: bool) -> None:
        """Takes a PUBACK, or the library's report that a message with QoS 0 was sent; the latter frees no
        place in the window."""
        self._puback_count += 1
        event = self._events.pop(packet_id, None)
        if event is not None:
            event[0].record_puback(event[1], accepted)
            self._room.append(True)
            self._pump(self._window)
        else:
            known = packet_id in self._in_flight
            self._puback_queue.append(_QueuedPuback(packet_id, reason, accepted, known))
            if known:
                self._room.append(True)
                self._pump(self._window)
        if not self._loop_woken:
            self._loop_woken = True
            self._wake()

    def take_pubacks(self) -> Iterator[tuple[OnPuback | None, object, bool]]:
        """The PUBACKs since the last call, except those of events: the callback, the reason code, and
        whether the broker accepted. PUBACKs of events are reported to their queue."""
        self._loop_woken = False
        while self._puback_queue:
            packet_id, reason, accepted, freed_place = self._puback_queue.popleft()
            event = self._events.pop(packet_id, None)
            if event is None and packet_id not in self._in_flight:
                continue
            if event is not None:
                event[0].record_puback(event[1], accepted)
            else:
                on_puback = self._in_flight.pop(packet_id)
            if not freed_place:  # it arrived before the message was recorded as sent
                self._room.append(True)
                self._pump(1)
            if event is None:
                yield on_puback, reason, accepted
        self._event_queue.report_progress()

    def _pump(self, most: int) -> bool:
        """Sends at most `most` messages while there is room; one thread at a time, to keep the order. False
        if the connection no longer accepts one.

        A thread that finds the other one sending returns: that message will get a PUBACK, and then
        `puback_arrived` sends the next ones.
        """
        while most and self._room and (self._urgent or (self._event_queue and not self._events_paused)):
            if not self._sending.acquire(blocking=False):
                return True
            try:
                sent = self._send_next()
            finally:
                self._sending.release()
            if not sent:
                return False
            most -= 1
        return True

    def _send_next(self) -> bool:
        if not self._room:
            return True
        if self._urgent:
            message, on_puback = self._urgent[0]
            packet_id = self._send(message)
            self._urgent.popleft()
            if packet_id is not None:
                self._room.pop()
                self._in_flight[packet_id] = on_puback
            return packet_id is not None
        events = self._event_queue
        row = None if self._events_paused else events.next()
        if row is None:
            return True
        packet_id = self._send_event(row[1])
        if packet_id == TOO_BIG:
            events.record_puback(row[0], False)
            self._wake_loop()
        elif packet_id is not None:
            self._room.pop()
            self._events[packet_id] = events, row[0]
        return packet_id is not None

    def _wake_loop(self) -> None:
        if not self._loop_woken:
            self._loop_woken = True
            self._wake()


LONGEST_PUBACK_WAIT_S = 30.0
"""A broker that owes us PUBACKs and sends none for this long counts as lost."""


class PubackWatch:
    """Checked every `check_s`. Checks are counted, not seconds: a process that was stopped for a minute has
    made one check in it, and what arrived meanwhile is still to be read."""

    def __init__(self, check_s: float) -> None:
        self._check_s = check_s
        self._before: int | None = None
        self._silent_checks = 0

    def check(self, puback_count: int | None) -> None:
        """See `SendWindow.puback_count`. Raises `LinkFault` if the broker sends none any more."""
        silent = puback_count is not None and puback_count == self._before
        self._silent_checks = self._silent_checks + 1 if silent else 0
        self._before = puback_count
        if self._silent_checks * self._check_s >= LONGEST_PUBACK_WAIT_S:
            raise LinkFault("the broker acknowledges nothing that we send")
