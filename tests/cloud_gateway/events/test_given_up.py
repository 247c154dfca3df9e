"""A reservation whose caller was answered before the machine had: it is cancelled when it turns up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import pytest

from cloud_gateway.db.store import find_reservation
from cloud_gateway.events.given_up import record_given_up
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.support import MACHINE, QUICK, RESERVE, Gateway, Peer, bench, eventually, silent
from tests.support.broker import Broker

IMPATIENT = replace(QUICK, retry_wait_s=0.3, cancel_pause_s=0.05)
PATIENT = replace(IMPATIENT, retry_wait_s=60.0)


def cancels(peer: Peer) -> list[str]:
    """The reservations that the machine was asked to cancel."""
    return [one.body["reservation_id"] for one in peer.commands if one.name == "cancel"]


async def give_up(gateway: Gateway, peer: Peer, **headers: str) -> dict[str, Any]:
    """A reserve that the machine carries out and does not answer; gives its view."""
    peer.scripts["reserve"] = silent
    response = await gateway.post("/reservations", RESERVE, **headers)
    assert (response.status_code, response.json()["code"]) == (504, 4)
    del peer.scripts["reserve"]
    received = [one for one in peer.commands if one.name == "reserve"][-1]
    peer.late.clear()
    peer.obey("reserve", received.body, received.user)
    return peer.reservations[received.body["reservation_id"]]


@pytest.mark.behaviour("givenup-01")
@pytest.mark.parametrize("headers", [{}, {"X_Request_ID": "r1"}])
async def test_w17_a_given_up_reservation_that_appears_in_an_event_is_cancelled(
    tmp_path: Path, broker: Broker, headers: dict[str, str]
) -> None:
    async with bench(tmp_path, broker.port, timing=IMPATIENT) as (gateway, peer):
        view = await give_up(gateway, peer, **headers)
        assert cancels(peer) == []  # nothing has turned up
        peer.event(EventType.RESERVATION_CREATED, view)
        await gateway.until(view["reservation_id"], "CANCELLED")
        assert cancels(peer) == [view["reservation_id"]]
        assert view["status"] == "RESERVATION_STATUS_CANCELLED"


async def test_w17_a_given_up_reservation_that_appears_in_a_sync_is_cancelled(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port, timing=IMPATIENT) as (gateway, peer):
        view = await give_up(gateway, peer)
        await asyncio.to_thread(peer.digest)
        await eventually(lambda: cancels(peer) == [view["reservation_id"]])


async def test_w17_a_given_up_reservation_that_appears_in_a_late_reply_is_cancelled(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port, timing=IMPATIENT) as (gateway, peer):
        peer.scripts["reserve"] = silent
        assert (await gateway.post("/reservations", RESERVE)).status_code == 504
        peer.late.pop()()
        await eventually(lambda: cancels(peer) == list(peer.reservations))


async def test_w17_a_reservation_unknown_to_the_gateway_is_never_cancelled(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port, timing=IMPATIENT) as (gateway, peer):
        view = await give_up(gateway, peer)
        foreign = dict(view, reservation_id="res_foreign", drop_off_code="1111", pickup_code="2222")
        peer.reservations["res_foreign"] = foreign
        peer.event(EventType.RESERVATION_CREATED, foreign)
        peer.event(EventType.RESERVATION_CREATED, view)
        await eventually(lambda: cancels(peer))
        await gateway.until(view["reservation_id"], "CANCELLED")
        # No platform asked for it: it stays a stub, which the events alone have made.
        store = gateway.app.state.parts.store
        stub = await store.read(lambda db: find_reservation(db, "res_foreign"))
        assert (stub.status, stub.details_known) == ("RESERVATION_STATUS_PENDING", False)
        assert cancels(peer) == [view["reservation_id"]]


async def test_w17_a_parcel_is_never_cancelled(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port, timing=IMPATIENT) as (gateway, peer):
        view, other = await give_up(gateway, peer), await give_up(gateway, peer)
        view["status"] = "RESERVATION_STATUS_DROPPED_OFF"
        peer.event(EventType.RESERVATION_CREATED, view, publish=False)
        peer.event(EventType.DROPOFF, view, publish=False)
        peer.event(EventType.RESERVATION_CREATED, other, publish=False)
        await asyncio.to_thread(peer.digest)  # one page brings all three, in one transaction
        await eventually(lambda: other["reservation_id"] in cancels(peer))
        assert cancels(peer) == [other["reservation_id"]]


@pytest.mark.behaviour("givenup-02")
async def test_w17_a_retry_withdraws_the_cancellation_first(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port, timing=PATIENT) as (gateway, peer):
        view = await give_up(gateway, peer, X_Request_ID="r1")
        response = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        assert response.status_code == 200, response.text
        assert response.json()["reservation_id"] == view["reservation_id"]
        store = gateway.app.state.parts.store
        peer.event(EventType.RESERVATION_CREATED, view)
        other = await give_up(gateway, peer)  # without an id: cancelled as soon as it turns up
        peer.event(EventType.RESERVATION_CREATED, other)
        await gateway.until(other["reservation_id"], "CANCELLED")
        assert cancels(peer) == [other["reservation_id"]]
        assert (await store.reservation(view["reservation_id"])).status == "RESERVATION_STATUS_PENDING"


async def test_w17_a_retry_after_the_cancellation_is_refused(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port, timing=IMPATIENT) as (gateway, peer):
        view = await give_up(gateway, peer, X_Request_ID="r1")
        peer.event(EventType.RESERVATION_CREATED, view)
        await gateway.until(view["reservation_id"], "CANCELLED")
        response = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        assert (response.status_code, response.json()["code"]) == (400, 9)
        assert (await gateway.post("/reservations", RESERVE, X_Request_ID="r2")).status_code == 200


async def test_w17_a_cancel_without_an_answer_is_not_raced_by_a_retry(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port, timing=IMPATIENT) as (gateway, peer):
        view = await give_up(gateway, peer, X_Request_ID="r1")
        peer.scripts["cancel"] = silent
        peer.event(EventType.RESERVATION_CREATED, view)
        await eventually(lambda: cancels(peer))
        response = await gateway.post("/reservations", RESERVE, X_Request_ID="r1")
        assert (response.status_code, response.json()["code"]) == (504, 4)
        peer.late.pop()()  # it was carried out; its reply comes late
        await gateway.until(view["reservation_id"], "CANCELLED")


async def test_w17_a_cancellation_waits_for_the_machine(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port, timing=IMPATIENT) as (gateway, peer):
        view = await give_up(gateway, peer, X_Request_ID="r1")
        await asyncio.to_thread(peer.online, False)
        await eventually(lambda: not gateway.machines.is_online(MACHINE))
        store = gateway.app.state.parts.store
        peer.event(EventType.RESERVATION_CREATED, view)
        await eventually(lambda: peer.sequence and peer.commands)
        await store.write(lambda db: record_given_up(db, "res_none", MACHINE, time(), 0.0))
        await asyncio.to_thread(peer.online, True)
        await gateway.until(view["reservation_id"], "CANCELLED")
        assert cancels(peer) == [view["reservation_id"]]


async def test_the_details_of_a_machines_refusal_reach_the_caller(tmp_path: Path, broker: Broker) -> None:
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "CONTACT_IN_DOUBT",
            "metadata": {"cell": "A03", "pulsed": "true"},
        }
    ]
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        refusal = {"code": 13, "message": "the contact of A03 is in doubt", "details": details}
        peer.scripts["pickup"] = lambda _: {"error": refusal}
        response = await gateway.post(f"/reservations/{rid}/pickups", X_Request_ID="r1")
        assert (response.status_code, response.json()) == (500, refusal)
        again = await gateway.post(f"/reservations/{rid}/pickups", X_Request_ID="r1")
        assert again.json() == refusal
