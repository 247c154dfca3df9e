"""The whole daemon in virtual time on boards with their own protocols: killed, and on wires that bite."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import pytest
import tomli_w

from edge_agent.config import Settings, load_settings
from edge_agent.model import Door
from tests.simulation.test_trouble import drop_off
from tests.support.site import Site
from tools.bench.settings import REPOSITORY
from tools.bus_simulator.faults import FaultBody, Faults
from tools.simulate.lives import run_storm
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

CONFIG = REPOSITORY / "config"
BOARDS = {"8a": "lock-8a", "kerong-cu16": "kerong-cu16", "kerong-cu48": "kerong-cu48", "wkly": "wkly-12"}
PROTOCOLS = pytest.mark.parametrize("protocol", BOARDS)


def machine(folder: Path, protocol: str) -> Settings:
    """Sixteen cells on the boards 1 and 2 of one bus."""
    document = tomllib.loads((CONFIG / "tiny.toml").read_text(encoding="utf-8"))
    document["machine"]["machine_id"] = "machine_123"
    document["buses"]["main"] = {"port": "/dev/ttyUSB0", "protocol": protocol, "baud": 19200}
    document["devices"] = {
        f"board_{n}": {"bus": "main", "address": n, "profile": BOARDS[protocol]} for n in (1, 2)
    }
    document["paths"] = {"profiles": str(CONFIG / "devices")}
    places = [{"device": f"board_{n}", "channel": channel} for n in (1, 2) for channel in range(1, 9)]
    document["cells"] = [
        {"label": f"A{n:02}", "cell_id": f"cell_{n}", "size": "only", "lock": place, "door": place}
        for n, place in enumerate(places, 1)
    ]
    file = folder / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    return load_settings(file)


@PROTOCOLS
def test_lives_with_kills(tmp_path: Path, protocol: str) -> None:
    outcome = run_storm(
        machine(tmp_path, protocol), tmp_path / "journal.sqlite", 3, lives=30, kill_every_s=6.0
    )
    assert outcome.lives == 30
    assert outcome.kills >= 5
    assert outcome.pulses >= 50
    assert outcome.ends["COMPLETED"] >= 10


FAULTS = {
    "noise": [FaultBody(kind="noise", value=0.05)],
    "late replies": [FaultBody(kind="late_reply", target="main:1", value=150)],
    "ghosts": [FaultBody(kind="ghost_reply", target=f"main:{n}", value=0.2) for n in (1, 2)],
}


@PROTOCOLS
@pytest.mark.parametrize("kind", FAULTS)
def test_only_doors_that_somebody_wanted_open_although_the_bus_bites(
    tmp_path: Path, protocol: str, kind: str
) -> None:
    async def run() -> None:
        plant = Plant(with_journal(machine(tmp_path, protocol), tmp_path / "journal.sqlite"), 5)
        site, faults = Site(plant), Faults(plant.world, plant.cables, plant.slaves)
        plant.start()
        await site.until(lambda: plant.cables["main"].figures().replies > 20)
        ids = [faults.raise_fault(body) for body in FAULTS[kind]]
        wanted = [await drop_off(site, number) for number in range(1, 7)]
        for fault in ids:
            faults.clear(fault)
        figures = plant.cables["main"].figures()
        assert (figures.damaged > 0) is (kind == "noise")
        # Nothing opened but what was wanted, and what the daemon believes is so.
        assert {actuation.label for actuation in plant.world.actuations()} == set(wanted)
        assert all(cell.door is Door.CLOSED for cell in plant.world.cells())
        await plant.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
