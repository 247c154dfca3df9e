"""Delivery of webhooks from the queue in the database: at least once, in order for each reservation.

A response 2xx means delivered. After any other the webhook is retried after 1 s, doubling up to 10 min, until
it succeeds, or until it is older than `give_up_days` and was tried 12 times: then its state is `dead`, and an
operator can retry it. A Retry-After with 429 or 503 is obeyed, up to 10 min (RFC 9110, 10.2.3); after a 410
there is no retry. Redirects are not followed. Each receiver of a platform has 4 slots, so that one that does
not answer delays no other.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import partial
from time import perf_counter
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from cloud_gateway.db.store import Store
from cloud_gateway.logs import error_fields, log
from cloud_gateway.settings import DAY_S, Settings, Timing
from cloud_gateway.webhook_signature import key_of, signed_headers
from cloud_gateway.webhooks.queue import (
    Claimed,
    Due,
    PlausibleAhead,
    claim,
    due_webhooks,
    postpone,
    record_result,
    release,
)
from cloud_gateway.webhooks.targets import ReceiverResponse, TargetRefused, post, resolve

PER_RECEIVER = 4
DELIVERIES_MAX = 200
"""The most deliveries under way at once; fewer if the process may open few descriptors."""
ATTEMPTS_MIN = 12
"""The fewest attempts before one counts as dead: its age alone may come from an outage of ours."""
WEBHOOKS_AT_ONCE = 100
"""How many are taken from the queue at a time."""
RESOLVERS = 8
GATHER_S = 0.05
"""The shortest pause between two searches of the queue: it is searched once for all that came meanwhile."""
GONE = 410

ReceiverKey = tuple[str, str, int | None]
"""A platform and a host and port: receivers that share `PER_RECEIVER` slots."""


class Deliverer:
    """Works through the queue; `wake` signals that there may be new webhooks."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        timing: Timing,
        clock: Callable[[], float],
        deliveries_max: int = DELIVERIES_MAX,
        on_attempt: Callable[[dict[str, Any]], None] = lambda _entry: None,
    ) -> None:
        """`on_attempt` gets the log fields of every attempt with its `result`, and of a webhook without a
        receiver."""
        self._on_attempt = on_attempt
        self._deliveries_max = deliveries_max
        self._store = store
        self._timing = timing
        self._clock = clock
        self._gateway_id = settings.mqtt.client_id
        self._allowed = settings.webhooks.allow_networks
        self._ports = settings.webhooks.ports
        self._give_up_s = settings.webhooks.give_up_days * DAY_S
        self._default_url = {platform.name: platform.webhook_url for platform in settings.platforms}
        self._keys = {
            platform.name: [key_of(secret.get_secret_value()) for secret in platform.webhook_secrets]
            for platform in settings.platforms
        }
        self._plausible_ahead = PlausibleAhead(timing.retry_max_s, 3 * timing.webhook_timeout_s)
        # Names are resolved in threads of their own, because that can take long.
        self._resolvers = ThreadPoolExecutor(RESOLVERS, "gateway-resolve")
        self._wake_event = asyncio.Event()
        self._stopping = False
        self._busy: Counter[ReceiverKey] = Counter()
        self._under_way: dict[int, tuple[str, str]] = {}  # platform and URL by position

    def wake(self) -> None:
        """Signals that there may be something to deliver."""
        self._wake_event.set()

    def stop(self) -> None:
        """Starts no more deliveries; `run` returns when those under way have ended."""
        self._stopping = True
        self.wake()

    async def run(self) -> None:
        """Works until stopped or cancelled. Deliveries that did not end are put back: they are sent again by
        another gateway or after the next start, with the same id."""
        try:
            await self._work()
        finally:
            self._resolvers.shutdown(wait=False, cancel_futures=True)
            await self._put_back()

    async def _put_back(self) -> None:
        try:
            await self._store.write(lambda db: release(db, self._gateway_id))
        except SQLAlchemyError as error:  # then the leases end by themselves
            log().error("database_failed", **error_fields(error))

    async def _work(self) -> None:
        # No environment proxies and no connection limit: we limit each receiver ourselves.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        timeout = httpx.Timeout(self._timing.webhook_timeout_s, connect=self._timing.connect_timeout_s)
        async with (
            httpx.AsyncClient(trust_env=False, limits=limits, timeout=timeout) as client,
            asyncio.TaskGroup() as group,
        ):
            await self._until_written(lambda: self._store.write(lambda db: release(db, self._gateway_id)))
            while not self._stopping:
                self._wake_event.clear()
                await self._until_written(lambda: self._start_due(client, group))
                if not self._stopping:
                    await asyncio.sleep(GATHER_S)
                try:
                    # Other gateways may have queued webhooks, or died while they delivered some.
                    async with asyncio.timeout(self._timing.webhook_poll_s):
                        await self._wake_event.wait()
                except TimeoutError:
                    pass

    async def _until_written(self, work: Callable[[], Any]) -> None:
        while not self._stopping:
            try:
                await work()
                return
            except SQLAlchemyError as error:
                log().error("database_failed", **error_fields(error))
            await asyncio.sleep(self._timing.storage_pause_s)

    async def _start_due(self, client: httpx.AsyncClient, group: asyncio.TaskGroup) -> None:
        """Starts what is due, as far as its receivers have free slots."""
        after: int | None = 0
        while after is not None:
            after = await self._start_some(client, group, after)

    async def _start_some(
        self, client: httpx.AsyncClient, group: asyncio.TaskGroup, after: int
    ) -> int | None:
        """Starts some of what is due after a position; returns the last position it examined if there may be
        more."""
        if self._stopping or len(self._under_way) >= self._deliveries_max:
            return None
        now_s, full = self._clock(), self._full_receivers()
        found = await self._store.read(
            lambda db: due_webhooks(db, now_s, self._plausible_ahead, WEBHOOKS_AT_ONCE, full, after)
        )
        chosen = self._choose(found)
        claimed: dict[int, Claimed] = {}
        try:
            if chosen:
                claimed = await self._store.write(
                    lambda db: claim(db, sorted(chosen), self._gateway_id, now_s, self._plausible_ahead),
                    urgent=False,
                )
        finally:
            for position in chosen:
                if position not in claimed:
                    self._free_slot(position)
        for webhook in claimed.values():
            group.create_task(self._handle(client, webhook), name=f"webhook {webhook.position}")
        return found[-1].position if len(found) == WEBHOOKS_AT_ONCE else None

    def _full_receivers(self) -> tuple[set[tuple[str, str]], list[str]]:
        """The receivers without a free slot: as (platform, URL) of deliveries under way, and as platforms
        whose own URL leads to such a receiver."""
        pairs = {
            (platform, url)
            for platform, url in self._under_way.values()
            if self._busy[_receiver_key(platform, url)] >= PER_RECEIVER
        }
        own = self._default_url.items()
        return pairs, [name for name, url in own if self._busy[_receiver_key(name, url)] >= PER_RECEIVER]

    def _choose(self, found: list[Due]) -> dict[int, str]:
        """Takes the free slots; returns positions and URLs of the webhooks that got one."""
        chosen = {}
        for due in found:
            url = due.webhook_url or self._default_url.get(due.platform, "")
            receiver = _receiver_key(due.platform, url)
            # One that is still under way here is due again because its lease expired: it is not started
            # twice.
            fits = self._busy[receiver] < PER_RECEIVER and due.position not in self._under_way
            if fits and len(self._under_way) < self._deliveries_max:
                self._busy[receiver] += 1
                self._under_way[due.position] = due.platform, url
                chosen[due.position] = url
        return chosen

    def _free_slot(self, position: int) -> None:
        receiver = _receiver_key(*self._under_way.pop(position))
        self._busy[receiver] -= 1
        if not self._busy[receiver]:
            del self._busy[receiver]

    async def _handle(self, client: httpx.AsyncClient, webhook: Claimed) -> None:
        platform, url = self._under_way[webhook.position]
        try:
            await self._deliver(client, webhook, platform, url)
        except SQLAlchemyError as error:
            log().error("database_failed", **error_fields(error))
            await asyncio.sleep(self._timing.storage_pause_s)  # it is sent again when its lease is over
        finally:
            self._free_slot(webhook.position)
            self.wake()

    async def _deliver(self, client: httpx.AsyncClient, webhook: Claimed, platform: str, url: str) -> None:
        if not url:
            await self._record(webhook, {"state": "no_receiver", "ended_s": self._clock()})
            self._on_attempt({"result": "no receiver", **_log_fields(webhook, url)})
            return
        started, attempts = perf_counter(), webhook.attempts + 1
        response = await self._post(client, platform, url, webhook)
        problem = _problem(response)
        now_s = self._clock()
        entry = {
            **_log_fields(webhook, url),
            "attempts": attempts,
            "ms": round((perf_counter() - started) * 1000, 1),
        }
        values: dict[str, Any] = {"attempts": attempts, "last_problem": problem or ""}
        if problem is None:
            log().info("webhook_delivered", **entry)
            self._on_attempt({"result": "delivered", **entry})
            values |= {"state": "delivered", "next_attempt_s": 0.0, "ended_s": now_s}
        elif _is_gone(response) or (now_s - webhook.queued_s >= self._give_up_s and attempts >= ATTEMPTS_MIN):
            log().error("webhook_given_up", problem=problem, **entry)
            self._on_attempt({"result": "given up", "problem": problem, **entry})
            values |= {"state": "dead", "next_attempt_s": 0.0, "ended_s": now_s}
        else:
            doubled_s = self._timing.retry_first_s * 2.0 ** min(attempts - 1, 60)
            pause_s = min(self._timing.retry_max_s, max(doubled_s, _retry_after_s(response, now_s)))
            log().warning("webhook_failed", problem=problem, pause_s=pause_s, **entry)
            self._on_attempt({"result": "failed", "problem": problem, "pause_s": pause_s, **entry})
            asyncio.get_running_loop().call_later(pause_s, self.wake)
            await self._record(webhook, values, now_s + pause_s)
            return
        await self._record(webhook, values)

    async def _post(
        self, client: httpx.AsyncClient, platform: str, url: str, webhook: Claimed
    ) -> ReceiverResponse | str:
        """Sends one webhook; the response, or what went wrong."""
        body, keys = webhook.body.encode(), self._keys.get(platform, [])
        signed = signed_headers(_webhook_id(webhook), body, int(self._clock()), keys) if keys else {}
        try:
            async with asyncio.timeout(self._timing.webhook_timeout_s):
                return await post(
                    client,
                    url,
                    body,
                    _headers(webhook) | signed,
                    allowed=self._allowed,
                    resolver=partial(resolve, self._resolvers),
                    ports=self._ports,
                )
        except TargetRefused as refused:
            return str(refused)
        except Exception as error:  # an error at a platform's URL must not end the work for all
            return type(error).__name__

    async def _record(self, webhook: Claimed, values: dict[str, Any], next_s: float | None = None) -> None:
        """Records the result, and when it is retried."""

        def work(db: Connection) -> bool:
            if next_s is None:
                return record_result(db, webhook.position, self._gateway_id, values)
            return postpone(db, webhook, self._gateway_id, values, next_s)

        if not await self._store.write(work, urgent=False):
            log().warning("webhook_lease_lost", position=webhook.position)


def _problem(response: ReceiverResponse | str) -> str | None:
    """What was wrong; None when the webhook was accepted."""
    if isinstance(response, str):
        return response
    return None if 200 <= response.status < 300 else f"HTTP {response.status}"


def _is_gone(response: ReceiverResponse | str) -> bool:
    """Whether the receiver answered 410 Gone (RFC 9110, 15.5.11): it will never accept the webhook."""
    return isinstance(response, ReceiverResponse) and response.status == GONE


def _retry_after_s(response: ReceiverResponse | str, now_s: float) -> float:
    """How long the receiver asks us to wait; 0 if it does not, or not in a way that can be read."""
    if isinstance(response, str) or response.status not in (429, 503) or response.retry_after is None:
        return 0.0
    text = response.retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, OverflowError):
        return 0.0


def _receiver_key(platform: str, url: str) -> ReceiverKey:
    """The key of a URL's receiver: the same server, whatever the path."""
    try:
        parts = urlsplit(url)
        return (
            platform,
            (parts.hostname or "").rstrip("."),
            parts.port or (80 if parts.scheme == "http" else 443),
        )
    except ValueError:
        return platform, url, None


def _webhook_id(webhook: Claimed) -> str:
    """The event's `idempotency_key`: the same in every attempt, and where an event is queued twice."""
    key = json.loads(webhook.body).get("idempotency_key")
    return key if isinstance(key, str) and key.isascii() and key.isprintable() else str(webhook.position)


def _headers(webhook: Claimed) -> dict[str, str]:
    """The headers of the request."""
    headers = {
        "Content-Type": "application/json",
        "X-Platform-Order-Id": quote(webhook.platform_order_id, safe=""),
    }
    if webhook.x_request_id and webhook.x_request_id.isascii() and webhook.x_request_id.isprintable():
        headers["X-Request-ID"] = webhook.x_request_id
    return headers


def _log_fields(webhook: Claimed, url: str) -> dict[str, Any]:
    """The log fields of a webhook."""
    body = json.loads(webhook.body)
    return {
        "host": host_of(url),
        "event_type": body.get("event_type"),
        "idempotency_key": body.get("idempotency_key"),
        "reservation_id": webhook.reservation_id,
        "x_request_id": webhook.x_request_id,
    }


def host_of(url: str) -> str:
    """The host of a URL; empty if it has no readable one."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
