"""A technician before the real thing: he opens a door and tests the machine, over its socket."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator

import pytest

from tests.support.bench import SMALL, Bench, receiving, running_bench, wait_for


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("technician")) as running:
        yield running


def test_a_technician_opens_a_cell_in_use_and_no_platform_gets_an_event(bench: Bench) -> None:
    with receiving() as webhooks:
        made = bench.reserve(SMALL, webhook_url=webhooks.url)
        rid = made["reservation_id"]
        label = bench.reservation(rid)["cell"]["description"]
        done = bench.command("open", label, "--reason", "the hinge squeaks")
        assert (done.returncode, done.stdout) == (0, f"cell {label} is open\n"), done.stderr
        assert bench.cell(label)["door"] == "open"
        bench.person(label, "close")
        wait_for(lambda: [e for e in bench.events() if "open_door_fulfilled_event" in e])
        (event,) = [e for e in bench.events() if "open_door_fulfilled_event" in e]
        assert "reservation_id" not in event
        detail = event["open_door_fulfilled_event"]
        assert (detail["actor"], detail["outcome"]) == (getpass.getuser(), "OPENED")
        assert detail["description"] == "the hinge squeaks"
        assert bench.status(rid) == "PENDING"
        bench.api.post(f"/reservations/{rid}/dropoffs").raise_for_status()  # and it goes on as ever
        bench.person(label, "place", "close")
        wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
        wait_for(lambda: webhooks.types(rid) == ["EVENT_TYPE_DROPOFF"])
    shown = bench.command("events")
    assert f"{getpass.getuser()}" in shown.stdout
    assert "technician" in shown.stdout
    assert bench.command("open", "Z9", "--reason", "r").returncode == 1


@pytest.mark.long
def test_the_self_test_names_the_missing_board(bench: Bench) -> None:
    fault = bench.sim.post("/faults", json={"kind": "device_silent", "target": "2"}).json()
    done = bench.command("diagnose", "--json", limit_s=90)
    assert done.returncode == 1, done.stderr
    rows = {(row["check"], row["target"]): row for row in json.loads(done.stdout)}
    silent = rows["device", "locks_b"]
    assert (silent["verdict"], silent["kinds"]) == ("fault", ["device_silent"])
    assert "B01" in silent["finding"]
    assert {row["target"] for row in rows.values() if row["kinds"]} == {"locks_b"}
    bench.sim.delete(f"/faults/{fault['id']}").raise_for_status()
    done = bench.command("diagnose", limit_s=90)
    assert done.returncode == 0, done.stdout
    assert "0 faults" in done.stdout
