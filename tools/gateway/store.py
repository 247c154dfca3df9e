"""The gateway's database: one engine, one writer at a time, and the questions asked of the projection.

SQLAlchemy is used synchronously in a few threads: its asyncio extension needs greenlet, which is not among
the pinned packages, and a thread for SQLite is what an asynchronous driver would use as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, create_engine, event, func, or_, select

from edge_agent.model import ReservationStatus
from edge_agent.protocol.api import Machine
from tools.gateway.tables import machines, metadata, reservations, webhooks

READERS = 3
FINISHED = (ReservationStatus.CANCELLED.value, ReservationStatus.ABANDONED.value)


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ReservationRow:
    """One row of the projection; see `tables.reservations`."""

    position: int
    reservation_id: str
    complete: bool
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


@dataclass(frozen=True, slots=True)
class Due:
    """The first undelivered webhook of one reservation."""

    position: int
    reservation_id: str
    attempts: int
    next_attempt_s: float
    webhook_url: str
    platform: str


class Store:
    """Owns the engine. Writes run one after the other in their own thread; reads see every finished write."""

    def __init__(self, database_url: str) -> None:
        # hide_parameters: a database error must not carry codes into a log.
        self._engine = create_engine(database_url, hide_parameters=True)
        self._writer = ThreadPoolExecutor(1, "gateway-db-write")
        self._readers = ThreadPoolExecutor(READERS, "gateway-db-read")
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)

    async def open(self) -> None:
        """Makes the tables that are not there. Raises SQLAlchemy's errors."""
        await self.write(metadata.create_all)

    async def close(self) -> None:
        """Waits for what is under way, then closes every connection."""

        def end() -> None:
            self._writer.shutdown()
            self._readers.shutdown()
            self._engine.dispose()

        await asyncio.to_thread(end)

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Runs `work` in one transaction: committed when it returns, undone by an error.

        Once begun it goes on to its end, even if the caller is cancelled.
        """

        def run() -> Result:
            with self._engine.begin() as db:
                return work(db)

        return await asyncio.get_running_loop().run_in_executor(self._writer, run)

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Runs `work`, which only reads."""

        def run() -> Result:
            with self._engine.connect() as db:
                return work(db)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def machine(self, machine_id: str) -> Machine | None:
        """What the machine last told of itself."""
        query = select(machines.c.document).where(machines.c.machine_id == machine_id)
        document = await self.read(lambda db: db.execute(query).scalar_one_or_none())
        return None if document is None else Machine.model_validate_json(document)

    async def all_machines(self) -> list[Machine]:
        """Every machine that ever told of itself."""
        documents = await self.read(lambda db: db.execute(select(machines.c.document)).scalars().all())
        return [Machine.model_validate_json(document) for document in documents]

    async def reservation(self, reservation_id: str) -> ReservationRow | None:
        """One complete reservation."""
        row = await self.read(lambda db: find_reservation(db, reservation_id))
        return row if row is not None and row.complete else None

    async def ongoing(
        self,
        platform: str,
        *,
        now_s: float,
        page_size: int,
        after: tuple[int, int] | None,
        created_after_s: int | None,
    ) -> tuple[list[ReservationRow], int]:
        """At most `page_size` ongoing reservations of a platform after the place `after`, oldest first, and
        how many there are in all."""
        wanted = and_(reservations.c.platform == platform, is_ongoing(now_s))
        if created_after_s is not None:
            wanted = and_(wanted, reservations.c.created_s > created_after_s)
        page = wanted
        if after is not None:
            created_s, position = after
            same = and_(reservations.c.created_s == created_s, reservations.c.position > position)
            page = and_(page, or_(reservations.c.created_s > created_s, same))
        query = select(reservations).where(page)
        query = query.order_by(reservations.c.created_s, reservations.c.position).limit(page_size)
        total = select(func.count()).where(wanted)

        def work(db: Connection) -> tuple[list[ReservationRow], int]:
            return [_row(row) for row in db.execute(query)], db.execute(total).scalar_one()

        return await self.read(work)

    async def incomplete(self, before_s: float) -> Sequence[tuple[str, str]]:
        """(reservation id, machine id) of what is known from events only since before a moment."""
        query = select(reservations.c.reservation_id, reservations.c.machine_id)
        query = query.where(reservations.c.complete.is_(False), reservations.c.learned_s < before_s)
        return await self.read(lambda db: [(row.reservation_id, row.machine_id) for row in db.execute(query)])

    async def due_webhooks(self) -> list[Due]:
        """The first waiting webhook of each complete reservation, oldest first."""
        first = (
            select(func.min(webhooks.c.position).label("position"))
            .where(webhooks.c.state == "waiting")
            .group_by(webhooks.c.reservation_id)
            .subquery()
        )
        query = (
            select(
                webhooks.c.position,
                webhooks.c.reservation_id,
                webhooks.c.attempts,
                webhooks.c.next_attempt_s,
                reservations.c.webhook_url,
                reservations.c.platform,
            )
            .join(first, first.c.position == webhooks.c.position)
            .join(reservations, reservations.c.reservation_id == webhooks.c.reservation_id)
            .where(reservations.c.complete.is_(True))
            .order_by(webhooks.c.position)
        )
        return await self.read(lambda db: [Due(**row._mapping) for row in db.execute(query)])


def find_reservation(db: Connection, reservation_id: str) -> ReservationRow | None:
    """One reservation, complete or not, as this transaction sees it."""
    query = select(reservations).where(reservations.c.reservation_id == reservation_id)
    row = db.execute(query).one_or_none()
    return None if row is None else _row(row)


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
        reservations.c.complete.is_(True),
        reservations.c.status.not_in(FINISHED),
        or_(reservations.c.status != ReservationStatus.PICKED_UP.value, in_grace),
    )


def _row(row: Any) -> ReservationRow:
    return ReservationRow(**row._mapping)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
