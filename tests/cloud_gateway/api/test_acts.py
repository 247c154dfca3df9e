"""Abandon, open-door and maintenance: what is sent, what is answered, what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.cloud_gateway.support import (
    MACHINE,
    OTHER_KEY,
    Peer,
    bench,
    cell,
    error,
    eventually,
    running_gateway,
    settings,
    silent,
)
from tests.support.broker import Broker
from tests.support.reference import check

REPORT = {"machine_id": MACHINE, "description": "it rattles"}


async def test_abandon_is_seen_by_the_next_get(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        response = await gateway.post(f"/reservations/{rid}/abandons")
        assert (response.status_code, response.json()) == (200, {})
        assert peer.commands[-1].name == "abandon"
        assert peer.commands[-1].body["reservation_id"] == rid
        got = (await gateway.get(f"/reservations/{rid}")).json()
        assert got["status"] == "RESERVATION_STATUS_ABANDONED"
        assert (await gateway.get("/reservations")).json()["total_count"] == 0


async def test_open_door_takes_any_or_no_body(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        path = f"/reservations/{rid}/open-door"
        for body, reason in ((None, ""), ({}, ""), ({"reason": "stuck"}, "stuck"), ({"reason": None}, "")):
            response = await gateway.post(path, body)
            assert response.status_code == 200, response.text
            check("open-door", response.json())
            made = response.headers["x-request-id"]
            assert response.json()["request_id"] == made
            assert made.startswith("req_")
            command = peer.commands[-1]
            assert command.name == "open-door"
            assert command.user == {"x-request-id": made}
            assert command.body["reservation_id"] == rid
            assert command.body["reason"] == reason
            assert command.body["platform_reference_id"] == ""
        assert (await gateway.get(f"/reservations/{rid}")).json()["status"] == "RESERVATION_STATUS_PENDING"
        sent = len(peer.commands)
        wrong: list[Any] = [{"reason": "x" * 1025}, {"reason": 1}, {"platform_reference_id": []}, ["reason"]]
        for bad in wrong:
            response = await gateway.post(path, bad)
            assert (response.status_code, response.json()["code"]) == (400, 3)
        assert len(peer.commands) == sent


async def test_all_three_act_once_for_one_request_id(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        cases: list[tuple[str, Any]] = [
            (f"/reservations/{rid}/open-door", {"reason": "stuck"}),
            (f"/reservations/{rid}/abandons", None),
            ("/maintenances", REPORT),
        ]
        for path, body in cases:
            before = len(peer.commands)
            first = await gateway.post(path, body, X_Request_ID="again")
            second = await gateway.post(path, body, X_Request_ID="again")
            assert (
                (first.status_code, first.content)
                == (second.status_code, second.content)
                == (
                    200,
                    first.content,
                )
            )
            assert len(peer.commands) == before + 1
            other = await gateway.post(path, {"description": "x", "cell_id": "y"}, X_Request_ID="again")
            assert (other.status_code, other.json()["code"]) == (400, 3)
            assert len(peer.commands) == before + 1


async def test_kept_answers_need_no_machine(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        first = await gateway.post("/maintenances", REPORT, X_Request_ID="r1")
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        again = await gateway.post("/maintenances", REPORT, X_Request_ID="r1")
        assert (first.status_code, first.content) == (again.status_code, again.content)


async def test_a_refusal_of_the_machine_is_passed_on(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        cases: list[tuple[str, str, Any]] = [
            ("abandon", f"/reservations/{rid}/abandons", None),
            ("open-door", f"/reservations/{rid}/open-door", {}),
            ("maintenance", "/maintenances", REPORT),
        ]
        for name, path, body in cases:
            for code, status in {3: 400, 5: 404, 9: 400, 12: 501, 13: 500}.items():
                peer.scripts[name] = error(code, f"because {code}")
                response = await gateway.post(path, body)
                expected = {"code": code, "message": f"because {code}", "details": []}
                assert (response.status_code, response.json()) == (status, expected)
        assert (await gateway.get(f"/reservations/{rid}")).json()["status"] == "RESERVATION_STATUS_PENDING"


@pytest.mark.parametrize(
    "result",
    [
        {"accepted_at": "soon"},
        {"accepted_at": 5},
        {"maintenance_ticket_id": "", "created_at": "2026-01-01T00:00:00Z", "status": "OPEN"},
        {"maintenance_ticket_id": "maint_1", "created_at": "2026", "status": "OPEN"},
        {"maintenance_ticket_id": "maint_1", "created_at": "2026-01-01T00:00:00Z", "status": "CLOSED"},
    ],
)
async def test_a_reply_that_does_not_fit_is_an_internal_error(
    tmp_path: Path, broker: Broker, result: dict[str, Any]
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        for name, path, body in (
            ("open-door", f"/reservations/{rid}/open-door", {}),
            ("maintenance", "/maintenances", REPORT),
        ):
            peer.scripts[name] = lambda _: {"result": result}
            response = await gateway.post(path, body)
            assert (response.status_code, response.json()["code"]) == (500, 13)


async def test_an_offline_machine_is_offline_and_a_silent_one_expired(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        paths = (f"/reservations/{rid}/abandons", f"/reservations/{rid}/open-door", "/maintenances")
        peer.scripts = dict.fromkeys(("abandon", "open-door", "maintenance"), silent)
        answers = await asyncio.gather(*(gateway.post(path, REPORT) for path in paths))
        assert [(one.status_code, one.json()["code"]) for one in answers] == [(504, 4)] * 3
        sent = len(peer.commands)
        await asyncio.to_thread(peer.online, False)
        await eventually(lambda: not gateway.machines.is_online(MACHINE))
        for path in paths:
            response = await gateway.post(path, REPORT)
            assert (response.status_code, response.json()["code"]) == (503, 14)
        await asyncio.to_thread(broker.stop)
        await eventually(lambda: not gateway.machines.connected)
        for body in ({**REPORT, "machine_id": "nowhere"}, {"cell_id": "cell_x", "description": "d"}):
            response = await gateway.post("/maintenances", body)
            assert (response.status_code, response.json()["code"]) == (503, 14)
        assert len(peer.commands) == sent
        await asyncio.to_thread(broker.start)


async def test_an_invalid_maintenance_request_names_the_field(tmp_path: Path, broker: Broker) -> None:
    cases: list[tuple[Any, set[str]]] = [
        ({"description": "d"}, {"cell_id", "machine_id"}),
        ({"description": "d", "cell_id": None, "machine_id": None}, {"cell_id", "machine_id"}),
        ({"machine_id": MACHINE}, {"description"}),
        ({"machine_id": MACHINE, "description": ""}, {"description"}),
        ({**REPORT, "description": "x" * 1025}, {"description"}),
        ({**REPORT, "severity": "URGENT"}, {"severity"}),
        ({**REPORT, "severity": "high"}, {"severity"}),
        ({**REPORT, "block_cell_immediately": "true"}, {"block_cell_immediately"}),
        ({**REPORT, "block_cell_immediately": True}, {"cell_id"}),
        ({**REPORT, "cell_id": 7}, {"cell_id"}),
    ]
    async with bench(tmp_path, broker.port) as (gateway, peer):
        for body, names in cases:
            response = await gateway.post("/maintenances", body)
            assert (response.status_code, response.json()["code"]) == (400, 3), body
            found = {v["field"] for d in response.json()["details"] for v in d["field_violations"]}
            assert found == names
        assert peer.commands == []


async def test_with_its_machine_a_cell_may_be_named_by_the_label_on_its_door(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        for name in ("A03", "a03", "cell_a03"):
            named = {"machine_id": MACHINE, "cell_id": name, "description": "d"}
            assert (await gateway.post("/maintenances", named)).status_code == 200
            assert peer.commands[-1].body["cell_id"] == "cell_a03"
        alone = await gateway.post("/maintenances", {"cell_id": "A03", "description": "d"})
        assert (alone.status_code, alone.json()["code"]) == (404, 5)
        assert len(peer.commands) == 3


async def test_a_cell_alone_finds_its_machine(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        second = Peer(broker.port, machine_id="second")
        await asyncio.to_thread(second.start)
        try:
            cells = [cell("B01"), cell("A03")]
            await asyncio.to_thread(lambda: second.publish_state(all_cells=cells))
            await gateway.knows("second", cells)
            response = await gateway.post("/maintenances", {"cell_id": "cell_b01", "description": "d"})
            check("maintenance", response.json())
            body = second.commands[0].body
            assert (body["machine_id"], body["cell_id"]) == ("second", "cell_b01")
            assert (body["severity"], body["block_cell_immediately"]) == ("MEDIUM", False)
            both = await gateway.post("/maintenances", {"cell_id": "cell_a03", "description": "d"})
            assert both.status_code == 200  # of the machine that had it first
            assert peer.commands[0].body["cell_id"] == "cell_a03"
            named = {"cell_id": "cell_a03", "machine_id": "second", "description": "d"}
            assert (await gateway.post("/maintenances", named)).status_code == 200
            assert second.commands[-1].body["cell_id"] == "cell_a03"
        finally:
            await asyncio.to_thread(second.stop)


async def test_an_unknown_id_is_not_found(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        sent = len(peer.commands)
        for path, body in (
            ("/maintenances", {"cell_id": "cell_x", "description": "d"}),
            ("/maintenances", {"machine_id": "nowhere", "description": "d"}),
            ("/reservations/res_x/abandons", None),
            ("/reservations/res_x/open-door", None),
        ):
            response = await gateway.post(path, body)
            assert (response.status_code, response.json()["code"]) == (404, 5)
        for action in ("abandons", "open-door"):
            response = await gateway.post(f"/reservations/{rid}/{action}", X_API_Key=OTHER_KEY)
            assert (response.status_code, response.json()["code"]) == (404, 5)
        assert len(peer.commands) == sent
