"""Two gateways on one PostgreSQL and one broker: nothing twice, nothing lost, everything in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cloud_gateway.settings import Settings, Timing
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.receiver import Receiver, receiver
from tests.cloud_gateway.support import (
    KEY,
    QUICK,
    RESERVE,
    Gateway,
    Peer,
    error,
    eventually,
    running_gateway,
    settings,
)
from tests.cloud_gateway.test_process import process
from tests.support.broker import Broker
from tests.support.postgres import Postgres
from tools.bench.ports import free_port

LIFE = (EventType.RESERVATION_CREATED, EventType.DROPOFF, EventType.PICKUP, EventType.RESERVATION_COMPLETED)
TOLD = ["EVENT_TYPE_DROPOFF", "EVENT_TYPE_PICKUP"]


def replica(folder: Path, broker: Broker, url: str, number: int, webhook_url: str = "") -> Settings:
    """One of several gateways."""
    given = settings(folder, broker.port, webhook_url)
    mqtt = given.mqtt.model_copy(update={"client_id": f"gateway-{number}"})
    return given.model_copy(update={"database_url": url, "mqtt": mqtt})


@asynccontextmanager
async def pair(
    folder: Path, broker: Broker, url: str, webhook_url: str = "", timing: Timing = QUICK
) -> AsyncIterator[tuple[Gateway, Gateway, Peer]]:
    """Two gateways that see one machine."""
    peer = Peer(broker.port, names_journal=True)
    await asyncio.to_thread(peer.start)
    try:
        async with (
            running_gateway(replica(folder, broker, url, 1, webhook_url), timing=timing) as one,
            running_gateway(replica(folder, broker, url, 2, webhook_url), timing=timing) as two,
        ):
            await one.sees()
            await two.sees()
            yield one, two, peer
    finally:
        await asyncio.to_thread(peer.stop)


def rows(url: str, query: str) -> list[Any]:
    """Rows of the database."""
    with psycopg.connect(_plain(url)) as db:
        return db.execute(query.encode()).fetchall()


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql", 1)


def applied(url: str) -> list[int]:
    """The applied events of the machine by number, each as often as it is there."""
    query = "SELECT sequence FROM events WHERE state = 'applied' ORDER BY sequence"
    return [row[0] for row in rows(url, query)]


def in_order(target: Receiver) -> dict[str, list[str]]:
    """The types of each reservation's webhooks as they came, each idempotency key once."""
    found: dict[str, dict[str, str]] = {}
    for hook in target.got:
        mine = found.setdefault(hook.body["reservation_id"], {})
        mine.setdefault(hook.body["idempotency_key"], hook.body["event_type"])
    return {reservation_id: list(types.values()) for reservation_id, types in found.items()}


async def test_a_walk_that_alternates_between_them(
    tmp_path: Path, broker: Broker, postgres: Postgres
) -> None:
    url = postgres.database()
    async with receiver() as target, pair(tmp_path, broker, url, target.url) as (one, two, peer):
        made = await one.reserve(notes="left door")
        rid = made["reservation_id"]
        got = (await two.get(f"/reservations/{rid}")).json()
        assert (got["status"], got["notes"]) == ("RESERVATION_STATUS_PENDING", "left door")
        assert got["drop_off_code"] == made["drop_off_code"]
        assert (await two.post(f"/reservations/{rid}/dropoffs", X_Request_ID="d1")).status_code == 200
        again = await one.post(f"/reservations/{rid}/dropoffs", X_Request_ID="d1")
        assert again.json() == {"cell": {"description": "A03"}}
        assert [command.name for command in peer.commands] == ["reserve", "dropoff"]
        other = await one.post(f"/reservations/{rid}/dropoffs", {"x": 1}, X_Request_ID="d1")
        assert (other.status_code, other.json()["code"]) == (400, 3)
        for kind in LIFE[:2]:
            peer.event(kind, peer.reservations[rid])
        await one.until(rid, "DROPPED_OFF")
        assert (await two.get(f"/reservations/{rid}")).json()["status"].endswith("DROPPED_OFF")
        assert (await one.post(f"/reservations/{rid}/pickups")).status_code == 200
        # What an answered POST did, the other one's next GET shows.
        assert (await two.get(f"/reservations/{rid}")).json()["status"].endswith("PICKED_UP")
        for kind in LIFE[2:]:
            peer.event(kind, peer.reservations[rid])
        await eventually(lambda: in_order(target) == {rid: TOLD})
        await eventually(lambda: applied(url) == [1, 2, 3, 4])
        assert (await two.get("/reservations")).json()["total_count"] == 0


async def test_the_same_request_at_both_at_once_acts_once_with_one_answer(
    tmp_path: Path, broker: Broker, postgres: Postgres
) -> None:
    url = postgres.database()
    async with pair(tmp_path, broker, url) as (one, two, peer):
        for number in range(20):
            calls = [g.post("/reservations", RESERVE, X_Request_ID=f"r{number}") for g in (one, two, one)]
            answers = await asyncio.gather(*calls)
            assert {answer.status_code for answer in answers} == {200}, [a.text for a in answers]
            assert len({answer.content for answer in answers}) == 1
        assert len(peer.reservations) == 20
        ids = {command.body["request_id"] for command in peer.commands}
        assert len(ids) == 20
        assert rows(url, "SELECT count(*) FROM requests") == [(20,)]
        peer.scripts["reserve"] = error(8, "all that fit are taken")
        both = await asyncio.gather(
            *(g.post("/reservations", RESERVE, X_Request_ID="no") for g in (one, two))
        )
        assert [answer.status_code for answer in both] == [429, 429]
        del peer.scripts["reserve"]
        assert (await two.post("/reservations", RESERVE, X_Request_ID="no")).content == both[0].content


@pytest.mark.long
async def test_under_load_no_event_and_no_webhook_twice(
    tmp_path: Path, broker: Broker, postgres: Postgres
) -> None:
    url = postgres.database()
    patient = replace(QUICK, webhook_timeout_s=10.0)  # a late answer means another delivery
    async with receiver() as target, pair(tmp_path, broker, url, target.url, patient) as (one, two, peer):
        dice, lives = random.Random("load"), []
        for number in range(60):
            made = await (one, two)[number % 2].reserve()
            lives.append(made["reservation_id"])
        waiting = {rid: list(LIFE) for rid in lives}
        while waiting:
            rid = dice.choice(sorted(waiting))
            peer.event(waiting[rid].pop(0), peer.reservations[rid], wait=False)
            if not waiting[rid]:
                del waiting[rid]
        count = len(lives) * len(LIFE)
        await eventually(lambda: applied(url) == list(range(1, count + 1)), deadline_s=30)
        await eventually(lambda: in_order(target) == dict.fromkeys(lives, TOLD), deadline_s=30)
        keys = [hook.body["idempotency_key"] for hook in target.got]
        assert len(keys) == len(set(keys))
        done = "SELECT count(*) FROM webhooks WHERE state = 'delivered' AND lease_owner IS NULL"
        await eventually(lambda: rows(url, done) == [(2 * len(lives),)])
        assert rows(url, "SELECT count(*) FROM rejected") == [(0,)]


async def test_a_dead_gateways_lease_ends_by_itself(
    tmp_path: Path, broker: Broker, postgres: Postgres
) -> None:
    url = postgres.database()
    async with receiver() as target:
        target.status = lambda _: None  # takes the webhook and says nothing
        slow = replace(QUICK, webhook_timeout_s=1.0)
        async with pair(tmp_path, broker, url, target.url, slow) as (one, _, peer):
            made = await one.reserve()
            peer.event(EventType.DROPOFF, peer.reservations[made["reservation_id"]])
            await eventually(lambda: target.got)
            # As a gateway would leave it that died in the middle of its delivery.
            taken = "UPDATE webhooks SET lease_owner = 'gateway-9', lease_until_s = %s RETURNING position"
            with psycopg.connect(_plain(url)) as db:
                soon = one.app.state.parts.clock() + 2
                assert db.execute(taken.encode(), (soon,)).fetchall()
            target.got.clear()
            target.status = lambda _: 200
            hook = await eventually(lambda: target.got and target.got[0])
            assert one.app.state.parts.clock() >= soon
            assert hook.body["event_type"] == "EVENT_TYPE_DROPOFF"


def _config(folder: Path, broker: Broker, url: str, number: int, webhook_url: str) -> tuple[Path, int]:
    """A gateway's configuration file and its port."""
    port, path = free_port(), folder / f"gateway-{number}.toml"
    path.write_text(
        f'listen_port = {port}\npublic_url = "http://127.0.0.1:{port}"\ndatabase_url = "{url}"\n'
        f'[webhooks]\nallow_networks = ["127.0.0.0/8"]\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nclient_id = "gateway-{number}"\n'
        f'[[platforms]]\nname = "acme"\napi_key = "{KEY}"\nwebhook_url = "{webhook_url}"\n'
    )
    return path, port


@pytest.mark.long
async def test_one_of_two_is_killed_under_load(tmp_path: Path, broker: Broker, postgres: Postgres) -> None:
    url, peer = postgres.database(), Peer(broker.port, names_journal=True)
    await asyncio.to_thread(peer.start)
    try:
        async with receiver() as target:
            doomed, port = _config(tmp_path, broker, url, 1, target.url)
            logs = [tmp_path / "log-1", tmp_path / "log-2"]
            async with (
                process(doomed, port, logs[0]) as victim,
                running_gateway(replica(tmp_path, broker, url, 2, target.url), timing=Timing()) as other,
            ):
                await other.sees()
                lives = await _live_and_kill(other, peer, victim)
                count = len(lives) * len(LIFE)
                # The broker goes on giving the dead one its share until its session is over.
                await eventually(lambda: applied(url) == list(range(1, count + 1)), deadline_s=60)
                await eventually(lambda: in_order(target) == dict.fromkeys(lives, TOLD), deadline_s=60)
                assert rows(url, "SELECT count(*) FROM rejected") == [(0,)]
                assert (await other.get("/reservations")).json()["total_count"] == 0
    finally:
        await asyncio.to_thread(peer.stop)


async def test_the_last_events_before_a_silence_do_not_stay_with_a_dead_gateway(
    tmp_path: Path, broker: Broker, postgres: Postgres
) -> None:
    """Nothing comes after them that would show the gap; the broker keeps them for the dead one."""
    url, peer = postgres.database(), Peer(broker.port, names_journal=True)
    await asyncio.to_thread(peer.start)
    try:
        doomed, port = _config(tmp_path, broker, url, 1, "")
        async with (
            process(doomed, port, tmp_path / "log") as victim,
            running_gateway(replica(tmp_path, broker, url, 2)) as other,
        ):
            await other.sees()
            victim.kill()
            await asyncio.to_thread(victim.wait)
            for number in range(1, 5):
                await asyncio.to_thread(peer.event, EventType.CELL_STATUS_CHANGED)
                await eventually(lambda number=number: applied(url)[-1:] == [number], deadline_s=30)  # type: ignore[misc]
            assert applied(url) == [1, 2, 3, 4]
    finally:
        await asyncio.to_thread(peer.stop)


async def _live_and_kill(other: Gateway, peer: Peer, victim: Any) -> list[str]:
    """Lives go on while one gateway is killed in their middle; gives their ids."""
    lives = []
    for number in range(40):
        rid = (await other.reserve())["reservation_id"]
        lives.append(rid)
        for kind in LIFE:
            peer.event(kind, peer.reservations[rid], wait=False)
        if number == 20:
            victim.kill()
        await asyncio.sleep(0.02)
    return lives


@pytest.mark.parametrize("kill", [True, False])
async def test_a_database_that_is_lost_and_returns(
    tmp_path: Path, broker: Broker, postgres: Postgres, kill: bool
) -> None:
    url = postgres.database()
    async with receiver() as target, pair(tmp_path, broker, url, target.url) as (one, two, peer):
        view = peer.reservations[(await one.reserve())["reservation_id"]]
        rid = view["reservation_id"]
        await asyncio.to_thread(postgres.kill if kill else postgres.stop)
        try:
            for kind in LIFE[:3]:
                peer.event(kind, view)
            response = await two.post(f"/reservations/{rid}/dropoffs", X_Request_ID="d")
            assert (response.status_code, response.json()["code"]) == (500, 13)
        finally:
            await asyncio.to_thread(postgres.start)
        await eventually(lambda: in_order(target) == {rid: TOLD}, deadline_s=20)
        assert applied(url) == [1, 2, 3]
        assert (await two.post(f"/reservations/{rid}/dropoffs", X_Request_ID="d")).status_code == 200
