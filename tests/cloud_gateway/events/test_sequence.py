"""Events in the order of their machine, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import DataError

from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import counts, events, machines, rejected, reservations, webhooks
from cloud_gateway.events.projection import put_view
from cloud_gateway.events.sequence import skip_to_first_held, take_events
from cloud_gateway.events.sync import Taken, progress_of, take_page
from cloud_gateway.machines.message_validation import ReceivedEvent, SyncPage, read_event
from edge_agent.protocol.api import ReservationView, rfc3339
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.events.test_projection import NOW_S, event, view
from tests.support.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/gateway.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """A store."""
    store = Store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def received(kind: EventType, number: int, **changes: Any) -> ReceivedEvent:
    """An event as it comes over the broker."""
    payload = event(kind, number, **changes).model_dump_json(exclude_none=True)
    return read_event(changes.get("machine_id", "m1"), payload.encode())


def asked_for(_view: ReservationView) -> bool:
    """What seals say of a reservation that a platform asked for."""
    return True


def life(first: int = 1, **changes: Any) -> list[ReceivedEvent]:
    """One reservation's events."""
    kinds = (EventType.RESERVATION_CREATED, EventType.DROPOFF, EventType.PICKUP)
    return [received(kind, first + n, **changes) for n, kind in enumerate(kinds)]


async def take(store: Store, *batch: ReceivedEvent) -> int:
    """Takes events in one transaction."""
    return await store.write(lambda db: take_events(db, batch, NOW_S))


async def column(store: Store, what: Any) -> list[Any]:
    """A column, oldest first."""
    query = select(what).order_by(what.table.c.position)
    return list(await store.read(lambda db: db.execute(query).scalars().all()))


async def queued(store: Store) -> list[str]:
    """The types of the queued webhooks in their order."""
    bodies = await column(store, webhooks.c.body)
    return [json.loads(body)["event_type"].removeprefix("EVENT_TYPE_") for body in bodies]


async def applied(store: Store, machine_id: str = "m1") -> int | None:
    """How far the machine's present journal is applied."""
    found = await store.read(lambda db: progress_of(db, [machine_id]))
    return found[machine_id].applied


async def test_any_order_and_repeats_are_applied_in_order_and_once(url: str) -> None:
    async with opened(url) as store:
        await store.write(lambda db: put_view(db, view(), NOW_S, up_to_date=True))
        for number in range(20):
            batch = life() * 2
            random.Random(number).shuffle(batch)
            sizes = random.Random(-number)
            while batch:
                size = sizes.randint(1, 3)
                await take(store, *batch[:size])
                del batch[:size]
        assert await queued(store) == ["DROPOFF", "PICKUP"]
        assert await column(store, events.c.state) == ["applied"] * 3
        assert await applied(store) == 3
        assert await column(store, rejected.c.reason) == []


async def test_nothing_is_applied_over_a_gap(url: str) -> None:
    async with opened(url) as store:
        one, two, three = life()
        assert await take(store, three) == 0
        assert await take(store, one) == 1
        assert await queued(store) == []
        assert await take(store, two) == 2
        assert await queued(store) == ["DROPOFF", "PICKUP"]


async def test_a_first_event_that_is_not_the_machines_first_waits(url: str) -> None:
    async with opened(url) as store:
        assert await take(store, *life(5)) == 0
        assert await applied(store) is None
        # A machine that does not have the earlier events: from the first one held.
        assert await store.write(lambda db: skip_to_first_held(db, "m1", NOW_S)) == 3
        assert await applied(store) == 7
        assert await take(store, received(EventType.PICKUP, 4)) == 0
        assert await column(store, rejected.c.reason) == [
            "another event has its number, or a later one was applied"
        ]


async def test_an_unreadable_or_inapplicable_event_blocks_nothing(url: str) -> None:
    async with opened(url) as store:
        one, two, three = life()
        bad = json.loads(two.payload) | {"platform_order_id": None}
        new = json.loads(three.payload) | {"event_type": "EVENT_TYPE_NEW", "idempotency_key": "k"}
        last = received(EventType.PICKUP, 4)
        assert await take(store, last, _raw(new), _raw(bad)) == 0
        assert await take(store, one) == 2
        assert await queued(store) == ["PICKUP"]
        states = await store.read(
            lambda db: dict(db.execute(select(events.c.sequence, events.c.state)).all())
        )
        assert states == {1: "applied", 2: "rejected", 3: "rejected", 4: "applied"}
        assert len(await column(store, rejected.c.reason)) == 2
        status = await column(store, reservations.c.status)
        assert status == ["RESERVATION_STATUS_PICKED_UP"]


async def test_an_unreadable_event_of_sync_hides_no_other(url: str) -> None:
    async with opened(url) as store:
        good = json.loads(received(EventType.DROPOFF, 2, journal_id="j1").payload)
        huge = json.loads(received(EventType.PICKUP, 3, journal_id="j1").payload)
        huge["event_time_unix_timestamp"] = 10**30
        page = SyncPage(
            journal_id="j1",
            oldest_sequence=1,
            last_sequence=3,
            events=[{"sequence": "one"}, {"x": "\ud800"}, good, huge],
            reservations=[{"reservation_id": "res_9"}, view().model_dump(mode="json")],
        )
        taken = await _take_page(store, page, 1)
        assert (taken.applied, taken.last) == (1, True)
        assert await applied(store) == 3
        assert len(await column(store, rejected.c.reason)) == 3
        row = await store.reservation("res_1")
        assert row is not None
        assert row.status == "RESERVATION_STATUS_DROPPED_OFF"


@pytest.mark.parametrize("name", ["idempotency_key", "journal_id"])
@pytest.mark.parametrize("key", ["k" * 201, "schlüssel", "a\tb", "a\n", ""])
def test_a_key_that_fits_no_index_cannot_be_counted(name: str, key: str) -> None:
    good = json.loads(received(EventType.DROPOFF, 1).payload)
    assert _raw(good | {name: "~ " * 100}).number
    with pytest.raises(ValueError, match=name):
        _raw(good | {name: key})


async def test_values_too_long_for_an_index_are_set_aside(postgres: Postgres) -> None:
    dice = random.Random("big")
    big = "".join(chr(dice.randint(0x4E00, 0x9FFF)) for _ in range(1024))
    async with opened(postgres.database()) as store:
        one, two = received(EventType.DROPOFF, 1, reservation_id=big), received(EventType.DROPOFF, 2)
        assert await take(store, one, two) == 1
        assert await column(store, events.c.state) == ["rejected", "applied"]
        row = {"machine_id": big, "document": "", "updated_s": 0.0}
        with pytest.raises(DataError):
            await store.write(lambda db: db.execute(insert(machines).values(row)))


async def test_a_new_journal_counts_from_one_and_the_old_one_continues(url: str) -> None:
    async with opened(url) as store:
        await take(store, *life(journal_id="j1"))
        fresh = [
            received(kind, n, journal_id="j2", idempotency_key=f"new_{n}", reservation_id="res_2")
            for n, kind in enumerate((EventType.RESERVATION_CREATED, EventType.DROPOFF), 1)
        ]
        assert await take(store, *fresh) == 2
        assert await applied(store) == 2
        late = received(EventType.PICKUP_FAILED, 4, journal_id="j1")
        assert await take(store, late) == 1  # came late; the present journal is still the new one
        assert await applied(store) == 2
        assert await take(store, received(EventType.PICKUP, 3, idempotency_key="new_3")) == 1
        assert await applied(store) == 3


async def test_a_journal_that_gets_a_name_is_the_same_one(url: str) -> None:
    async with opened(url) as store:
        await take(store, *life()[:2])
        named = [
            received(EventType.DROPOFF, 2, journal_id="j1"),
            received(EventType.PICKUP, 3, journal_id="j1"),
        ]
        assert await take(store, *named) == 1
        assert await queued(store) == ["DROPOFF", "PICKUP"]
        rows = await store.read(lambda db: [tuple(row) for row in db.execute(select(counts))])
        assert rows == [("m1", "j1", 3)]


async def test_a_page_fills_the_gap_and_repairs_the_projection(url: str) -> None:
    async with opened(url) as store:
        one, _, three = life(journal_id="j1")
        await take(store, one, three)
        page = _page(
            [received(EventType.DROPOFF, 2, journal_id="j1"), three],
            3,
            [view("PICKED_UP", picked_up_at=rfc3339(NOW_S))],
        )
        taken = await _take_page(store, page, 2)
        assert (taken.applied, taken.last, taken.missing) == (2, True, ())
        assert await queued(store) == ["DROPOFF", "PICKUP"]
        row = await store.reservation("res_1")
        assert row is not None
        assert (row.status, row.drop_off_code) == ("RESERVATION_STATUS_PICKED_UP", "1234")


async def test_events_the_machine_no_longer_has_are_skipped(url: str) -> None:
    async with opened(url) as store:
        await take(store, received(EventType.RESERVATION_CREATED, 1, journal_id="j1"))
        page = _page([received(EventType.PICKUP, 9, journal_id="j1")], 9, [], oldest=9)
        assert (await _take_page(store, page, 2)).applied == 1
        assert await applied(store) == 9
        assert await queued(store) == ["PICKUP"]


async def test_a_lost_database_is_rebuilt_page_by_page(url: str) -> None:
    async with opened(url) as store:
        everything = [
            received(EventType.CELL_STATUS_CHANGED, n, journal_id="j1", reservation_id=None)
            for n in range(1, 251)
        ]
        pages = 0
        while True:
            start = (await applied(store) or 0) + 1
            part = everything[start - 1 : start + 99]
            last = start + len(part) > 250
            taken = await _take_page(store, _page(part, 250, [view()] if last else None), start)
            pages += 1
            if taken.last:
                break
        assert (pages, await applied(store)) == (3, 250)
        row = await store.reservation("res_1")
        assert row is not None
        assert row.pickup_code == "5678"


async def test_a_reservation_that_the_machine_does_not_hold_is_asked_for(url: str) -> None:
    async with opened(url) as store:
        for number in (1, 2):
            known = view(reservation_id=f"res_{number}")
            await store.write(lambda db, known=known: put_view(db, known, NOW_S, up_to_date=True))  # type: ignore[misc]
        taken = await _take_page(store, _page([], 0, [view(reservation_id="res_2")]), 1, now_s=NOW_S + 10)
        assert taken.missing == ("res_1",)


async def test_a_page_of_a_new_journal_is_requested_again(url: str) -> None:
    async with opened(url) as store:
        await take(store, *life(journal_id="j1"))
        taken = await _take_page(store, _page([], 1, [], journal="j2"), 4)
        assert not taken.last
        assert await applied(store) is None
        fresh = received(EventType.DROPOFF, 1, journal_id="j2", idempotency_key="new")
        assert (await _take_page(store, _page([fresh], 1, [], journal="j2"), 1)).last
        assert await applied(store) == 1


async def test_a_number_that_was_never_the_journals_is_free_again(url: str) -> None:
    async with opened(url) as store:
        await store.write(lambda db: put_view(db, view(), NOW_S, up_to_date=True))
        await take(store, received(EventType.RESERVATION_CREATED, 1, journal_id="j1"))
        await take(store, received(EventType.PICKUP, 3, journal_id="j1", idempotency_key="forged"))
        await _take_page(store, _page([], 1, [view()]), 2, now_s=NOW_S + 60)
        assert await column(store, rejected.c.reason) == [
            "its number is beyond the end of the machine's journal"
        ]
        real = [
            received(EventType.DROPOFF, 2, journal_id="j1"),
            received(EventType.PICKUP, 3, journal_id="j1"),
        ]
        assert await take(store, *real) == 2
        assert await queued(store) == ["DROPOFF", "PICKUP"]
        assert await applied(store) == 3


async def test_many_that_wait_are_applied_at_once(url: str) -> None:
    async with opened(url) as store:
        many = [
            received(EventType.OPEN_DOOR_FULFILLED, number, reservation_id="res_1")
            for number in range(2, 502)
        ]
        random.Random("many").shuffle(many)
        for start in range(0, 500, 50):
            assert await take(store, *many[start : start + 50]) == 0
        last = received(EventType.OPEN_DOOR_FULFILLED, 502, reservation_id="res_1")
        assert await take(store, last, received(EventType.RESERVATION_CREATED, 1)) == 502
        bodies = [json.loads(body) for body in await column(store, webhooks.c.body)]
        assert [body["idempotency_key"] for body in bodies] == [f"idem_{n}" for n in range(2, 503)]
        assert await applied(store) == 502


async def test_events_waiting_in_a_lost_journal_stop_waiting(url: str) -> None:
    async with opened(url) as store:
        await store.write(lambda db: put_view(db, view(), NOW_S, up_to_date=True))
        await take(store, received(EventType.RESERVATION_CREATED, 1, journal_id="j1"))
        await take(store, received(EventType.PICKUP, 3, journal_id="j1"))
        fresh = received(
            EventType.CELL_STATUS_CHANGED, 1, journal_id="j2", idempotency_key="new", reservation_id=None
        )
        await take(store, fresh)
        page = _page([], 1, [], journal="j2")
        await _take_page(store, page, 2, now_s=NOW_S + 1)
        assert await queued(store) == []  # it came just now; what is before it may be on its way
        taken = await _take_page(store, page, 2, now_s=NOW_S + 60)
        assert (taken.applied, await queued(store)) == (1, ["PICKUP"])
        assert await column(store, events.c.state) == ["applied"] * 3


async def test_writers_at_once_keep_the_order_of_each_machine(postgres: Postgres) -> None:
    """Two gateways on one database, eight writers, every event sent to both, ten machines."""
    url = postgres.database()
    one, two = Store(url), Store(url)
    await one.open()
    await two.open()
    names = [f"m{n}" for n in range(10)]
    try:
        batches = []
        for name in names:
            mine = [
                received(
                    EventType.OPEN_DOOR_FULFILLED,
                    n,
                    machine_id=name,
                    idempotency_key=f"{name}-{n}",
                    reservation_id=f"r-{name}",
                )
                for n in range(1, 41)
            ]
            batches += [[item] for item in mine] + [mine[n : n + 3] for n in range(0, 40, 3)]
        dice = random.Random("writers")
        dice.shuffle(batches)
        done = await asyncio.gather(*(take(dice.choice((one, two)), *batch) for batch in batches))
        assert sum(done) == 400
        for name in names:
            assert await applied(one, name) == 40
            bodies = await one.read(lambda db, name=name: _bodies(db, f"r-{name}"))  # type: ignore[misc]
            assert [json.loads(body)["idempotency_key"] for body in bodies] == [
                f"{name}-{n}" for n in range(1, 41)
            ]
        count = select(func.count()).select_from(rejected)
        assert await one.read(lambda db: db.execute(count).scalar_one()) == 0
    finally:
        await one.close()
        await two.close()


def _bodies(db: Connection, reservation_id: str) -> list[str]:
    query = select(webhooks.c.body).where(webhooks.c.reservation_id == reservation_id)
    return list(db.execute(query.order_by(webhooks.c.position)).scalars())


def _raw(document: dict[str, Any]) -> ReceivedEvent:
    return read_event("m1", json.dumps(document).encode())


def _page(
    batch: list[ReceivedEvent], last: int, views: list[Any] | None, *, oldest: int = 1, journal: str = "j1"
) -> SyncPage:
    return SyncPage(
        journal_id=journal,
        oldest_sequence=oldest,
        last_sequence=last,
        events=[json.loads(item.payload) for item in batch],
        reservations=None if views is None else [one.model_dump(mode="json") for one in views],
    )


async def _take_page(store: Store, page: SyncPage, start: int, now_s: float = NOW_S) -> Taken:
    return await store.write(lambda db: take_page(db, "m1", page, start, now_s, now_s, asked_for))
