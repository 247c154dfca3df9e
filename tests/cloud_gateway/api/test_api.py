"""Every endpoint of the API reference, against a machine played over a real broker."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.api import paging
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.support import (
    API,
    MACHINE,
    OTHER_KEY,
    QUICK,
    RESERVE,
    bench,
    cell,
    error,
    eventually,
    machine_document,
    running_gateway,
    settings,
    silent,
)
from tests.support.broker import Broker

CELL_FIELDS = ("width", "height", "depth", "heating", "cooling", "weight_sensor")

RESERVED_FIELDS = {
    "reservation_id",
    "machine_id",
    "machine",
    "drop_off_code",
    "drop_off_qrcode",
    "drop_off_qrcode_url",
    "pickup_code",
    "pickup_code_qrcode",
    "pickup_code_qrcode_url",
}


async def test_a_parcels_stay_from_reservation_to_pickup(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        reserved = await gateway.reserve(notes="Fragile", eta_minutes=30)
        assert set(reserved) == RESERVED_FIELDS
        rid = reserved["reservation_id"]
        assert rid.startswith("res_")
        assert reserved["drop_off_code"] == "1234"
        assert reserved["drop_off_qrcode"] == f"DLV-DROP-{rid}-1234"
        assert reserved["drop_off_qrcode_url"] == f"https://api.delivery.example/qrcode/DLV-DROP-{rid}-1234"
        assert reserved["pickup_code_qrcode"] == f"DLV-PICK-{rid}-5678"
        assert reserved["machine"]["machine_id"] == MACHINE

        got = (await gateway.get(f"/reservations/{rid}")).json()
        rest = {"platform_order_id", "notes", "status", "created_at", "cell"}
        assert set(got) == RESERVED_FIELDS | rest
        assert got["status"] == "RESERVATION_STATUS_PENDING"
        assert got["cell"] == {"description": "A03"}
        assert got["notes"] == "Fragile"

        opened = await gateway.post(f"/reservations/{rid}/dropoffs")
        assert (opened.status_code, opened.json()) == (200, {"cell": {"description": "A03"}})
        assert (await gateway.get(f"/reservations/{rid}")).json()["status"] == "RESERVATION_STATUS_PENDING"
        peer.event(EventType.DROPOFF, peer.reservations[rid])
        dropped = await gateway.until(rid, "DROPPED_OFF")
        assert dropped["dropped_off_at"].endswith("Z")
        assert "picked_up_at" not in dropped

        opened = await gateway.post(f"/reservations/{rid}/pickups")
        assert (opened.status_code, opened.json()) == (200, {"cell": {"description": "A03"}})
        picked = (await gateway.get(f"/reservations/{rid}")).json()
        assert picked["status"] == "RESERVATION_STATUS_PICKED_UP"
        assert picked["picked_up_at"].endswith("Z")


async def test_a_command_carries_the_fields_of_the_contract(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        response = await gateway.post("/reservations", RESERVE, X_Request_ID="my request 1")
        assert response.headers["x-request-id"] == "my request 1"
        command = peer.commands[0]
        assert command.name == "reserve"
        assert command.content_type == "application/json"
        assert command.user == {"x-request-id": "my request 1"}
        assert 1 <= command.expiry_s <= QUICK.wait_s
        assert command.response_topic.startswith(f"locker/v1/{MACHINE}/reply/")
        body = command.body
        assert body["platform"] == "acme"
        assert body["reservation_id"] == response.json()["reservation_id"]
        assert body["packaging"]["heating_required"] is False
        assert body["issued_at"] < body["expires_at"]
        assert body["expires_at"][-5] == "."


async def test_cancel_answers_an_empty_object(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        rid = (await gateway.reserve())["reservation_id"]
        response = await gateway.post(f"/reservations/{rid}/deletes", {})
        assert (response.status_code, response.json()) == (200, {})
        got = (await gateway.get(f"/reservations/{rid}")).json()
        assert got["status"] == "RESERVATION_STATUS_CANCELLED"
        assert (await gateway.get("/reservations")).json()["reservations"] == []


async def test_the_machines_refusals_pass_through(tmp_path: Path, broker: Broker) -> None:
    statuses = {3: 400, 4: 504, 5: 404, 8: 429, 9: 400, 12: 501, 13: 500, 99: 500}
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        for code, status in statuses.items():
            peer.scripts["dropoff"] = error(code, f"because {code}")
            response = await gateway.post(f"/reservations/{rid}/dropoffs")
            assert response.status_code == status
            expected = {"code": code if code < 99 else 13, "message": f"because {code}", "details": []}
            assert response.json() == expected


async def test_without_a_valid_key_nothing_is_answered(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        del gateway.http.headers["X-API-Key"]
        for path in ("/reservations", f"/machines/{MACHINE}", "/reservations/res_1"):
            missing = await gateway.get(path)
            assert (missing.status_code, missing.json()["code"]) == (403, 16)
            wrong = await gateway.get(path, X_API_Key="guess")
            assert (wrong.status_code, wrong.json()["code"]) == (403, 7)
            assert wrong.json()["details"] == []


async def test_a_platform_sees_only_its_own(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        rid = (await gateway.reserve())["reservation_id"]
        gateway.http.headers["X-API-Key"] = OTHER_KEY
        assert (await gateway.get("/reservations")).json() == {
            "reservations": [],
            "next_page_token": "",
            "total_count": 0,
        }
        for response in (
            await gateway.get(f"/reservations/{rid}"),
            await gateway.post(f"/reservations/{rid}/dropoffs"),
            await gateway.post(f"/reservations/{rid}/pickups"),
            await gateway.post(f"/reservations/{rid}/deletes"),
            await gateway.post(f"/reservations/{rid}/abandons"),
            await gateway.post(f"/reservations/{rid}/open-door"),
        ):
            assert (response.status_code, response.json()["code"]) == (404, 5)


async def test_machine_details_and_unknown_machines(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        got = (await gateway.get(f"/machines/{MACHINE}")).json()
        assert got == {"machine": machine_document()}
        for response in (
            await gateway.get("/machines/nowhere"),
            await gateway.post("/reservations", {**RESERVE, "machine_id": "nowhere"}),
        ):
            assert (response.status_code, response.json()["code"]) == (404, 5)
        await asyncio.to_thread(peer.online, False)
        await eventually(lambda: not gateway.machines.is_online(MACHINE))
        assert (await gateway.get(f"/machines/{MACHINE}")).json()["machine"]["online"] is False


async def test_search_is_nearest_first_and_applies_every_condition(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        for name, north, cells in (
            ("far", 0.02, [cell("A01")]),
            ("near", 0.001, [cell("A01", status="RESERVED")]),
            ("warm", 0.005, [cell("A01", cooling=False, heating=True)]),
        ):
            topics = peer.topics.root.replace(MACHINE, name)
            document = machine_document(name, latitude=-6.125556 + north, all_cells=cells)
            await asyncio.to_thread(peer.publish, f"{topics}/state/machine", _json(document))
            state = {"online": True, "boot_id": "b", "agent_version": "1", "at": "2026-01-01T00:00:00Z"}
            await asyncio.to_thread(peer.publish, f"{topics}/state/online", _json(state))
            await gateway.sees(name)
        here = {"latitude": -6.125556, "longitude": 106.655830}

        async def search(**needs: Any) -> list[str]:
            answer = (await gateway.post("/machines/search", {**here, "radius": 5000, **needs})).json()
            return [found["machine"]["machine_id"] for found in answer["machines"]]

        assert await search() == [MACHINE, "near", "warm", "far"]
        assert await search(radius=1000) == [MACHINE, "near", "warm"]
        assert await search(limit=2) == [MACHINE, "near"]
        assert await search(only_available_lockers=True) == [MACHINE, "warm", "far"]
        parcel = {"width": 400, "height": 300, "depth": 300}  # fits only when turned
        assert await search(packaging=parcel) == [MACHINE, "near", "warm", "far"]
        assert await search(packaging={**parcel, "height": 301}) == []
        assert await search(packaging={**parcel, "cooling_required": True}) == [MACHINE, "near", "far"]
        assert await search(packaging={**parcel, "heating_required": True}) == ["warm"]
        assert await search(packaging={**parcel, "weight": 1_000_000}) == [MACHINE, "near", "warm", "far"]
        answer = (await gateway.post("/machines/search", {**here, "radius": 200})).json()["machines"]
        assert [found["distance_in_metres"] for found in answer] == [0, 111]


async def test_search_heeds_weight_limits_and_what_is_available(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        here = {"latitude": -6.125556, "longitude": 106.655830, "radius": 10}
        light = {"width": 100, "height": 100, "depth": 100, "weight": 2000}

        async def search(cells: list[dict[str, Any]], **needs: Any) -> int:
            await asyncio.to_thread(lambda: peer.publish_state(all_cells=cells))
            await gateway.knows(MACHINE, cells)
            response = await gateway.post("/machines/search", {**here, **needs})
            assert response.status_code == 200
            assert "null" not in response.text
            return len(response.json()["machines"])

        free = {"only_available_lockers": True}
        assert await search([cell("A01", max_weight=2000)], packaging=light) == 1
        assert await search([cell("A01", max_weight=1999)], packaging=light) == 0
        assert await search([cell("A01", max_weight=1999)]) == 1
        assert await search([cell("A01", max_weight=1999), cell("A02")], packaging=light) == 1
        assert await search([cell("A01", available=True)], **free) == 1
        assert await search([cell("A01", available=False)], **free) == 0
        assert await search([cell("A01", available=False)]) == 1
        for taken in ({"status": "OCCUPIED"}, {"blocked": True}, {"faulty": True}):
            assert await search([cell("A01", **taken)], **free) == 0
        mixed = [cell("A01", available=False), cell("A02", max_weight=1999, available=True)]
        assert await search(mixed, **free) == 1
        assert await search(mixed, **free, packaging=light) == 0


async def test_preferred_cells_are_idle_ones(tmp_path: Path, broker: Broker) -> None:
    kinds = [{name: cell("A03", cooling=cooling)[name] for name in CELL_FIELDS} for cooling in (True, False)]
    async with bench(tmp_path, broker.port) as (gateway, peer):

        async def preferred(*cells: dict[str, Any]) -> list[dict[str, Any]]:
            expected = list(cells)
            await asyncio.to_thread(lambda: peer.publish_state(all_cells=expected, preferred_cells=kinds))
            await gateway.knows(MACHINE, expected)
            found: list[dict[str, Any]] = (await gateway.get(f"/machines/{MACHINE}")).json()["machine"][
                "preferred_cells"
            ]
            return found

        cool, plain = cell("A03"), cell("A04", cooling=False)
        await preferred(cool)  # the peer's first state has the cells of the next one
        assert await preferred(cool, plain) == kinds
        for change in ({"status": "RESERVED"}, {"blocked": True}, {"available": False}):
            assert await preferred({**cool, **change}, plain) == kinds[1:]
        assert await preferred({**cool, "status": "RESERVED"}, plain, cell("A05")) == kinds
        here = {"latitude": -6.125556, "longitude": 106.655830, "radius": 10}
        await preferred(cool, {**plain, "status": "OCCUPIED"})
        found = (await gateway.post("/machines/search", here)).json()["machines"][0]["machine"]
        assert found["preferred_cells"] == kinds[:1]


async def test_pages_tokens_and_filters_of_the_list(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        made = [(await gateway.reserve(platform_order_id=f"o{n}"))["reservation_id"] for n in range(5)]
        seen, token = [], ""
        for size in (2, 2, 1):
            page = (await gateway.get(f"/reservations?page_size=2&page_token={token}")).json()
            assert len(page["reservations"]) == size
            assert page["total_count"] == 5
            seen += [listed["reservation_id"] for listed in page["reservations"]]
            token = page["next_page_token"]
        assert token == ""
        assert seen == made
        first = page["reservations"][0]
        assert set(first) == {
            "reservation_id",
            "machine_id",
            "platform_order_id",
            "status",
            "created_at",
            "cell",
        }
        assert (await gateway.get("/reservations?created_after=4000000000")).json()["reservations"] == []
        assert (await gateway.get("/reservations?created_after=0")).json()["total_count"] == 5
        good = (await gateway.get("/reservations?page_size=2")).json()["next_page_token"]
        bad = ["page_size=0", "page_size=1001", "page_size=x", "page_size=1_0", "created_after=1.5"]
        bad += ["page_token=x", f"page_token={good[:-2]}", "page_token=%F0%9F%98%80", "created_after=1e400"]
        for query in bad:
            response = await gateway.get(f"/reservations?{query}")
            assert (response.status_code, response.json()["code"]) == (400, 3), query
            assert response.json()["message"].startswith(query.split("=")[0])


async def test_an_accessible_reservation_is_passed_on(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        for accessible in (True, False):
            body = {**RESERVE, "accessible": accessible}
            assert (await gateway.post("/reservations", body)).status_code == 200
        assert [command.body.get("accessible") for command in peer.commands] == [True, None]


async def test_bad_bodies_name_the_field(tmp_path: Path, broker: Broker) -> None:
    packaging = RESERVE["packaging"]
    assert isinstance(packaging, dict)
    cases: list[tuple[Any, str]] = [
        ({**RESERVE, "packaging": {**packaging, "width": "300"}}, "packaging.width"),
        ({**RESERVE, "packaging": {**packaging, "depth": 1.5}}, "packaging.depth"),
        ({**RESERVE, "packaging": None}, "packaging"),
        ({**RESERVE, "machine_id": ""}, "machine_id"),
        ({**RESERVE, "platform_order_id": "x" * 1025}, "platform_order_id"),
        ({**RESERVE, "webhook_url": "http://example.org/"}, "webhook_url"),
        ({**RESERVE, "eta_minutes": 10_081}, "eta_minutes"),
        ({**RESERVE, "grace_period_pickup_in_seconds": -1}, "grace_period_pickup_in_seconds"),
        ({**RESERVE, "accessible": "yes"}, "accessible"),
        ({}, "machine_id"),
        ([], "body"),
    ]
    async with bench(tmp_path, broker.port) as (gateway, peer):
        for body, name in cases:
            response = await gateway.post("/reservations", body)
            assert (response.status_code, response.json()["code"]) == (400, 3), body
            fields = [v["field"] for d in response.json()["details"] for v in d["field_violations"]]
            assert name in fields
        for raw in (b"{", b"\xff", b"[" * 60_000, b'{"message": NaN}', b"x" * 70_000, b"1" * 5000):
            response = await gateway.http.post(f"{API}/echo", content=raw)
            assert (response.status_code, response.json()["code"]) == (400, 3)
            assert response.json()["message"].startswith("body: ")
        assert peer.commands == []


async def test_echo_answers_while_the_machine_is_offline(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        assert (await gateway.post("/echo", {"message": "test"})).json() == {"message": "test"}
        assert (await gateway.post("/echo")).json() == {"message": ""}
        assert (await gateway.http.get("/healthz")).status_code == 200


async def test_unknown_paths_and_methods_are_refused_by_code(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        closed = await gateway.http.get("/")
        assert (closed.status_code, closed.json()["code"]) == (401, 16)
        unknown = await gateway.get("/nowhere")
        assert (unknown.status_code, unknown.json()["code"]) == (404, 5)
        wrong = await gateway.http.put(f"{API}/reservations")
        assert (wrong.status_code, wrong.json()["code"]) == (405, 12)
        assert wrong.headers["allow"] == "GET, POST"
        for path, methods in (
            ("/healthz", "GET"),
            (f"{API}/machines/search", "POST"),
            (f"{API}/machines/m1", "GET"),
        ):
            assert (await gateway.http.delete(path)).headers["allow"] == methods
        long = await gateway.get("/reservations", X_Request_ID="x" * 1025)
        assert (long.status_code, long.json()["code"]) == (400, 3)


async def test_an_unexpected_error_reveals_nothing(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _):
        gateway.app.state.parts.store._engine.dispose()
        (tmp_path / "gateway.db").unlink()
        response = await gateway.get("/reservations/res_1")
        assert response.status_code == 500
        assert response.json() == {"code": 13, "message": "internal error", "details": []}


async def test_an_offline_machine_is_answered_at_once_and_nothing_is_sent(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        rid = (await gateway.reserve())["reservation_id"]
        await asyncio.to_thread(peer.online, False)
        await eventually(lambda: not gateway.machines.is_online(MACHINE))
        async with asyncio.timeout(1):
            for path in ("/reservations", f"/reservations/{rid}/dropoffs"):
                response = await gateway.post(path, RESERVE)
                assert (response.status_code, response.json()["code"]) == (503, 14)
        assert (await gateway.get(f"/reservations/{rid}")).status_code == 200
        await asyncio.to_thread(peer.online, True)
        await gateway.sees()
        await gateway.reserve()
        assert [command.name for command in peer.commands] == ["reserve", "reserve"]


async def test_no_reply_in_time_is_expired_and_a_late_reply_still_counts(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        peer.scripts["reserve"] = silent
        response = await gateway.post("/reservations", RESERVE)
        assert (response.status_code, response.json()["code"]) == (504, 4)
        peer.late.pop()()
        rid = peer.commands[0].body["reservation_id"]
        await gateway.until(rid, "PENDING")


async def test_invalid_replies_are_internal_errors(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        good = peer.obey
        strange: list[Any] = [
            [],
            {},
            {"error": {"code": "9"}},
            {"result": {}},
            {"result": {"reservation": {"reservation_id": "res_1"}}},
        ]
        for reply in strange:
            peer.scripts["reserve"] = lambda _, reply=reply: reply  # type: ignore[misc]
            response = await gateway.post("/reservations", RESERVE)
            assert (response.status_code, response.json()["code"]) == (500, 13)

        def foreign(body: dict[str, Any]) -> dict[str, Any]:
            reply = good("reserve", body)
            reply["result"]["reservation"]["machine_id"] = "another"
            return reply

        peer.scripts["reserve"] = foreign
        assert (await gateway.post("/reservations", RESERVE)).status_code == 500


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def test_l2_head_is_a_get_without_a_body(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        for path in ("/healthz", "/qrcode/DLV-PICK-res_1-1234", "/openapi.json"):
            head, got = await gateway.http.head(path), await gateway.http.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(got.content))
            assert head.headers["content-type"] == got.headers["content-type"]
        assert (await gateway.http.head("/nowhere")).status_code == 404


async def test_l2_a_slash_at_the_end_of_a_path_means_nothing(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        assert (await gateway.http.get("/healthz/")).status_code == 200
        assert (await gateway.post("/echo/", {"message": "x"})).json() == {"message": "x"}
        assert (await gateway.get("/reservations/")).status_code == 200
        assert (await gateway.http.get("/healthz//")).status_code == 404


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, gzip"])
async def test_l2_a_compressed_body_is_refused_by_name(tmp_path: Path, broker: Broker, coding: str) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        response = await gateway.post("/echo", {"message": "x"}, Content_Encoding=coding)
        assert (response.status_code, response.json()["code"]) == (415, 3)
        assert "Content-Encoding" in response.json()["message"]
        plain = await gateway.post("/echo", {"message": "x"}, Content_Encoding="identity")
        assert plain.status_code == 200


@pytest.mark.parametrize("place", [f"{2**63}.1", f"1.{2**63}", f"{10**30}.{10**30}", "-1.1", "1.-1"])
async def test_l2_a_page_token_beyond_the_database_is_refused(
    tmp_path: Path, broker: Broker, place: str
) -> None:
    token = base64.urlsafe_b64encode(f"{place}.{paging._checksum(place)}".encode()).decode().rstrip("=")
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        response = await gateway.get(f"/reservations?page_token={token}")
        assert (response.status_code, response.json()["code"]) == (400, 3)
