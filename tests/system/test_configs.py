"""Every example machine starts on the bench as it stands, and serves a parcel from drop-off to pick-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.bench import PARCEL, Bench, running_bench, wait_for
from tests.support.machines import smallest

CONFIG = Path(__file__).resolve().parents[2] / "config"
PLAIN = {**PARCEL, "width": 250, "height": 100, "cooling_required": False}
MACHINES = {
    "tiny.toml": ("machine_tiny", 4, PLAIN),
    "kerong64.toml": ("machine_kerong64", 64, PLAIN),
    "food.toml": ("machine_food", 12, PLAIN | {"cooling_required": True}),
    "locker.example.toml": ("machine_example", 24, PLAIN | {"heating_required": True}),
}
OTHERS = {"demo.toml", "gateway.example.toml"}
"""The demo locker is what every other test of the system runs on; the gateway's is no machine."""


def test_every_machine_among_the_configurations_is_tried() -> None:
    assert {path.name for path in CONFIG.glob("*.toml")} == set(MACHINES) | OTHERS


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("tiny.toml", "food.toml") else pytest.mark.long)
        for name in MACHINES
    ],
)
def test_a_parcel_goes_through_the_example_machines(tmp_path: Path, name: str) -> None:
    machine_id, cells, packaging = MACHINES[name]
    with running_bench(tmp_path, BENCH_CONFIG=str(CONFIG / name)) as bench:
        machine: dict[str, Any] = (
            bench.api.get(f"/machines/{machine_id}").raise_for_status().json()["machine"]
        )
        assert len(machine["all_cells"]) == cells
        serve_a_parcel(bench, machine_id, packaging)
        assert bench.stop() == 0


NETWORKS = {
    "Modbus TCP": ("tcp://192.0.2.7:502", "modbus", "moxa-e1214", 1),
    "a serial server": ("rtu+tcp://192.0.2.8:4001", "modbus", "lc-modbus-8r", 255),
    "a serial server with 8A boards": ("rtu+tcp://192.0.2.8:4001", "8a", "lock-8a", 3),
    "WKLY boards": ("/dev/ttyUSB0", "wkly", "wkly-12", 0),
    "CU12 boards": ("/dev/ttyUSB0", "kerong-cu12", "kerong-cu12", 0),
    "CU48 boards": ("/dev/ttyUSB0", "kerong-cu48", "kerong-cu48", 0),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "Modbus TCP" else pytest.mark.long) for name in NETWORKS],
)
def test_the_smallest_machine_on_other_boards_and_over_a_network(tmp_path: Path, name: str) -> None:
    port, protocol, profile, address = NETWORKS[name]
    file = smallest(tmp_path, port, protocol, profile, address)
    with running_bench(tmp_path / "bench", BENCH_CONFIG=str(file)) as bench:
        serve_a_parcel(bench, "machine_tiny", PLAIN)
        assert bench.stop() == 0


def serve_a_parcel(bench: Bench, machine_id: str, packaging: dict[str, Any]) -> None:
    """One life by REST, with a person at the cell: two openings of one door, and nothing else."""
    made = bench.reserve(packaging, machine_id=machine_id, grace_period_pickup_in_seconds=0)
    rid = made["reservation_id"]
    label = bench.reservation(rid)["cell"]["description"]
    bench.api.post(f"/reservations/{rid}/dropoffs").raise_for_status()
    wait_for(lambda: bench.cell(label)["door"] == "open")
    bench.person(label, "place", "close")
    wait_for(lambda: bench.status(rid) == "DROPPED_OFF")
    bench.api.post(f"/reservations/{rid}/pickups").raise_for_status()
    wait_for(lambda: bench.cell(label)["door"] == "open")
    bench.person(label, "take", "close")
    wait_for(lambda: rid not in bench.ongoing())
    assert [actuation["label"] for actuation in bench.actuations()] == [label, label]
    figures = bench.sim.get("/wire").json()
    assert all(wire["replies"] > 0 and wire["damaged"] == 0 for wire in figures.values()), figures


def test_the_lights_of_the_food_locker_are_seen_to_switch(tmp_path: Path) -> None:
    with running_bench(tmp_path, BENCH_CONFIG=str(CONFIG / "food.toml")) as bench:

        def light() -> bool:
            cells: list[dict[str, Any]] = bench.sim.get("/cells").raise_for_status().json()
            return any(cell["signal"] for cell in cells if cell["label"] == "F11")

        def buzzer() -> bool:
            on: dict[str, bool] = bench.sim.get("/signals").raise_for_status().json()
            return on["counter"]

        assert not light()
        assert bench.command("open", "F11", "--reason", "to see its light").returncode == 0
        wait_for(lambda: light() and buzzer())
        bench.person("F11", "close")
        wait_for(lambda: not light() and not buzzer())
        assert bench.stop() == 0
