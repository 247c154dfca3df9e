"""After an operator's word on twins the journal of the right machine decides, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import select

from cloud_gateway.db.store import Store, find_reservation
from cloud_gateway.db.tables import events, rejected, webhooks
from cloud_gateway.events import audit
from cloud_gateway.events.projection import put_view
from cloud_gateway.events.sync import Asking, Taken, begin_asking, progress_of, start_request, take_page
from cloud_gateway.events.twins import Twins
from cloud_gateway.machines.message_validation import ReceivedEvent, SyncPage
from edge_agent.protocol.events import EventType, Online
from tests.cloud_gateway.events.test_projection import NOW_S, view
from tests.cloud_gateway.events.test_sequence import _page as page_of
from tests.cloud_gateway.events.test_sequence import applied, asked_for, life, opened, received, take, url

__all__ = ["url"]


def strange(kind: EventType, number: int) -> ReceivedEvent:
    """An event of the other machine under a number of the same journal."""
    return received(kind, number, idempotency_key=f"other-{number}")


def born(run: str) -> Online:
    """A live birth."""
    return Online(online=True, boot_id="b", agent_version="1", at="now", instance="board/j1", run=run)


async def found(store: Store) -> Twins:
    """Twins that this gateway has found."""
    twins = Twins(store, lambda: NOW_S)
    for run in ("run-a", "run-b", "run-a"):
        await twins.take_online("m1", born(run), retained=False)
    assert await twins.has_unresolved("m1")
    return twins


async def ask(store: Store, batch: list[ReceivedEvent], last: int, views: list[Any] | None) -> Taken:
    """One round of `sync`: the machine answers with these events."""
    start = await store.write(lambda db: start_request(db, "m1", 0.0))
    page: SyncPage = page_of([one for one in batch if one.number.sequence >= start], last, views)
    return await store.write(lambda db: take_page(db, "m1", page, start, NOW_S, NOW_S, asked_for))


async def states(store: Store) -> dict[str, str]:
    """State of every stored event by its key."""
    query = select(events.c.idempotency_key, events.c.state)
    return {row[0]: row[1] for row in await store.read(lambda db: db.execute(query).all())}


async def reasons(store: Store) -> dict[str, str]:
    """Why events were put aside, by their key."""
    query = select(rejected.c.payload, rejected.c.reason)
    rows = await store.read(lambda db: db.execute(query).all())
    return {json.loads(row[0])["idempotency_key"]: row[1] for row in rows}


async def test_w21_the_journal_of_the_right_machine_replaces_what_the_other_one_sent(url: str) -> None:
    async with opened(url) as store:
        created, dropped_off, _ = ours = life()
        await take(store, created)
        await store.write(lambda db: put_view(db, view(), NOW_S, up_to_date=True))
        await take(store, strange(EventType.PICKUP, 2))
        twins = await found(store)
        assert await take(store, dropped_off) == 0
        assert await applied(store) == 2
        assert await twins.release("m1")
        while not (taken := await ask(store, ours[:2], 2, [view("DROPPED_OFF")])).last:
            pass
        assert taken.missing == ()
        assert await reasons(store) == {"other-2": audit.NOT_OURS}
        assert set((await states(store)).values()) == {"applied"}
        row = await store.read(lambda db: find_reservation(db, "res_1"))
        assert row is not None
        assert (row.status, row.picked_up_s) == ("RESERVATION_STATUS_DROPPED_OFF", None)
        bodies = await store.read(lambda db: db.execute(select(webhooks.c.body)).scalars().all())
        assert [json.loads(body)["event_type"] for body in bodies][-1] == "EVENT_TYPE_DROPOFF"
        assert await take(store, received(EventType.PICKUP, 3)) == 1


async def test_w21_nothing_is_applied_or_asked_before_the_operator_decides(url: str) -> None:
    async with opened(url) as store:
        created, dropped_off, picked_up = life()
        await take(store, created)
        await found(store)
        assert await take(store, strange(EventType.PICKUP, 2), dropped_off, picked_up) == 0
        assert await take(store, dropped_off) == 0  # again, over another gateway
        assert sorted((await states(store)).values()) == ["applied", "suspected", "suspected", "suspected"]
        begun = await store.write(lambda db: begin_asking(db, "m1", NOW_S, 10.0, NOW_S))
        assert begun is Asking.BUSY
        page = page_of([created, dropped_off], 2, [])
        assert await store.write(lambda db: take_page(db, "m1", page, 1, NOW_S, NOW_S, asked_for)) == Taken(
            0, last=True
        )
        assert await applied(store) == 1


async def test_w21_events_that_come_while_the_journal_is_compared_are_compared_too(url: str) -> None:
    async with opened(url) as store:
        created, dropped_off, picked_up = ours = life()
        await take(store, created)
        twins = await found(store)
        await take(store, strange(EventType.PICKUP, 2))
        await twins.release("m1")
        assert (await store.read(progress_of))["m1"].waiting
        assert not (await ask(store, ours, 2, [])).last  # it names its journal
        start = await store.write(lambda db: start_request(db, "m1", 0.0))
        await take(store, picked_up)
        page = page_of([created, dropped_off], 2, [])
        taken = await store.write(lambda db: take_page(db, "m1", page, start, NOW_S, NOW_S, asked_for))
        assert not taken.last
        assert (await ask(store, ours, 3, [])).last
        assert await applied(store) == 3
        assert set((await states(store)).values()) == {"applied"}
        assert await reasons(store) == {"other-2": audit.NOT_OURS}
        assert not (await store.read(progress_of))


async def test_w21_a_machine_without_sync_goes_on_with_the_events_received(url: str) -> None:
    async with opened(url) as store:
        created, dropped_off, _ = life()
        await take(store, created)
        twins = await found(store)
        await take(store, dropped_off, strange(EventType.PICKUP, 2))
        await twins.release("m1")
        assert await store.write(lambda db: audit.skip(db, "m1", NOW_S)) == 1
        assert await applied(store) == 2
        assert await reasons(store) == {"other-2": audit.NOT_OURS}


async def test_w21_another_gateway_follows_the_operator_s_decision(tmp_path: Path, postgres: Any) -> None:
    url = postgres.database()
    async with opened(url) as one_store, opened(url) as two_store:
        one, two = await found(one_store), Twins(two_store, lambda: NOW_S + 1)
        assert await two.has_unresolved("m1")
        for run in ("run-a", "run-b", "run-c"):
            await two.take_online("m1", born(run), retained=False)
        assert await one.release("m1")
        assert not await two.has_unresolved("m1")
        # What it had heard before the operator's word proves nothing any more.
        await two.take_online("m1", born("run-a"), retained=False)
        assert not await two.has_unresolved("m1")
        assert not await two.release("m1")
        await two.take_online("m1", born("run-c"), retained=False)
        assert await one.has_unresolved("m1")
        assert await two.release("m1")
        assert not await one.has_unresolved("m1")
