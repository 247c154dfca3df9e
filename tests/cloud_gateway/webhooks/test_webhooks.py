"""Webhooks: what is sent, to whom, in which order, and for how long it is tried."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from sqlalchemy import select

from cloud_gateway.db.tables import webhooks
from cloud_gateway.machines.sealed_ids import SealedRequest
from cloud_gateway.webhooks.deliverer import _retry_after_s
from cloud_gateway.webhooks.queue import PlausibleAhead, claim, due_webhooks, postpone, record_result
from cloud_gateway.webhooks.targets import ReceiverResponse
from edge_agent.protocol.events import DETAIL_KEY, EventType
from tests.cloud_gateway.events.test_projection import NOW_S, event, opened, put, view
from tests.cloud_gateway.machines.test_mqtt_link import sequences, stored
from tests.cloud_gateway.receiver import Receiver, receiver
from tests.cloud_gateway.support import Gateway, Peer, bench, eventually, logged, running_gateway, settings
from tests.support.broker import Broker
from tests.support.reference import check

FULFILLED = {"request_id": "req_1", "platform_reference_id": "t1", "outcome": "OPENED"}

FIELDS = {
    "event_id",
    "idempotency_key",
    "event_time_unix_timestamp",
    "event_time_timestamp",
    "platform_order_id",
    "reservation_id",
    "event_type",
}


async def test_body_and_header_carry_the_facts_of_the_event(tmp_path: Path, broker: Broker) -> None:
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        rid = (await gateway.reserve(platform_order_id="Bestellung 7/ü"))["reservation_id"]
        event = peer.event(EventType.DROPOFF, peer.reservations[rid], request_id="req_1")
        hook = await eventually(lambda: target.got and target.got[0])
        assert hook.body == {name: event[name] for name in FIELDS} | {
            "drop_off_event": {
                "source_type": "SOURCE_TYPE_MACHINE",
                "cell": {"description": "A03", "cell_id": "cell_a03"},
                "machine": {"machine_id": "machine_123", "name": "Awesome", "location": "Banten"},
            }
        }
        assert hook.headers["x-platform-order-id"] == "Bestellung%207%2F%C3%BC"
        assert hook.headers["content-type"] == "application/json"


async def test_which_events_and_which_receiver(tmp_path: Path, broker: Broker) -> None:
    async with (
        receiver() as target,
        receiver() as own,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        plain = peer.reservations[(await gateway.reserve())["reservation_id"]]
        special = peer.reservations[(await gateway.reserve(webhook_url=own.url))["reservation_id"]]
        for view in (plain, special):
            peer.event(EventType.RESERVATION_CREATED, view)
            peer.event(EventType.DROPOFF, view)
            peer.event(EventType.PICKUP_FAILED, view)
            peer.event(EventType.PICKUP, view)
            peer.event(EventType.RESERVATION_COMPLETED, view)
            peer.event(EventType.RESERVATION_CANCELLED, view)
            peer.event(EventType.PICKUP_ABANDONED, view)
            peer.event(EventType.CELL_STATUS_CHANGED, view, more={"cause": "MOVED"})
            peer.event(EventType.MAINTENANCE_REQUESTED, view, more={"maintenance_ticket_id": "maint_1"})
            peer.event(EventType.OPEN_DOOR_FULFILLED, view, more=FULFILLED)
        peer.event(EventType.ALARM_RAISED)
        peer.event(EventType.OPEN_DOOR_FULFILLED, more=FULFILLED)  # a technician's: no reservation
        types = ["DROPOFF", "PICKUP_FAILED", "PICKUP", "RESERVATION_CANCELLED", "PICKUP_ABANDONED"]
        types.append("OPEN_DOOR_FULFILLED")
        for there, view in ((target, plain), (own, special)):
            await _count(there, 6)
            assert [hook.body["event_type"] for hook in there.got] == [f"EVENT_TYPE_{name}" for name in types]
            assert {hook.body["reservation_id"] for hook in there.got} == {view["reservation_id"]}
            for hook in there.got:
                check("webhook", hook.body)
        last = peer.event(EventType.ALARM_CLEARED)["sequence"]
        await eventually(lambda: sequences(tmp_path)[-1] == last)
        assert stored(tmp_path, "SELECT * FROM rejected") == []


async def test_a_webhook_holds_only_the_fields_of_its_type(tmp_path: Path, broker: Broker) -> None:
    many = {**FULFILLED, "reason": "stuck", "recovered": True, "status": "OCCUPIED", "blocked": False}
    extra = {
        EventType.DROPOFF: set(),
        EventType.PICKUP_ABANDONED: set(),
        EventType.PICKUP_FAILED: {"outcome", "reason"},
        EventType.OPEN_DOOR_FULFILLED: {"request_id", "platform_reference_id", "outcome", "reason"},
    }
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        view = peer.reservations[(await gateway.reserve())["reservation_id"]]
        for kind in extra:
            peer.event(kind, view, more=many)
        await _count(target, len(extra))
        for hook, (kind, names) in zip(target.got, extra.items(), strict=True):
            assert hook.body["event_type"] == kind.value
            assert set(hook.body[DETAIL_KEY[kind]]) == {"source_type", "cell", "machine"} | names
            check("webhook", hook.body)


async def test_an_order_id_of_any_kind_comes_through_the_header(tmp_path: Path, broker: Broker) -> None:
    orders = ["a b", "100%", "a%20b", "zeile\r\nX-Evil: 1", "naïve/日本 🎁", "~-._", "+&=?#", "x" * 1024]
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        for order in orders:
            rid = (await gateway.reserve(platform_order_id=order))["reservation_id"]
            peer.event(EventType.DROPOFF, peer.reservations[rid])
        await _count(target, len(orders))
        got = {hook.headers["x-platform-order-id"]: hook for hook in target.got}
        assert {unquote(header) for header in got} == set(orders)
        for header, hook in got.items():
            assert re.fullmatch(r"([A-Za-z0-9~._-]|%[0-9A-F]{2})+", header)
            assert hook.body["platform_order_id"] == unquote(header)
            assert "x-evil" not in hook.headers


async def test_a_webhook_is_retried_until_accepted_and_keeps_the_order(
    tmp_path: Path, broker: Broker
) -> None:
    answers: list[int | None] = [500, 302, None, 404, 204]
    async with (
        receiver() as target,
        receiver() as elsewhere,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        target.location = elsewhere.url
        target.status = lambda _: answers.pop(0) if answers else 200
        view = peer.reservations[(await gateway.reserve())["reservation_id"]]
        first = peer.event(EventType.DROPOFF, view)
        second = peer.event(EventType.PICKUP, view)
        await eventually(lambda: len(target.got) == 6)
        keys = [hook.body["idempotency_key"] for hook in target.got]
        assert keys == [first["idempotency_key"]] * 5 + [second["idempotency_key"]]
        assert {hook.body["event_id"] for hook in target.got} == {first["event_id"], second["event_id"]}
        assert elsewhere.got == []


async def test_pauses_double_up_to_the_longest(tmp_path: Path, broker: Broker) -> None:
    times: list[float] = []
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):

        def status(_: Any) -> int:
            times.append(monotonic())
            return 503 if len(times) < 7 else 200

        target.status = status
        peer.event(EventType.DROPOFF, peer.reservations[(await gateway.reserve())["reservation_id"]])
        await eventually(lambda: len(times) == 7)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.4, 0.4, 0.4), strict=True):
        assert least * 0.9 <= pause < least + 2


async def test_a_dead_receiver_delays_no_other_receiver(tmp_path: Path, broker: Broker) -> None:
    async with (
        receiver() as dead,
        receiver() as good,
        bench(tmp_path, broker.port, webhook_url=good.url) as (gateway, peer),
    ):
        dead.status = lambda _: None
        for _ in range(8):
            rid = (await gateway.reserve(webhook_url=dead.url))["reservation_id"]
            peer.event(EventType.DROPOFF, peer.reservations[rid])
        await eventually(lambda: dead.got)
        rid = (await gateway.reserve())["reservation_id"]
        peer.event(EventType.DROPOFF, peer.reservations[rid])
        await eventually(lambda: good.got, deadline_s=2)
        dead.status = lambda _: 200
        await eventually(lambda: len({hook.body["reservation_id"] for hook in dead.got}) == 8)


async def test_undelivered_webhooks_are_delivered_after_a_restart(tmp_path: Path, broker: Broker) -> None:
    async with receiver() as target:
        target.status = lambda _: 500
        async with bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer):
            view = peer.reservations[(await gateway.reserve())["reservation_id"]]
            event = peer.event(EventType.DROPOFF, view)
            await eventually(lambda: target.got)
        target.got.clear()
        target.status = lambda _: 200
        async with running_gateway(settings(tmp_path, broker.port, target.url)):
            hook = await eventually(lambda: target.got and target.got[0])
            assert hook.body["idempotency_key"] == event["idempotency_key"]


async def test_a_webhook_waits_for_its_reservation_to_be_known(tmp_path: Path, broker: Broker) -> None:
    async with (
        receiver() as target,
        receiver() as own,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        await eventually(lambda: stored(tmp_path, "SELECT * FROM sources WHERE verified_s > 0"))
        peer.scripts = {"get-reservation": lambda _: {"error": {"code": 13, "message": "no", "details": []}}}
        view = _unheard_of(gateway, peer, own.url)
        rid = view["reservation_id"]
        peer.event(EventType.RESERVATION_CREATED, view)
        peer.event(EventType.DROPOFF, view)
        await eventually(lambda: peer.commands)  # it asks the machine, which refuses at first
        assert own.got == target.got == []
        assert (await gateway.get(f"/reservations/{rid}")).status_code == 404
        peer.scripts = {}
        await eventually(lambda: own.got)
        assert target.got == []
        got = (await gateway.get(f"/reservations/{rid}")).json()
        assert got["status"] == "RESERVATION_STATUS_DROPPED_OFF"
        assert got["drop_off_code"] == "9001"


async def test_an_unreachable_receiver_is_retried(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port, webhook_url="http://127.0.0.1:9/") as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        peer.event(EventType.DROPOFF, peer.reservations[rid])
        await gateway.until(rid, "DROPPED_OFF")
        async with httpx.AsyncClient(base_url=gateway.http.base_url, trust_env=False) as http:
            assert (await http.get("/healthz")).status_code == 200
        async with receiver() as target:
            rid = (await gateway.reserve(webhook_url=target.url))["reservation_id"]
            await asyncio.to_thread(peer.event, EventType.DROPOFF, peer.reservations[rid])
            await eventually(lambda: target.got)


async def test_one_id_can_be_followed_from_the_call_to_the_webhook(tmp_path: Path, broker: Broker) -> None:
    with logged() as lines:
        async with (
            receiver() as target,
            bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
        ):
            rid = (await gateway.reserve())["reservation_id"]
            await gateway.post(f"/reservations/{rid}/dropoffs", X_Request_ID="follow me")
            request_id = peer.commands[-1].body["request_id"]
            peer.event(EventType.DROPOFF, peer.reservations[rid], request_id=request_id)
            await eventually(lambda: [line for line in lines if line["event"] == "webhook_delivered"])
    mine = [line for line in lines if "follow me" in (line.get("x_request_id"), line.get("request_id"))]
    assert [line["event"] for line in mine] == ["command", "request", "webhook_delivered"]
    command, request, webhook = mine
    assert (command["command"], command["machine_id"], command["code"]) == ("dropoff", "machine_123", 0)
    assert command["request_id"] == request_id
    assert request["status"] == 200
    assert (webhook["host"], webhook["event_type"], webhook["attempts"]) == (
        "127.0.0.1",
        "EVENT_TYPE_DROPOFF",
        1,
    )
    assert min(line["ms"] for line in mine) > 0


async def test_webhooks_behind_a_failed_one_are_not_read(tmp_path: Path) -> None:
    pace = PlausibleAhead(600.0, 30.0)
    async with opened(tmp_path) as store:
        await put(store, view(), event(EventType.DROPOFF, 1), event(EventType.PICKUP, 2))
        (first,) = await store.read(lambda db: due_webhooks(db, NOW_S, pace, 10))
        taken = (await store.write(lambda db: claim(db, [first.position], "one", NOW_S, pace)))[
            first.position
        ]
        assert await store.write(lambda db: claim(db, [first.position], "two", NOW_S, pace)) == {}
        assert await store.read(lambda db: due_webhooks(db, NOW_S, pace, 10)) == []
        failed = {"attempts": 1, "last_problem": "x"}
        assert not await store.write(lambda db: postpone(db, taken, "two", failed, NOW_S + 60))
        assert await store.write(lambda db: postpone(db, taken, "one", failed, NOW_S + 60))
        times = select(webhooks.c.next_attempt_s)
        assert set(await store.read(lambda db: db.execute(times).scalars().all())) == {NOW_S + 60}
        (again,) = await store.read(lambda db: due_webhooks(db, NOW_S + 60, pace, 10))
        assert again.position == first.position
        assert await store.write(lambda db: claim(db, [again.position], "two", NOW_S + 60, pace))
        assert await store.write(lambda db: record_result(db, again.position, "two", {"state": "delivered"}))
        (second,) = await store.read(lambda db: due_webhooks(db, NOW_S + 60, pace, 10))
        assert second.position > first.position


async def _count(target: Receiver, number: int) -> None:
    await eventually(lambda: len(target.got) >= number)


def _unheard_of(gateway: Gateway, peer: Peer, webhook_url: str) -> dict[str, Any]:
    """A reservation that the machine has and the gateway, which once asked for it, does not know."""
    asked = SealedRequest(peer.machine_id, "acme", "order_9", "", webhook_url)
    rid = gateway.app.state.parts.seals.new_id(asked)
    view: dict[str, Any] = {
        "reservation_id": rid,
        "machine_id": peer.machine_id,
        "platform": "acme",
        "platform_order_id": "order_9",
        "webhook_url": webhook_url,
        "status": "RESERVATION_STATUS_PENDING",
        "created_at": "2026-01-01T00:00:00Z",
        "cell": {"description": "A04", "cell_id": "cell_a04"},
        "drop_off_code": "9001",
        "pickup_code": "9002",
        "packaging": {"width": 1, "height": 1, "depth": 1},
        "grace_period_pickup_in_seconds": 120,
        "grace_period_dropoff_in_seconds": 120,
    }
    peer.reservations[rid] = view
    return view


@pytest.mark.parametrize("status", [429, 503])
async def test_l3_a_receiver_that_asks_for_time_gets_it(tmp_path: Path, broker: Broker, status: int) -> None:
    """The longest pause of the tests is 0.4 s, which also bounds Retry-After."""
    times: list[float] = []
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):

        def answer(_: Any) -> int:
            times.append(monotonic())
            return status if len(times) < 3 else 200

        target.status, target.retry_after = answer, "30"
        peer.event(EventType.DROPOFF, peer.reservations[(await gateway.reserve())["reservation_id"]])
        await eventually(lambda: len(times) == 3)
    assert all(later - earlier >= 0.4 * 0.9 for earlier, later in pairwise(times))


async def test_l3_a_receiver_that_is_gone_is_asked_once(tmp_path: Path, broker: Broker) -> None:
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        target.status = lambda _: 410 if len(target.got) == 1 else 200
        view = peer.reservations[(await gateway.reserve())["reservation_id"]]
        first = peer.event(EventType.DROPOFF, view)
        second = peer.event(EventType.PICKUP, view)
        await eventually(lambda: len(target.got) == 2)
        keys = [hook.body["idempotency_key"] for hook in target.got]
        assert keys == [first["idempotency_key"], second["idempotency_key"]]
        states = "SELECT state, last_problem FROM webhooks ORDER BY position"
        await eventually(lambda: stored(tmp_path, states)[1][0] == "delivered")
        assert stored(tmp_path, states) == [("dead", "HTTP 410"), ("delivered", "")]


@pytest.mark.parametrize(
    ("status", "retry_after", "waits_s"),
    [
        (429, "30", 30.0),
        (503, " 7 ", 7.0),
        (429, "Thu, 01 Jan 1970 00:01:40 GMT", 60.0),
        (429, "Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        (429, "soon", 0.0),
        (429, "-5", 0.0),
        (429, None, 0.0),
        (429, "9" * 400, 999_999_999.0),
        (500, "30", 0.0),
    ],
)
def test_l3_what_a_receiver_asks_for(status: int, retry_after: str | None, waits_s: float) -> None:
    assert _retry_after_s(ReceiverResponse(status, retry_after), 40.0) == waits_s
