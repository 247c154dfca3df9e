"""The broker goes and comes; the gateway goes and comes: nothing is lost, doubled or sent twice."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from edge_agent.protocol.events import EventType
from tests.cloud_gateway.support import (
    MACHINE,
    QUICK,
    RESERVE,
    Peer,
    bench,
    eventually,
    running_gateway,
    settings,
    silent,
)
from tests.support.broker import Broker

RECONNECT_S = 10.0


def stored(folder: Path, query: str) -> list[Any]:
    """Rows of the gateway's database."""
    with closing(sqlite3.connect(folder / "gateway.db")) as db:
        return db.execute(query).fetchall()


def sequences(folder: Path) -> list[int]:
    """The sequence numbers of the applied events, as they came."""
    query = "SELECT sequence FROM events WHERE state = 'applied' ORDER BY position"
    return [row[0] for row in stored(folder, query)]


@pytest.mark.parametrize("kill", [True, False])
async def test_after_a_broker_outage_it_is_connected_within_10_s(
    tmp_path: Path, broker: Broker, kill: bool
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        rid = (await gateway.reserve())["reservation_id"]
        await asyncio.to_thread(lambda: broker.stop(kill=kill))
        await eventually(lambda: not gateway.machines.connected)
        assert (await gateway.http.get("/healthz")).status_code == 503
        response = await gateway.post(f"/reservations/{rid}/dropoffs")
        assert (response.status_code, response.json()["code"]) == (503, 14)
        assert (await gateway.get(f"/reservations/{rid}")).json()["machine"]["online"] is False
        await asyncio.to_thread(broker.start)
        started = monotonic()
        await eventually(lambda: gateway.machines.connected)
        assert monotonic() - started < RECONNECT_S
        assert (await gateway.http.get("/healthz")).status_code == 200
        await gateway.sees()
        assert (await gateway.post(f"/reservations/{rid}/dropoffs")).status_code == 200


async def test_events_around_a_broker_restart_come_once_and_in_order(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        for _ in range(20):
            peer.event(EventType.CELL_STATUS_CHANGED, wait=False)
        await asyncio.to_thread(broker.stop)
        for _ in range(20):
            peer.event(EventType.CELL_STATUS_CHANGED, wait=False)
        await asyncio.to_thread(broker.start)
        await eventually(lambda: gateway.machines.connected)
        last = await asyncio.to_thread(peer.event, EventType.CELL_STATUS_CHANGED)
        await eventually(lambda: last["sequence"] in sequences(tmp_path))
        assert sequences(tmp_path) == list(range(1, 42))


async def test_events_sent_while_the_gateway_is_away_wait_for_it(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        view = peer.reservations[rid]
    await asyncio.to_thread(peer.start)
    try:
        for kind in (EventType.RESERVATION_CREATED, EventType.DROPOFF):
            await asyncio.to_thread(peer.event, kind, view)
        async with running_gateway(settings(tmp_path, broker.port)) as gateway:
            await gateway.until(rid, "DROPPED_OFF")
        assert sequences(tmp_path) == [1, 2]
    finally:
        await asyncio.to_thread(peer.stop)


async def test_events_that_cannot_be_stored_yet_come_once_in_the_end(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (_, peer):
        with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
            other.execute("PRAGMA busy_timeout=5000")
            other.execute("BEGIN IMMEDIATE")  # the gateway cannot write now
            peer.event(EventType.CELL_STATUS_CHANGED, wait=False)
            peer.event(EventType.CELL_STATUS_CHANGED, wait=False)
            await asyncio.to_thread(broker.stop)  # keeps what was not acknowledged
            await asyncio.to_thread(broker.start)
            other.execute("ROLLBACK")
        await eventually(lambda: len(sequences(tmp_path)) == 2)
        assert sequences(tmp_path) == [1, 2]


async def test_a_repeated_event_is_applied_once(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (_, peer):
        one = await asyncio.to_thread(peer.event, EventType.CELL_STATUS_CHANGED)
        for sequence in (one["sequence"], one["sequence"] + 1):
            key = one["idempotency_key"]
            peer.event(EventType.CELL_STATUS_CHANGED, idempotency_key=key, sequence=sequence)
        end = peer.event(EventType.CELL_STATUS_CHANGED, sequence=7)
        await eventually(lambda: end["sequence"] in sequences(tmp_path))
        assert sequences(tmp_path) == [1, 7]


async def test_an_unreadable_message_is_kept_for_an_operator_and_blocks_nothing(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (_, peer):
        topic = peer.topics.events
        for payload in (b"{", b"\xff\xfe", b"[]", b'{"event_type": "EVENT_TYPE_NEW"}'):
            await asyncio.to_thread(peer.publish, topic, payload)
        peer.event(EventType.CELL_STATUS_CHANGED, sequence=10**30)
        peer.event(EventType.CELL_STATUS_CHANGED, machine_id="another")
        peer.event(EventType.CELL_STATUS_CHANGED, event_type="EVENT_TYPE_X")
        await asyncio.to_thread(peer.publish, f"locker/v1/{MACHINE}/state/machine", b"{}")
        peer.sequence = 0
        await asyncio.to_thread(peer.event, EventType.CELL_STATUS_CHANGED)
        await eventually(lambda: sequences(tmp_path) == [1])
        assert len(stored(tmp_path, "SELECT * FROM rejected")) == 8


async def test_commands_in_flight_are_answered_and_never_sent_again(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        peer.scripts = {"reserve": silent, "dropoff": silent}
        calls = asyncio.gather(
            gateway.post("/reservations", RESERVE), gateway.post(f"/reservations/{rid}/dropoffs")
        )
        await eventually(lambda: len(peer.late) == 2)
        await asyncio.to_thread(lambda: broker.stop(kill=True))
        reserve, dropoff = await calls
        # A reservation may be asked for again at once; a door might still open until its command has expired.
        assert reserve.json()["code"] == 14
        assert dropoff.json()["code"] == 4
        seen = len(peer.commands)
        await asyncio.to_thread(broker.start)
        await gateway.sees()
        peer.scripts = {}
        assert (await gateway.post("/reservations", RESERVE)).status_code == 200
        assert len(peer.commands) == seen + 1


async def test_a_reply_after_a_short_outage_still_answers(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        peer.scripts = {"dropoff": silent}
        call = asyncio.create_task(gateway.post(f"/reservations/{rid}/dropoffs"))
        await eventually(lambda: peer.late)
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        await asyncio.to_thread(lambda: peer.late.pop()())
        assert (await call).status_code == 200


async def test_a_broker_that_starts_later_is_found(tmp_path: Path, broker: Broker) -> None:
    await asyncio.to_thread(broker.stop)
    async with running_gateway(settings(tmp_path, broker.port), connected=False) as gateway:
        assert (await gateway.http.get("/healthz")).status_code == 503
        response = await gateway.post("/reservations", RESERVE)
        assert (response.status_code, response.json()["code"]) == (503, 14)
        await asyncio.to_thread(broker.start)
        await eventually(lambda: gateway.machines.connected)


async def test_a_burst_is_answered_in_full(tmp_path: Path, broker: Broker) -> None:
    patient = replace(QUICK, wait_s=10.0, life_s=9.0)
    async with bench(tmp_path, broker.port, timing=patient) as (gateway, peer):
        answers = await asyncio.gather(*(gateway.post("/reservations", RESERVE) for _ in range(60)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(peer.reservations) == 60


async def test_a_machine_without_a_session_is_answered_offline_at_once(
    tmp_path: Path, broker: Broker
) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        peer = Peer(broker.port)
        await asyncio.to_thread(peer.start)
        await gateway.sees()
        # It says that it is online, but there is no session any more: no will, no farewell.
        await asyncio.to_thread(lambda: peer.stop(farewell=False))
        await asyncio.to_thread(peer.forget)
        response = await gateway.post("/reservations", RESERVE)
        assert (response.status_code, response.json()["code"]) == (503, 14)
