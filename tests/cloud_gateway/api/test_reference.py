"""The examples of the API reference, word for word, and what is answered to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.protocol.events import EventType
from tests.cloud_gateway.receiver import receiver
from tests.cloud_gateway.support import API, KEY, Gateway, Peer, bench, cell, eventually
from tests.support.broker import Broker
from tests.support.reference import check

ECHO = """{
"message": "test"
}"""

SEARCH = """{
"latitude": -6.125556,
"longitude": 106.655830,
"radius": 1000,
"limit": 10,
"only_available_lockers": true,
"packaging": {
"width": 300,
"height": 200,
"depth": 400,
"weight": 1500,
"heating_required": false,
"cooling_required": true
}
}"""

RESERVE = """{
"machine_id": "machine_123",
"platform_order_id": "order_456",
"notes": "Fragile package - handle with care",
"webhook_url": "https://yourapi.com/webhooks/delivery",
"packaging": {
"width": 300,
"height": 200,
"depth": 400,
"weight": 1500,
"heating_required": false,
"cooling_required": true
},
"eta_minutes": 30,
"grace_period_pickup_in_seconds": 120,
"grace_period_dropoff_in_seconds": 120
}"""

MAINTENANCE = """{
"cell_id": "cell_unique_id_123",
"machine_id": "machine_123",
"description": "Door mechanism not opening properly - requires inspection",
"severity": "HIGH",
"block_cell_immediately": true
}"""

OPEN_DOOR = """{
"reason": "Customer support request - customer unable to open door with code",
"platform_reference_id": "support_ticket_789"
}"""

CURL_OPEN_DOOR = """{
"reason": "Customer support ticket #456",
"platform_reference_id": "ticket_456"
}"""


async def post(gateway: Gateway, path: str, text: str | None = None, **headers: str) -> Any:
    """The answer to a body exactly as it stands."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if text is not None:
        named["Content-Type"] = "application/json"
    response = await gateway.http.post(API + path, content=text, headers=named)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


async def got(gateway: Gateway, path: str) -> Any:
    """The answer to a GET."""
    response = await gateway.get(path)
    assert response.status_code == 200, response.text
    return response.json()


async def test_echo_and_machines(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        echoed = await post(gateway, "/echo", ECHO)
        check("echo", echoed)
        assert echoed == json.loads(ECHO)
        found = await post(gateway, "/machines/search", SEARCH)
        check("search", found)
        assert [one["machine"]["machine_id"] for one in found["machines"]] == ["machine_123"]
        check("machine", await got(gateway, "/machines/machine_123"))


async def test_a_reservation_from_first_to_last(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        reserved = await post(gateway, "/reservations", RESERVE)
        check("reserve", reserved)
        asked = {**peer.commands[0].body}
        for name, value in json.loads(RESERVE).items():
            assert asked[name] == value
        path = f"/reservations/{reserved['reservation_id']}"
        check("reservation", await got(gateway, path))
        check("list", await got(gateway, "/reservations"))
        dropped = await post(gateway, f"{path}/dropoffs")
        check("dropoff", dropped)
        assert dropped == {"cell": {"description": "A03"}}
        accepted = await post(gateway, f"{path}/open-door", OPEN_DOOR)
        check("open-door", accepted)
        picked = await post(gateway, f"{path}/pickups")
        check("pickup", picked)
        after = await got(gateway, path)
        check("reservation", after)
        assert "picked_up_at" in after
        listed = await got(gateway, "/reservations?page_size=50&created_after=1699999999")
        check("list", listed)
        assert listed["total_count"] == 1
        names = [command.name for command in peer.commands]
        assert names == ["reserve", "dropoff", "open-door", "pickup"]


async def test_cancelled_and_abandoned_reservations(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        for end, name, status in (("deletes", "cancel", "CANCELLED"), ("abandons", "abandon", "ABANDONED")):
            path = f"/reservations/{(await post(gateway, '/reservations', RESERVE))['reservation_id']}"
            check(name, await post(gateway, f"{path}/{end}"))
            after = await got(gateway, path)
            check("reservation", after)
            assert after["status"] == f"RESERVATION_STATUS_{status}"
        assert (await got(gateway, "/reservations"))["reservations"] == []


async def test_maintenance(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        peer.publish_state(all_cells=[cell("A03", cell_id="cell_unique_id_123")])
        check("maintenance", await post(gateway, "/maintenances", MAINTENANCE))
        for name, value in json.loads(MAINTENANCE).items():
            assert peer.commands[0].body[name] == value


async def test_open_door_as_the_curl_example_and_its_webhook(tmp_path: Path, broker: Broker) -> None:
    async with (
        receiver() as target,
        bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer),
    ):
        rid = (await gateway.reserve())["reservation_id"]
        headers = {"X_API_Key": KEY, "X_Request_ID": "req_xyz789"}
        accepted = await post(gateway, f"/reservations/{rid}/open-door", CURL_OPEN_DOOR, **headers)
        check("open-door", accepted)
        assert accepted["request_id"] == "req_xyz789"
        _fulfil(peer, rid)
        hook = await eventually(lambda: target.got and target.got[0])
        check("webhook", hook.body)
        detail = hook.body["open_door_fulfilled_event"]
        assert (detail["request_id"], detail["platform_reference_id"]) == ("req_xyz789", "ticket_456")


def _fulfil(peer: Peer, rid: str) -> None:
    asked = peer.commands[-1]
    peer.event(
        EventType.OPEN_DOOR_FULFILLED,
        peer.reservations[rid],
        more={
            "request_id": asked.user["x-request-id"],
            "platform_reference_id": asked.body["platform_reference_id"],
            "outcome": "OPENED",
        },
    )


async def test_every_error_is_an_rpc_status(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        for response in (
            await gateway.get("/reservations/res_789"),
            await gateway.get("/machines/machine_123", X_API_Key="wrong"),
            await gateway.post("/maintenances", {}),
            await gateway.post("/nowhere", {}),
        ):
            assert response.status_code >= 400
            check("error", response.json())


CELL_ANSWER = {"cell": {"description": "A03"}}


@pytest.mark.parametrize(
    ("name", "answer", "problem"),
    [
        ("dropoff", {}, "without"),
        ("dropoff", {"cell": {"description": None}}, "cell.description"),
        ("dropoff", {"cell": "A03"}, "not an object"),
        ("dropoff", {**CELL_ANSWER, "more": 1}, "not documented"),
        ("cancel", {"cell": 1}, "not documented"),
        ("list", {"reservations": {}, "next_page_token": "", "total_count": 0}, "not an array"),
        ("list", {"reservations": [], "next_page_token": "", "total_count": True}, "total_count"),
        ("open-door", {"request_id": "r", "accepted_at": "2025-11-13T15:30:00.1Z"}, "accepted_at"),
        ("webhook", {"event_type": "EVENT_TYPE_X"}, "without"),
    ],
)
def test_the_table_finds_invalid_answers(name: str, answer: Any, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check(name, answer)


def test_the_table_accepts_valid_answers() -> None:
    check("dropoff", CELL_ANSWER)
    check("list", {"reservations": [], "next_page_token": "", "total_count": 0})
