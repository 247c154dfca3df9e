"""The age of an entry at the kiosk counts from its reading, wherever it waited (W13); and a failing journal
raises an alarm (W19)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from edge_agent.drivers.entry.text_input import Outlet
from edge_agent.errors import Code
from tests.support.site import Site, at_site
from tools.simulate.virtual_loop import VirtualLoop


def test_w13_an_entry_carries_how_long_it_waited_behind_another() -> None:
    async def run() -> None:
        waited_s: list[tuple[str, float]] = []

        async def on_text(text: str, seconds: float) -> None:
            waited_s.append((text, round(seconds, 3)))
            await asyncio.sleep(40)

        outlet = Outlet("scanner", on_text)
        outlet.offer("first")
        task = asyncio.create_task(outlet.run())
        await asyncio.sleep(10)
        outlet.offer("second")
        await asyncio.sleep(60)
        assert waited_s == [("first", 0.0), ("second", 30.0)]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_w13_an_entry_older_than_30_s_opens_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        agent = site.plant.agent
        assert agent is not None
        old = await agent.local.enter_code(made["drop_off_code"], 30.1)
        assert old.refusal is not None
        assert site.pulses() == 0
        assert (await agent.local.enter_code(made["drop_off_code"], 29.0)).refusal is None
        assert site.pulses() == 1

    at_site(tmp_path, test)


def test_w13_the_age_of_a_technician_s_opening_counts_from_the_request(tmp_path: Path) -> None:
    """It waits behind the commit of another command; each commit takes 14 s."""

    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        site.plant.lifeline.disk_stall_s = 14.0
        slow = asyncio.create_task(site.reserve())
        await asyncio.sleep(1)
        answer = await agent.local.open_cell("A05", "look", "bob")
        assert answer.refusal is not None
        assert answer.refusal.code is Code.EXPIRED
        site.plant.lifeline.disk_stall_s = 0.0
        with suppress(KeyError):
            await slow
        await asyncio.sleep(45)
        assert site.pulses() == 0

    at_site(tmp_path, test)


def test_w13_a_commit_that_takes_40_s_opens_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        agent = site.plant.agent
        assert agent is not None
        site.plant.lifeline.disk_stall_s = 40.0
        slow = asyncio.create_task(site.reserve(2))
        await asyncio.sleep(1)
        entering = asyncio.create_task(agent.local.enter_code(made["drop_off_code"]))
        with suppress(KeyError):
            await slow
        site.plant.lifeline.disk_stall_s = 0.0
        assert (await entering).refusal is not None
        await asyncio.sleep(5)
        assert site.pulses() == 0

    at_site(tmp_path, test)


def test_w19_an_alarm_that_cannot_be_journaled_is_shown_and_the_kiosk_gets_internal_error(
    tmp_path: Path,
) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve()
        agent = site.plant.agent
        assert agent is not None
        site.plant.lifeline.disk_full = True
        answer = await agent.local.enter_code(made["drop_off_code"])
        assert answer.refusal is not None
        assert answer.refusal.code is Code.OFFLINE
        assert "machine" in answer.refusal.message
        (alarm,) = [row for row in agent.report.alarms() if row["alarm"] == "STORAGE_FAULT"]
        assert alarm["detail"]
        assert alarm["since"]
        assert not agent.loop.state.alarms, "it stands in memory"
        assert agent.report.status()["alarms"] == agent.report.alarms()
        site.plant.lifeline.disk_full = False
        await site.until(lambda: not agent.report.alarms())
        assert (await agent.local.enter_code(made["drop_off_code"])).refusal is None

    at_site(tmp_path, test)
