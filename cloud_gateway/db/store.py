"""The gateway's database: the engine, its transactions, and the queries of the projection.

SQLAlchemy is used synchronously in a few threads: its asyncio extension needs greenlet, which is not among
the pinned packages, and an asynchronous driver for SQLite would use a thread as well. SQLite has one writer
at a time; PostgreSQL has several, in this process and in others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Insert,
    Table,
    and_,
    bindparam,
    create_engine,
    event,
    func,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)

from cloud_gateway.db import migrations
from cloud_gateway.db.group_commit import GroupCommit
from cloud_gateway.db.tables import machines, reservations
from cloud_gateway.logs import error_fields, log
from cloud_gateway.value_bounds import OutOfBounds, check, read_json
from edge_agent.model import ReservationStatus
from edge_agent.protocol.api import Machine

READERS = 3
WRITERS = 4
"""On PostgreSQL; SQLite has one."""
TRANSACTION_TRIES = 5
"""How often a transaction is tried in all, if it conflicts with others."""
OPEN_WITHIN_S = 30.0
OPEN_PAUSE_S = 0.5
LIBPQ_SETTINGS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""libpq's settings: a server that is silent for half a minute counts as gone (seconds; the last one
milliseconds)."""
CONFLICTS = frozenset({"40001", "40P01"})
"""SQLSTATE of a serialization failure and of a deadlock."""
OF_THE_DATA = ("22", "54")
"""Classes of SQLSTATE: wrong data, and too much of it."""

DATABASE_GONE = (OperationalError, InterfaceError, InternalError)
"""Errors of the database itself, not of the data: the same write may be retried later."""

UNUSABLE = (ValueError, OverflowError, DataError)
"""Errors of the data: a retry gives the same error."""

STORED_MAX = 4 * 1024 * 1024
"""The largest stored state, in bytes, that is read."""

SHOWN_KEPT = 256
"""How many machines' states are kept parsed."""

FINISHED = (ReservationStatus.CANCELLED.value, ReservationStatus.ABANDONED.value)


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ReservationRow:
    """One row of the projection; see `tables.reservations`."""

    position: int
    reservation_id: str
    details_known: bool
    machine_id: str
    platform: str
    platform_order_id: str
    notes: str
    webhook_url: str
    status: str
    created_s: int
    cell_label: str | None
    drop_off_code: str
    pickup_code: str
    grace_pickup_s: int
    dropped_off_s: int | None
    picked_up_s: int | None
    grace_from_s: float | None
    completed: bool
    learned_s: float
    ended_s: float | None
    unknown_s: float | None
    needs: str | None = None


# The columns in the order of `ReservationRow`. Statements are built once: that costs more than to run them.
_COLUMNS = [reservations.c[field.name] for field in fields(ReservationRow)]
_MACHINE = select(machines.c.document).where(machines.c.machine_id == bindparam("id"))
_RESERVATION = select(*_COLUMNS).where(reservations.c.reservation_id == bindparam("id"))
_RESERVATIONS = select(*_COLUMNS).where(reservations.c.reservation_id.in_(bindparam("ids", expanding=True)))


class Store:
    """Owns the engine. A write is one transaction in a thread of its own; reads see every finished write."""

    def __init__(self, database_url: str) -> None:
        self._engine, self.writers = _engine(database_url)
        self.shared = self.writers > 1  # perhaps with other gateways
        self._writer = ThreadPoolExecutor(self.writers, "gateway-db-write")
        self._group = None if self.shared else GroupCommit(self._engine, self._writer, self._run_alone)
        self._readers = ThreadPoolExecutor(READERS, "gateway-db-read")

    async def open(self) -> None:
        """Migrates the tables to their present shape; waits half a minute for a database that is not
        available yet.

        Raises SQLAlchemy's errors.
        """
        end_s = asyncio.get_running_loop().time() + OPEN_WITHIN_S
        while True:
            try:
                await self.write(migrations.upgrade)
                return
            except OperationalError as error:
                if asyncio.get_running_loop().time() > end_s:
                    raise
                log().error("database_failed", **error_fields(error))
            await asyncio.sleep(OPEN_PAUSE_S)

    async def close(self) -> None:
        """Waits for transactions under way, then closes every connection."""

        if self._group is not None:
            self._group.start()

        def end() -> None:
            self._writer.shutdown()
            self._readers.shutdown()
            self._engine.dispose()

        await asyncio.to_thread(end)

    @property
    def writes_waiting(self) -> int:
        """How many writes wait for a thread."""
        return self._writer._work_queue.qsize() if self._group is None else len(self._group)

    @property
    def reads_waiting(self) -> int:
        """How many reads wait for a thread."""
        return self._readers._work_queue.qsize()

    async def write(self, work: Callable[[Connection], Result], *, urgent: bool = True) -> Result:
        """Runs `work` in one transaction: committed when this returns, undone by an error. With one writer,
        works that wait share a transaction (`group_commit`). `urgent`: a client waits for it.

        After a conflict with another transaction it is undone and `work` runs again. Once begun it runs to
        its end, even if the caller is cancelled.
        """

        if self._group is not None:
            result: Result = await self._group.write(work, urgent=urgent)
            return result
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._run_alone, work)

    def _run_alone(self, work: Callable[[Connection], Result]) -> Result:
        """Runs a work in one transaction; again after a conflict."""

        def try_once() -> Result:
            with self._engine.connect().execution_options(writes=True) as db, db.begin():
                return work(db)

        for _ in range(TRANSACTION_TRIES - 1):
            try:
                return try_once()
            except DBAPIError as error:
                if not _is_conflict(error):
                    raise
        return try_once()

    async def scrub(self) -> None:
        """Leaves nothing of what was overwritten in SQLite's files: its log is written back and emptied. On
        PostgreSQL the next vacuum does that."""
        if self.shared:
            return

        def work() -> None:
            with self._engine.connect() as db:
                connection = db.connection.driver_connection
                assert connection is not None
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Runs `work`, which only reads."""

        def run() -> Result:
            with self._engine.connect() as db:
                return work(db)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def machine(self, machine_id: str) -> Machine | None:
        """A machine's last published state; None also if that cannot be shown."""
        return await self.read(lambda db: find_machine(db, machine_id))

    async def machine_ids(self) -> list[str]:
        """The id of every machine that ever published its state."""
        return await self.read(lambda db: list(db.execute(select(machines.c.machine_id)).scalars()))

    async def all_machines(self) -> list[Machine]:
        """Every machine that ever published its state; without those whose state cannot be shown."""
        query = select(machines.c.machine_id, machines.c.document)
        rows = await self.read(lambda db: db.execute(query).all())
        found = (shown_machine(row.machine_id, row.document) for row in rows)
        return [machine for machine in found if machine is not None]

    async def reservation(self, reservation_id: str) -> ReservationRow | None:
        """A reservation whose platform and codes are known; None if there is none, or it is known from events
        only."""
        row = await self.read(lambda db: find_reservation(db, reservation_id))
        return row if row is not None and row.details_known else None

    async def reservation_and_machine(
        self, reservation_id: str
    ) -> tuple[ReservationRow | None, Machine | None]:
        """`reservation` and its `machine`, in one go."""

        def work(db: Connection) -> tuple[ReservationRow | None, Machine | None]:
            row = find_reservation(db, reservation_id)
            if row is None or not row.details_known:
                return None, None
            return row, find_machine(db, row.machine_id)

        return await self.read(work)

    async def ongoing(
        self,
        platform: str,
        *,
        now_s: float,
        page_size: int,
        after: tuple[int, int] | None,
        created_after_s: int | None,
    ) -> tuple[list[ReservationRow], int]:
        """At most `page_size` ongoing reservations of a platform after the cursor `after`, oldest first, and
        their total number."""
        wanted = and_(reservations.c.platform == platform, is_ongoing(now_s))
        if created_after_s is not None:
            wanted = and_(wanted, reservations.c.created_s > created_after_s)
        page = wanted
        if after is not None:
            created_s, position = after
            same = and_(reservations.c.created_s == created_s, reservations.c.position > position)
            page = and_(page, or_(reservations.c.created_s > created_s, same))
        query = select(*_COLUMNS).where(page)
        query = query.order_by(reservations.c.created_s, reservations.c.position).limit(page_size)
        total = select(func.count()).where(wanted)

        def work(db: Connection) -> tuple[list[ReservationRow], int]:
            return [_row(row) for row in db.execute(query)], db.execute(total).scalar_one()

        return await self.read(work)


def find_machine(db: Connection, machine_id: str) -> Machine | None:
    """A machine's last published state; None also if that cannot be shown."""
    document = db.execute(_MACHINE, {"id": machine_id}).scalar_one_or_none()
    return None if document is None else _shown(machine_id, document)


@lru_cache(maxsize=SHOWN_KEPT)
def _shown(machine_id: str, document: str) -> Machine | None:
    """`shown_machine`, read once for each document: one of 24 cells takes milliseconds."""
    return shown_machine(machine_id, document)


def shown_machine(machine_id: str, document: str) -> Machine | None:
    """A stored machine; None, with a log line, for one that an earlier version of ours stored and that cannot
    be shown."""
    try:
        machine = Machine.model_validate(read_json(document.encode(), STORED_MAX))
        check(machine)
        if machine.machine_id != machine_id:
            raise OutOfBounds("machine_id: another machine's")
    except ValueError as error:
        log().error("machine_not_shown", machine_id=machine_id, **error_fields(error))
        return None
    return machine


def find_reservation(db: Connection, reservation_id: str) -> ReservationRow | None:
    """One reservation, its details known or not, as this transaction sees it."""
    row = db.execute(_RESERVATION, {"id": reservation_id}).one_or_none()
    return None if row is None else _row(row)


def find_reservations(db: Connection, reservation_ids: Collection[str]) -> dict[str, ReservationRow]:
    """Those of some reservations that exist, by their ids, as this transaction sees them."""
    if not reservation_ids:
        return {}
    found = db.execute(_RESERVATIONS, {"ids": list(reservation_ids)})
    return {row.reservation_id: row for row in map(_row, found)}


def insert_once(db: Connection, table: Table, values: dict[str, Any]) -> bool:
    """Inserts a row unless one with the same key exists; returns whether it was inserted.

    On PostgreSQL it waits for another transaction that is about to insert the same.
    """
    return db.execute(_insert_once(db.dialect.name, table), values).rowcount == 1


@cache
def _insert_once(dialect: str, table: Table) -> Insert:
    make = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return make(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def is_ongoing(now_s: float) -> ColumnElement[bool]:
    """The reference's rule: not finished, or picked up and within the pick-up grace."""
    in_grace = and_(
        reservations.c.completed.is_(False),
        reservations.c.grace_from_s + reservations.c.grace_pickup_s >= now_s,
    )
    return and_(
        reservations.c.details_known.is_(True),
        reservations.c.ended_s.is_(None),  # implied by the other conditions, but an index uses it
        reservations.c.status.not_in(FINISHED),
        or_(reservations.c.status != ReservationStatus.PICKED_UP.value, in_grace),
    )


def _row(row: Any) -> ReservationRow:
    return ReservationRow(*row)


def _engine(database_url: str) -> tuple[Engine, int]:
    """The engine, and the number of writers."""
    # hide_parameters: a database error must not carry codes into a log.
    if not database_url.startswith("sqlite"):
        size = WRITERS + READERS
        engine = create_engine(
            database_url,
            hide_parameters=True,
            pool_size=size,
            max_overflow=0,
            pool_pre_ping=True,  # a connection that broke meanwhile is replaced
            connect_args=LIBPQ_SETTINGS if "psycopg" in database_url.split(":", 1)[0] else {},
        )
        event.listen(engine, "handle_error", _as_data_error)
        return engine, WRITERS
    engine = create_engine(database_url, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine, 1


def _is_conflict(error: DBAPIError) -> bool:
    """Whether the transaction failed only because of a conflict with another one."""
    return isinstance(error, IntegrityError) or getattr(error.orig, "sqlstate", None) in CONFLICTS


def _as_data_error(context: ExceptionContext) -> DataError | None:
    """The driver reports a value too big for an index as an operational error; a retry gives the same."""
    error = context.original_exception
    if not (getattr(error, "sqlstate", None) or "").startswith(OF_THE_DATA):
        return None
    return DataError(context.statement, None, error, hide_parameters=True)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would begin its transactions too late for a savepoint: `_begin_sqlite` does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "secure_delete=FAST"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(db: Connection) -> None:
    # A writing transaction locks at its start; otherwise it may find the database locked half-way.
    writes = db.get_execution_options().get("writes", False)
    db.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
