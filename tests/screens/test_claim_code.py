"""The claim code at the kiosk's screen: a real command, a real gateway, and the daemon's page after it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from edge_agent.console.screen.claim_page import claim_page
from tests.screens.test_claim import rig  # noqa: F401  (the fixture of a gateway that enrols)
from tests.support.bench import Bench, running_bench, wait_for
from tests.support.screens.browser import Watched
from tests.support.screens.kiosk import MESSAGES, STRICT
from tools.bench.ports import free_port
from tools.measure.rig import API_KEY, Rig

pytestmark = pytest.mark.long
CODE = re.compile(r"^[2-9A-Z]{5}-[2-9A-Z]{5}$")
SIZES = ((800, 480), (1024, 600), (1080, 1920))
SLOW_MS = 60_000


@contextmanager
def claiming(folder: Path, url: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """`edge-agent init --claim` in a terminal of its own."""
    command = [sys.executable, "-m", "edge_agent", "init", "--output", str(folder / "locker.toml")]
    options = ["--claim", url, "--screen-port", str(port), "--ports", "/dev/none"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        [*command, *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize("size", SIZES, ids=["small", "wide", "upright"])
def test_the_code_is_shown_large_in_each_language_and_fits(browser: Browser, size: tuple[int, int]) -> None:
    port = free_port()
    watched = Watched(browser, *size, has_touch=True)
    page = watched.page
    with claim_page(port, "de") as show:
        show("WWWWW-MMMMM")  # the widest letters
        page.goto(f"http://127.0.0.1:{port}/")
        for language in ("de", "en", "id", "ar"):
            words = json.loads((MESSAGES / f"{language}.json").read_text(encoding="utf-8"))
            if language != "de":
                page.locator(f"[data-language={language}]").tap()
            expect(page.locator("h1")).to_have_text(words["claim.title"])
            expect(page.locator("#text")).to_have_text(words["claim.text"])
            expect(page.locator("#code")).to_have_text("WWWWW-MMMMM")
            box = page.locator("#code").bounding_box()
            assert box is not None
            assert box["height"] >= 0.1 * min(size)
            assert page.locator("#code").evaluate("one => one.scrollWidth <= one.clientWidth")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.locator("#talk").evaluate("one => one.scrollHeight <= one.clientHeight")
            assert watched.faults(STRICT) == []
        show("7KQ2M-XW4RT")
        expect(page.locator("#code")).to_have_text("7KQ2M-XW4RT")  # a new one, after the old has expired
        assert watched.errors == []
    expect(page.locator("#code")).to_be_hidden()
    assert watched.hosts == {f"127.0.0.1:{port}"}
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    watched.close()


def test_a_machine_is_claimed_by_the_code_that_its_screen_shows(
    rig: Rig,  # noqa: F811
    browser: Browser,
    tmp_path: Path,
) -> None:
    port = free_port()
    watched = Watched(browser, 800, 480, has_touch=True)
    with claiming(tmp_path, rig.wall_url.rstrip("/"), port) as command:
        wait_for(lambda: answers(port), what="the page is not served")
        watched.page.goto(f"http://127.0.0.1:{port}/")
        shown = watched.page.locator("#code")
        expect(shown).to_have_text(CODE, timeout=SLOW_MS)
        place = {"name": "North", "location": "Hall", "latitude": 52.5, "longitude": 13.4}
        body = {"code": shown.text_content(), "machine_id": "machine_at_kiosk", **place}
        answer = httpx.post(
            f"{rig.wall_url}api/operations/v1/claims/approve",
            json=body,
            auth=("ada", API_KEY),
            trust_env=False,
        )
        assert answer.status_code == 201, answer.text
        expect(shown).to_be_hidden(timeout=SLOW_MS)
        wait_for(lambda: not answers(port), what="the page is still served")
        command.wait(timeout=60)  # no bus is there, so it ends
    watched.close()


def answers(port: int) -> bool:
    """Whether a page is served on the port."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running_bench(tmp_path) as bench:
        yield bench


def test_daemon_and_command_take_turns_in_the_same_browser(bench: Bench, browser: Browser) -> None:
    port = bench.ports["BENCH_SCREEN_PORT"]
    watched = Watched(browser, 800, 480, has_touch=True)
    page = watched.page
    page.goto(f"http://127.0.0.1:{port}/")
    expect(page.locator("body")).to_have_attribute("data-view", "start", timeout=SLOW_MS)
    bench.act("agent", "stop")
    wait_for(lambda: not answers(port))
    with claim_page(port, "en") as show:
        show("7KQ2M-XW4RT")
        expect(page.locator("#code")).to_have_text("7KQ2M-XW4RT", timeout=SLOW_MS)
    bench.act("agent", "start")
    expect(page.locator("#keys")).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#code")).to_have_count(0)
    watched.close()
