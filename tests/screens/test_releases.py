"""Releases on the fleet page, at a real gateway: begun, paused, resumed, stopped, refused by a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cloud_gateway.operations import fleet_page
from cloud_gateway.users import Role
from tests.support.remote_rig import remote_rig
from tests.support.screens.browser import Watched
from tests.support.screens.operators import PASSWORD
from tools.measure.fleet_page.load import publishing_fleet
from tools.measure.rig import API_KEY, Rig

pytestmark = pytest.mark.long
MESSAGES = Path(fleet_page.__file__).parent / "messages"
SIZES = ((1280, 800), (390, 844))
SLOW_MS = 60_000
SILENT = "machine_0001 machine_0002, machine_0003"
"""Machines that only publish: they have no outcome, so a release for them stays under way."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with remote_rig() as rig, publishing_fleet(rig.mqtt_port, 8):
        yield rig


def opened(rig: Rig, browser: Browser, size: tuple[int, int], name: str, language: str = "en") -> Watched:
    """The view of releases for one person; Ada has the operations key."""
    credentials = {"username": name, "password": API_KEY if name == "ada" else PASSWORD}
    watched = Watched(browser, *size, http_credentials=credentials, locale="en-GB")
    watched.page.goto(f"{rig.wall_url}fleet?language={language}")
    watched.page.locator("#to-releases").click()
    expect(watched.page.locator("#releases-title")).to_be_focused()
    return watched


def begin(page: Page, version: str, machines: str) -> None:
    """Begins a release by the dialog."""
    page.get_by_role("button", name="Begin a release").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Version").fill(version)
    dialog.get_by_label("Ids of machines").fill(machines)
    dialog.get_by_role("button", name="Begin", exact=True).click()
    expect(dialog).to_be_hidden()


def act(page: Page, word: str, version: str) -> None:
    """Presses an act's button of a release, and confirms."""
    page.get_by_role("button", name=f"{word} the release {version}").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=word, exact=True).click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#releases-answer")).to_have_text(f"Release {version}: {word} is done.")


def width_of(page: Page) -> int:
    """How much wider than the window the page is."""
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width


@pytest.mark.parametrize("size", SIZES, ids=["desk", "phone"])
def test_a_release_is_begun_paused_resumed_and_stopped(
    rig: Rig, browser: Browser, size: tuple[int, int]
) -> None:
    version = f"0.9.{size[0]}"
    watched = opened(rig, browser, size, "ada")
    page = watched.page
    begin(page, version, SILENT)
    expect(page.locator("#releases-answer")).to_have_text(f"The release {version} has begun.")
    row = page.locator("#release-rows tr").filter(has_text=version)
    expect(row).to_contain_text("under way")
    expect(row).to_contain_text("wave 1: 0 of 3")
    assert width_of(page) <= 0
    assert watched.faults() == []
    act(page, "Pause", version)
    expect(row).to_contain_text("paused")
    expect(row.get_by_role("button")).to_have_text(["Resume", "Stop"])
    act(page, "Resume", version)
    expect(row).to_contain_text("under way")
    act(page, "Stop", version)
    expect(row).to_contain_text("stopped by ada (operations key)")
    expect(row.get_by_role("button")).to_have_count(0)
    assert watched.faults() == []
    assert watched.errors == []
    watched.close()


def test_a_machine_that_cannot_take_it_stops_it_and_an_unknown_one_is_named(
    rig: Rig, browser: Browser
) -> None:
    watched = opened(rig, browser, SIZES[0], "ada")
    page = watched.page
    begin(page, "9.9.9", "nobody")
    expect(page.locator("#releases-answer")).to_have_text("machine_ids[0]: no machine nobody is known")
    assert all("400" in error for error in watched.errors)
    begin(page, "0.9.9", rig.machine_id)  # this daemon has no updater beside it
    row = page.locator("#release-rows tr").filter(has_text="0.9.9")
    expect(row).to_contain_text("stopped", timeout=SLOW_MS)
    expect(row).to_contain_text(f"1 of 1 machines of wave 1 went back: {rig.machine_id}")
    expect(row).to_contain_text("1 without success")
    watched.close()


@pytest.mark.parametrize("language", ["de", "id"])
def test_releases_in_other_languages_and_for_roles_that_may_only_read(
    rig: Rig, browser: Browser, language: str
) -> None:
    words = json.loads((MESSAGES / f"{language}.json").read_text(encoding="utf-8"))
    ada = opened(rig, browser, SIZES[0], "ada")
    begin(ada.page, f"0.8.{language}", SILENT)
    row = ada.page.locator("#release-rows tr").filter(has_text=f"0.8.{language}")
    expect(row).to_contain_text("under way")
    for role in (Role.READER, Role.SUPPORT):
        watched = opened(rig, browser, SIZES[1], str(role), language)
        page = watched.page
        expect(page.locator("#releases-title")).to_have_text(words["Releases"])
        expect(page.get_by_role("button", name=words["Begin a release"])).to_be_disabled()
        buttons = page.locator("#release-rows tr").filter(has_text=f"0.8.{language}").get_by_role("button")
        expect(buttons).to_have_text([words["Pause"], words["Stop"]])
        for button in buttons.all():
            expect(button).to_be_disabled()
        assert width_of(page) <= 0
        assert watched.faults() == []
        assert watched.errors == []
        watched.close()
    act(ada.page, "Stop", f"0.8.{language}")
    ada.close()
