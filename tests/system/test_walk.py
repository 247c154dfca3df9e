"""A reservation's whole life over the real parts: REST, broker, agent, paced bus, physics."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from tests.support.bench import PARCEL, Bench, receiving, running_bench, wait_for


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


def last_actuation(bench: Bench) -> int:
    return len(bench.actuations())


def test_the_walk(bench: Bench) -> None:
    before = last_actuation(bench)
    with receiving() as webhooks:
        made = bench.reserve(webhook_url=webhooks.url, grace_period_pickup_in_seconds=2, eta_minutes=30)
        rid = made["reservation_id"]
        assert made["drop_off_qrcode"] == f"DLV-DROP-{rid}-{made['drop_off_code']}"
        assert made["pickup_code_qrcode"] == f"DLV-PICK-{rid}-{made['pickup_code']}"
        assert made["drop_off_qrcode_url"].endswith(f"/qrcode/{made['drop_off_qrcode']}")
        assert len(made["drop_off_code"]) == len(made["pickup_code"]) == 4
        label = bench.reservation(rid)["cell"]["description"]
        calling = Thread(target=lambda: bench.api.post(f"/reservations/{rid}/dropoffs"))
        calling.start()
        wait_for(lambda: bench.cell(label)["door"] == "open")
        calling.join()
        assert bench.status(rid) == "PENDING"
        bench.person(label, "place", "close")
        wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
        wait_for(lambda: webhooks.types(rid) == ["EVENT_TYPE_DROPOFF"])
        order, body = webhooks.got[0]
        assert order == "order%201%2F%C3%BC"
        assert body["drop_off_event"]["cell"]["description"] == label
        answer = bench.api.post(f"/reservations/{rid}/pickups")
        assert answer.json() == {"cell": {"description": label}}
        assert bench.status(rid) == "PICKED_UP"
        assert rid in bench.ongoing()
        bench.person(label, "take", "close")
        wait_for(lambda: rid not in bench.ongoing())
        wait_for(lambda: bench.cell_status(label) == "IDLE")
        wait_for(lambda: webhooks.types(rid) == ["EVENT_TYPE_DROPOFF", "EVENT_TYPE_PICKUP"])
    assert [a["label"] for a in bench.actuations(before)] == [label, label]


@pytest.mark.behaviour("reservation-02")
@pytest.mark.parametrize("way", ["code", "scanned code", "scanned QR text"])
def test_the_same_by_codes(bench: Bench, way: str) -> None:
    before = last_actuation(bench)
    made = bench.reserve(grace_period_pickup_in_seconds=0)
    rid = made["reservation_id"]
    label = bench.reservation(rid)["cell"]["description"]

    def enter(code: str, qr: str) -> None:
        if way == "code":
            done = bench.command("code", code)
            assert (done.returncode, done.stdout) == (0, f"cell {label} is open\n")
        else:
            bench.scan(code if way == "scanned code" else qr)
        wait_for(lambda: bench.cell(label)["door"] == "open")

    enter(made["drop_off_code"], made["drop_off_qrcode"])
    bench.person(label, "place", "close")
    wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
    enter(made["pickup_code"], made["pickup_code_qrcode"])
    wait_for(lambda: bench.status(rid) == "PICKED_UP")
    bench.person(label, "take", "close")
    wait_for(lambda: bench.cell_status(label) == "IDLE")
    refused = bench.command("code", made["pickup_code"])
    assert (refused.returncode, refused.stderr) == (1, "not valid\n")
    assert [a["label"] for a in bench.actuations(before)] == [label, label]


@pytest.mark.behaviour("time-14")
def test_killed_while_the_dropoff_door_is_open_and_closed_while_dead(bench: Bench) -> None:
    before = last_actuation(bench)
    rid = bench.reserve()["reservation_id"]
    label = bench.api.post(f"/reservations/{rid}/dropoffs").json()["cell"]["description"]
    bench.act("agent", "kill")
    bench.person(label, "place", "close")
    wait_for(lambda: bench.status(rid) == "DROPPED_OFF", 30)
    assert bench.cell(label)["door"] == "closed"
    assert len(bench.actuations(before)) == 1
    assert bench.ledger()[-1][4] == "OPENED"


@pytest.mark.behaviour("opening-13")
def test_a_suspended_daemon_opens_nothing_after_its_caller_gave_up(bench: Bench) -> None:
    before = last_actuation(bench)
    rid = bench.reserve()["reservation_id"]
    pid = bench.pids()["agent"]
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = bench.api.post(f"/reservations/{rid}/dropoffs")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (answer.status_code, answer.json()["code"]) == (504, 4)
    # What it found in its socket is decided before it can answer a status request.
    wait_for(lambda: bench.command("status").returncode == 0)
    assert not bench.actuations(before)
    path = f"/reservations/{rid}/dropoffs"
    wait_for(lambda: bench.api.post(path).status_code == 200)
    label = bench.reservation(rid)["cell"]["description"]
    assert [a["label"] for a in bench.actuations(before)] == [label]
    bench.person(label, "close")


@pytest.mark.behaviour("codes-09", "time-16", "time-18")
def test_codes_work_without_the_broker_and_its_return_delivers_every_event_once(bench: Bench) -> None:
    with receiving() as webhooks:
        made = [bench.reserve(webhook_url=webhooks.url) for _ in range(2)]
        labels = [bench.reservation(m["reservation_id"])["cell"]["description"] for m in made]
        bench.act("broker", "stop")
        refused = bench.api.post(f"/reservations/{made[0]['reservation_id']}/dropoffs")
        assert (refused.status_code, refused.json()["code"]) == (503, 14)
        for reservation, label in zip(made, labels, strict=True):
            assert bench.command("code", reservation["drop_off_code"]).returncode == 0
            bench.person(label, "place", "close")
            wait_for(lambda label=label: bench_cell(bench, label)["status"] == "OCCUPIED")  # type: ignore[misc]
            assert bench.command("code", reservation["pickup_code"]).returncode == 0
            bench.person(label, "take", "close")
        assert not webhooks.got
        bench.act("broker", "start")
        for reservation in made:
            rid = reservation["reservation_id"]
            wait_for(lambda rid=rid: len(webhooks.types(rid)) >= 2, 30)  # type: ignore[misc]
            assert webhooks.types(rid) == ["EVENT_TYPE_DROPOFF", "EVENT_TYPE_PICKUP"]
            assert bench.status(rid) == "PICKED_UP"
        keys = [body["idempotency_key"] for _, body in webhooks.got]
        assert len(keys) == len(set(keys)) == 4


def bench_cell(bench: Bench, label: str) -> dict[str, object]:
    """A cell as `edge-agent cells --json` shows it."""
    rows = json.loads(bench.command("cells", "--json").stdout)
    found: dict[str, object] = next(row for row in rows if row["label"] == label)
    return found


def test_errors_have_a_code_and_name_the_field(bench: Bench) -> None:
    wrong_key = bench.api.get("/reservations", headers={"X-API-Key": "nonsense"})
    assert (wrong_key.status_code, wrong_key.json()["code"]) == (403, 7)
    unknown = bench.api.get("/reservations/res_nobody")
    assert (unknown.status_code, unknown.json()["code"]) == (404, 5)
    assert bench.api.post("/reservations/res_nobody/dropoffs").status_code == 404
    assert bench.api.get("/machines/machine_x").status_code == 404
    good: dict[str, Any] = {"machine_id": "machine_123", "platform_order_id": "o", "packaging": PARCEL}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"packaging": {**PARCEL, "width": "10"}}, "packaging.width"),
        ({"platform_order_id": ""}, "platform_order_id"),
        ({"webhook_url": "http://example.com/"}, "webhook_url"),
        ({"grace_period_pickup_in_seconds": -1}, "grace_period_pickup_in_seconds"),
    ]
    for wrong, field in cases:
        answer = bench.api.post("/reservations", json=good | wrong)
        assert (answer.status_code, answer.json()["code"]) == (400, 3)
        assert field in answer.json()["message"]
    too_large = bench.api.post("/reservations", json=good | {"packaging": {**PARCEL, "height": 9000}})
    assert (too_large.status_code, too_large.json()["code"]) == (429, 8)


def test_the_wall_is_at_the_root_and_watch_needs_a_terminal(bench: Bench) -> None:
    wall = bench.gateway.get("/")
    assert (wall.status_code, wall.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Locker wall" in wall.text
    assert bench.command("watch").returncode == 2


def test_status_and_cells_for_people_and_scripts(bench: Bench) -> None:
    status = bench.command("status", "--json")
    assert json.loads(status.stdout)["broker"] == "connected"
    assert "machine_123" in bench.command("status").stdout
    cells = json.loads(bench.command("cells", "--json").stdout)
    assert len(cells) == 24
    assert {"label", "cell_id", "door", "status", "blocked", "faulty"} <= set(cells[0])
    assert "A01" in bench.command("cells").stdout
    gone = bench.command("status", "--socket", str(bench.folder / "none.sock"))
    assert gone.returncode == 3


def test_the_wire_is_kept_legal(bench: Bench) -> None:
    """No request is damaged or begins within t3.5 of another frame. A request meets a reply only where the
    board answered after the timeout; the simulator may, when other processes take its processor time."""
    wire = bench.sim.get("/wire").json()["main"]
    (bus,) = json.loads(bench.command("bus", "stats", "--json").stdout)
    assert wire["requests"] > 100
    assert wire["early_requests"] == wire["damaged"] == 0
    assert wire["collisions"] <= bus["timeouts"]


def test_no_code_is_in_any_log(bench: Bench) -> None:
    made = bench.reserve({"width": 100, "height": 100, "depth": 100})
    bench.command("code", made["drop_off_code"])
    bench.scan(made["pickup_code_qrcode"])
    bench.gateway.get(f"/qrcode/{made['drop_off_qrcode']}").raise_for_status()
    logs = bench.logs()
    for secret in (made["drop_off_qrcode"], made["pickup_code_qrcode"], "bench-key"):
        assert secret not in logs
    assert f"={made['drop_off_code']}" not in logs


def test_busy_port_and_a_bad_machine(tmp_path: Path, bench: Bench) -> None:
    busy = str(bench.ports["BENCH_API_PORT"])
    code, said = Bench(tmp_path, BENCH_API_PORT=busy).refuses_to_start()
    assert (code, said) == (1, f"bench: port {busy} is busy; choose another one with BENCH_API_PORT\n")
    broken = tmp_path / "broken.toml"
    broken.write_text("[machine]\nname = 3\n")
    code, said = Bench(tmp_path, BENCH_CONFIG=str(broken)).refuses_to_start()
    assert code == 2
    assert f"bench: {broken}: machine.name: " in said


def test_one_ctrl_c_ends_all_and_the_next_start_finds_everything(tmp_path: Path) -> None:
    with running_bench(tmp_path) as bench:
        rid = bench.reserve()["reservation_id"]
        label = bench.api.post(f"/reservations/{rid}/dropoffs").json()["cell"]["description"]
        bench.person(label, "place", "close")
        wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
        pids = bench.pids()
        assert set(pids) == {"agent", "broker", "gateway", "simulator"}
        assert bench.stop() == 0
        assert not [pid for pid in pids.values() if psutil.pid_exists(pid)]
        assert not bench.pids()
        assert not (tmp_path / "agent.sock").exists()
        bench.start()
        assert bench.status(rid) == "DROPPED_OFF"
        assert bench.cell(label)["grams"] == 1500
        assert bench.api.post(f"/reservations/{rid}/pickups").status_code == 200
