"""What is settled between the journal and the configuration at a start and at a reload."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.app import Agent, system_environment
from edge_agent.app.reload import objections
from edge_agent.app.startup import NOTHING, Confirmed
from edge_agent.config import Settings
from edge_agent.errors import ConfigError
from edge_agent.journal.binding import BY_LABEL, OTHERWISE, read_bound
from edge_agent.journal.records import ENTITIES
from edge_agent.model import CellStatus
from edge_agent.runtime.writer import ThreadWriter
from tests.app.test_reload import Document, cell, demo, drop, loaded
from tests.support.site import Site, at_site


def at_journal_of(site: Site, settings: Settings) -> Settings:
    """The settings, on the journal of the site."""
    journal = site.plant.settings.path(site.plant.settings.paths.journal)
    paths = settings.paths.model_copy(update={"journal": str(journal)})
    return settings.model_copy(update={"paths": paths})


def built(site: Site, settings: Settings, confirmed: Confirmed = NOTHING) -> Agent:
    moved = at_journal_of(site, settings)
    return Agent(moved, replace(system_environment(moved), writer=ThreadWriter, confirmed=confirmed))


async def dropped_off(site: Site, number: int = 1) -> str:
    """Drops a parcel off; the label of its cell."""
    made = await site.reserve(number)
    label: str = made["cell"]["description"]
    await site.call("dropoff", f"res_{number}")
    site.plant.world.place(label, 900)
    await asyncio.sleep(1)
    site.plant.world.close(label)
    await site.until(lambda: f"res_{number}" in {e["reservation_id"] for e in site.published("DROPOFF")})
    return label


def renamed(change: Callable[[Document], object]) -> Document:
    document = demo()
    change(document)
    return document


@pytest.mark.behaviour("cells-31")
def test_w6_a_new_label_keeps_the_cell_s_state(tmp_path: Path) -> None:
    """An abandoned parcel in A01, which becomes X01; a live one in A02; then back again."""

    async def run(site: Site) -> None:
        await dropped_off(site, 1)
        await dropped_off(site, 2)
        await site.call("abandon", "res_1")
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: agent.loop.state.cells["A01"].status is CellStatus.AWAITING_CLEANUP)
        await agent.local.block("A02", "loose hinge")
        before = agent.loop.state
        await site.plant.stop()
        document = renamed(lambda d: cell(d, "A01").update(label="X01"))
        cell(document, "A02").update(label="A01")  # the label of before goes to another cell at once
        settings = loaded(tmp_path, document)
        for _ in range(2):  # and once more, from what was written
            moved = built(site, settings)
            state = moved.loop.state
            moved.close()
            assert state.cells["X01"].status is CellStatus.AWAITING_CLEANUP
            assert state.cells["A01"].status is CellStatus.OCCUPIED
            assert state.cells["A01"].reservation_id == "res_2"
            assert state.cells["A01"].blocked is not None
            assert state.reservations["res_2"].cell == "A01"
            assert "A02" not in state.cells
            assert state.cells["X01"].pulse_count == before.cells["A01"].pulse_count == 1
        back = built(site, loaded(tmp_path, demo()))
        assert back.loop.state.reservations == before.reservations
        assert back.loop.state.cells["A01"].status is CellStatus.AWAITING_CLEANUP
        back.close()
        site.plant.start()
        await asyncio.sleep(2)

    at_site(tmp_path, run)


@pytest.mark.behaviour("cells-31")
@pytest.mark.parametrize("change", ["gone", "another id"])
def test_w6_removing_the_id_of_a_cell_in_use_prevents_the_start(tmp_path: Path, change: str) -> None:
    async def run(site: Site) -> None:
        await dropped_off(site)
        await site.call("abandon", "res_1")
        await asyncio.sleep(1)
        await site.plant.stop()
        document = demo()
        if change == "gone":
            drop(document, "A01")
        else:
            cell(document, "A01").update(cell_id="cell_of_somebody", label="X01")
        for _ in range(2):
            with pytest.raises(ConfigError, match=r"'A01' with cell_id .* is AWAITING_CLEANUP and must stay"):
                built(site, loaded(tmp_path, document))
        site.plant.start()
        await asyncio.sleep(2)

    at_site(tmp_path, run)


@pytest.mark.behaviour("cells-31")
def test_w6_a_reload_may_change_the_label_of_a_cell_in_use(tmp_path: Path) -> None:
    async def run(site: Site) -> None:
        label = await dropped_off(site)
        agent = site.plant.agent
        assert agent is not None
        before = loaded(tmp_path, demo())
        document = renamed(lambda d: cell(d, label).update(label="X01"))
        after = loaded(tmp_path, document)
        assert objections(before, after, agent.loop.state) == []
        await site.plant.stop()
        again = built(site, after)
        assert again.loop.state.reservations["res_1"].cell == "X01"
        assert objections(before, after, again.loop.state, relabelled=True) == []
        swapped = renamed(lambda d: cell(d, label).update(label="X01", lock=cell(d, "A02")["lock"]))
        cell(swapped, "A02")["lock"] = cell(demo(), label)["lock"]
        found = objections(before, loaded(tmp_path, swapped), again.loop.state, relabelled=True)
        assert [finding.path for finding in found] == [f"cells.{label}.lock"]
        again.close()
        built(site, before).close()
        site.plant.start()
        await asyncio.sleep(2)

    at_site(tmp_path, run)


@pytest.mark.behaviour("cells-32")
def test_w10_a_journal_of_another_machine_is_refused_unless_renamed(tmp_path: Path) -> None:
    async def run(site: Site) -> None:
        await dropped_off(site)
        await site.plant.stop()
        other = loaded(tmp_path, renamed(lambda d: d["machine"].update(machine_id="machine_9")))
        for _ in range(2):
            with pytest.raises(ConfigError, match="is of machine 'machine_123': start once with --renamed"):
                built(site, other)
        agent = built(site, other, Confirmed(renamed=True))
        assert agent.loop.state.cells["A01"].reservation_id == "res_1"
        agent.close()
        built(site, other).close()  # it is this machine's from now on
        with pytest.raises(ConfigError, match="is of machine 'machine_9'"):
            site.plant.start()
        built(site, site.plant.settings, Confirmed(renamed=True)).close()
        site.plant.start()
        await asyncio.sleep(2)

    at_site(tmp_path, run)


def test_a_journal_records_its_machine_at_the_first_start(tmp_path: Path) -> None:
    async def run(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        bound = read_bound(agent.store)
        assert bound.machine_id == "machine_123"
        assert bound.labels[cell(demo(), "C05")["cell_id"]] == "C05"

    at_site(tmp_path, run)


def test_every_kind_of_entity_declares_whether_its_key_is_a_label() -> None:
    """A new kind whose key is a cell's label has to go with a changed label."""
    assert set(ENTITIES) == BY_LABEL | OTHERWISE
