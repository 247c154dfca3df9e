"""`/api/operations/v1`: rows, order, filters, pages; acts on cells and tickets, and their record."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from cloud_gateway.operations import api
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.operations.test_routes import basic, ticket
from tests.cloud_gateway.support import (
    MACHINE,
    OPERATIONS_KEY,
    Gateway,
    Peer,
    bench,
    cell,
    error,
    eventually,
    running_gateway,
    settings,
)
from tests.support.broker import Broker

BY_KEY = {"Authorization": basic(OPERATIONS_KEY)}
HEALTH = {
    "verdict": "degraded",
    "alarms": {"DOOR_AJAR": 1},
    "cells": 2,
    "cells_out": 1,
    "buses_down": ["upper"],
    "journal_writable": True,
    "clock_synced": True,
}
TELEMETRY = {
    "at": "2026-11-30T10:00:00Z",
    "cells": [{"label": "A03", "door": "open", "mass_g": 12, "temperature_c": 4.5, "alarms": ["DOOR_AJAR"]}],
    "buses": {},
    "figures": {
        "up_since": "2026-11-30T09:00:00Z",
        "events_waiting": 7,
        "worn": ["A04"],
        "locks": [{"label": "A03", "unlocks": 40, "opened_first": 30}],
    },
}


async def ask(gateway: Gateway, path: str, **query: Any) -> dict[str, Any]:
    """GET with the operations key."""
    response = await gateway.http.get(f"{api.PREFIX}{path}", headers=BY_KEY, params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def act(gateway: Gateway, path: str, reason: str = "it rubs", **headers: str) -> httpx.Response:
    """POST with a reason; header names with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{api.PREFIX}{path}"
    return await gateway.http.post(url, json={"reason": reason}, headers=BY_KEY | named)


async def acts(gateway: Gateway) -> list[tuple[str, str, str]]:
    """Act, target and result of the record."""
    exported = await gateway.http.get("/operations/acts.jsonl", headers=BY_KEY)
    rows = [json.loads(line) for line in exported.text.splitlines()]
    return [(row["act"], row["target"], row["result"]) for row in rows]


async def several(gateway: Gateway, port: int, names: list[str]) -> list[Peer]:
    """More machines, each known and online."""
    peers = [Peer(port, name) for name in names]
    for peer in peers:
        await asyncio.to_thread(peer.start)
        await gateway.sees(peer.machine_id)
    return peers


async def test_a_row_has_what_the_machine_published_and_the_gateway_saw(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        await asyncio.to_thread(peer.healthy, **HEALTH)
        await asyncio.to_thread(peer.publish, peer.topics.telemetry, json.dumps(TELEMETRY).encode())
        await ticket(gateway, severity="HIGH", cell_id="cell_a03")
        observed = gateway.app.state.parts.observations
        await eventually(lambda: (one := observed.of(MACHINE)) is not None and one.figures is not None)
        await eventually(lambda: gateway.machines.health(MACHINE) is not None)
        page = await ask(gateway, "/machines")
        (row,) = page["machines"]
        assert (page["total_count"], page["next_page_token"], page["broker_connected"]) == (1, "", True)
        assert (row["online"], row["verdict"], row["alarms"]) == (True, "degraded", {"DOOR_AJAR": 1})
        assert (row["unlocks"], row["first_open_rate"], row["worn"]) == (40, 0.75, ["A04"])
        assert (row["events_waiting"], row["up_since"]) == (7, "2026-11-30T09:00:00Z")
        assert (row["open_tickets"], row["worst_ticket"]) == (1, "HIGH")
        assert row["score"] == sum(one["points"] for one in row["problems"])
        assert [one["kind"] for one in row["problems"]] == [
            "degraded", "ticket_high", "first_open", "alarms", "cells_out", "worn",
        ]  # fmt: skip
        detail = await ask(gateway, f"/machines/{MACHINE}")
        assert detail["machine"]["machine_id"] == MACHINE
        assert detail["buses_down"] == ["upper"]
        assert detail["telemetry_at"].endswith("Z")
        shown, other = detail["cells"]
        assert (shown["label"], shown["door"], shown["mass_g"], shown["first_open_rate"]) == (
            "A03",
            "open",
            12,
            0.75,
        )
        assert (other["worn"], "door" in other) == (True, False)
        assert [one["status"] for one in detail["tickets"]] == ["OPEN"]


async def test_machines_with_problems_come_first_in_pages_and_by_filters(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        others = await several(gateway, broker.port, ["machine_b", "machine_c", "machine_d"])
        try:
            await asyncio.to_thread(peer.healthy, **HEALTH)
            await asyncio.to_thread(others[2].online, False)
            await asyncio.to_thread(others[0].publish_state, name="Hall Ü", location="Nord")
            await eventually(lambda: not gateway.machines.is_online("machine_d"))
            await eventually(lambda: gateway.machines.health(MACHINE) is not None)
            async with asyncio.timeout(10):
                while (await ask(gateway, "/machines", q="hall ü"))["total_count"] != 1:
                    await asyncio.sleep(0.01)
            order = ["machine_d", MACHINE, "machine_b", "machine_c"]
            pages, token = [], ""
            while True:
                page = await ask(gateway, "/machines", page_size=1, page_token=token)
                pages += [row["machine_id"] for row in page["machines"]]
                assert page["total_count"] == 4
                token = page["next_page_token"]
                if not token:
                    break
            assert pages == order
            fitting = {
                ("q", "BADE"): [],
                ("q", "nord machine_b"): ["machine_b"],
                ("state", "offline"): ["machine_d"],
                ("state", "online"): [MACHINE, "machine_b", "machine_c"],
                ("state", "problem"): ["machine_d", MACHINE],
                ("state", "good"): ["machine_b", "machine_c"],
                ("site", "Nord"): ["machine_b"],
                ("version", "no such"): [],
            }
            for (name, value), expected in fitting.items():
                found = await ask(gateway, "/machines", **{name: value})
                assert [row["machine_id"] for row in found["machines"]] == expected, (name, value)
        finally:
            for other in others:
                await asyncio.to_thread(other.stop)


async def test_bad_parameters_and_unknown_machines_are_refused_by_name(
    tmp_path: Path, broker: Broker
) -> None:
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        bad = {
            "/machines?page_token=abc": (400, "page_token"),
            "/machines?page_size=0": (400, "page_size"),
            "/machines?state=sad": (400, "state"),
            "/machines/no%20id": (400, "machine_id"),
            "/machines/unknown": (404, "machine"),
            "/machines/unknown/events": (404, "machine"),
        }
        for path, (status, word) in bad.items():
            response = await gateway.http.get(f"{api.PREFIX}{path}", headers=BY_KEY)
            assert response.status_code == status, path
            assert word in response.json()["message"]
        assert (await gateway.http.get(f"{api.PREFIX}/machines")).status_code == 401


async def test_x2_telemetry_that_asks_for_acknowledgement_holds_up_nothing(
    tmp_path: Path, broker: Broker
) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        payload = json.dumps(TELEMETRY).encode()

        def flood() -> None:
            for _ in range(300):  # at QoS 1; the broker would stop after 20 without an acknowledgement
                peer.publish(peer.topics.telemetry, payload)

        await asyncio.to_thread(flood)
        made = await gateway.reserve()
        peer.event(EventType.DROPOFF, peer.reservations[made["reservation_id"]])
        await gateway.until(made["reservation_id"], "DROPPED_OFF")


async def test_events_are_paged_newest_first_and_hold_no_code(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        made = await gateway.reserve()
        view = peer.reservations[made["reservation_id"]]
        kinds = [EventType.RESERVATION_CREATED, EventType.DROPOFF, EventType.PICKUP]
        for kind in kinds:
            peer.event(kind, view)
        await gateway.until(made["reservation_id"], "PICKED_UP")
        first = await ask(gateway, f"/machines/{MACHINE}/events", page_size=2)
        assert [one["event_type"] for one in first["events"]] == [kinds[2], kinds[1]]
        rest = await ask(gateway, f"/machines/{MACHINE}/events", page_size=2, before=first["next_before"])
        assert [one["event_type"] for one in rest["events"]] == [kinds[0]]
        assert rest["next_before"] == 0
        assert first["events"][0]["cell"] == view["cell"]["description"]
        for code in (made["drop_off_code"], made["pickup_code"]):
            assert f'"{code}"' not in json.dumps([first, rest])


async def test_acts_reach_the_machine_by_cell_id_and_are_recorded(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        for name in ("block-cell", "unblock-cell", "clear-cell"):
            peer.scripts[name] = lambda _: {"result": {"cell_id": "cell_a03"}}
        for word in ("block", "unblock", "clear"):
            done = await act(gateway, f"/machines/{MACHINE}/cells/A03/{word}")
            assert done.status_code == 200, done.text
            assert done.json() == {"machine_id": MACHINE, "target": "A03", "act": f"{word} cell"}
        sent = [(one.name, one.body["cell_id"], one.body.get("reason")) for one in peer.commands]
        assert sent == [
            ("block-cell", "cell_a03", "it rubs (anna (operations key))"),
            ("unblock-cell", "cell_a03", None),
            ("clear-cell", "cell_a03", None),
        ]
        target = f"{MACHINE}/A03 (it rubs)"
        assert await acts(gateway) == [
            (f"{word} cell", target, result)
            for word in ("block", "unblock", "clear")
            for result in ("requested", "done")
        ]
        detail = await ask(gateway, f"/machines/{MACHINE}")
        assert [one["act"] for one in detail["acts"]][:2] == ["clear cell", "clear cell"]


async def test_a_repeated_act_reaches_the_machine_once(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        peer.scripts["block-cell"] = lambda _: {"result": {}}
        path = f"/machines/{MACHINE}/cells/A03/block"
        first = await act(gateway, path, X_Request_ID="once")
        again = await act(gateway, path, X_Request_ID="once")
        assert (first.status_code, again.json()) == (200, first.json())
        assert len(peer.commands) == 1
        other = await act(gateway, path, "another reason", X_Request_ID="once")
        assert other.status_code == 400
        assert len(await acts(gateway)) == 2


async def test_refusals_are_answered_and_recorded(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        peer.publish_state(all_cells=[cell("A03"), cell("B 7/1")])
        peer.scripts["unblock-cell"] = error(9, "cell A03 is not blocked")
        refused = await act(gateway, f"/machines/{MACHINE}/cells/A03/unblock")
        assert (refused.status_code, refused.json()["code"]) == (400, 9)
        assert (await act(gateway, f"/machines/{MACHINE}/cells/Z99/block")).status_code == 404
        assert (await act(gateway, "/machines/unknown/cells/A03/block")).status_code == 404
        assert (await act(gateway, f"/machines/{MACHINE}/cells/A03/block", "")).status_code == 400
        foreign = await act(gateway, f"/machines/{MACHINE}/cells/A03/block", Origin="https://evil.example")
        assert foreign.status_code == 403
        await asyncio.to_thread(peer.online, False)
        await eventually(lambda: not gateway.machines.is_online(MACHINE))
        assert (await act(gateway, f"/machines/{MACHINE}/cells/A03/block")).status_code == 503
        assert [row[2] for row in await acts(gateway)] == [
            "requested", "NOT_ALLOWED", "not found", "requested", "OFFLINE",
        ]  # fmt: skip
        assert [one.name for one in peer.commands] == ["unblock-cell"]


async def test_a_ticket_is_closed_and_its_cell_stays_blocked(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        made = await ticket(gateway, cell_id="cell_a03", block_cell_immediately=True)
        sent = len(peer.commands)
        assert (await act(gateway, f"/tickets/{made}/close")).status_code == 400  # whose?
        assert (await act(gateway, "/tickets/unknown/close?machine_id=machine_123")).status_code == 404
        for _ in range(2):
            assert (await act(gateway, f"/tickets/{made}/close?machine_id={MACHINE}")).status_code == 200
        detail = await ask(gateway, f"/machines/{MACHINE}")
        assert [one["status"] for one in detail["tickets"]] == ["CLOSED"]
        assert len(peer.commands) == sent
        assert (await acts(gateway))[-1] == ("close ticket", f"{MACHINE}/{made} (it rubs)", "done")
