"""Dates that a machine gave before its clock was synchronised are corrected afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import time
from typing import Any

import pytest
from sqlalchemy import select

from cloud_gateway.db.store import find_reservation
from cloud_gateway.db.tables import abandonments
from cloud_gateway.value_bounds import moment_s
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.support import Gateway, bench, error, running_gateway, settings
from tests.support.broker import Broker
from tests.support.real_site import real_site

WRONG_S = 1_577_836_800
"""The first second of 2020: what a clock without a battery shows."""
DATES = ("created_at", "dropped_off_at", "picked_up_at")


def unsynced(at_s: int, uptime_ms: int, boot_id: str = "boot-1") -> dict[str, Any]:
    """The changes of an event that a wrong clock dated."""
    return {
        "event_time_unix_timestamp": at_s,
        "event_time_timestamp": rfc3339(at_s),
        "clock_synced": False,
        "uptime_ms": uptime_ms,
        "boot_id": boot_id,
    }


async def dates_of(gateway: Gateway, reservation_id: str) -> tuple[int | None, ...]:
    """The three dates of a reservation in Unix seconds, as the API shows them."""
    got = (await gateway.get(f"/reservations/{reservation_id}")).json()
    return tuple(None if got.get(name) is None else moment_s(got[name]) for name in DATES)


async def until_dates(gateway: Gateway, reservation_id: str, expected: tuple[int | None, ...]) -> None:
    """Waits until the API shows these dates."""
    async with asyncio.timeout(60):
        while await dates_of(gateway, reservation_id) != expected:
            await asyncio.sleep(0.02)


@pytest.mark.behaviour("dates-01")
async def test_w18_dates_of_a_wrong_clock_are_corrected_once_the_time_is_known(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        view = peer.reservations[(await gateway.reserve())["reservation_id"]]
        early = [
            (EventType.RESERVATION_CREATED, 0),
            (EventType.DROPOFF, 60),
            (EventType.PICKUP, 90),
        ]
        peer.scripts["get-reservation"] = error(5, "no such reservation")
        foreign = dict(view, reservation_id="res_early")
        for kind, after_s in early:
            peer.event(kind, foreign, **unsynced(WRONG_S + after_s, 10_000 + 1000 * after_s))
        await until_dates_of_stub(gateway, "res_early")
        now_s = int(time())
        # 110 s after the boot's clock showed 10 s, the machine learns that it is now.
        peer.event(EventType.ALARM_CLEARED, uptime_ms=110_000, event_time_unix_timestamp=now_s)
        right = (now_s - 100, now_s - 40, now_s - 10)
        await eventually_row(gateway, "res_early", right)


async def until_dates_of_stub(gateway: Gateway, reservation_id: str) -> None:
    """Waits until the wrong dates have arrived."""
    await eventually_row(gateway, reservation_id, (WRONG_S, WRONG_S + 60, WRONG_S + 90))


async def eventually_row(gateway: Gateway, reservation_id: str, expected: tuple[int, ...]) -> None:
    """Waits for a row of the projection."""
    store = gateway.app.state.parts.store
    async with asyncio.timeout(60):
        while True:
            row = await store.read(lambda db: find_reservation(db, reservation_id))
            if row is not None and (row.created_s, row.dropped_off_s, row.picked_up_s) == expected:
                return
            await asyncio.sleep(0.02)


async def test_w18_created_after_finds_what_a_wrong_clock_dated(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        began_s = int(time()) - 60

        def reserve_in_2020(body: dict[str, Any]) -> dict[str, Any]:
            reply = peer.obey("reserve", body)
            reply["result"]["reservation"]["created_at"] = rfc3339(WRONG_S)
            peer.reservations[body["reservation_id"]]["created_at"] = rfc3339(WRONG_S)
            return reply

        peer.scripts["reserve"] = reserve_in_2020
        rid = (await gateway.reserve())["reservation_id"]
        view = peer.reservations[rid]
        assert (await dates_of(gateway, rid))[0] == WRONG_S
        path = f"/reservations?created_after={began_s}"
        assert (await gateway.get(path)).json()["reservations"] == []
        peer.event(EventType.RESERVATION_CREATED, view, **unsynced(WRONG_S, 5_000))
        # Another boot's clock says nothing about it.
        now_s = int(time())
        peer.event(EventType.ALARM_CLEARED, uptime_ms=1_000, boot_id="boot-0")
        peer.event(EventType.ALARM_CLEARED, uptime_ms=15_000, event_time_unix_timestamp=now_s)
        await until_dates(gateway, rid, (now_s - 10, None, None))
        listed = (await gateway.get(path)).json()["reservations"]
        assert [one["reservation_id"] for one in listed] == [rid]


async def test_w18_a_life_in_2020_is_dated_rightly_once_the_clock_is_synchronised(
    tmp_path: Path, broker: Broker
) -> None:
    mqtt = {"host": "127.0.0.1", "port": broker.port}
    order = {
        "machine_id": "m1",
        "platform_order_id": "o",
        "packaging": {"width": 200, "height": 100, "depth": 300},
    }
    async with (
        running_gateway(settings(tmp_path, broker.port)) as gateway,
        real_site(tmp_path, mqtt, behind_s=time() - WRONG_S) as site,
    ):
        await gateway.sees("m1")
        began_s = int(time()) - 2
        made = (await gateway.post("/reservations", order)).json()
        rid = made["reservation_id"]
        for act in ("dropoffs", "pickups"):
            answer = await gateway.post(f"/reservations/{rid}/{act}")
            assert answer.status_code == 200, answer.text
            site.plant.world.close(answer.json()["cell"]["description"])
            await gateway.until(rid, "DROPPED_OFF" if act == "dropoffs" else "PICKED_UP")
        left = (await gateway.post("/reservations", order)).json()["reservation_id"]
        path = f"/reservations?created_after={began_s}"
        wrong = await dates_of(gateway, rid)
        assert all(at_s is not None and at_s < WRONG_S + 1000 for at_s in wrong), wrong
        ended_s = int(time())
        site.clock.behind_s, site.clock.synced = 0.0, True
        async with asyncio.timeout(30):
            while not all(began_s - 1 <= (at_s or 0) <= ended_s + 1 for at_s in await dates_of(gateway, rid)):
                await asyncio.sleep(0.05)
        created_s, dropped_off_s, picked_up_s = await dates_of(gateway, rid)
        assert (created_s or 0) <= (dropped_off_s or 0) <= (picked_up_s or 0)
        # A reply of the machine has the old date again; it is not restored.
        right = (await dates_of(gateway, left))[0]
        assert right is not None
        assert began_s - 1 <= right <= ended_s + 1
        assert (await gateway.post(f"/reservations/{left}/dropoffs")).status_code == 200
        assert (await dates_of(gateway, left))[0] == right
        third = (await gateway.post("/reservations", order)).json()["reservation_id"]
        listed = {one["reservation_id"] for one in (await gateway.get(path)).json()["reservations"]}
        assert {left, third} <= listed


async def test_w18_an_abandonment_is_dated_rightly(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        view = peer.reservations[(await gateway.reserve())["reservation_id"]]
        peer.event(EventType.DROPOFF, view, **unsynced(WRONG_S, 5_000))
        peer.event(EventType.PICKUP_ABANDONED, view, **unsynced(WRONG_S + 10, 15_000))
        now_s = int(time())
        peer.event(EventType.ALARM_CLEARED, uptime_ms=115_000, event_time_unix_timestamp=now_s)
        store = gateway.app.state.parts.store
        async with asyncio.timeout(60):
            while await store.read(lambda db: db.execute(select(abandonments.c.since_s)).scalars().all()) != [
                now_s - 100
            ]:
                await asyncio.sleep(0.02)


async def test_w18_a_view_of_sync_corrects_dates(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        view = peer.reservations[rid]
        now_s = int(time())
        view |= {
            "status": "RESERVATION_STATUS_DROPPED_OFF",
            "created_at": rfc3339(now_s - 500),
            "dropped_off_at": rfc3339(now_s - 400),
        }
        await asyncio.to_thread(peer.digest)
        await until_dates(gateway, rid, (now_s - 500, now_s - 400, None))
