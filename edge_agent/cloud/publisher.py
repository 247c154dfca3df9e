"""What the machine tells the cloud: its digest, events in order from the outbox, replies, its own picture."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable

from edge_agent.cloud.channel import Message
from edge_agent.cloud.interfaces import Link
from edge_agent.journal.store import JournalStore
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.loop import LockerLoop

STATE_PAUSE_S = 0.1
"""`state/machine` is published at most this often, replies apart."""
REPLY_LIFE_S = 10.0
"""A reply is kept this long for a link that is down; then its sender has given up."""
AHEAD = 200
"""So many events wait in the link behind those in flight, so that none has to be fetched for its turn."""
PATIENCE_S = 3.0
"""So long at most events wait for somebody who waits for a door."""
PAGE = 200
"""So many events are read from the outbox at once; no more of them are ever in memory."""


class Publisher:
    """Publishes events oldest first; one leaves the outbox only when it and all before it have their PUBACK.

    `machine` gives the body of `state/machine`, `digest` that of `state/digest`.
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
    ) -> None:
        self._link = link
        self._store = store
        self._loop = loop
        self._topics = topics
        self._machine = machine
        self._digest = digest
        self._wake = asyncio.Event()
        self._state_changed = asyncio.Event()
        self._page: deque[tuple[int, str]] = deque()
        self._through = store.sent_through()
        """The broker has every event up to this sequence."""
        self._noted = self._sent = self._through
        self._early: set[int] = set()
        """Sequences behind a gap that the broker has as well."""
        self._in_flight = 0
        self._replies: deque[tuple[float, Message]] = deque()
        self._last_machine = ""
        self._patience: asyncio.TimerHandle | None = None
        link.on_up = self._up
        loop.on_events = self._wake.set
        loop.on_state = self._state_changed.set
        loop.on_door_work = self._door_work

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_events(), name="events")
            group.create_task(self._publish_state(), name="state")

    def reply(self, topic: str, correlation: bytes | None, body: str) -> None:
        """A command's reply; kept for a short while if the link is down.

        What the command changed about the machine goes before it, so that whoever has the answer and looks at
        the machine sees its effect.
        """
        message = Message(topic, body, correlation=correlation)
        if self._link.up:
            if self._state_changed.is_set():
                self._tell_state()
            self._link.publish(message)
        else:
            self._replies.append((asyncio.get_running_loop().time() + REPLY_LIFE_S, message))

    def _up(self) -> None:
        self._page.clear()
        self._early.clear()
        self._sent, self._in_flight = self._through, 0
        self._last_machine = ""
        self._link.publish(Message(self._topics.digest, self._digest(), retain=True))
        now_s = asyncio.get_running_loop().time()
        while self._replies:
            expires_s, message = self._replies.popleft()
            if expires_s > now_s:
                self._link.publish(message)
        self._state_changed.set()
        self._wake.set()

    def _door_work(self, busy: bool) -> None:
        """A backlog lets the doors have the processor, but not for ever."""
        if busy and self._patience is None:
            self._link.rest(True)
            self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._door_work, False)
        elif not busy and self._patience is not None:
            self._patience.cancel()
            self._patience = None
            self._link.rest(False)

    async def _publish_events(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._through > self._noted:
                self._noted = self._through
                self._loop.acknowledge(self._through)
            while self._link.up and self._in_flight < self._link.window + AHEAD:
                if not self._page and not self._turn_page():
                    break
                self._send(*self._page.popleft())

    def _turn_page(self) -> bool:
        """Reads on in the outbox; False at its end."""
        self._page.extend(self._store.events_kept(self._sent + 1, PAGE))
        return bool(self._page)

    def _send(self, sequence: int, body: str) -> None:
        self._sent = sequence
        self._in_flight += 1
        message = Message(self._topics.events, body, patient=True)
        self._link.publish(message, functools.partial(self._acknowledged, sequence))

    def _acknowledged(self, sequence: int) -> None:
        """The broker has this event; receipts of an earlier connection are never told."""
        self._in_flight -= 1
        if sequence == self._through + 1:
            self._through = sequence
            while self._early and self._through + 1 in self._early:
                self._through += 1
                self._early.discard(self._through)
        else:
            self._early.add(sequence)
        self._wake.set()

    async def _publish_state(self) -> None:
        while True:
            await self._state_changed.wait()
            if self._link.up:
                self._tell_state()
            else:
                self._state_changed.clear()
            await asyncio.sleep(STATE_PAUSE_S)

    def _tell_state(self) -> None:
        self._state_changed.clear()
        body = self._machine()
        if body != self._last_machine:
            self._last_machine = body
            self._link.publish(Message(self._topics.machine, body, retain=True))
