"""What is missing is asked for: gaps, digests, new journals, lost databases, machines without `sync`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.events import reconcile
from cloud_gateway.events.projection import apply_event
from cloud_gateway.events.reconcile import Reconciler
from cloud_gateway.events.sync import note_unknown
from cloud_gateway.machines.commands import Reply
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.events.test_projection import NOW_S, event, opened
from tests.cloud_gateway.machines.test_mqtt_link import sequences, stored
from tests.cloud_gateway.operations.test_routes import ask
from tests.cloud_gateway.receiver import receiver
from tests.cloud_gateway.support import (
    MACHINE,
    QUICK,
    Gateway,
    Peer,
    bench,
    error,
    eventually,
    logged,
    running_gateway,
    settings,
    silent,
)
from tests.support.broker import Broker

CHANGED = EventType.CELL_STATUS_CHANGED


def verified(folder: Path) -> bool:
    """Whether the machine was asked and nothing is missing any more."""
    return bool(stored(folder, "SELECT * FROM sources WHERE verified_s > 0 AND asked_until_s = 0"))


async def settled(folder: Path, peer: Peer) -> None:
    """Waits until the first asking, at the gateway's start, is over."""
    await eventually(lambda: peer.syncs and verified(folder))


async def test_a_gap_is_filled_and_its_webhooks_are_sent_in_order(tmp_path: Path, broker: Broker) -> None:
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        await settled(tmp_path, peer)
        view = peer.reservations[(await gateway.reserve())["reservation_id"]]
        peer.event(EventType.RESERVATION_CREATED, view)
        lost = peer.event(EventType.DROPOFF, view, publish=False)
        asked = len(peer.syncs)
        last = peer.event(EventType.PICKUP, view)
        await eventually(lambda: len(target.got) == 2)
        keys = [hook.body["idempotency_key"] for hook in target.got]
        assert keys == [lost["idempotency_key"], last["idempotency_key"]]
        assert [call.body["from_sequence"] for call in peer.syncs[asked:]] == [2]
        assert sorted(sequences(tmp_path)) == [1, 2, 3]


async def test_slightly_disordered_events_request_no_sync(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (_, peer):
        await settled(tmp_path, peer)
        asked = len(peer.syncs)
        for sequence in (2, 3, 1, 5, 4):
            peer.event(CHANGED, sequence=sequence)
        await eventually(lambda: sorted(sequences(tmp_path)) == [1, 2, 3, 4, 5])
        assert len(peer.syncs) == asked


async def test_a_digest_that_is_ahead_is_followed_page_by_page(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        await settled(tmp_path, peer)
        asked = len(peer.syncs)
        for _ in range(250):
            peer.event(CHANGED, publish=False)
        await asyncio.to_thread(peer.digest)
        await eventually(lambda: len(sequences(tmp_path)) == 250)
        assert [call.body["from_sequence"] for call in peer.syncs[asked:]] == [1, 101, 201]
        # Its digest then equals the projection: no machine is asked.
        await eventually(lambda: verified(tmp_path) and MACHINE not in gateway.app.state.reconciler.unsure)
        asked = len(peer.syncs)
        peer.event(CHANGED)
        await asyncio.to_thread(peer.digest)
        await _looked_at(gateway)
        assert len(peer.syncs) == asked


async def test_a_digest_with_another_reservation_repairs_the_projection(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        await settled(tmp_path, peer)
        rid = (await gateway.reserve())["reservation_id"]
        # By the digest its drop-off was in an applied event; the gateway knows of none.
        peer.reservations[rid]["status"] = "RESERVATION_STATUS_DROPPED_OFF"
        await asyncio.to_thread(peer.digest)
        await gateway.until(rid, "DROPPED_OFF")


async def test_a_lost_database_is_rebuilt_from_the_machine(tmp_path: Path, broker: Broker) -> None:
    peer = Peer(broker.port, names_journal=True)
    await asyncio.to_thread(peer.start)
    try:
        async with receiver() as target:
            first = settings(tmp_path / "one", broker.port, target.url)
            async with running_gateway(_made(first)) as gateway:
                await gateway.sees()
                made = await gateway.reserve(notes="left door")
                rid = made["reservation_id"]
                for kind in (EventType.RESERVATION_CREATED, EventType.DROPOFF):
                    peer.event(kind, peer.reservations[rid])
                await gateway.until(rid, "DROPPED_OFF")
                await eventually(lambda: target.got)
            key = target.got[0].body["idempotency_key"]
            target.got.clear()
            second = settings(tmp_path / "two", broker.port, target.url)
            async with running_gateway(_made(second)) as gateway:
                got = await gateway.until(rid, "DROPPED_OFF")
                assert (got["drop_off_code"], got["notes"]) == (made["drop_off_code"], "left door")
                await eventually(lambda: target.got)
                assert target.got[0].body["idempotency_key"] == key
                assert sorted(sequences(tmp_path / "two")) == [1, 2]
    finally:
        await asyncio.to_thread(peer.stop)


async def test_a_new_disk_counts_from_one_and_old_reservations_are_shown(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        peer.names_journal = True
        await settled(tmp_path, peer)
        rid = (await gateway.reserve())["reservation_id"]
        peer.event(EventType.RESERVATION_CREATED, peer.reservations[rid])
        await eventually(lambda: sequences(tmp_path) == [1])
        peer.journal_id, peer.sequence = "journal-2", 0
        peer.log.clear()
        peer.reservations.clear()
        peer.scripts["get-reservation"] = error(5, "no such reservation")
        peer.event(CHANGED)
        await asyncio.to_thread(peer.digest)
        await eventually(lambda: sequences(tmp_path) == [1, 1])
        rows = await _shown(gateway, "unknown_reservations")
        assert [(one["reservation_id"], one["machine_id"]) for one in rows] == [(rid, MACHINE)]
        text = (await ask(gateway)).text
        assert "Reservations that their machine does not know" in text
        assert (await gateway.get(f"/reservations/{rid}")).json()["status"].endswith("_PENDING")


async def test_a_reservation_that_is_over_for_the_machine_is_over(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        await settled(tmp_path, peer)
        rid = (await gateway.reserve())["reservation_id"]
        assert (await gateway.post(f"/reservations/{rid}/pickups")).status_code == 200
        assert (await gateway.get("/reservations")).json()["total_count"] == 1
        peer.ended.add(rid)  # its last event is lost for good
        await asyncio.to_thread(peer.digest)
        async with asyncio.timeout(10):
            while (await gateway.get("/reservations")).json()["total_count"]:
                await asyncio.sleep(0.01)


async def test_events_that_are_lost_for_good_are_logged_once(tmp_path: Path, broker: Broker) -> None:
    with logged() as lines:
        async with bench(tmp_path, broker.port) as (_, peer):
            await settled(tmp_path, peer)
            peer.event(CHANGED)
            for _ in range(5):
                peer.event(CHANGED, publish=False)
            peer.oldest = 5
            for number in range(1, 5):
                peer.log.pop(number)
            peer.event(CHANGED)
            await eventually(lambda: 7 in sequences(tmp_path))
            assert sorted(sequences(tmp_path)) == [1, 5, 6, 7]
    lost = [line for line in lines if line["event"] == "events_lost"]
    assert [(line["from_sequence"], line["to_sequence"]) for line in lost] == [(2, 4)]


async def test_a_machine_without_sync_counts_from_the_first_event(tmp_path: Path, broker: Broker) -> None:
    peer = Peer(broker.port, scripts={"sync": error(12, "not built")}, sequence=41)
    await asyncio.to_thread(peer.start)
    try:
        async with running_gateway(settings(tmp_path, broker.port)) as gateway:
            await gateway.sees()
            peer.event(CHANGED)
            peer.event(CHANGED)
            await eventually(lambda: sequences(tmp_path) == [42, 43])
            peer.sequence = 44
            peer.event(CHANGED)
            await eventually(lambda: sequences(tmp_path) == [42, 43, 45])
    finally:
        await asyncio.to_thread(peer.stop)


async def test_a_failed_sync_is_retried(tmp_path: Path, broker: Broker) -> None:
    answers: list[dict[str, Any]] = [
        {"error": {"code": 13, "message": "no", "details": []}},
        {"result": {"nonsense": True}},
        {"result": {"journal_id": "j", "oldest_sequence": 1, "last_sequence": 9, "events": []}},
    ]
    async with bench(tmp_path, broker.port) as (_, peer):
        await settled(tmp_path, peer)
        peer.event(CHANGED, publish=False)

        def sync(body: dict[str, Any]) -> dict[str, Any]:
            return answers.pop(0) if answers else {"result": peer.sync(body["from_sequence"])}

        peer.scripts["sync"] = sync
        peer.event(CHANGED)
        await eventually(lambda: sorted(sequences(tmp_path)) == [1, 2])
        assert answers == []


async def test_a_number_that_the_journal_never_reached_is_put_aside(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (_, peer):
        await settled(tmp_path, peer)
        forged = peer.event(CHANGED, sequence=1000)
        peer.log.clear()
        peer.sequence = 0
        peer.event(CHANGED)
        reason = "SELECT reason FROM rejected"
        await eventually(lambda: stored(tmp_path, reason), deadline_s=20)
        assert stored(tmp_path, reason) == [("its number is beyond the end of the machine's journal",)]
        assert sequences(tmp_path) == [1]
        assert forged["sequence"] == 1000


class _Machines:
    """The command side of a machine that is there; it knows of nothing that was asked for by now."""

    connected = True

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def has_twins(self, machine_id: str) -> bool:
        """Never."""
        return False

    def online(self) -> list[str]:
        """The one."""
        return ["m1"]

    def is_online(self, machine_id: str) -> bool:
        """Whether it is the one."""
        return machine_id == "m1"

    async def call(self, _machine_id: str, _name: str, fields: dict[str, Any], **_ids: str) -> Reply:
        """Answers after a moment."""
        self.asked.append(fields["reservation_id"])
        await asyncio.sleep(0)
        return Reply({}, None)


async def test_an_unreadable_part_of_a_sync_blocks_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_gateway.events.reconcile.INCOMPLETE_MAX", 12)
    machines: Any = _Machines()
    async with opened(tmp_path) as store:
        names = [f"{group}_{number}" for group in ("away", "unknown", "here") for number in range(12)]
        for name in names:
            machine_id = "m2" if name.startswith("away") else "m1"
            created = event(EventType.RESERVATION_CREATED, 1, reservation_id=name, machine_id=machine_id)
            await store.write(lambda db, created=created: apply_event(db, created, NOW_S))  # type: ignore[misc]
            if name.startswith("unknown"):
                await store.write(lambda db, name=name: note_unknown(db, "m1", name, NOW_S))  # type: ignore[misc]
        reconciler = Reconciler(store, machines, QUICK, lambda: NOW_S + 60.0, lambda: None, "one")
        async with asyncio.TaskGroup() as group:
            await reconciler._complete(group)
        # One round: where one is learned the next begins.
        assert machines.asked == [name for name in names if name.startswith("here")]


async def _shown(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    """What operations people see, once there is anything."""
    async with asyncio.timeout(10):
        while True:
            rows: list[dict[str, Any]] = (await ask(gateway, "/operations.json")).json()[name]
            if rows:
                return rows
            await asyncio.sleep(0.01)


async def _looked_at(gateway: Gateway) -> None:
    """Waits until the gateway has heard of the machine and has found what it is to do about it."""
    reconciler = gateway.app.state.reconciler
    await eventually(lambda: MACHINE in reconciler.unsure)
    await eventually(lambda: MACHINE not in reconciler.unsure)


def _made(given: Any) -> Any:
    """Settings whose folder is there."""
    Path(given.database_url.removeprefix("sqlite:///")).parent.mkdir(exist_ok=True)
    return given


async def test_machines_that_do_not_answer_leave_the_others_their_turn(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "CHECKED_AT_ONCE", 2)
    peers = [Peer(broker.port, f"machine_{number}") for number in range(7)]
    for peer in peers[:4]:
        peer.scripts["sync"] = silent
    for peer in peers:
        await asyncio.to_thread(peer.start)
    try:
        async with running_gateway(settings(tmp_path, broker.port), timing=QUICK):
            checked = "SELECT machine_id FROM sources WHERE verified_s > 0 AND asked_until_s = 0"
            answering = {(peer.machine_id,) for peer in peers[4:]}
            await eventually(lambda: set(stored(tmp_path, checked)) == answering)
    finally:
        for peer in peers:
            await asyncio.to_thread(peer.stop)
