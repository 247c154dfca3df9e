"""`edge-agent bus` against a running daemon: over its socket, on pseudo-terminals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.drivers.trace import read_trace
from tests.support.bench import SMALL, Bench, running_bench, wait_for
from tools.replay_trace.judge import judge


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("bus")) as running:
        yield running


def test_frames_are_counted_shown_and_recorded(bench: Bench, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    done = bench.command("bus", "monitor", "--seconds", "1", "--record", str(trace))
    assert done.returncode == 0
    assert "locks_a(1) read 8 inputs from 0" in done.stdout
    judged = judge(read_trace(trace))
    assert len(judged) > 10
    assert sum(one.taken == "answer" for one in judged) >= len(judged) - 1  # the last reply may be cut off
    (bus,) = json.loads(bench.command("bus", "stats", "--json").stdout)
    assert bus["up"]
    assert bus["requests"] > len(judged)
    assert 0.1 < bus["utilisation"] < 1


def test_a_scan_and_the_checks_find_the_missing_device(bench: Bench) -> None:
    scan = bench.command("bus", "scan", "--bus", "main", "--last", "20", "--json")
    rows = json.loads(scan.stdout)
    assert scan.returncode == 0, rows
    assert sum(row["device"] is not None for row in rows) == 13
    assert bench.command("bus", "check").returncode == 0
    fault = bench.sim.post("/faults", json={"kind": "device_silent", "target": "12"}).json()
    scan = bench.command("bus", "scan", "--first", "11", "--last", "12")
    assert scan.returncode == 1
    assert "scale_b02 does not answer" in scan.stdout
    check = bench.command("bus", "check")
    assert check.returncode == 1
    assert "does not answer" in check.stdout
    bench.sim.delete(f"/faults/{fault['id']}").raise_for_status()
    refused = bench.command("bus", "scan", "--bus", "upstairs")
    assert refused.returncode == 1
    assert "no such bus" in refused.stderr


def test_a_door_that_stands_open_is_suspect(bench: Bench) -> None:
    made = bench.reserve(SMALL)
    opened = bench.api.post(f"/reservations/{made['reservation_id']}/dropoffs").raise_for_status()
    label = opened.json()["cell"]["description"]
    wait_for(lambda: bench.cell(label)["door"] == "open")
    suspect = bench.command("bus", "doors", label, "--seconds", "0.5")
    assert suspect.returncode == 1
    assert f"read open at the beginning: {label}" in suspect.stderr
    bench.person(label, "close")
