"""A message is acknowledged when its effect is committed, and not before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import OperationalError

from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import events, rejected
from cloud_gateway.events.intake import Intake
from cloud_gateway.machines.commands import MachineCommands
from cloud_gateway.machines.message_validation import OVERHEAD_BYTES, MachineAccounts
from edge_agent.mqtt.messages import Received
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.events.test_projection import event
from tests.cloud_gateway.support import QUICK, eventually
from tests.support.postgres import Postgres

Result = TypeVar("Result")


class FullDisk(Store):
    """A store that cannot be written for a while."""

    failures = 0

    async def write(self, work: Callable[[Connection], Result], *, urgent: bool = True) -> Result:
        """Fails as a full disk does, while the test asks for it."""
        if self.failures:
            self.failures -= 1
            raise OperationalError("INSERT", None, Exception("database or disk is full"))
        return await super().write(work, urgent=urgent)


class Link:
    """What the intake needs of a link, and how many events were stored at each acknowledgement."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.acknowledged: list[tuple[int, int]] = []

    def is_current(self, _message: Received) -> bool:
        """Always."""
        return True

    def acknowledge(self, message: Received) -> None:
        """Looks into the database first."""
        with self._store._engine.connect() as db:
            count = db.execute(select(func.count()).select_from(events)).scalar_one()
        self.acknowledged.append((message.mid, count))


async def test_events_are_acknowledged_after_the_commit_also_when_the_disk_was_full(tmp_path: Path) -> None:
    store = FullDisk(f"sqlite:///{tmp_path}/gateway.db")
    await store.open()
    link: Any = Link(store)
    intake = Intake(
        store, MachineCommands("test", QUICK, lambda: 0.0, link), QUICK, lambda: 0.0, lambda: None
    )
    store.failures = 3
    working = asyncio.create_task(intake.run(link))
    try:
        for number in (1, 2):
            payload = event(EventType.DROPOFF, number).model_dump_json(exclude_none=True).encode()
            intake.put(Received("locker/v1/m1/evt", payload, None, 1, number, 1))
        await eventually(lambda: len(link.acknowledged) == 2)
        assert link.acknowledged == [(1, 2), (2, 2)]  # what waits together is committed together
        assert store.failures == 0
    finally:
        working.cancel()
        await asyncio.wait([working])
        await store.close()


async def test_an_event_is_charged_to_its_quota_once_however_often_it_is_stored(tmp_path: Path) -> None:
    store = FullDisk(f"sqlite:///{tmp_path}/gateway.db")
    await store.open()
    link: Any = Link(store)
    payloads = [event(EventType.DROPOFF, n).model_dump_json(exclude_none=True).encode() for n in (1, 2)]
    accounts = MachineAccounts(lambda: 0.0, sum(len(payload) + OVERHEAD_BYTES for payload in payloads))
    commands = MachineCommands("test", QUICK, lambda: 0.0, link)
    intake = Intake(store, commands, QUICK, lambda: 0.0, lambda: None, accounts=accounts)
    store.failures = 3
    working = asyncio.create_task(intake.run(link))
    try:
        for number, payload in enumerate(payloads, 1):
            intake.put(Received("locker/v1/m1/evt", payload, None, 1, number, 1))
        await eventually(lambda: len(link.acknowledged) == 2)
        assert link.acknowledged[-1] == (2, 2)
        assert accounts.rejected("m1") == 0
        assert not accounts.take_quota("m1", [0])
    finally:
        working.cancel()
        await asyncio.wait([working])
        await store.close()


async def test_an_event_with_a_key_that_fits_no_index_blocks_nothing(postgres: Postgres) -> None:
    store = Store(postgres.database())
    await store.open()
    link: Any = Link(store)
    intake = Intake(
        store, MachineCommands("test", QUICK, lambda: 0.0, link), QUICK, lambda: 0.0, lambda: None
    )
    working = asyncio.create_task(intake.run(link))
    dice = random.Random("key")
    big = "".join(chr(dice.randint(0x4E00, 0x9FFF)) for _ in range(1024))
    keys: tuple[dict[str, Any], ...] = (
        {"idempotency_key": big},
        {"journal_id": big},
        {"reservation_id": big},
        {},
    )
    try:
        for number, changes in enumerate(keys, 1):
            sequence = max(1, number - 2)  # the first two cannot be counted
            payload = (
                event(EventType.DROPOFF, sequence, **changes).model_dump_json(exclude_none=True).encode()
            )
            intake.put(Received("locker/v1/m1/evt", payload, None, 1, number, 1))
        await eventually(lambda: len(link.acknowledged) == 4)
        assert [mid for mid, _ in link.acknowledged] == [1, 2, 3, 4]
        count = select(func.count()).select_from(rejected)
        assert await store.read(lambda db: db.execute(count).scalar_one()) == 3
        states = select(events.c.state).order_by(events.c.position)
        assert await store.read(lambda db: db.execute(states).scalars().all()) == ["rejected", "applied"]
    finally:
        working.cancel()
        await asyncio.wait([working])
        await store.close()
