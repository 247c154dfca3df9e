"""The whole daemon in virtual time on boards with their own protocols: killed, and on wires that bite."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_agent.model import Door
from tests.simulation.test_trouble import drop_off
from tests.support.machines import LOCK_BOARDS, machine_of
from tests.support.site import Site
from tools.bus_simulator.faults import FaultBody, Faults
from tools.simulate.lives import run_storm
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

PROTOCOLS = pytest.mark.parametrize("protocol", LOCK_BOARDS)


@pytest.mark.parametrize(
    "protocol",
    [pytest.param(name, marks=pytest.mark.long if name.startswith("kerong") else ()) for name in LOCK_BOARDS],
)
def test_lives_with_kills(tmp_path: Path, protocol: str) -> None:
    outcome = run_storm(
        machine_of(tmp_path, protocol), tmp_path / "journal.sqlite", 3, lives=30, kill_every_s=6.0
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
def test_only_commanded_doors_open_on_a_bad_bus(tmp_path: Path, protocol: str, kind: str) -> None:
    async def run() -> None:
        plant = Plant(with_journal(machine_of(tmp_path, protocol), tmp_path / "journal.sqlite"), 5)
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
