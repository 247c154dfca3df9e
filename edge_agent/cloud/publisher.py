"""Publishes the machine's digest, its events in order from the outbox, its replies, and its state."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import structlog

from edge_agent.cloud.interfaces import Link
from edge_agent.errors import StorageFault
from edge_agent.journal.store import JournalStore
from edge_agent.mqtt.event_queue import EventQueue
from edge_agent.mqtt.messages import Message
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.loop import STORAGE_RETRY_S, LockerLoop
from edge_agent.runtime.loop_watch import HANGS_AFTER_S, MonitoredLoop

log = structlog.get_logger()

STATE_PAUSE_S = 0.1
"""`state/machine` is published at most this often, except before a reply."""
REPLY_LIFE_S = 10.0
"""A reply is kept this long for a link that is down; by then the sender of its command waits no longer."""
MOST_REPLIES, MOST_REPLY_CHARACTERS = 1024, 16_000_000
"""The most replies that wait for the broker at once, and their total length; any further one is dropped."""
EVENTS_READ_AHEAD = 200
"""This many events are read ahead from the outbox, so that none has to be fetched when its turn comes."""
DIGEST_S = 30.0
"""The digest is published again this long after the broker accepted events."""
REFUSED_S = 30.0
"""Pause before events are sent again to a broker that refused them."""
DOOR_FIRST_S = 3.0
"""Events pause for at most this time while a command that opens a door is under way."""
EVENTS_PER_READ = 200
"""How many events are read from the outbox at once, which bounds the memory."""


class Publisher:
    """Publishes events oldest first; an event counts as sent only when it and all before it have their
    PUBACK.

    `machine` gives the body of `state/machine`, `digest` that of `state/digest`. `on_digest_acknowledged` is
    called with a digest once the broker has acknowledged it, `on_refusal` with why the broker refuses events,
    and with "" when it accepts them again.
    """

    def __init__(
        self,
        link: Link,
        store: JournalStore,
        loop: LockerLoop,
        topics: Topics,
        *,
        machine: Callable[[], str],
        digest: Callable[[], str],
        on_digest_acknowledged: Callable[[bytes], None],
        on_refusal: Callable[[str], None],
    ) -> None:
        self._link = link
        self._store = store
        self._loop = loop
        self._topics = topics
        self._machine = machine
        self._digest = digest
        self._on_digest_acknowledged = on_digest_acknowledged
        self._on_refusal = on_refusal
        self._wake = asyncio.Event()
        self._state_changed = asyncio.Event()
        self._sent_through = store.sent_through()
        """The broker has every event up to this sequence, and `LockerLoop.events_sent` was called for it."""
        self._fetched = self._sent_through
        """The last event that was read from the outbox."""
        self._event_queue = self._new_queue()
        self._refused: asyncio.TimerHandle | None = None
        self._refusal_reported = False
        self._replies: dict[int, tuple[float, Message]] = {}
        """Replies that wait for the broker's PUBACK, by number: when each expires, and the message."""
        self._numbers = itertools.count()
        self._last_machine = ""
        """The body of `state/machine` as last published."""
        self._event_turns = self._state_turns = 0
        self._doors_pause: asyncio.TimerHandle | None = None
        self._digest_due: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_events(), name="publisher of events")
            group.create_task(self._publish_state(), name="publisher of state")

    def monitored_loops(self) -> list[MonitoredLoop]:
        """See `HasLoops`."""
        return [
            MonitoredLoop("publisher of events", lambda: self._event_turns, HANGS_AFTER_S, self._wake.set),
            MonitoredLoop(
                "publisher of state", lambda: self._state_turns, HANGS_AFTER_S, self._state_changed.set
            ),
        ]

    def reply(self, topic: str, correlation: bytes | None, body: str) -> None:
        """Sends a command's reply; keeps it until the broker has acknowledged it, at most for `REPLY_LIFE_S`.

        The change that the command made to the machine's state is published first, so that a caller that has
        the reply and reads the state sees its effect.
        """
        now_s = asyncio.get_running_loop().time()
        self._replies = {n: kept for n, kept in self._replies.items() if kept[0] > now_s}
        if not self._has_room(len(body)):
            log.warning("a reply is dropped: too many wait for the broker", topic=topic[:64])
            return
        number = next(self._numbers)
        self._replies[number] = now_s + REPLY_LIFE_S, Message(topic, body, correlation=correlation)
        if self._link.up:
            if self._state_changed.is_set():
                self._publish_machine()
            self._send_reply(number)

    def _has_room(self, characters: int) -> bool:
        """Whether one more reply may wait for the broker: a flood of requests must not fill the memory."""
        kept = sum(len(message.payload) for _, message in self._replies.values())
        return len(self._replies) < MOST_REPLIES and kept + characters <= MOST_REPLY_CHARACTERS

    def _send_reply(self, number: int) -> None:
        _, message = self._replies[number]

        def forget(_accepted: bool) -> None:
            self._replies.pop(number, None)

        self._link.publish(message, forget)

    def link_is_up(self) -> None:
        """Publishes what the broker may not have: events, state, replies and the digest."""
        self._restart_events()
        self._last_machine = ""
        self._state_changed.set()
        now_s = asyncio.get_running_loop().time()
        for number, (expires_s, _) in tuple(self._replies.items()):
            if expires_s > now_s:
                self._send_reply(number)
        self.publish_digest()

    def publish_digest(self) -> None:
        """Publishes the digest: the summary of what the machine holds."""
        try:
            digest = self._digest()
        except StorageFault as fault:
            log.error("no digest: the journal cannot be read", error=str(fault))
            return

        def acknowledged(taken: bool) -> None:
            if taken:
                self._on_digest_acknowledged(digest.encode())

        self._link.publish(Message(self._topics.digest, digest, retain=True), acknowledged)

    def events_committed(self) -> None:
        """The outbox has new events."""
        self._wake.set()

    def state_changed(self) -> None:
        """The content of `state/machine` may have changed."""
        self._state_changed.set()

    def doors_busy(self, busy: bool) -> None:
        """Events wait while a door command is under way, so that it gets the processor; for `DOOR_FIRST_S` at
        most."""
        if busy and self._doors_pause is None:
            self._link.pause_events(True)
            self._doors_pause = asyncio.get_running_loop().call_later(DOOR_FIRST_S, self.doors_busy, False)
        elif not busy and self._doors_pause is not None:
            self._doors_pause.cancel()
            self._doors_pause = None
            self._link.pause_events(False)

    async def _publish_events(self) -> None:
        while True:
            self._event_turns += 1
            await self._wake.wait()
            self._wake.clear()
            self._handle_pubacks()
            try:
                self._fill_queue()
            except StorageFault as fault:
                log.error("no events: the journal cannot be read", error=str(fault))
                await asyncio.sleep(STORAGE_RETRY_S)
                self._wake.set()

    def _handle_pubacks(self) -> None:
        """Handles the broker's PUBACKs for the events in the queue since the last call."""
        if self._event_queue.refused:
            self._pause_after_refusal()
        elif self._record_progress() and self._refusal_reported:
            self._refusal_reported = False
            self._on_refusal("")

    def _record_progress(self) -> bool:
        """Records up to which event the broker has everything; returns whether that is further than
        before."""
        through = self._event_queue.through
        if through <= self._sent_through:
            return False
        self._sent_through = through
        self._loop.events_sent(through)
        if self._digest_due is None:
            self._digest_due = asyncio.get_running_loop().call_later(DIGEST_S, self._digest_again)
        return True

    def _digest_again(self) -> None:
        """Publishes the digest again: a link may be up for weeks, and only a recent digest reveals an older
        copy of the journal."""
        self._digest_due = None
        if self._link.up:
            self.publish_digest()

    def _fill_queue(self) -> None:
        """Fetches and sends until there are no more events, or enough wait."""
        while self._link.up and self._refused is None and len(self._event_queue) < EVENTS_READ_AHEAD:
            page = self._store.events_kept(self._fetched + 1, EVENTS_PER_READ)
            if not page:
                return
            self._fetched = page[-1][0]
            self._event_queue.fill(page)
            self._link.send_events(self._event_queue)

    def _pause_after_refusal(self) -> None:
        """The broker refused an event: that one and all later ones are sent again after a pause."""
        if not self._refusal_reported:
            self._refusal_reported = True
            log.error("the broker refuses our events")
            self._on_refusal("the broker refuses our events")
        self._discard_queue()
        self._refused = asyncio.get_running_loop().call_later(REFUSED_S, self._restart_events)

    def _restart_events(self) -> None:
        """Sends events again from the first one that the broker does not have."""
        if self._refused is not None:
            self._refused.cancel()
            self._refused = None
        self._discard_queue()
        self._wake.set()

    def resend_after(self, through: int) -> None:
        """Sends all events after this sequence again: the journal has a new id."""
        self._sent_through = through
        self._event_queue = self._new_queue()
        self._link.send_events(self._event_queue)
        self._wake.set()
        self.publish_digest()

    def _discard_queue(self) -> None:
        """Discards the queue; PUBACKs for events that were sent from it no longer count."""
        self._record_progress()
        self._event_queue = self._new_queue()
        self._link.send_events(self._event_queue)

    def _new_queue(self) -> EventQueue:
        """An empty queue that begins after the last event that the broker has."""
        self._fetched = self._sent_through
        return EventQueue(self._sent_through, self._wake.set)

    async def _publish_state(self) -> None:
        while True:
            self._state_turns += 1
            await self._state_changed.wait()
            if self._link.up:
                self._publish_machine()
            else:
                self._state_changed.clear()
            await asyncio.sleep(STATE_PAUSE_S)

    def _publish_machine(self) -> None:
        self._state_changed.clear()
        body = self._machine()
        if body != self._last_machine:
            self._last_machine = body
            self._link.publish(Message(self._topics.machine, body, retain=True))
