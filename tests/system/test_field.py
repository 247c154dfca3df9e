"""Locks that jam, silent boards, blocked cells, and what the technician sees of it, on the whole bench."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.bench import SMALL, Bench, running_bench, wait_for


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("field")) as bench:
        yield bench


def fault(bench: Bench, kind: str, target: str | int) -> str:
    answer = bench.sim.post("/faults", json={"kind": kind, "target": target})
    return str(answer.raise_for_status().json()["id"])


def shown(bench: Bench, *command: str) -> Any:
    done = bench.command(*command, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.behaviour("opening-15", "opening-16")
def test_a_jammed_lock_moves_the_reservation_within_the_call(bench: Bench) -> None:
    rid = bench.reserve(SMALL)["reservation_id"]
    label = bench.reservation(rid)["cell"]["description"]
    jam = fault(bench, "lock_jammed", label)
    before = len(bench.actuations())
    opened = bench.api.post(f"/reservations/{rid}/dropoffs")
    assert opened.status_code == 200, opened.text
    other = opened.json()["cell"]["description"]
    assert other != label
    assert bench.cell(other)["door"] == "open"
    assert bench.reservation(rid)["cell"] == {"description": other}
    assert [a["label"] for a in bench.actuations(before)] == [label, label, label, other]
    alarms = shown(bench, "alarms")
    assert [(a["alarm"], a["label"]) for a in alarms if a["label"]] == [("LOCK_JAMMED", label)]
    rows = [row for row in shown(bench, "events") if row["reservation_id"] == rid]
    assert [(row["what"], row["cell"]) for row in rows if row["kind"] == "unlock"] == [
        *[("INTENT", label), ("NO_MOVEMENT", label)] * 3,
        ("INTENT", other),
        ("OPENED", other),
    ]
    assert all(row["source"] == "SOURCE_TYPE_API" for row in rows if row["kind"] == "unlock")

    def asked() -> bool:
        seen = bench.gateway.get("/operations.json", auth=("a", "bench-key")).json()
        return [t["cell"] for t in seen["tickets"] if t["status"] == "OPEN"] == [label]

    wait_for(asked)
    bench.person(other, "place", "close")
    wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
    bench.sim.delete(f"/faults/{jam}").raise_for_status()
    assert bench.command("clear", label).returncode == 0
    wait_for(lambda: not [a for a in shown(bench, "alarms") if a["label"]])


@pytest.mark.behaviour("cells-06")
def test_an_unopened_reservation_behind_a_silent_board_moves(bench: Bench) -> None:
    rid = bench.reserve(SMALL)["reservation_id"]
    label = bench.reservation(rid)["cell"]["description"]
    address = {"A": 1, "B": 2, "C": 3}[label[0]]
    silent = fault(bench, "device_silent", address)
    wait_for(lambda: any(a["alarm"] == "DEVICE_SILENT" for a in shown(bench, "alarms")))
    before = len(bench.actuations())
    opened = bench.api.post(f"/reservations/{rid}/dropoffs")
    assert opened.status_code == 200, opened.text
    other = opened.json()["cell"]["description"]
    assert other[0] != label[0]
    assert [a["label"] for a in bench.actuations(before)] == [other]
    bench.sim.delete(f"/faults/{silent}").raise_for_status()
    wait_for(lambda: not any(a["alarm"] == "DEVICE_SILENT" for a in shown(bench, "alarms")))
    bench.person(other, "close")


def test_block_unblock_and_reservations_for_people_and_scripts(bench: Bench) -> None:
    rid = bench.reserve(SMALL, eta_minutes=0, notes="call [b]twice[/b]")["reservation_id"]
    label = bench.reservation(rid)["cell"]["description"]
    done = bench.command("block", label, "--reason", "smells")
    assert (done.returncode, done.stdout) == (0, f"cell {label} is blocked\n")
    row = next(row for row in shown(bench, "cells") if row["label"] == label)
    assert (row["blocked"], row["blocked_reason"]) == (True, "smells")
    again = bench.command("block", label, "--reason", "x")
    assert (again.returncode, again.stderr) == (1, f"cell {label}: it is blocked already\n")
    assert bench.command("block", label).returncode == 2
    assert bench.command("unblock", label).returncode == 0
    assert bench.command("unblock", "Z9").returncode == 1
    (mine,) = [row for row in shown(bench, "reservations") if row["reservation_id"] == rid]
    assert not {"drop_off_code", "pickup_code"} & set(mine)
    assert mine["notes"] == "call [b]twice[/b]"
    wait_for(lambda: any(row["overdue_s"] for row in shown(bench, "reservations")))
    assert "call [b]twice[/b]" in bench.command("reservations").stdout
    for command in ("events", "alarms", "reservations"):
        assert bench.command(command).returncode == 0
        assert bench.command(command, "--socket", str(bench.folder / "none")).returncode == 3
    assert bench.command("events", "--limit", "0").returncode == 2


def test_following_events_shows_them_as_they_happen(bench: Bench) -> None:
    following = subprocess.Popen(
        [Path(sys.executable).with_name("edge-agent"), "events", "--follow", "--json"],
        env=bench.environment | {"EDGE_AGENT_SOCKET": str(bench.folder / "agent.sock")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.stdout is not None
        label = None
        for attempt in range(200):  # it may not be listening yet when the first of them happens
            label = f"A{attempt % 8 + 1:02d}"
            act = ("block", "--reason", "x") if attempt % 16 < 8 else ("unblock",)
            bench.command(act[0], label, *act[1:])
            if _has_line(following):
                break
        row = json.loads(following.stdout.readline())
        assert row["what"] == "EVENT_TYPE_CELL_STATUS_CHANGED"
    finally:
        following.terminate()
        following.wait(timeout=10)
        assert following.stdout is not None
        following.stdout.close()


def _has_line(process: subprocess.Popen[str]) -> bool:
    import select

    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0)[0])
