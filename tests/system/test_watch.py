"""Keys typed into `edge-agent watch` at a whole machine that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from edge_agent.cli.watch.app import Tile, WatchApp
from edge_agent.cli.watch.daemon import Daemon
from edge_agent.cli.watch.dialogs import Confirm
from tests.support.bench import Bench, running_bench
from tests.support.screens.wall import screen, shown, until


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("watch")) as running:
        yield running


@asynccontextmanager
async def at_the_wall(folder: Path) -> AsyncIterator[Pilot[int]]:
    daemon = Daemon(folder / "agent.sock")
    try:
        wall = WatchApp(daemon, await daemon.wall(), None, None)
        async with wall.run_test(size=(120, 40)) as pilot:
            yield pilot
    finally:
        await daemon.close()


def first(pilot: Pilot[int]) -> Tile:
    return next(iter(pilot.app.query(Tile)))


def test_watch_opens_the_chosen_cell_once_a_reason_is_given(bench: Bench) -> None:
    async def test() -> None:
        async with at_the_wall(bench.folder) as pilot:
            await pilot.press("right")
            assert shown(pilot, "#details").startswith("A02")
            await pilot.press("o")
            await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
            assert "Open the door of A02?" in screen(pilot)
            await pilot.press("enter")  # no reason, no door
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(pilot.app.screen, Confirm))
            assert bench.sim.get("/actuations").json() == []
            await pilot.press("o")
            await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
            await pilot.press(*"jammed?", "enter")
            await until(pilot, lambda: shown(pilot, "#said") == "A02 is open")
            assert bench.cell("A02")["door"] == "open"
            assert [one["label"] for one in bench.sim.get("/actuations").json()] == ["A02"]
            await until(pilot, lambda: "□" in screen(pilot))
            await until(pilot, lambda: "unlock: OPENED" in screen(pilot) and "jammed?" in screen(pilot))
            bench.person("A02", "close")
            await until(pilot, lambda: "□" not in screen(pilot))

    asyncio.run(test())


def test_watch_blocks_unblocks_and_clears_with_a_confirmation(bench: Bench) -> None:
    async def test() -> None:
        async with at_the_wall(bench.folder) as pilot:
            await pilot.press("b")
            await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
            await pilot.press(*"hinge", "enter")
            await until(pilot, lambda: shown(pilot, "#said") == "A01 is blocked")
            await until(pilot, lambda: "BLOCKED" in screen(pilot) and "blocked: hinge" in screen(pilot))
            await pilot.press("u")
            await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
            await pilot.press("n")
            await until(pilot, lambda: not isinstance(pilot.app.screen, Confirm))
            assert first(pilot).cell["blocked"]
            for key, said in (("u", "A01 is not blocked any more"), ("c", "clear A01: cell A01 is IDLE")):
                await pilot.press(key)
                await until(pilot, lambda: isinstance(pilot.app.screen, Confirm))
                await pilot.press("y")
                await until(pilot, lambda said=said: shown(pilot, "#said").startswith(said))  # type: ignore[misc]
            await until(pilot, lambda: not first(pilot).cell["blocked"])

    asyncio.run(test())
