"""How many webhooks are under way at once, and what one silent receiver leaves to the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.db.store import Store
from cloud_gateway.settings import Timing
from cloud_gateway.webhooks.deliverer import DELIVERIES_MAX, PER_RECEIVER, WEBHOOKS_AT_ONCE, Deliverer
from cloud_gateway.webhooks.queue import Due
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.events.test_projection import NOW_S, event, opened, put, view
from tests.cloud_gateway.receiver import receiver
from tests.cloud_gateway.support import QUICK, eventually, settings


def deliverer(store: Store, folder: Path, timing: Timing = QUICK) -> Deliverer:
    """One that is not started."""
    return Deliverer(store, settings(folder, 1), timing, lambda: NOW_S + 1.0)


@asynccontextmanager
async def working(store: Store, folder: Path, timing: Timing = QUICK) -> AsyncIterator[None]:
    """One that works."""
    task = asyncio.create_task(deliverer(store, folder, timing).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def queue(store: Store, number: int, url: str) -> None:
    """A reservation whose drop-off webhook waits."""
    name = f"res_{number}"
    dropped_off = event(EventType.DROPOFF, number, reservation_id=name)
    await put(store, view(reservation_id=name, webhook_url=url), dropped_off)


async def test_concurrent_deliveries_are_limited_per_platform_host_and_port(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        one = deliverer(store, tmp_path)
        urls = [f"https://hooks.example{port}/{n}?x={n}" for n in range(5) for port in ("", ":443", ".:443")]
        first = one._choose([Due(n, url, "acme") for n, url in enumerate(urls, 1)])
        assert list(first) == list(range(1, PER_RECEIVER + 1))
        others = [("https://hooks.example/", "other"), ("https://hooks.example:8443/", "acme")]
        assert len(one._choose([Due(100 + n, *other) for n, other in enumerate(others)])) == 2
        one._free_slot(1)
        assert list(one._choose([Due(200, urls[0], "acme"), Due(201, urls[1], "acme")])) == [200]


async def test_the_number_of_deliveries_under_way_is_limited(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        one = deliverer(store, tmp_path)
        chosen = one._choose(
            [Due(n, f"https://h{n}.example/", "acme") for n in range(1, DELIVERIES_MAX + 50)]
        )
        assert len(chosen) == DELIVERIES_MAX


async def test_webhooks_behind_many_of_a_silent_receiver_are_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    async def silent(_client: Any, target: str, *_given: Any, **_named: Any) -> int:
        calls.append(target)
        if "silent" in target:
            await asyncio.Event().wait()
        return 200

    monkeypatch.setattr("cloud_gateway.webhooks.deliverer.post", silent)
    async with opened(tmp_path) as store:
        for number in range(1, WEBHOOKS_AT_ONCE + 20):
            await queue(store, number, f"https://silent.example/{number}")
        await queue(store, WEBHOOKS_AT_ONCE + 20, "https://good.example/")
        async with working(store, tmp_path, replace(QUICK, webhook_timeout_s=60.0)):
            await eventually(lambda: "https://good.example/" in calls)
        assert len(calls) == PER_RECEIVER + 1


async def test_after_a_silent_address_there_is_time_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*_: Any) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]

    monkeypatch.setattr("cloud_gateway.webhooks.deliverer.resolve", resolve)
    timing = replace(QUICK, webhook_timeout_s=4.0, connect_timeout_s=0.2)
    async with receiver() as target, opened(tmp_path) as store:
        # No process accepts connections from this queue, and it is full: the next one gets no answer.
        with socket.create_server(("127.0.0.9", target.port), backlog=0), ExitStack() as waiting:
            for _ in range(4):
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(("127.0.0.9", target.port))
            await queue(store, 1, f"http://localhost:{target.port}/hook")
            async with working(store, tmp_path, timing):
                await eventually(lambda: target.got)


def test_the_gateways_own_times_leave_room_for_three_addresses() -> None:
    assert Timing().connect_timeout_s * 3 < Timing().webhook_timeout_s
