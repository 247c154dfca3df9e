"""Deletes finished rows that are old enough, a few at a time. Never anything ongoing, and no undelivered
webhook except those of reservations that no reply ever confirmed (`_stubs`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, and_, delete, or_, select
from sqlalchemy.exc import SQLAlchemyError

from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import abandonments, events, given_up, requests, reservations, undated, webhooks
from cloud_gateway.logs import error_fields, log
from cloud_gateway.settings import DAY_S, KeepSettings, Timing
from edge_agent.model import ReservationStatus

BATCH = 500
"""The most rows that one transaction deletes."""


class Pruner:
    """Deletes old rows every `Timing.prune_s`."""

    def __init__(
        self,
        store: Store,
        keep: KeepSettings,
        timing: Timing,
        clock: Callable[[], float],
        on_deleted: Callable[[dict[str, int]], None] = lambda _by_table: None,
    ) -> None:
        """`on_deleted` is called after each round, with the numbers of rows."""
        self._on_deleted = on_deleted
        self._store = store
        self._keep = keep
        self._timing = timing
        self._clock = clock

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await asyncio.sleep(self._timing.prune_s)
            try:
                self._on_deleted(await self.prune_once())
            except SQLAlchemyError as error:
                log().error("database_failed", **error_fields(error))

    async def prune_once(self) -> dict[str, int]:
        """Deletes all old rows; returns how many of which table."""
        deleted: dict[str, int] = {}
        for table, old in over(self._keep, self._clock()):
            count = await self._delete(table, old)
            if count:
                deleted[table.name] = deleted.get(table.name, 0) + count
        if deleted:
            log().info("pruned", **deleted)
        return deleted

    async def _delete(self, table: Table, old: ColumnElement[bool]) -> int:
        """Deletes a table's old rows. The search for them holds no write transaction. Returns how many."""
        key: Column[Any] = next(iter(table.primary_key))
        count = 0

        def delete_some(db: Connection) -> int:
            return db.execute(delete(table).where(key.in_(keys), old)).rowcount

        while True:
            keys = await self._store.read(lambda db: some_keys(db, key, old))
            count += await self._store.write(delete_some) if keys else 0
            if len(keys) < BATCH:
                return count


def over(keep: KeepSettings, now_s: float) -> list[tuple[Table, ColumnElement[bool]]]:
    """Which rows of which table may be deleted, in the required order."""
    events_before = now_s - keep.events_days * DAY_S
    answered = and_(requests.c.answer.is_not(None), requests.c.created_s < now_s - keep.requests_days * DAY_S)
    # One that never got its answer is kept as long as an event that it may have caused.
    unanswered = requests.c.created_s < now_s - max(keep.events_days, keep.requests_days) * DAY_S
    done = webhooks.c.state.in_(("delivered", "no_receiver"))
    cleared = abandonments.c.cleared_s < now_s - keep.reservations_days * DAY_S
    return [
        (events, and_(events.c.state.in_(("applied", "rejected")), events.c.received_s < events_before)),
        (requests, or_(answered, unanswered)),
        (webhooks, and_(done, webhooks.c.ended_s < now_s - keep.webhooks_days * DAY_S)),
        (given_up, given_up.c.given_up_s < now_s - keep.events_days * DAY_S),
        (undated, undated.c.noted_s < events_before),
        (abandonments, and_(abandonments.c.cleared_s.is_not(None), cleared)),
        (webhooks, webhooks.c.reservation_id.in_(_stubs(now_s - keep.reservations_days * DAY_S))),
        (reservations, _stub(now_s - keep.reservations_days * DAY_S)),
        (reservations, _over(now_s - keep.reservations_days * DAY_S)),
    ]


def _over(before_s: float) -> ColumnElement[bool]:
    """Reservations that ended before a moment, with nothing left to deliver or to clear."""
    same = webhooks.c.reservation_id == reservations.c.reservation_id
    undelivered = select(webhooks.c.position).where(same, webhooks.c.state.in_(("waiting", "dead")))
    left = select(abandonments.c.reservation_id)
    left = left.where(abandonments.c.reservation_id == reservations.c.reservation_id)
    abandoned = reservations.c.status == ReservationStatus.ABANDONED.value
    return and_(reservations.c.ended_s < before_s, ~undelivered.exists(), or_(~abandoned, ~left.exists()))


def _stub(before_s: float) -> ColumnElement[bool]:
    """Reservations that only a machine's events created, and that no reply has confirmed since. Their
    webhooks were never sent, because their address is unknown."""
    return and_(reservations.c.details_known.is_(False), reservations.c.learned_s < before_s)


def _stubs(before_s: float) -> Select[tuple[str]]:
    """The ids of those reservations."""
    return select(reservations.c.reservation_id).where(_stub(before_s))


def some_keys(db: Connection, key: Column[Any], old: ColumnElement[bool]) -> list[Any]:
    """The keys of some rows that may be deleted; sorted, so that two gateways do not deadlock."""
    return sorted(db.execute(select(key).where(old).limit(BATCH)).scalars())
