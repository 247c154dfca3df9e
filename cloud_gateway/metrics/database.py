"""What the database holds, for `/metrics`: counted at most every few seconds, however often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import enrolled_machines, events, machines, sources, tickets, webhooks
from cloud_gateway.logs import error_fields, log

FRESH_S = 10.0
"""For how long what was counted is used."""
ANSWER_S = 3.0
"""After this time a database that does not answer counts as down; its answer is used when it comes."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What was counted. `oldest_webhook_s`: when the one that waits for longest was queued, in Unix seconds;
    None if none waits. `certificate_ends_s`: when the first certificate of an enrolled machine ends; None
    without any."""

    machines: int
    webhooks: dict[str, int]
    oldest_webhook_s: float | None
    events_held: int
    tickets_open: int
    twins: int
    certificate_ends_s: float | None = None


class DatabaseFigures:
    """Counts what the database holds. `clock` gives Unix seconds. Used on the event loop only."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._counted: Contents | None = None
        self._counted_s = float("-inf")
        self._counting: asyncio.Task[Contents] | None = None

    async def contents(self) -> Contents | None:
        """What the database holds; None if it does not answer."""
        now_s = self._clock()
        if self._counted is not None and 0 <= now_s - self._counted_s < FRESH_S:
            return self._counted
        if self._counting is None:  # one at a time, also if it takes longer than its readers wait
            self._counting = asyncio.create_task(self._store.read(_count), name="figures of the database")
        task = self._counting
        await asyncio.wait({task}, timeout=ANSWER_S)
        if not task.done():
            return None
        self._counting = None
        try:
            self._counted, self._counted_s = task.result(), now_s
        except SQLAlchemyError as error:
            log().error("database_failed", **error_fields(error))
            self._counted = None
        return self._counted


def _count(db: Connection) -> Contents:
    def number_of(query: object) -> int:
        return int(db.execute(select(func.count()).select_from(query)).scalar_one())  # type: ignore[arg-type]

    waiting = webhooks.c.state == "waiting"
    states = ("waiting", "dead", "no_receiver")
    return Contents(
        machines=number_of(machines),
        webhooks={
            state: number_of(select(webhooks.c.position).where(webhooks.c.state == state).subquery())
            for state in states
        },
        oldest_webhook_s=db.execute(select(func.min(webhooks.c.queued_s)).where(waiting)).scalar_one(),
        events_held=number_of(select(events.c.position).where(events.c.state == "held").subquery()),
        tickets_open=number_of(select(tickets.c.ticket_id).where(tickets.c.closed_s.is_(None)).subquery()),
        twins=number_of(select(sources.c.machine_id).where(sources.c.twins.is_not(None)).subquery()),
        certificate_ends_s=db.execute(
            select(func.min(enrolled_machines.c.not_after_s)).where(enrolled_machines.c.revoked_s.is_(None))
        ).scalar_one(),
    )
