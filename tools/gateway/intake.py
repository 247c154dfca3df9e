"""Everything that machines send: written down, then acknowledged.

A message is acknowledged to the broker only when its effect is committed; if the database fails it is tried
again, and after a lost connection the broker sends it again. One that makes no sense is kept for a person.
Each machine has its lane, in which its messages stay in order; there are as many lanes as the database takes
writers. Events that wait together are committed together.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable

from pydantic import ValidationError
from sqlalchemy import Connection, insert

from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import Machine, ReservationView, refusal_from
from edge_agent.protocol.events import Online
from edge_agent.protocol.sync import Digest
from edge_agent.protocol.topics import ROOT, Topics, machine_of
from tools.gateway.histories import Histories
from tools.gateway.logs import log, where
from tools.gateway.machines import MachineRefusal, Machines, Reply, read_reply, settle
from tools.gateway.mqtt_link import Message, MqttLink
from tools.gateway.order import Told, lock_source, read_event, take_events
from tools.gateway.projection import put_machine, put_view
from tools.gateway.settings import Timing
from tools.gateway.store import DATABASE_GONE, UNUSABLE, Store
from tools.gateway.tables import rejected
from tools.gateway.twins import Twins

TOGETHER = 50
"""So many events at most are committed together."""


def subscriptions(suffix: str, share_group: str) -> list[str]:
    """What the gateway listens to; `suffix` is this instance's part of the reply topics.

    Retained states do not come over a shared subscription, and each instance has to know them.
    """
    return [
        f"$share/{share_group}/{ROOT}/+/evt",
        f"{ROOT}/+/state/online",
        f"{ROOT}/+/state/machine",
        f"{ROOT}/+/state/digest",
        f"{ROOT}/+/reply/{suffix}/#",
    ]


class Intake:
    """The consumer of the machines' messages. `applied` is called when events were; `heard` with every
    digest, and without one for every machine that comes online, and whether the word was a retained one."""

    def __init__(
        self,
        store: Store,
        machines: Machines,
        timing: Timing,
        clock: Callable[[], float],
        applied: Callable[[], None],
        heard: Callable[[str, Digest | None, bool], None] = lambda _machine, _digest, _retained: None,
        *,
        twins: Twins | None = None,
        histories: Histories | None = None,
    ) -> None:
        self._store = store
        self._machines = machines
        self._timing = timing
        self._clock = clock
        self._applied = applied
        self._heard = heard
        self._twins = twins or Twins(store, clock)
        self._histories = histories or Histories(store, machines)
        self._lanes: list[asyncio.Queue[Message]] = [asyncio.Queue() for _ in range(store.writers)]
        self._unacknowledged: deque[Message] = deque()
        self._done: set[int] = set()

    def put(self, message: Message) -> None:
        """Takes a message from the link; the broker's receive maximum bounds how many wait here."""
        machine_id = machine_of(message.topic) or ""
        self._unacknowledged.append(message)
        self._lanes[zlib.crc32(machine_id.encode()) % len(self._lanes)].put_nowait(message)

    async def run(self, link: MqttLink) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(self._work(lane, link))

    async def _work(self, lane: asyncio.Queue[Message], link: MqttLink) -> None:
        held: Message | None = None
        while True:
            first = await lane.get() if held is None else held
            held, batch = None, [first]
            while _is_event(first) and not lane.empty() and len(batch) < TOGETHER:
                following = lane.get_nowait()
                if not _is_event(following):
                    held = following
                    break
                batch.append(following)
            while not await self._take(batch, link):
                await asyncio.sleep(self._timing.storage_pause_s)
            self._acknowledge(batch, link)

    def _acknowledge(self, batch: list[Message], link: MqttLink) -> None:
        """Acknowledges in the order in which messages came (MQTT 5, 4.6), whatever the lanes' order."""
        self._done.update(id(message) for message in batch)
        while self._unacknowledged and id(self._unacknowledged[0]) in self._done:
            message = self._unacknowledged.popleft()
            self._done.discard(id(message))
            link.acknowledge(message)

    async def _take(self, batch: list[Message], link: MqttLink) -> bool:
        """Whether the messages are dealt with for good; False when the database could not be written."""
        try:
            if _is_event(batch[0]):
                await self._take_events(batch)
            else:
                await self._take_one(batch[0], link)
        except DATABASE_GONE as error:
            log().error("database_failed", **where(error))
            return False
        return True

    async def _take_one(self, message: Message, link: MqttLink) -> None:
        try:
            await self._dispatch(message, link)
        except DATABASE_GONE:
            raise
        except Exception as error:
            await self._reject(message, _reason(error))

    async def _take_events(self, batch: list[Message]) -> None:
        """Several events in one transaction; if something in it is wrong, each in its own."""
        told: list[Told] = []
        bad: list[tuple[Message, str]] = []
        for message in batch:
            try:
                machine_id = machine_of(message.topic)
                if machine_id is None:
                    raise ValueError("not one of our topics")
                told.append(read_event(machine_id, message.payload))
            except ValueError as error:
                bad.append((message, _reason(error)))
        now_s = self._clock()

        def work(db: Connection) -> int:
            for message, reason in bad:
                _reject(db, message, reason, now_s)
            return take_events(db, told, now_s)

        try:
            if await self._store.write(work):
                self._applied()
        except DATABASE_GONE:
            raise
        except Exception as error:
            if len(batch) == 1:
                await self._reject(batch[0], _reason(error))
                return
            for message in batch:
                await self._take_events([message])

    async def _dispatch(self, message: Message, link: MqttLink) -> None:
        machine_id = machine_of(message.topic)
        if machine_id is None:
            raise ValueError("not one of our topics")
        topics = Topics(machine_id)
        if message.topic == topics.online:
            if link.is_current(message):
                await self._take_online(machine_id, message)
        elif message.topic == topics.machine:
            await self._take_machine(machine_id, message.payload)
        elif message.topic == topics.digest:
            self._take_digest(machine_id, message)
        else:
            await self._take_reply(machine_id, message)

    async def _take_online(self, machine_id: str, message: Message) -> None:
        there_before = self._machines.said_online(machine_id)
        state = Online.model_validate_json(message.payload) if message.payload else None
        if state is not None:
            last_run = self._twins.last_run(machine_id)
            if (
                not state.online
                and not message.retained
                and state.run is not None
                and last_run not in (None, state.run)
            ):
                return  # the will of one that another run has replaced
            await self._twins.heard(machine_id, state, retained=message.retained)
        self._machines.set_online(machine_id, None)
        if state is not None:
            self._machines.set_online(machine_id, state)
            self._histories.heard(machine_id)
            # One that was there all the time only tells of its health, or of a new challenge.
            if state.online and (message.retained or not there_before):
                self._heard(machine_id, None, message.retained)

    def _take_digest(self, machine_id: str, message: Message) -> None:
        if not message.payload:
            return
        digest = Digest.model_validate_json(message.payload)
        if digest.machine_id != machine_id:
            raise ValueError("another machine's digest")
        self._heard(machine_id, digest, message.retained)

    async def _take_machine(self, machine_id: str, payload: bytes) -> None:
        if not payload:
            return  # The retained state was cleared; what we know stays as history.
        machine = Machine.model_validate_json(payload)
        if machine.machine_id != machine_id:
            raise ValueError("another machine's state")
        now_s = self._clock()
        await self._store.write(lambda db: put_machine(db, machine, now_s))

    async def _take_reply(self, machine_id: str, message: Message) -> None:
        pending = self._machines.pending(message.correlation)
        if pending is not None and pending.machine_id != machine_id:
            raise ValueError("a reply of another machine")
        outcome: Reply | MachineRefusal | Refusal
        try:
            outcome = read_reply(machine_id, message.payload)
            if isinstance(outcome, Reply) and outcome.reservation is not None:
                # A reserve's reply may be the stored one of long ago; so may one that nobody waits for.
                fresh = pending is not None and pending.name != "reserve"
                await self._take_view(outcome.reservation, fresh=fresh)
        except UNUSABLE as error:
            # Not kept: a reply may hold codes. The caller is told, and asks again.
            reason = (
                refusal_from(error).message if isinstance(error, ValidationError) else type(error).__name__
            )
            log().error("reply_unreadable", machine_id=machine_id, reason=reason)
            outcome = Refusal(Code.INTERNAL, "the machine's reply could not be read")
        if pending is not None:
            settle(pending, outcome)

    async def _take_view(self, view: ReservationView, *, fresh: bool) -> None:
        now_s = self._clock()

        def work(db: Connection) -> None:
            lock_source(db, view.machine_id)
            put_view(db, view, now_s, fresh=fresh)

        await self._store.write(work)
        self._applied()

    async def _reject(self, message: Message, reason: str) -> None:
        now_s = self._clock()
        await self._store.write(lambda db: _reject(db, message, reason, now_s))


def _reject(db: Connection, message: Message, reason: str, now_s: float) -> None:
    log().error("message_rejected", topic=message.topic, reason=reason)
    payload = message.payload.decode("utf-8", "replace").replace("\0", "\ufffd")
    values = {"topic": message.topic, "payload": payload, "reason": reason, "received_s": now_s}
    db.execute(insert(rejected).values(values))


def _is_event(message: Message) -> bool:
    return message.topic.endswith("/evt") and message.topic.count("/") == 3


def _reason(error: Exception) -> str:
    """Why a message was put aside, without what it holds."""
    if isinstance(error, ValidationError):
        return refusal_from(error).message
    if isinstance(error, ValueError):
        return f"{type(error).__name__} at {where(error)['at'][-1]}"
    log().error("message_failed", **where(error))
    return type(error).__name__
