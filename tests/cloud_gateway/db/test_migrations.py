"""The database's history: an old one keeps its rows, and the revisions make what the code expects."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Select, and_, create_engine, func, insert, select
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from cloud_gateway.db import migrations
from cloud_gateway.db.prune import over
from cloud_gateway.db.store import Store, is_ongoing
from cloud_gateway.db.tables import (
    counts,
    events,
    metadata,
    operator_acts,
    rejected,
    reservations,
    sources,
    webhooks,
)
from cloud_gateway.events.sequence import take_events
from cloud_gateway.events.sync import incomplete
from cloud_gateway.settings import KeepSettings
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.events.test_projection import NOW_S, opened
from tests.cloud_gateway.events.test_sequence import received
from tests.support.postgres import Postgres

OLD = Path(__file__).parent / "data" / "first_version.sql"


@contextmanager
def begun(url: str) -> Iterator[Connection]:
    """A transaction on a database."""
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.begin() as db:
            yield db
    finally:
        engine.dispose()


def differences(url: str) -> list[Any]:
    """What the tables of a database lack or have too much of."""
    with begun(url) as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def old_database(folder: Path) -> str:
    """A database as the first version left it; gives its URL."""
    with closing(sqlite3.connect(folder / "gateway.db")) as db:
        db.executescript(OLD.read_text(encoding="utf-8"))
    return f"sqlite:///{folder}/gateway.db"


async def test_an_old_database_keeps_its_rows_and_its_count(tmp_path: Path) -> None:
    url = old_database(tmp_path)
    async with opened(tmp_path) as store:
        row = await store.reservation("res_1")
        assert row is not None
        assert (row.status, row.drop_off_code) == ("RESERVATION_STATUS_DROPPED_OFF", "1234")
        ended = select(reservations.c.reservation_id).where(reservations.c.ended_s.is_not(None))
        found = await store.read(lambda db: db.execute(ended).scalars().all())
        assert found == ["res_2", "res_3"]
        states = await store.read(lambda db: db.execute(select(events.c.state)).scalars().all())
        assert states == ["applied"] * 3
        (queued,) = await store.read(lambda db: db.execute(select(webhooks.c.queued_s)).scalars().all())
        assert queued == NOW_S + 3
        # The machine goes on counting where it was; only now it says by which journal.
        batch = [
            received(EventType.PICKUP, 4, journal_id="j1"),
            received(EventType.PICKUP, 3, journal_id="j1"),
        ]
        assert await store.write(lambda db: take_events(db, batch, NOW_S)) == 1
        count = await store.read(lambda db: [tuple(r) for r in db.execute(select(counts))])
        assert count == [("m1", "j1", 4)]
        assert await store.read(lambda db: db.execute(select(sources.c.journal_id)).scalar_one()) == "j1"
    assert differences(url) == []


async def test_x3_dates_that_no_clock_can_have_given_are_repaired(tmp_path: Path) -> None:
    old_database(tmp_path)
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as db, db:
        db.execute("UPDATE reservations SET created_s = 100000000000000, dropped_off_s = -62135647200")
    async with opened(tmp_path) as store:
        row = await store.reservation("res_1")
        assert row is not None
        assert (row.created_s, row.dropped_off_s) == (4_102_444_800, 0)


async def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        async with opened(tmp_path) as store:
            assert await store.reservation("res_1") is None
    assert differences(f"sqlite:///{tmp_path}/gateway.db") == []


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind with its tables."""
    made = f"sqlite:///{tmp_path}/gateway.db"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        made = server.database()
    with begun(made) as db:
        migrations.upgrade(db)
    return made


def fill(db: Connection) -> None:
    """A few thousand reservations of which some are open and a few known from events only, and events."""
    known = dict.fromkeys(("platform_order_id", "notes", "webhook_url", "drop_off_code", "pickup_code"), "")
    rows = [
        {
            **known,
            "reservation_id": f"res_{n}",
            "details_known": n % 1000 > 0,
            "machine_id": f"m{n % 50}",
            "platform": f"platform {n % 20}",
            "status": "RESERVATION_STATUS_PENDING" if n > 3000 else "RESERVATION_STATUS_CANCELLED",
            "created_s": n,
            "grace_pickup_s": 0,
            "completed": False,
            "learned_s": float(n),
            "ended_s": None if n > 3000 else float(NOW_S),
        }
        for n in range(5000)
    ]
    db.execute(insert(reservations), rows)
    event = {"event_type": "", "payload": "{}", "machine_id": "m1"}
    db.execute(
        insert(events),
        [
            {**event, "sequence": n, "idempotency_key": str(n), "received_s": float(NOW_S if n > 20 else 0)}
            for n in range(5000)
        ],
    )
    db.exec_driver_sql("ANALYZE")


def plan(db: Connection, query: Select[Any]) -> str:
    """How the database would answer a question."""
    asked = str(query.compile(db, compile_kwargs={"literal_binds": True})).replace("%%", "%")
    if db.dialect.name == "sqlite":
        return str(db.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}").all())
    return str(db.exec_driver_sql(f"EXPLAIN {asked}").all())


def test_frequent_queries_have_an_index(url: str) -> None:
    table = reservations.c
    open_ones = and_(table.platform == "platform 7", is_ongoing(NOW_S))
    page = select(table.reservation_id).where(open_ones).order_by(table.created_s, table.position)
    old = {name.name: rule for name, rule in over(KeepSettings(), NOW_S)}
    with begun(url) as db:
        fill(db)
        assert "reservations_open" in plan(db, page.limit(10))
        assert "reservations_open" in plan(db, select(func.count()).where(open_ones))
        assert "events_over" in plan(db, select(events.c.position).where(old["events"]).limit(500))
        assert "reservations_over" in plan(db, select(table.position).where(old["reservations"]).limit(500))
        asked: list[Any] = []
        listen(db, "before_execute", lambda _db, query, *_: asked.append(query))
        incomplete(db, ["m1", "m2"], NOW_S, 1000)
        assert "reservations_incomplete" in plan(db, asked[0])


def test_numbers_do_not_run_out(url: str) -> None:
    row = {"topic": "t", "payload": "p", "reason": "r", "received_s": 0.0}
    with begun(url) as db:
        db.execute(insert(rejected).values(position=2**31 - 1, **row))
        if db.dialect.name == "postgresql":
            db.exec_driver_sql("SELECT setval('rejected_position_seq', 2147483647)")
        db.execute(insert(rejected).values(row))
        found = db.execute(select(rejected.c.position).order_by(rejected.c.position)).scalars().all()
    assert found == [2**31 - 1, 2**31]


INSERT_AGAIN = "INSERT INTO operator_acts SELECT * FROM operator_acts WHERE true"
WAYS_TO_CHANGE_ACTS = {
    "sqlite": (
        "UPDATE operator_acts SET actor = 'x'",
        "DELETE FROM operator_acts",
        "REPLACE INTO operator_acts VALUES (1, 2, 'x', 'x', 'x', 'x', 'x')",
        f"{INSERT_AGAIN} ON CONFLICT DO UPDATE SET actor = 'x'",
    ),
    "postgresql": (
        "UPDATE operator_acts SET actor = 'x'",
        "DELETE FROM operator_acts",
        "TRUNCATE operator_acts",
        f"{INSERT_AGAIN} ON CONFLICT (position) DO UPDATE SET actor = 'x'",
    ),
}
"""Statements that would change the record of operators' acts."""


def test_no_statement_changes_the_record_of_acts(url: str) -> None:
    row = {"at_s": 1.0, "actor": "anna", "role": "support", "act": "a", "target": "t", "result": "done"}
    with begun(url) as db:
        db.execute(insert(operator_acts).values(row))
        db.execute(insert(operator_acts).values(row))
    for statement in WAYS_TO_CHANGE_ACTS[url.partition(":")[0].partition("+")[0]]:
        with pytest.raises(DBAPIError, match="never changed or deleted"), begun(url) as db:
            db.exec_driver_sql(statement)
    with begun(url) as db:
        found = db.execute(select(operator_acts).order_by(operator_acts.c.position)).mappings().all()
    assert [dict(one) for one in found] == [{"position": at, **row} for at in (1, 2)]


def test_revisions_and_models_agree_on_postgresql(postgres: Postgres) -> None:
    url = postgres.database()
    with begun(url) as db:
        migrations.upgrade(db)
    assert differences(url) == []


async def test_gateways_that_start_together_upgrade_once(postgres: Postgres) -> None:
    url = postgres.database()
    stores = [Store(url) for _ in range(3)]
    try:
        # Each in a process of its own would wait for the advisory lock; here threads do, one holding it.
        with begun(url) as db:
            migrations.upgrade(db)
            waiting = [threading.Thread(target=_upgrade, args=(url,)) for _ in stores]
            for thread in waiting:
                thread.start()
        for thread in waiting:
            thread.join(20)
            assert not thread.is_alive()
        for store in stores:
            await store.open()
        assert differences(url) == []
    finally:
        for store in stores:
            await store.close()


def _upgrade(url: str) -> None:
    with begun(url) as db:
        migrations.upgrade(db)


@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_every_table_of_the_models_is_made(tmp_path: Path, table: str) -> None:
    url = f"sqlite:///{tmp_path}/gateway.db"
    with begun(url) as db:
        migrations.upgrade(db)
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as file:
        assert file.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() == (1,)
