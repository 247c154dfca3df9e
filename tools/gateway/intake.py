"""Everything that machines send, one message after the other: written down, then acknowledged.

A message is acknowledged to the broker only when its effect is committed; if the database fails it is tried
again, and after a lost connection the broker sends it again. One that makes no sense is kept for a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pydantic import ValidationError
from sqlalchemy import insert
from sqlalchemy.exc import InterfaceError, OperationalError

from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import Machine, refusal_from
from edge_agent.protocol.events import Event, Online
from edge_agent.protocol.topics import ROOT, Topics, machine_of
from tools.gateway.logs import log, where
from tools.gateway.machines import MachineRefusal, Machines, Reply, read_reply, settle
from tools.gateway.mqtt_link import Message, MqttLink
from tools.gateway.projection import put_event, put_machine, put_view
from tools.gateway.settings import Timing
from tools.gateway.store import Store
from tools.gateway.tables import rejected


def subscriptions(suffix: str) -> list[str]:
    """What the gateway listens to; `suffix` is this instance's part of the reply topics."""
    return [
        f"{ROOT}/+/evt",
        f"{ROOT}/+/state/online",
        f"{ROOT}/+/state/machine",
        f"{ROOT}/+/reply/{suffix}/#",
    ]


class Intake:
    """The single consumer of the machines' messages."""

    def __init__(
        self,
        store: Store,
        machines: Machines,
        timing: Timing,
        clock: Callable[[], float],
        webhooks_wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._machines = machines
        self._timing = timing
        self._clock = clock
        self._webhooks_wake = webhooks_wake
        self._queue: asyncio.Queue[Message] = asyncio.Queue()

    def put(self, message: Message) -> None:
        """Takes a message from the link; the broker's receive maximum bounds how many wait here."""
        self._queue.put_nowait(message)

    async def run(self, link: MqttLink) -> None:
        """Works until cancelled."""
        while True:
            message = await self._queue.get()
            while not await self._take(message, link):
                await asyncio.sleep(self._timing.storage_pause_s)
            link.acknowledge(message)

    async def _take(self, message: Message, link: MqttLink) -> bool:
        """Whether the message is dealt with for good; False when the database could not be written."""
        try:
            try:
                await self._dispatch(message, link)
            except (OperationalError, InterfaceError):
                raise
            except ValidationError as error:
                await self._reject(message, refusal_from(error).message)
            except ValueError as error:
                await self._reject(message, f"{type(error).__name__} at {where(error)['at'][-1]}")
            except Exception as error:
                log().error("message_failed", **where(error))
                await self._reject(message, type(error).__name__)
        except (OperationalError, InterfaceError) as error:
            log().error("database_failed", **where(error))
            return False
        return True

    async def _dispatch(self, message: Message, link: MqttLink) -> None:
        machine_id = machine_of(message.topic)
        if machine_id is None:
            raise ValueError("not one of our topics")
        topics = Topics(machine_id)
        if message.topic == topics.online:
            if link.is_current(message):
                self._take_online(machine_id, message.payload)
        elif message.topic == topics.machine:
            await self._take_machine(machine_id, message.payload)
        elif message.topic == topics.events:
            await self._take_event(machine_id, message.payload)
        else:
            await self._take_reply(machine_id, message)

    def _take_online(self, machine_id: str, payload: bytes) -> None:
        self._machines.set_online(machine_id, None)
        if payload:
            self._machines.set_online(machine_id, Online.model_validate_json(payload))

    async def _take_machine(self, machine_id: str, payload: bytes) -> None:
        if not payload:
            return  # The retained state was cleared; what we know stays as history.
        machine = Machine.model_validate_json(payload)
        if machine.machine_id != machine_id:
            raise ValueError("another machine's state")
        now_s = self._clock()
        await self._store.write(lambda db: put_machine(db, machine, now_s))

    async def _take_event(self, machine_id: str, payload: bytes) -> None:
        machine_event = Event.model_validate_json(payload)
        if machine_event.machine_id != machine_id:
            raise ValueError("another machine's event")
        now_s = self._clock()
        await self._store.write(lambda db: put_event(db, machine_event, payload.decode(), now_s))
        self._webhooks_wake()

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
                view, now_s = outcome.reservation, self._clock()
                await self._store.write(lambda db: put_view(db, view, now_s, fresh=fresh))
                self._webhooks_wake()
        except ValueError as error:
            # Not kept: a reply may hold codes. The caller is told, and asks again.
            reason = (
                refusal_from(error).message if isinstance(error, ValidationError) else type(error).__name__
            )
            log().error("reply_unreadable", machine_id=machine_id, reason=reason)
            outcome = Refusal(Code.INTERNAL, "the machine's reply could not be read")
        if pending is not None:
            settle(pending, outcome)

    async def _reject(self, message: Message, reason: str) -> None:
        log().error("message_rejected", topic=message.topic, reason=reason)
        row = insert(rejected).values(
            topic=message.topic,
            payload=message.payload.decode("utf-8", "replace").replace("\0", "\ufffd"),
            reason=reason,
            received_s=self._clock(),
        )
        await self._store.write(lambda db: db.execute(row))
