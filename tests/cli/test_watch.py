"""`edge-agent watch`: what it shows when the daemon goes, whom it asks for a PIN, its picture."""

from __future__ import annotations

import asyncio
import html
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from textual.widgets import Input
from typer.testing import CliRunner

from edge_agent.cli.commands import app
from edge_agent.cli.watch.app import WatchApp
from edge_agent.cli.watch.command import _watch
from edge_agent.cli.watch.daemon import Daemon
from edge_agent.cli.watch.dialogs import AskPin, Confirm, Help, Search
from edge_agent.config.technicians import NAME_HEADER, PIN_HEADER
from tests.support.screens.wall import screen, shown, until
from tools.pages.watch.__main__ import FILE
from tools.pages.watch.picture import picture, transport_of
from tools.pages.watch.scene import Scene, scene


@pytest.fixture(scope="module")
def played() -> Scene:
    return scene()


def test_where_technicians_have_pins_it_asks_for_one_and_shows_none(played: Scene) -> None:
    there = transport_of(played)
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return there.handle_request(request)
        asked.append(
            {name: request.headers[name] for name in (PIN_HEADER, NAME_HEADER) if name in request.headers}
        )
        pin = request.headers.get(PIN_HEADER)
        if pin == "739154":
            return httpx.Response(200, json={"cell": {"description": "A01"}})
        code, message = (16, "a technician's PIN is needed") if pin is None else (7, "wrong PIN")
        return httpx.Response(403, json={"code": code, "message": message, "details": []})

    async def at_the_wall() -> None:
        daemon = Daemon(Path("agent.sock"), httpx.MockTransport(answer))
        wall = WatchApp(daemon, await daemon.wall(), "maria", None)
        async with wall.run_test(size=(120, 40)) as pilot:
            for pin, said in (("111111", "wrong PIN"), ("739154", "A01 is open")):
                await pilot.press("o")
                await until(pilot, lambda: isinstance(wall.screen, Confirm))
                await pilot.press(*"look", "enter")
                await until(pilot, lambda: isinstance(wall.screen, AskPin))
                assert "PIN of maria" in screen(pilot)
                await pilot.press(*pin)
                assert wall.screen.query_one("#pin", Input).value == pin
                assert pin not in screen(pilot)
                await pilot.press("enter")
                await until(pilot, lambda said=said: said in shown(pilot, "#said"))  # type: ignore[misc]
            await pilot.press("o")
            await until(pilot, lambda: isinstance(wall.screen, Confirm))
            await pilot.press(*"look", "enter")
            await until(pilot, lambda: isinstance(wall.screen, AskPin))  # no PIN is cached
            await pilot.press("escape")
            await until(pilot, lambda: "not done" in shown(pilot, "#said"))
        await daemon.close()

    asyncio.run(at_the_wall())
    first = {NAME_HEADER: "maria"}
    assert asked == [first, first | {PIN_HEADER: "111111"}, first, first | {PIN_HEADER: "739154"}, first]


def test_without_the_daemon_watch_is_marked_stale_and_no_action_works(played: Scene) -> None:
    asyncio.run(_loses_the_daemon(played))


async def _loses_the_daemon(played: Scene) -> None:
    there = transport_of(played)
    gone: list[bool] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if gone:
            raise httpx.ConnectError("Connection refused")
        return there.handle_request(request)

    daemon = Daemon(Path("agent.sock"), httpx.MockTransport(answer))
    then_s = datetime(2026, 11, 30, 10, tzinfo=UTC).timestamp()
    wall = WatchApp(daemon, await daemon.wall(), None, None, utc=True, now_s=lambda: then_s)
    async with wall.run_test(size=(80, 24)) as pilot:
        assert not wall.has_class("stale")
        gone.append(True)
        await until(pilot, lambda: wall.has_class("stale"))
        assert "the daemon at agent.sock does not answer: Connection refused" in shown(pilot, "#said")
        assert (
            shown(pilot, "#headline") == "machine_123  NO ANSWER: the picture is of 2026-11-30 10:00:00 UTC"
        )
        await pilot.press("o")
        assert shown(pilot, "#said") == "without the daemon no action is possible"
        gone.clear()
        await until(pilot, lambda: not wall.has_class("stale"))
        assert "NO ANSWER" not in shown(pilot, "#headline")
        assert "broker connected" in shown(pilot, "#headline")
        await pilot.press("q")
    assert wall.return_code == 0


async def test_a_key_shows_what_the_keys_do(played: Scene) -> None:
    daemon = Daemon(Path("agent.sock"), transport_of(played))
    wall = WatchApp(daemon, await daemon.wall(), None, None)
    async with wall.run_test(size=(80, 24)) as pilot:
        await pilot.press("?")
        await until(pilot, lambda: isinstance(wall.screen, Help))
        said = screen(pilot)
        for words in ("choose a cell", "search a cell or a reservation", "this help", "Esc closes this"):
            assert words in said
        await pilot.press("?")
        await until(pilot, lambda: not isinstance(wall.screen, Help))
    await daemon.close()


async def test_a_cell_or_a_reservation_is_searched(played: Scene) -> None:
    holder = next(cell for cell in played.cells if cell["reservation_id"] == "res_0002")
    daemon = Daemon(Path("agent.sock"), transport_of(played))
    wall = WatchApp(daemon, await daemon.wall(), None, None)
    async with wall.run_test(size=(80, 24)) as pilot:
        for text, chosen in (("b07", "B07"), ("RES_0002", holder["label"]), ("0002", holder["label"])):
            await pilot.press("slash")
            await until(pilot, lambda: isinstance(wall.screen, Search))
            await pilot.press(*text, "enter")
            await until(pilot, lambda chosen=chosen: shown(pilot, "#details").startswith(chosen))  # type: ignore[misc]
            assert "matches" in shown(pilot, "#said")
        await pilot.press("slash", *"c", "enter")
        await until(pilot, lambda: shown(pilot, "#details").startswith("C01"))
        await pilot.press("n")
        await until(pilot, lambda: shown(pilot, "#details").startswith("C02"))
        await pilot.press("slash", *"zz", "enter")
        await until(pilot, lambda: shown(pilot, "#said") == "no cell and no reservation matches 'zz'")
        assert shown(pilot, "#details").startswith("C02")
        await pilot.press("slash", "escape")
        await until(pilot, lambda: not isinstance(wall.screen, Search))
    await daemon.close()


async def test_cells_may_have_any_id_and_removed_ones_are_not_shown(played: Scene) -> None:
    cells = [cell | {"cell_id": f"Zelle {cell['label']}/ä"} for cell in played.cells]
    there = transport_of(replace(played, cells=cells))
    fewer = transport_of(replace(played, cells=cells[:-1]))
    reloaded: list[bool] = []

    def answer(request: httpx.Request) -> httpx.Response:
        return (fewer if reloaded else there).handle_request(request)

    daemon = Daemon(Path("agent.sock"), httpx.MockTransport(answer))
    wall = WatchApp(daemon, await daemon.wall(), None, None)
    async with wall.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        reloaded.append(True)
        await until(pilot, lambda: wall.return_code is not None)
    assert wall.return_code == 0
    await daemon.close()


async def test_an_update_while_the_watch_screen_closes_shows_nothing(played: Scene) -> None:
    daemon = Daemon(Path("agent.sock"), transport_of(played))
    wall = WatchApp(daemon, first := await daemon.wall(), None, None)
    async with wall.run_test(size=(120, 40)) as pilot:
        wall.workers.cancel_all()
        await pilot.pause()
        await wall.screen.remove_children()
        wall._show(first)
        wall._say("gone", "")
    await daemon.close()


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (200, 60)])
def test_every_cell_has_its_place_on_any_terminal(played: Scene, size: tuple[int, int]) -> None:
    words = re.sub(r"<[^>]*>", " ", picture(played, size))
    seen = sum(cell["label"] in words for cell in played.cells)
    assert seen == len(played.cells) or (size == (40, 12) and seen >= 4)


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("broker connected", "1 alarm", "q quit", "blocked")),
        ("de", ("Broker verbunden", "1 Alarm", "q Ende", "gesperrt")),
        ("id", ("broker tersambung", "1 alarm", "q keluar", "diblokir")),
    ],
)
@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_head_and_keys_fit_the_terminal_in_every_language(
    played: Scene, language: str, words: tuple[str, ...], size: tuple[int, int]
) -> None:
    svg = re.sub(r"<style>.*?</style>", "", picture(played, size, language), flags=re.DOTALL)
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", svg)).split())
    for word in (*words[:-1], words[-1].upper()):
        assert word in text
    assert all(cell["label"] in text for cell in played.cells)


def test_the_picture_in_the_docs_is_current(played: Scene) -> None:
    assert FILE.read_text(encoding="utf-8") == picture(played), "run again: python -m tools.pages.watch"


def test_without_a_terminal_watch_names_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["watch"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr
    assert CliRunner().invoke(app, ["watch", "A01"]).exit_code == 2


async def test_without_the_daemon_it_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await _watch(tmp_path / "agent.sock", None, None, False) == 3
    assert "cannot reach the daemon at" in capsys.readouterr().err
