"""What the self-test says of disk, clock, broker and alarms, and of other machines than the demo locker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import load_settings
from edge_agent.drivers.port_identity import ANOTHER_ADAPTER
from edge_agent.errors import SessionTaken, StorageFault
from edge_agent.model import Alarm, Door
from edge_agent.statemachine.inputs import Condition, HistoryLost, Input
from tests.service.test_diagnose import Case, Technician, raise_fault, with_technician
from tests.support.site import Site
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

Break = Callable[[Site, pytest.MonkeyPatch], Awaitable[None]]


def agent_of(site: Site) -> Any:
    assert site.plant.agent is not None
    return site.plant.agent


async def no_clock(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plant.clock.synced = False


async def no_broker(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    agent_of(site).link._up = False


async def refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    agent_of(site).link._up = False
    agent_of(site).loop.submit(Condition(Alarm.LINK_REFUSED, "", True, "not authorized"))


async def full_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    agent_of(site).store.use_spare_space()
    site.plant.lifeline.disk_full = True
    site.plant.world.open("A01")


async def no_reserve(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    agent_of(site).store.use_spare_space()


async def damaged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_of(site).store, "quick_check", lambda: ["row 7 missing from index"])


async def unreadable(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> list[str]:
        raise StorageFault("journal: disk I/O error")

    monkeypatch.setattr(agent_of(site).store, "quick_check", fails)


@pytest.mark.parametrize(
    ("breaks", "check", "target", "verdict", "words"),
    [
        (no_clock, "clock", "", "warning", "not synchronised"),
        (no_broker, "broker", "", "fault", "not connected; "),
        (refused, "broker", "", "fault", "refused: not authorized"),
        (full_disk, "disk", "", "fault", "the journal cannot be written"),
        (no_reserve, "disk", "", "fault", "the room kept for a full disk is gone"),
        (damaged, "disk", "journal", "fault", "it is damaged: row 7"),
        (unreadable, "disk", "journal", "fault", "it cannot be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_with_the_machine_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Break,
    check: str,
    target: str,
    verdict: str,
    words: str,
) -> None:
    async def test(technician: Technician) -> None:
        await breaks(technician.site, monkeypatch)
        await asyncio.sleep(2)
        await technician.diagnose()
        (row,) = [r for r in technician.bad() if (r["check"], r["target"]) == (check, target)]
        assert row["verdict"] == verdict
        assert words in row["finding"]
        assert row["next_step"]
        technician.site.plant.lifeline.disk_full = False
        await asyncio.sleep(3)

    with_technician(tmp_path, test)


def test_an_alarm_without_another_finding_is_reported_with_its_next_step(tmp_path: Path) -> None:
    async def test(technician: Technician) -> None:
        site = technician.site
        site.plant.world.open("A03")
        await asyncio.sleep(1)
        site.plant.world.close("A03")
        await asyncio.sleep(1)
        await technician.diagnose()
        rows = technician.bad()
        assert {(row["check"], row["target"], row["verdict"]) for row in rows} == {
            ("alarm", "A03", "fault"),
            ("alarm", "A03/contact", "fault"),
        }
        assert {row["finding"].split()[0].rstrip(":") for row in rows} == {"DOOR_FORCED", "SENSOR_FAULT"}
        assert "edge-agent clear" in next(r["next_step"] for r in rows if r["target"] == "A03")
        assert all(row["next_step"] for row in rows)

    with_technician(tmp_path, test)


@pytest.mark.parametrize(
    ("given", "target", "words", "step"),
    [
        (HistoryLost("the journal is new"), "", "JOURNAL_LOST: the journal is new", "`edge-agent restore`"),
        (
            Condition(Alarm.BUS_DOWN, "main", True, f"{ANOTHER_ADAPTER} is at /dev/ttyUSB0"),
            "main",
            "another adapter is at /dev/ttyUSB0",
            "plug the adapters back as they were",
        ),
        (
            Condition(Alarm.LINK_REFUSED, "", True, str(SessionTaken())),
            "",
            "two machines run under one name",
            "release this one at the gateway's /operations",
        ),
    ],
    ids=["lost history", "swapped ports", "a twin"],
)
def test_lost_history_swapped_ports_and_a_twin_are_named_with_what_to_do(
    tmp_path: Path, given: Input, target: str, words: str, step: str
) -> None:
    async def test(technician: Technician) -> None:
        agent_of(technician.site).loop.submit(given)
        await asyncio.sleep(1)
        await technician.diagnose()
        (row,) = [r for r in technician.bad() if r["check"] == "alarm" and r["target"] == target]
        assert words in row["finding"]
        assert step in row["next_step"]
        assert row["verdict"] == "fault"

    with_technician(tmp_path, test)


def test_an_open_door_of_a_cell_in_use_is_only_a_warning(tmp_path: Path) -> None:
    async def test(technician: Technician) -> None:
        held = (await technician.site.reserve(1))["cell"]["description"]
        await technician.site.call("dropoff", "res_1")
        await technician.diagnose()
        (row,) = technician.bad()
        assert (row["target"], row["verdict"], row["kinds"]) == (held, "warning", [])

    with_technician(tmp_path, test)


def test_a_coil_that_stays_on_is_suspected_of_a_door_that_will_not_close(tmp_path: Path) -> None:
    """Without --doors, after a customer's opening: the door springs open whenever it is closed."""

    async def test(technician: Technician) -> None:
        site = technician.site
        held = (await site.reserve(1))["cell"]["description"]
        raise_fault(site, Case("coil_stuck", held, held))
        await site.call("dropoff", "res_1")
        site.plant.world.close(held)
        await asyncio.sleep(130)
        await technician.diagnose()
        assert [row["kinds"] for row in technician.at(held) if row["check"] == "door"] == [
            ["door_sensor_stuck", "coil_stuck", "door_chatter"]
        ]
        assert agent_of(site).loop.state.cells[held].door is Door.OPEN

    with_technician(tmp_path, test)


@pytest.mark.parametrize("config", ["tiny", "food", "kerong64", "locker.example"])
@pytest.mark.parametrize(
    ("case", "single", "several"),
    [
        (None, None, None),
        (Case("noise", "", None, 0.1), ["noise"], ["noise"]),
        (Case("delay_ms", "", None, 200), ["late_reply", "delay_ms"], ["delay_ms"]),
        (Case("bus_unplugged", ""), ["bus_unplugged"], ["bus_unplugged"]),
        (Case("echo", ""), ["echo"], ["echo"]),
    ],
    ids=str,
)
def test_other_machines_are_judged_as_well(
    tmp_path: Path, config: str, case: Case | None, single: list[str] | None, several: list[str] | None
) -> None:
    async def run() -> None:
        settings = load_settings(REPOSITORY / "config" / f"{config}.toml")
        site = Site(Plant(with_journal(settings, tmp_path / "journal.sqlite"), 7))
        site.plant.start()
        await asyncio.sleep(8)
        if case is not None:
            raise_fault(site, case)
            await asyncio.sleep(0.5)
        technician = Technician(site)
        await technician.diagnose()
        names = [row["kinds"] for row in technician.bad() if row["kinds"]]
        wanted = single if len(settings.devices) == 1 else several
        assert names == ([] if wanted is None else [wanted] * len(settings.buses))
        await site.plant.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
