"""Every relay is off after a stop, a kill and a restart, a lost sensor, a lost bus and a new configuration.

On the bench's own hardware: what counts is what the simulated heater and cooler physically do.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.support.bench import Bench, running_bench, wait_for

CONFIG = Path(__file__).resolve().parents[3] / "config"
COLD = {"width": 200, "height": 100, "depth": 300, "weight": 900, "cooling_required": True}
HELD_S = 20 + 2 + 3
"""An output that is not renewed goes off within this: its pulse, its board's clock, one reading of it."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running_bench(tmp_path) as bench:
        yield bench


def cooled(bench: Bench) -> str:
    """A cell that is being cooled for a reservation; its label."""
    rid = bench.reserve(COLD)["reservation_id"]
    label = str(bench.reservation(rid)["cell"]["description"])
    wait_for(lambda: bench.cell(label)["cooling"], 30)
    return label


def running_outputs(bench: Bench) -> list[str]:
    """Every relay and solenoid that is on, by cell."""
    cells: list[dict[str, Any]] = bench.sim.get("/cells").json()
    outputs = ("heating", "cooling", "solenoid")
    return [f"{cell['label']} {output}" for cell in cells for output in outputs if cell[output]]


def test_after_a_stop(bench: Bench) -> None:
    cooled(bench)
    bench.act("agent", "stop")
    assert running_outputs(bench) == []


def test_after_a_kill_and_a_restart_cooling_resumes_within_a_minute(bench: Bench) -> None:
    label = cooled(bench)
    bench.act("agent", "kill")
    # The restart switches everything off before it does anything else; the fridge then rests.
    wait_for(lambda: running_outputs(bench) == [], HELD_S)
    wait_for(lambda: bench.cell(label)["cooling"], 60)


def test_after_a_lost_sensor(bench: Bench) -> None:
    label = cooled(bench)
    fault = bench.sim.post("/faults", json={"kind": "temperature_sensor_dead", "target": label}).json()["id"]
    wait_for(lambda: not bench.cell(label)["cooling"], HELD_S)
    bench.sim.delete(f"/faults/{fault}").raise_for_status()
    wait_for(lambda: bench.cell(label)["cooling"], 60)


@pytest.mark.long
def test_after_a_lost_bus_outputs_go_off_when_their_pulse_ends(bench: Bench) -> None:
    cooled(bench)
    bench.sim.post("/faults", json={"kind": "bus_unplugged"}).raise_for_status()
    wait_for(lambda: running_outputs(bench) == [], HELD_S)


def test_after_the_configuration_was_changed(tmp_path: Path) -> None:
    document = tomllib.loads((CONFIG / "demo.toml").read_text(encoding="utf-8"))
    document["paths"] = {"profiles": str(CONFIG / "devices")}
    file = tmp_path / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    with running_bench(tmp_path / "bench", BENCH_CONFIG=str(file)) as bench:
        label = cooled(bench)
        for cell in document["cells"]:
            if cell["label"] == label:
                del cell["cooling"]
        changed = tomllib.loads((bench.folder / "machine.toml").read_text(encoding="utf-8"))
        changed["cells"] = document["cells"]
        (bench.folder / "machine.toml").write_text(tomli_w.dumps(changed), encoding="utf-8")
        bench.act("agent", "kill")  # not even a clean end: the new one must see to it
        bench.act("agent", "start")
        wait_for(lambda: not bench.cell(label)["cooling"], HELD_S)
        assert running_outputs(bench) == []
