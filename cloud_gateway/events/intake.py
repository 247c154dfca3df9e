"""Takes in everything that machines send: stores it, then acknowledges it.

A message is acknowledged to the broker only when its effect is committed; if the database fails it is
retried, and after a lost connection the broker sends it again. An unusable one is kept in the table
`rejected` for an operator. The messages of one machine always go through the same lane, in order; what waits
in several lanes is written at the same time, or in one transaction (`db.group_commit`). Events that wait in a
lane at the same time are committed in one transaction.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from cloud_gateway.db.store import DATABASE_GONE, UNUSABLE, Store, find_reservation
from cloud_gateway.events.projection import put_machine, put_view
from cloud_gateway.events.restore_sender import RestoreSender
from cloud_gateway.events.sequence import keep_rejected, lock_machine, take_events
from cloud_gateway.events.twins import Twins
from cloud_gateway.figures import Figures
from cloud_gateway.logs import error_fields, log
from cloud_gateway.machines.commands import (
    MachineCommands,
    MachineRefusal,
    Reply,
    SentCommand,
    hand_to_caller,
)
from cloud_gateway.machines.message_validation import (
    MachineAccounts,
    NotEntitled,
    ReceivedEvent,
    read_configuration,
    read_event,
    read_reply,
    read_service_report,
    read_state,
    reason_of,
    sender_of,
    with_own_fields,
)
from cloud_gateway.machines.mqtt_link import MqttLink
from cloud_gateway.machines.observations import Observations
from cloud_gateway.machines.sealed_ids import Seals
from cloud_gateway.remote.work import RemoteWork
from cloud_gateway.settings import Timing
from edge_agent.errors import Code, Refusal
from edge_agent.mqtt.messages import Received
from edge_agent.protocol.api import Machine, ReservationView
from edge_agent.protocol.events import Online
from edge_agent.protocol.sync import Digest
from edge_agent.protocol.topics import ROOT, Topics, machine_of

LANES = 8
"""The fewest lanes: one that waits for the disk must not hold up every machine."""
EVENTS_PER_TRANSACTION = 500
"""The most events that one transaction commits."""
TOPIC_MAX = 200
"""How many characters of an unknown topic are kept."""


def subscriptions(gateway_id: str, share_group: str) -> list[str]:
    """The gateway's subscriptions; `gateway_id` is the last part of its reply topics.

    Retained states do not come over a shared subscription, and each gateway needs them.
    """
    return [
        f"$share/{share_group}/{ROOT}/+/evt",
        f"{ROOT}/+/state/online",
        f"{ROOT}/+/state/machine",
        f"{ROOT}/+/state/digest",
        f"{ROOT}/+/state/config",
        f"$share/{share_group}/{ROOT}/+/service",
        f"{ROOT}/+/reply/{gateway_id}/#",
    ]


@dataclass(frozen=True, slots=True)
class _AdmittedEvent:
    """An event within its machine's quota: as read, or why it is unusable."""

    message: Received
    received: ReceivedEvent | None
    reason: str = ""


class Intake:
    """Takes in the machines' messages.

    `wake_webhooks` is called after events were applied. `check_machine` is called with a machine's id,
    its digest (None: the machine came online) and whether the message was a retained one.
    """

    def __init__(
        self,
        store: Store,
        machines: MachineCommands,
        timing: Timing,
        clock: Callable[[], float],
        wake_webhooks: Callable[[], None],
        check_machine: Callable[[str, Digest | None, bool], None] = lambda _machine, _digest, _retained: None,
        *,
        twins: Twins | None = None,
        restore_sender: RestoreSender | None = None,
        accounts: MachineAccounts | None = None,
        seals: Seals | None = None,
        figures: Figures | None = None,
        remote: RemoteWork | None = None,
        observations: Observations | None = None,
    ) -> None:
        self._store = store
        self._machines = machines
        self._timing = timing
        self._clock = clock
        self._wake_webhooks = wake_webhooks
        self._check_machine = check_machine
        self._twins = twins or Twins(store, clock)
        self._restore_sender = restore_sender or RestoreSender(store, machines)
        self._accounts = accounts or MachineAccounts()
        self._seals = seals or Seals(())
        self._figures = figures or Figures()
        self._remote = remote or RemoteWork(store, machines, clock, signed=False)
        self._observations = observations or Observations(clock)
        self._lanes: list[asyncio.Queue[Received]] = [
            asyncio.Queue() for _ in range(max(LANES, store.writers))
        ]
        self._unacknowledged: deque[Received] = deque()
        self._done: set[int] = set()

    def put(self, message: Received) -> None:
        """Takes a message from the link. The broker limits how many it sends without an acknowledgement."""
        machine_id = machine_of(message.topic) or ""
        self._unacknowledged.append(message)
        self._lanes[zlib.crc32(machine_id.encode()) % len(self._lanes)].put_nowait(message)

    async def run(self, link: MqttLink) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number, lane in enumerate(self._lanes):
                group.create_task(self._work(lane, link), name=f"intake lane {number}")

    async def _work(self, lane: asyncio.Queue[Received], link: MqttLink) -> None:
        next_first: Received | None = None
        while True:
            first = await lane.get() if next_first is None else next_first
            next_first, batch = None, [first]
            while _is_event(first) and not lane.empty() and len(batch) < EVENTS_PER_TRANSACTION:
                following = lane.get_nowait()
                if not _is_event(following):
                    next_first = following
                    break
                batch.append(following)
            await self._take(batch, link)
            self._acknowledge(batch, link)

    def _acknowledge(self, batch: list[Received], link: MqttLink) -> None:
        """Acknowledges in the order in which messages came (MQTT 5, 4.6), whatever the lanes' order."""
        self._done.update(id(message) for message in batch)
        while self._unacknowledged and id(self._unacknowledged[0]) in self._done:
            message = self._unacknowledged.popleft()
            self._done.discard(id(message))
            link.acknowledge(message)

    async def _take(self, batch: list[Received], link: MqttLink) -> None:
        """Handles several events, or one message that is no event. Retries while the database cannot be
        written."""
        admitted = self._admit(batch) if _is_event(batch[0]) else None
        while True:
            try:
                if admitted is None:
                    await self._take_one(batch[0], link)
                else:
                    await self._store_events(admitted)
                return
            except DATABASE_GONE as error:
                log().error("database_failed", **error_fields(error))
            await asyncio.sleep(self._timing.storage_pause_s)

    async def _take_one(self, message: Received, link: MqttLink) -> None:
        try:
            await self._dispatch(message, link)
        except DATABASE_GONE:
            raise
        except Exception as error:
            await self._reject(message, _reason(error))

    def _count_rejected(self, topic: str, kind: str) -> None:
        machine_id = machine_of(topic)
        if machine_id is not None:
            self._accounts.count_rejected(machine_id, kind)

    def _admit(self, batch: list[Received]) -> list[_AdmittedEvent]:
        """Reads the events, each charged once to its machine's quota, however often it is stored."""
        admitted = []
        for message in batch:
            try:
                machine_id = sender_of(message.topic)
                if not self._accounts.take_quota(machine_id, [len(message.payload)]):
                    self._count_rejected(message.topic, "quota")
                    continue  # `sync` requests it later, when the quota allows it
                received = read_event(machine_id, message.payload)
                if received.event is None:
                    self._count_rejected(message.topic, "event")
                admitted.append(_AdmittedEvent(message, received))
            except ValueError as error:
                self._count_rejected(message.topic, "event")
                admitted.append(_AdmittedEvent(message, None, _reason(error)))
        return admitted

    async def _store_events(self, admitted: list[_AdmittedEvent]) -> None:
        """Stores several events in one transaction; if one of them is bad, each in its own."""
        now_s = self._clock()

        def work(db: Connection) -> int:
            for entry in admitted:
                if entry.received is None:
                    _keep_for_operator(db, entry.message, entry.reason, now_s)
            return take_events(
                db, [entry.received for entry in admitted if entry.received is not None], now_s
            )

        try:
            if await self._store.write(work, urgent=False):
                self._wake_webhooks()
            self._figures.events_stored(len(admitted))
        except DATABASE_GONE:
            raise
        except Exception as error:
            if len(admitted) == 1:
                await self._reject(admitted[0].message, _reason(error))
                return
            for entry in admitted:
                await self._store_events([entry])

    async def _dispatch(self, message: Received, link: MqttLink) -> None:
        machine_id = sender_of(message.topic)
        head, _, name = message.topic.removeprefix(f"{Topics(machine_id).root}/").partition("/")
        if head == "reply":
            await self._take_reply(machine_id, message)
            return
        if head == "service" and not name:
            await self._remote.take_report(read_service_report(machine_id, message.payload))
            return
        if head != "state":
            raise NotEntitled("not one of our topics")
        if name == "config":
            if message.payload:
                await self._remote.take_configuration(read_configuration(machine_id, message.payload))
            return
        state = read_state(machine_id, name, message.payload) if message.payload else None
        if name == "online" and not isinstance(state, (Machine, Digest)):
            if link.is_current(message):
                await self._take_online(machine_id, message, state)
        elif isinstance(state, Machine):
            await self._take_machine(state)
        elif isinstance(state, Digest):
            self._check_machine(machine_id, state, message.retained)

    async def _take_online(self, machine_id: str, message: Received, state: Online | None) -> None:
        there_before = self._machines.last_published_online(machine_id)
        if state is not None:
            last_run = self._twins.last_run(machine_id)
            if (
                not state.online
                and not message.retained
                and state.run is not None
                and last_run not in (None, state.run)
            ):
                return  # the will of a run that another one has replaced
            await self._twins.take_online(machine_id, state, retained=message.retained)
        self._machines.set_online(machine_id, None)
        if state is not None:
            self._machines.set_online(machine_id, state)
            self._observations.take_online(machine_id, state, retained=message.retained)
            self._restore_sender.machine_came_online(machine_id)
            # A machine that was online already only updates its health or its challenge.
            if state.online and (message.retained or not there_before):
                self._check_machine(machine_id, None, message.retained)
                self._remote.wake()

    async def _take_machine(self, machine: Machine) -> None:
        now_s = self._clock()
        await self._store.write(lambda db: put_machine(db, machine, now_s), urgent=False)

    async def _take_reply(self, machine_id: str, message: Received) -> None:
        """Hands a reply to its caller. An unusable one is not kept, because it may hold codes."""
        command = self._machines.sent_command(message.correlation)
        if command is None or command.machine_id != machine_id:
            self._accounts.count_rejected(machine_id, "reply")
            log().warning("reply_to_no_command", machine_id=machine_id)
            return
        outcome: Reply | MachineRefusal | Refusal
        try:
            outcome = read_reply(command, message.payload)
            if isinstance(outcome, Reply) and outcome.reservation is not None:
                await self._take_view(command, outcome.reservation)
        except UNUSABLE as error:
            self._accounts.count_rejected(machine_id, "reply")
            log().error("reply_unreadable", machine_id=machine_id, reason=reason_of(error))
            outcome = Refusal(Code.INTERNAL, "the machine's reply could not be read")
        if self._machines.awaited_command(message.correlation) is command:
            hand_to_caller(command, outcome)

    async def _take_view(self, command: SentCommand, view: ReservationView) -> None:
        """Writes a reservation as the reply to a command states it. One that is not in the projection must be
        one that a gateway requested: by this command, or as the seal of its id shows. Raises
        `NotEntitled`."""
        now_s, new = self._clock(), command.name == "reserve"
        written = with_own_fields(view, command.fields) if new else view
        sealed = new or self._seals.holds(view)
        # A reserve's reply may be a stored, old one; so may a reply without a waiting caller.
        up_to_date = not new and not command.reply.done()

        def work(db: Connection) -> None:
            lock_machine(db, written.machine_id)
            known = find_reservation(db, written.reservation_id)
            if not sealed and (known is None or not known.details_known):
                raise NotEntitled("result.reservation: not one that a platform asked for")
            put_view(db, written, now_s, up_to_date=up_to_date)

        await self._store.write(work)
        self._wake_webhooks()

    async def _reject(self, message: Received, reason: str) -> None:
        now_s = self._clock()
        self._count_rejected(message.topic, "state")
        await self._store.write(lambda db: _keep_for_operator(db, message, reason, now_s))


def _keep_for_operator(db: Connection, message: Received, reason: str, now_s: float) -> None:
    payload = message.payload.decode("utf-8", "replace")
    keep_rejected(db, message.topic[:TOPIC_MAX], payload, reason, now_s)


def _is_event(message: Received) -> bool:
    return message.topic.endswith("/evt") and message.topic.count("/") == 3


def _reason(error: Exception) -> str:
    """Why a message was rejected, without its content."""
    if not isinstance(error, ValueError):
        log().error("message_failed", **error_fields(error))
    return reason_of(error)
