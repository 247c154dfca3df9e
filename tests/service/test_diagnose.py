"""A scripted technician before a simulated machine: with `diagnose` alone he finds each fault by name.

Virtual time, the real codec, the simulator's own table of faults: one that nobody can diagnose fails here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_agent.console.api import ConsolePort, create_app
from edge_agent.model import CellStatus, Purpose
from edge_agent.service.diagnosis.diagnose import WINDOW_S
from tests.support.site import Site, at_site
from tools.bus_simulator import faults as simulator
from tools.bus_simulator.faults import FaultBody, Faults

SCALE, PROBE, HEATED, PLAIN = "B01", "B02", "B05", "A03"
"""Cells of the demo locker: one with a scale, one with a probe, one with a heater, and one with neither."""


@dataclass(frozen=True)
class Case:
    """A fault as it is raised, whether a door has to move for it, and where its name has to stand."""

    kind: str
    place: str
    target: str | None = None
    value: float | None = None
    doors: bool = False
    kinds: tuple[str, ...] = ()
    """All names of the finding, where it names more than one."""
    verdict: str = "fault"

    def __str__(self) -> str:
        return f"{self.kind} {self.target or ''} {self.value or ''}".strip()


NOT_MOVED = ("lock_jammed", "door_sensor_stuck", "late_spring")
CROSSED = ("lock_crossed", "contact_crossed")
CASES = (
    Case("lock_jammed", PLAIN, PLAIN, doors=True, kinds=NOT_MOVED),
    Case("coil_stuck", PLAIN, PLAIN, doors=True),
    Case("heater_stuck", HEATED, HEATED),
    Case("door_sensor_stuck", PLAIN, PLAIN, 1, doors=True, kinds=NOT_MOVED),
    Case("door_sensor_stuck", PLAIN, PLAIN, doors=True, kinds=NOT_MOVED),
    Case(
        "door_sensor_stuck",
        PLAIN,
        PLAIN,
        0,
        doors=True,
        kinds=("door_sensor_stuck", "coil_stuck", "door_chatter"),
    ),
    Case("door_sensor_stuck", PLAIN, PLAIN, 0, kinds=("door_sensor_stuck", "coil_stuck", "door_chatter")),
    Case("late_spring", PLAIN, PLAIN, 3000, doors=True, kinds=NOT_MOVED),
    Case("lock_crossed", "A01", f"A01,{PLAIN}", doors=True, kinds=CROSSED),
    Case("contact_crossed", "A01", f"A01,{PLAIN}", doors=True, kinds=CROSSED),
    Case("door_bounce", PLAIN, PLAIN, 150, doors=True),
    Case("door_bounce", PLAIN, PLAIN, 400, doors=True),
    Case("door_chatter", PLAIN, PLAIN, 200, kinds=("door_sensor_stuck", "coil_stuck", "door_chatter")),
    Case("scale_drift", SCALE, SCALE, 30),
    Case("scale_drift", SCALE, SCALE, -60),
    Case("scale_drift", SCALE, SCALE, 3000),
    Case("temperature_sensor_dead", PROBE, PROBE),
    Case("device_silent", "locks_b", "2"),
    Case("device_silent", "climate", "4"),
    Case("device_silent", "thermometer", "5"),
    Case("device_silent", "scale_b02", "12"),
    Case("late_reply", "locks_b", "2", 20, verdict="warning"),
    Case("late_reply", "locks_b", "2", 45, verdict="warning"),
    Case("late_reply", "locks_b", "2", 80),
    Case("late_reply", "locks_b", "2", 230),
    Case("late_reply", "locks_b", "2", 1000),
    Case("late_reply", "climate", "4", 80),
    Case("late_reply", "thermometer", "5", 300),
    Case("late_reply", "scale_b02", "12", 80),
    Case("ghost_reply", "locks_b", "2", 0.1),
    Case("ghost_reply", "locks_a", "1", 1.0),
    Case("ghost_reply", "scale_b02", "12", 0.5),
    Case("noise", "main", None, 0.02),
    Case("noise", "main", None, 0.1),
    Case("noise", "main", None, 0.5),
    Case("noise", "main", None, 1.0, kinds=("device_silent", "noise")),
    Case("delay_ms", "main", None, 20, verdict="warning"),
    Case("delay_ms", "main", None, 45, verdict="warning"),
    Case("delay_ms", "main", None, 100),
    Case("delay_ms", "main", None, 230),
    Case("delay_ms", "main", None, 1000),
    Case("bus_unplugged", "main"),
    Case("echo", "main"),
)
KINDS = tuple(simulator._KINDS)


@dataclass
class Technician:
    """Runs the self-test and does what it asks for: closes the door that is named."""

    site: Site
    closes: bool = True
    rows: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    announced: list[str] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)

    async def diagnose(self, doors: bool = False, *, outputs: bool = True) -> None:
        """To the end of it."""
        agent = self.site.plant.agent
        assert agent is not None
        async for row in agent.diagnosis.run(doors=doors, outputs=outputs, actor="bob"):
            json.dumps(row)
            if "progress" not in row:
                self.rows.append(row)
                continue
            self.progress.append((row["progress"], row["of"]))
            if "announce" in row:
                self.announced.append(row["doing"])
            if row.get("ask") == "close":
                self.asked.append(row["cell"])
                if self.closes:
                    self.site.plant.world.close(row["cell"])

    async def only(self, *labels: str) -> None:
        """All other cells are blocked: the test needs no more doors."""
        agent = self.site.plant.agent
        assert agent is not None
        for label in agent.loop.layout.specs:
            if label not in labels:
                await agent.local.block(label, "not for this test")

    def bad(self) -> list[dict[str, Any]]:
        """Faults and warnings."""
        return [row for row in self.rows if row["verdict"] in ("fault", "warning")]

    def findings(self) -> set[tuple[str, str]]:
        """Each target with each kind of fault found there."""
        return {(row["target"], kind) for row in self.rows for kind in row["kinds"]}

    def at(self, target: str) -> list[dict[str, Any]]:
        """Faults and warnings of one target."""
        return [row for row in self.bad() if row["target"] == target]


def with_technician(
    tmp_path: Path, test: Callable[[Technician], Awaitable[None]], *, warm_s: float = 5.0
) -> None:
    """A healthy machine that has run for a while, and a technician before it."""

    async def at(site: Site) -> None:
        await asyncio.sleep(warm_s)
        await test(Technician(site))

    at_site(tmp_path, at)


def raise_fault(site: Site, case: Case) -> None:
    faults = Faults(site.plant.world, site.plant.cables, site.plant.slaves)
    faults.raise_fault(FaultBody(kind=case.kind, target=case.target, value=case.value))


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_case_for_every_kind_of_fault(kind: str) -> None:
    assert kind in {case.kind for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_fault_is_found_by_name(tmp_path: Path, case: Case) -> None:
    async def test(technician: Technician) -> None:
        if case.doors:
            await technician.only("A01", PLAIN, HEATED)
        raise_fault(technician.site, case)
        await asyncio.sleep(0.5)
        await technician.diagnose(case.doors)
        found = [row for row in technician.at(case.place) if case.kind in row["kinds"]]
        assert found, technician.bad()
        assert tuple(found[0]["kinds"]) == (case.kinds or (case.kind,))
        assert found[0]["verdict"] == case.verdict
        assert found[0]["finding"]
        assert found[0]["next_step"]
        # Nothing else is blamed: other findings name no kind of fault.
        others = [row for row in technician.bad() if row["kinds"] and row["target"] != case.place]
        assert others == [], others
        if len(found[0]["kinds"]) > 1:  # the next step names each of them
            assert all(kind in found[0]["next_step"] for kind in found[0]["kinds"])

    with_technician(tmp_path, test)


@pytest.mark.parametrize("doors", [False, True], ids=["", "--doors"])
def test_a_healthy_machine_is_found_healthy(tmp_path: Path, doors: bool) -> None:
    async def test(technician: Technician) -> None:
        begun_s = asyncio.get_running_loop().time()
        await technician.diagnose(doors)
        assert technician.bad() == []
        assert technician.findings() == set()
        cells = list(technician.site.plant.world.cells())
        assert technician.asked == ([cell.label for cell in cells] if doors else [])
        assert technician.site.pulses() == (len(cells) if doors else 0)
        assert not any(cell.heating or cell.cooling for cell in cells)
        unknown = [row["target"] for row in technician.rows if row["verdict"] == "unknown"]
        assert unknown == ([] if doors else ["locks"])
        checks = {row["check"] for row in technician.rows}
        assert {
            "daemon",
            "disk",
            "clock",
            "broker",
            "bus",
            "device",
            "door",
            "scale",
            "temperature",
        } <= checks
        assert {"heater", "alarms", "lock"} <= checks
        if not doors:
            assert asyncio.get_running_loop().time() - begun_s < 2 * WINDOW_S
        assert (int(WINDOW_S) - 1, int(WINDOW_S)) in technician.progress
        agent = technician.site.plant.agent
        assert agent is not None
        assert not agent.loop.state.alarms
        assert {cell.status for cell in agent.loop.state.cells.values()} == {CellStatus.IDLE}

    with_technician(tmp_path, test)


def test_a_machine_in_use_is_served_and_its_doors_are_left_alone(tmp_path: Path) -> None:
    """Commands go on as ever while the self-test listens, and only free cells are tried."""

    async def test(technician: Technician) -> None:
        site = technician.site
        held = (await site.reserve(1))["cell"]["description"]
        running = asyncio.create_task(technician.diagnose(doors=True))
        await asyncio.sleep(5)
        begun_s = asyncio.get_running_loop().time()
        opened = await site.call("dropoff", "res_1")
        assert opened["result"]["cell"]["description"] == held
        assert asyncio.get_running_loop().time() - begun_s < 0.6
        site.plant.world.close(held)
        await running
        assert held not in technician.asked
        assert len(technician.asked) == len(site.plant.world.cells()) - 1
        (left,) = [row for row in technician.rows if row["check"] == "lock" and row["verdict"] == "unknown"]
        assert held in left["target"]
        agent = site.plant.agent
        assert agent is not None
        ledger = [row for row in agent.report.timeline(limit=1000) if row["kind"] == "unlock"]
        tests = [row for row in ledger if row["purpose"] == Purpose.SELF_TEST]
        assert {(row["actor"], row["reason"]) for row in tests} == {("bob", "self-test")}
        assert held not in {row["cell"] for row in tests}

    with_technician(tmp_path, test)


@pytest.mark.parametrize("outputs", [True, False])
def test_heaters_are_announced_and_stay_off_on_request(tmp_path: Path, outputs: bool) -> None:
    async def test(technician: Technician) -> None:
        world = technician.site.plant.world
        running = asyncio.create_task(technician.diagnose(outputs=outputs))
        await asyncio.sleep(WINDOW_S / 4)
        heated = [cell.label for cell in world.cells() if cell.heating]
        await running
        assert bool(heated) is outputs
        announced = [f"the heaters of these cells are on for 8 s: {', '.join(heated)}"] if outputs else []
        assert technician.announced == announced
        assert not any(cell.heating for cell in world.cells())
        judged = [row["verdict"] for row in technician.rows if row["check"] == "heater"]
        assert ("good" in judged) is outputs

    with_technician(tmp_path, test)


def test_a_customer_does_not_wait_for_the_check_of_a_silent_device(tmp_path: Path) -> None:
    async def test(technician: Technician) -> None:
        site = technician.site
        await site.reserve(1)  # on the first board
        raise_fault(site, Case("device_silent", "thermometer", "5"))
        await asyncio.sleep(5)
        running = asyncio.create_task(technician.diagnose())
        await asyncio.sleep(WINDOW_S + 0.5)  # it waits for the thermometer now
        begun_s = asyncio.get_running_loop().time()
        reply = await site.call("dropoff", "res_1")
        assert "result" in reply
        assert asyncio.get_running_loop().time() - begun_s < 0.6
        await running

    with_technician(tmp_path, test)


@pytest.mark.long
def test_a_door_that_nobody_closes_does_not_hold_it_up(tmp_path: Path) -> None:
    async def test(technician: Technician) -> None:
        site = technician.site
        for number in range(1, 22):
            await site.reserve(number, packaging={"width": 200, "height": 100, "depth": 300})
        technician.closes = False
        await technician.diagnose(doors=True)
        assert len(technician.asked) == 3
        for label in technician.asked:
            (row,) = [row for row in technician.at(label) if row["check"] == "lock"]
            assert row["kinds"] == ["coil_stuck"]
            assert "was it closed by hand" in row["next_step"]

    with_technician(tmp_path, test)


def test_one_diagnosis_at_a_time_and_a_disconnected_client_leaves_nothing_behind(tmp_path: Path) -> None:
    async def test(technician: Technician) -> None:
        agent = technician.site.plant.agent
        assert agent is not None
        app = create_app(ConsolePort(agent.local, agent.report, agent.buses, diagnosis=agent.diagnosis))
        rows = agent.diagnosis.run(doors=False, actor="")
        assert (await anext(rows))["check"] == "daemon"
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://agent", timeout=None
        ) as client:
            refused = await client.post("/v1/diagnose", json={})
            assert (refused.status_code, refused.json()["code"]) == (400, 9)
            async for row in rows:
                if row.get("progress", 0) >= 4:
                    break
            assert any(cell.heating for cell in technician.site.plant.world.cells())
            await rows.aclose()
            await asyncio.sleep(1)
            assert not any(cell.heating for cell in technician.site.plant.world.cells())
            assert all(not place.bus.frame_observers for place in agent.buses.places.values())
            done = await client.post("/v1/diagnose", json={})
            assert done.status_code == 200
            found = [json.loads(line[6:]) for line in done.text.splitlines() if line.startswith("data: ")]
            assert [row for row in found if row.get("verdict") in ("fault", "warning")] == []
            wrong = await client.post("/v1/diagnose", json={"doors": "yes"})
            assert wrong.status_code == 400

    with_technician(tmp_path, test)


def test_of_two_diagnoses_at_the_same_moment_one_reports_that_it_did_not_run(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert site.plant.agent is not None
        first, second = (site.plant.agent.diagnosis.run(doors=False, actor="") for _ in range(2))
        assert "verdict" in await anext(first)
        (row,) = [row async for row in second]
        assert (row["verdict"], row["finding"]) == ("unknown", "another one runs already")
        await first.aclose()

    at_site(tmp_path, test)
