"""The API reference's examples, typed as they stand there, against the whole bench.

Host, key and ids are the bench's; the webhook goes to loopback.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.bench import Bench, receiving, running_bench, wait_for
from tests.support.reference import check

SEARCH = {
    "latitude": -6.125556,
    "longitude": 106.655830,
    "radius": 1000,
    "limit": 10,
    "only_available_lockers": True,
    "packaging": {
        "width": 300,
        "height": 200,
        "depth": 400,
        "weight": 1500,
        "heating_required": False,
        "cooling_required": True,
    },
}
RESERVE = {
    "machine_id": "machine_123",
    "platform_order_id": "order_456",
    "notes": "Fragile package - handle with care",
    "packaging": {
        "width": 300,
        "height": 200,
        "depth": 400,
        "weight": 1500,
        "heating_required": False,
        "cooling_required": True,
    },
    "eta_minutes": 30,
    "grace_period_pickup_in_seconds": 120,
    "grace_period_dropoff_in_seconds": 120,
}
MAINTENANCE = {
    "machine_id": "machine_123",
    "description": "Door mechanism not opening properly - requires inspection",
    "severity": "HIGH",
    "block_cell_immediately": True,
}
OPEN_DOOR = {"reason": "Customer support ticket #456", "platform_reference_id": "ticket_456"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("reference")) as bench:
        yield bench


def good(name: str, response: httpx.Response) -> dict[str, Any]:
    """The answer, checked against the reference."""
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    check(name, found)
    return found


def test_every_example_in_its_order(bench: Bench) -> None:
    api = bench.api
    assert good("echo", api.post("/echo", json={"message": "test"})) == {"message": "test"}
    found = good("search", api.post("/machines/search", json=SEARCH))
    assert [m["machine"]["machine_id"] for m in found["machines"]] == ["machine_123"]
    good("machine", api.get("/machines/machine_123"))
    with receiving() as webhooks:
        made = good("reserve", api.post("/reservations", json=RESERVE | {"webhook_url": webhooks.url}))
        rid = made["reservation_id"]
        before = good("reservation", api.get(f"/reservations/{rid}"))
        assert before["notes"] == RESERVE["notes"]
        label = before["cell"]["description"]
        assert good("dropoff", api.post(f"/reservations/{rid}/dropoffs")) == {"cell": {"description": label}}
        bench.person(label, "place", "close")
        wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
        dropped = good("reservation", api.get(f"/reservations/{rid}"))
        assert "dropped_off_at" in dropped
        listed = good("list", api.get("/reservations", params={"page_size": 50}))
        assert listed["reservations"][0]["reservation_id"] == rid
        good("list", api.get("/reservations", params={"created_after": 1699999999}))
        accepted = good(
            "open-door",
            api.post(
                f"/reservations/{rid}/open-door", json=OPEN_DOOR, headers={"X-Request-ID": "req_xyz789"}
            ),
        )
        assert accepted["request_id"] == "req_xyz789"
        wait_for(lambda: "EVENT_TYPE_OPEN_DOOR_FULFILLED" in webhooks.types(rid))
        assert bench.status(rid) == "DROPPED_OFF"
        bench.person(label, "close")
        good("pickup", api.post(f"/reservations/{rid}/pickups"))
        assert bench.status(rid) == "PICKED_UP"
        bench.person(label, "take", "close")
        wait_for(lambda: len(webhooks.types(rid)) == 3)
        for _, body in webhooks.got:
            check("webhook", body)
        event = next(b for _, b in webhooks.got if b["event_type"] == "EVENT_TYPE_OPEN_DOOR_FULFILLED")
        detail = event["open_door_fulfilled_event"]
        assert (detail["request_id"], detail["platform_reference_id"]) == ("req_xyz789", "ticket_456")
        assert detail["outcome"] == "OPENED"


def test_cancel_abandon_and_what_the_operations_page_shows(bench: Bench) -> None:
    api = bench.api
    cancelled = good("reserve", api.post("/reservations", json=RESERVE))["reservation_id"]
    assert good("cancel", api.post(f"/reservations/{cancelled}/deletes")) == {}
    assert bench.status(cancelled) == "CANCELLED"
    rid = good("reserve", api.post("/reservations", json=RESERVE))["reservation_id"]
    label = good("dropoff", api.post(f"/reservations/{rid}/dropoffs"))["cell"]["description"]
    bench.person(label, "place", "close")
    wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
    with receiving() as webhooks:
        assert good("abandon", api.post(f"/reservations/{rid}/abandons")) == {}
        assert bench.status(rid) == "ABANDONED"
        assert not webhooks.got
    machine = api.get("/machines/machine_123").json()["machine"]
    cell = next(cell for cell in machine["all_cells"] if cell["description"] == label)
    assert (cell["status"], cell["available"]) == ("AWAITING_CLEANUP", False)
    ticket = good("maintenance", api.post("/maintenances", json=MAINTENANCE | {"cell_id": cell["cell_id"]}))
    only_cell = {"cell_id": cell["cell_id"], "description": "again"}
    good("maintenance", api.post("/maintenances", json=only_cell))
    machine = api.get("/machines/machine_123").json()["machine"]
    assert next(c["blocked"] for c in machine["all_cells"] if c["description"] == label)
    seen = bench.gateway.get("/operations.json", auth=("anybody", "bench-key")).json()
    tickets = {t["maintenance_ticket_id"]: t for t in seen["tickets"]}
    assert tickets[ticket["maintenance_ticket_id"]]["status"] == "OPEN"
    assert len(tickets) == 2
    wait_for(lambda: rid in bench.gateway.get("/operations", auth=("a", "bench-key")).text)
    assert bench.command("clear", label).returncode == 0
    assert bench.command("unblock", label).returncode == 0

    def over() -> bool:
        seen = bench.gateway.get("/operations.json", auth=("anybody", "bench-key")).json()
        return not seen["abandoned"] and all(t["status"] == "CLOSED" for t in seen["tickets"])

    wait_for(over)
    wait_for(lambda: bench.cell_status(label) == "IDLE")


def test_errors_are_those_of_the_reference(bench: Bench) -> None:
    api = bench.api
    rid = good("reserve", api.post("/reservations", json=RESERVE))["reservation_id"]
    for path, body, status, code in (
        (f"/reservations/{rid}/pickups", None, 400, 9),
        (f"/reservations/{rid}/abandons", None, 400, 9),
        ("/reservations/res_nobody/open-door", {}, 404, 5),
        ("/reservations/res_nobody/abandons", None, 404, 5),
        ("/maintenances", {"description": "x"}, 400, 3),
        ("/maintenances", {"machine_id": "machine_123"}, 400, 3),
        ("/maintenances", {"cell_id": "cell_x", "description": "x"}, 404, 5),
        ("/maintenances", {"machine_id": "machine_x", "description": "x"}, 404, 5),
        (f"/reservations/{rid}/open-door", {"reason": 1}, 400, 3),
    ):
        response = api.post(path, json=body)
        check("error", response.json())
        assert (response.status_code, response.json()["code"]) == (status, code), path
    api.post(f"/reservations/{rid}/deletes").raise_for_status()
    refused = api.post(f"/reservations/{rid}/open-door", json=OPEN_DOOR)
    assert (refused.status_code, refused.json()["code"]) == (400, 9)
    assert bench.gateway.get("/operations").status_code == 401


def test_pages_of_a_list(bench: Bench) -> None:
    api = bench.api
    made = [good("reserve", api.post("/reservations", json=RESERVE))["reservation_id"] for _ in range(3)]
    first = good("list", api.get("/reservations", params={"page_size": 2}))
    token = first["next_page_token"]
    seen = [r["reservation_id"] for r in first["reservations"]]
    while token:
        page = good("list", api.get("/reservations", params={"page_size": 2, "page_token": token}))
        seen += [r["reservation_id"] for r in page["reservations"]]
        token = page["next_page_token"]
    assert seen[-3:] == made
    assert len(seen) == len(set(seen)) == first["total_count"]
