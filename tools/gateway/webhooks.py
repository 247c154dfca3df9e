"""Delivery of webhooks from the queue in the database: at least once, in order for each reservation.

2xx is delivered; anything else is tried again after 1 s, doubling up to 10 min, until it is. Redirects are
not followed. Each receiver has its own few places, so that a dead one holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote, urlsplit

import httpx
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from tools.gateway.logs import log, where
from tools.gateway.settings import Settings, Timing
from tools.gateway.store import Due, Store
from tools.gateway.tables import webhooks

PER_RECEIVER = 4
IDLE_S = 60.0


class Deliverer:
    """Works through the queue; `wake` tells it that there may be something new."""

    def __init__(self, store: Store, settings: Settings, timing: Timing, clock: Callable[[], float]) -> None:
        self._store = store
        self._timing = timing
        self._clock = clock
        self._default_url = {platform.name: platform.webhook_url for platform in settings.platforms}
        self._news = asyncio.Event()
        self._active: set[str] = set()
        self._busy: Counter[str] = Counter()

    def wake(self) -> None:
        """There may be something to deliver."""
        self._news.set()

    async def run(self) -> None:
        """Works until cancelled; what is under way then is sent again after the next start."""
        # No environment proxies and no connection limit: the limits are ours, for each receiver.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(
                trust_env=False, limits=limits, timeout=self._timing.webhook_timeout_s
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            while True:
                self._news.clear()
                try:
                    pause_s = await self._start_due(client, group)
                except SQLAlchemyError as error:
                    log().error("database_failed", **where(error))
                    pause_s = self._timing.storage_pause_s
                try:
                    async with asyncio.timeout(pause_s):
                        await self._news.wait()
                except TimeoutError:
                    pass

    async def _start_due(self, client: httpx.AsyncClient, group: asyncio.TaskGroup) -> float:
        """Starts what is due and gives the seconds until the next one is."""
        now_s, pause_s = self._clock(), IDLE_S
        for due in await self._store.due_webhooks():
            if due.reservation_id in self._active:
                continue
            url = due.webhook_url or self._default_url.get(due.platform, "")
            left_s = due.next_attempt_s - now_s
            # Further away than any pause: the wall clock was set back meanwhile.
            if 0 < left_s <= self._timing.retry_max_s:
                pause_s = min(pause_s, left_s)
            elif self._busy[url] < PER_RECEIVER:
                self._active.add(due.reservation_id)
                self._busy[url] += 1
                group.create_task(self._handle(client, due, url))
        return pause_s

    async def _handle(self, client: httpx.AsyncClient, due: Due, url: str) -> None:
        try:
            await self._deliver(client, due, url)
        except SQLAlchemyError as error:
            log().error("database_failed", **where(error))
            await asyncio.sleep(self._timing.storage_pause_s)
        finally:
            self._active.discard(due.reservation_id)
            self._busy[url] -= 1
            if not self._busy[url]:
                del self._busy[url]
            self.wake()

    async def _deliver(self, client: httpx.AsyncClient, due: Due, url: str) -> None:
        if not url:
            await self._note(due, state="no_receiver", attempts=0, next_attempt_s=0.0, problem="")
            return
        # The list may be older than the last attempt, which ended while it was being read.
        query = select(webhooks.c.body, webhooks.c.platform_order_id).where(
            webhooks.c.position == due.position,
            webhooks.c.state == "waiting",
            webhooks.c.attempts == due.attempts,
        )
        row = await self._store.read(lambda db: db.execute(query).one_or_none())
        if row is None:
            return
        problem = await self._post(client, url, row.body, row.platform_order_id)
        attempts = due.attempts + 1
        if problem is None:
            await self._note(due, state="delivered", attempts=attempts, next_attempt_s=0.0, problem="")
            return
        pause_s = min(self._timing.retry_max_s, self._timing.retry_first_s * 2.0 ** min(attempts - 1, 60))
        log().warning("webhook_failed", host=_host(url), attempts=attempts, problem=problem, pause_s=pause_s)
        next_s = self._clock() + pause_s
        await self._note(due, state="waiting", attempts=attempts, next_attempt_s=next_s, problem=problem)

    async def _post(self, client: httpx.AsyncClient, url: str, body: str, order_id: str) -> str | None:
        """Sends one webhook; None when it was taken, else what went wrong."""
        headers = {"Content-Type": "application/json", "X-Platform-Order-Id": quote(order_id, safe="")}
        try:
            async with (
                asyncio.timeout(self._timing.webhook_timeout_s),
                client.stream("POST", url, content=body.encode(), headers=headers) as response,
            ):
                return None if response.is_success else f"HTTP {response.status_code}"
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return type(error).__name__

    async def _note(
        self, due: Due, *, state: str, attempts: int, next_attempt_s: float, problem: str
    ) -> None:
        values = {
            "state": state,
            "attempts": attempts,
            "next_attempt_s": next_attempt_s,
            "last_problem": problem,
        }
        change = update(webhooks).where(webhooks.c.position == due.position).values(values)
        await self._store.write(lambda db: db.execute(change))


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
