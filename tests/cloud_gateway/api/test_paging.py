"""The list of ongoing reservations: order, pages, `created_after`, and the rule of the pick-up grace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.events.test_projection import NOW_S, event, ongoing, opened, put, view
from tests.cloud_gateway.support import Gateway, Peer, bench
from tests.support.broker import Broker
from tests.support.reference import check


class Calendar:
    """Makes the played machine create reservations at given times."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.at_s = NOW_S
        peer.scripts["reserve"] = self._reserve

    def _reserve(self, body: dict[str, Any]) -> dict[str, Any]:
        self._peer.obey("reserve", body)
        kept = self._peer.reservations[body["reservation_id"]]
        kept["created_at"] = rfc3339(self.at_s)
        return {"result": {"reservation": dict(kept)}}


async def listed(gateway: Gateway, query: str = "") -> list[str]:
    """Order ids of a page."""
    answer = (await gateway.get(f"/reservations{query}")).json()
    check("list", answer)
    return [one["platform_order_id"] for one in answer["reservations"]]


async def test_oldest_first_over_all_pages_whatever_the_order_of_learning(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        calendar = Calendar(peer)
        for order, at_s in (("c", 30), ("a", 10), ("b1", 20), ("b2", 20), ("d", 40)):
            calendar.at_s = NOW_S + at_s
            await gateway.reserve(platform_order_id=order)
        assert await listed(gateway) == ["a", "b1", "b2", "c", "d"]
        for size in (1, 2, 3, 4, 5, 1000):
            seen, token, pages = [], "", 0
            while pages == 0 or token:
                query = f"?page_size={size}" + (f"&page_token={token}" if token else "")
                answer = (await gateway.get(f"/reservations{query}")).json()
                assert answer["total_count"] == 5
                assert len(answer["reservations"]) <= size
                seen += [one["platform_order_id"] for one in answer["reservations"]]
                token, pages = answer["next_page_token"], pages + 1
            assert seen == ["a", "b1", "b2", "c", "d"]
            assert pages == -(-5 // size)


async def test_a_page_goes_on_where_the_last_ended_though_things_change(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        calendar = Calendar(peer)
        made = {}
        for n, order in enumerate("abcd"):
            calendar.at_s = NOW_S + n
            made[order] = (await gateway.reserve(platform_order_id=order))["reservation_id"]
        first = (await gateway.get("/reservations?page_size=2")).json()
        for order in "abc":
            await gateway.post(f"/reservations/{made[order]}/deletes")
        rest = (await gateway.get(f"/reservations?page_size=2&page_token={first['next_page_token']}")).json()
        assert [one["platform_order_id"] for one in rest["reservations"]] == ["d"]
        assert (rest["next_page_token"], rest["total_count"]) == ("", 1)


async def test_created_after_is_exclusive(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        calendar = Calendar(peer)
        for n, order in enumerate("abc"):
            calendar.at_s = NOW_S + n
            await gateway.reserve(platform_order_id=order)
        for after, expected in ((-1, "abc"), (0, "bc"), (1, "c"), (2, "")):
            assert await listed(gateway, f"?created_after={NOW_S + after}") == list(expected)
        assert await listed(gateway, f"?created_after={NOW_S}&page_size=1") == ["b"]
        assert (await gateway.get(f"/reservations?created_after={NOW_S}")).json()["total_count"] == 2
        assert await listed(gateway, "?created_after=-5") == ["a", "b", "c"]


async def test_the_grace_counts_from_the_picked_up_at_that_is_shown(tmp_path: Path) -> None:
    picked = view("PICKED_UP", picked_up_at=rfc3339(NOW_S))
    async with opened(tmp_path) as store:
        await put(store, view(), picked, now_s=NOW_S + 0.9)
        assert await ongoing(store, NOW_S + 120) == 1
        assert await ongoing(store, NOW_S + 120.5) == 0
        await put(store, event(EventType.PICKUP, 1), now_s=NOW_S + 1.5)
        assert await ongoing(store, NOW_S + 120) == 1
        assert await ongoing(store, NOW_S + 120.5) == 0


async def test_an_old_reply_is_corrected_by_the_event(tmp_path: Path) -> None:
    picked = view("PICKED_UP", picked_up_at=rfc3339(NOW_S))
    async with opened(tmp_path) as store:
        await put(store, picked, now_s=NOW_S + 3600)
        assert await ongoing(store, NOW_S + 3601) == 1
        await put(store, event(EventType.PICKUP, 1), now_s=NOW_S + 3601)
        assert await ongoing(store, NOW_S + 3601) == 0


@pytest.mark.behaviour("reservation-14")
async def test_a_grace_of_0_ends_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, view(grace_period_pickup_in_seconds=0), event(EventType.PICKUP, 1))
        assert await ongoing(store, NOW_S + 0.1) == 0
