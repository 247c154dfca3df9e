"""Forgets whose reservations were: on request, and after the time of `[retention]` (docs/privacy.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from edge_agent.errors import Code, Refusal, StorageFault
from edge_agent.journal.forgetting import (
    AT_ONCE,
    forget,
    live_among,
    older_than,
    reservations_of_order,
    unsent_among,
)
from edge_agent.journal.store import Batch, JournalStore
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.loop import LockerLoop
from edge_agent.runtime.writer import Writer

log = structlog.get_logger()

DAY_S = 86_400.0
ROUND_S = 3600.0
"""Pause between two searches for reservations whose time is over."""


class Forgetting:
    """`days`: after how many days a reservation that is over is forgotten; None: never by itself."""

    def __init__(
        self, loop: LockerLoop, store: JournalStore, writer: Writer, clock: Clock, days: float | None
    ) -> None:
        self._loop = loop
        self._store = store
        self._writer = writer
        self._clock = clock
        self._days = days

    async def order(self, platform_order_id: str) -> int:
        """Forgets the reservations of an order; how many they were. Raises `Refusal`: `NOT_FOUND`, and
        `NOT_ALLOWED` while one of them is live or has events that the broker lacks."""
        found = reservations_of_order(self._store, platform_order_id)
        if not found:
            raise Refusal(Code.NOT_FOUND, "this machine knows no such order")
        return await self.reservations([rid for rid, _ in found])

    async def reservations(self, reservation_ids: Sequence[str]) -> int:
        """Forgets reservations by their ids; how many they were. Raises `Refusal` (`NOT_ALLOWED`)."""
        if live := live_among(self._store, reservation_ids):
            raise Refusal(Code.NOT_ALLOWED, f"reservation {live[0]} is not over")
        if unsent_among(self._store, reservation_ids):
            raise Refusal(Code.NOT_ALLOWED, "the broker does not have all events yet; try again later")
        await self._write(reservation_ids)
        return len(reservation_ids)

    async def _write(self, reservation_ids: Sequence[str]) -> None:
        state = self._loop.state
        statements = forget(reservation_ids)
        await self._writer.commit(Batch(state, state, statements=statements, scrub=True))
        log.info("reservations forgotten", number=len(reservation_ids))

    async def run(self) -> None:
        """Forgets what is old enough, until cancelled."""
        while self._days is not None:
            try:
                await self._forget_old(self._days)
            except StorageFault as fault:
                log.error("reservations are not forgotten", reason=str(fault))
            await asyncio.sleep(ROUND_S)

    async def _forget_old(self, days: float) -> None:
        now = self._clock.now()
        while now.synced and (old := older_than(self._store, now.wall_s - days * DAY_S)):
            if unsent_among(self._store, old):
                return
            await self._write(old)
            if len(old) < AT_ONCE:
                return
