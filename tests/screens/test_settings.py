"""Remote settings on the fleet page: a real daemon takes them or refuses them, and the page shows which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from cloud_gateway.operations import fleet_page
from cloud_gateway.users import Role
from tests.support.remote_rig import remote_rig
from tests.support.screens.browser import Watched
from tests.support.screens.operators import PASSWORD
from tools.measure.rig import API_KEY, Rig

pytestmark = pytest.mark.long
MESSAGES = Path(fleet_page.__file__).parent / "messages"
SIZES = ((1280, 800), (390, 844))
SLOW_MS = 60_000


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with remote_rig() as rig:
        yield rig


def opened(rig: Rig, browser: Browser, size: tuple[int, int], name: str, language: str) -> Watched:
    """The machine's page for one person; Ada has the operations key."""
    credentials = {"username": name, "password": API_KEY if name == "ada" else PASSWORD}
    watched = Watched(browser, *size, http_credentials=credentials, locale="en-GB")
    watched.page.goto(f"{rig.wall_url}fleet?language={language}#/{rig.machine_id}")
    expect(watched.page.locator("#configuration-outcome")).to_be_visible(timeout=SLOW_MS)
    return watched


@pytest.fixture(params=SIZES, ids=["desk", "phone"])
def machine(rig: Rig, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    watched = opened(rig, browser, request.param, "ada", "en")
    yield watched
    watched.close()


def form(page: Page) -> Locator:
    """Opens the form of the settings."""
    page.get_by_role("button", name="Change the settings").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    return dialog


def add(dialog: Locator, key: str, value: str) -> None:
    """Sets one key, which is added if it is not there."""
    dialog.get_by_label("Another key").select_option(key)
    dialog.get_by_role("button", name="Add").click()
    expect(dialog.get_by_label(key, exact=True)).to_be_focused()
    dialog.get_by_label(key, exact=True).fill(value)


def confirm(dialog: Locator, reason: str) -> None:
    """Gives the reason, and sets."""
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name="Set", exact=True).click()
    expect(dialog).to_be_hidden()


def wanted_version(page: Page) -> int:
    """The version that is wanted now; 0 if none is."""
    found = re.search(r"\d+", page.locator("#configuration-outcome").text_content() or "")
    return int(found.group()) if found else 0


def in_use(version: int) -> re.Pattern[str]:
    """What the page shows when the machine has taken a version for good."""
    return re.compile(f"^Version {version} is in use")


def width_of(page: Page) -> int:
    """How much wider than the window the page is."""
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width


def test_settings_are_taken_and_a_refused_one_is_shown_with_its_key_path(machine: Watched) -> None:
    page = machine.page
    outcome, version = page.locator("#configuration-outcome"), wanted_version(page)
    dialog = form(page)
    add(dialog, "doors.door_ajar_s", "90")
    add(dialog, "machine.name", "Hall <b>B</b>")
    assert machine.faults() == []
    confirm(dialog, "doors close slowly")
    expect(page.locator("#answer")).to_have_text("The settings are wanted; the machine judges them.")
    expect(outcome).to_have_text(in_use(version + 1), timeout=SLOW_MS)
    expect(page.locator("#machine-name")).to_have_text("Hall <b>B</b>", timeout=SLOW_MS)
    expect(page.locator("#configuration-rows")).to_contain_text("doors.door_ajar_s = 90")
    expect(page.locator("#act-rows")).to_contain_text("(doors close slowly)", timeout=SLOW_MS)
    dialog = form(page)
    expect(dialog.get_by_label("doors.door_ajar_s", exact=True)).to_have_value("90")
    dialog.get_by_role("button", name="Remove machine.name").click()
    add(dialog, "doors.door_ajar_s", "0")
    confirm(dialog, "tried by a test")
    expect(outcome).to_contain_text("was not taken: doors.door_ajar_s: ", timeout=SLOW_MS)
    expect(outcome).to_have_class("bad")
    expect(page.locator("#machine-name")).to_have_text("Hall <b>B</b>")  # the whole of it was refused
    assert width_of(page) <= 0
    assert machine.faults() == []
    dialog = form(page)
    dialog.get_by_role("button", name="Remove doors.door_ajar_s").click()
    confirm(dialog, "back to the file")
    expect(outcome).to_have_text(in_use(version + 3), timeout=SLOW_MS)
    expect(page.locator("#machine-name")).not_to_contain_text("Hall <b>B</b>", timeout=SLOW_MS)
    assert machine.errors == []


def test_the_gateways_refusal_is_shown_with_the_key_path_and_nothing_is_sent(machine: Watched) -> None:
    page = machine.page
    before = page.locator("#configuration-outcome").text_content()
    dialog = form(page)
    # A page that offers a key which the gateway does not: only the list of its form is changed.
    page.evaluate("document.querySelector('.adding select').append(new Option('doors.closed_level'))")
    add(dialog, "doors.closed_level", "0")
    confirm(dialog, "tried by a test")
    expect(page.locator("#answer")).to_have_text("settings.doors.closed_level: cannot be set remotely")
    expect(page.locator("#configuration-outcome")).to_have_text(before or "")
    assert all("400" in error for error in machine.errors)


def test_settings_that_change_nothing_are_in_use_at_once(machine: Watched) -> None:
    page = machine.page
    for _ in range(3):
        version = wanted_version(page)
        confirm(form(page), "once more")
        expect(page.locator("#configuration-outcome")).to_have_text(in_use(version + 1), timeout=SLOW_MS)
        done = page.locator("#command-rows li").first
        expect(done).to_contain_text("config-set", timeout=SLOW_MS)
        expect(done).to_contain_text("DONE", timeout=SLOW_MS)
    assert machine.errors == []


def test_a_key_for_one_climate_asks_for_its_name(machine: Watched) -> None:
    page, version = machine.page, wanted_version(machine.page)
    dialog = form(page)
    dialog.get_by_label("Another key").select_option("climate.*.setpoint_c")
    dialog.get_by_role("button", name="Add").click()
    dialog.get_by_label("Name in climate.*.setpoint_c").fill("freezing")
    dialog.get_by_label("climate.*.setpoint_c", exact=True).fill("-900.5")
    assert machine.faults() == []
    confirm(dialog, "tried by a test")
    outcome = page.locator("#configuration-outcome")
    expect(outcome).to_contain_text("climate.freezing.setpoint_c: ", timeout=SLOW_MS)
    dialog = form(page)
    dialog.get_by_role("button", name="Remove climate.freezing.setpoint_c").click()
    confirm(dialog, "back to the file")
    expect(outcome).to_have_text(in_use(version + 2), timeout=SLOW_MS)


@pytest.mark.parametrize("language", ["de", "id"])
def test_the_form_in_other_languages_and_for_roles_that_may_not_use_it(
    rig: Rig, browser: Browser, language: str
) -> None:
    words = json.loads((MESSAGES / f"{language}.json").read_text(encoding="utf-8"))
    for role in Role:
        watched = opened(rig, browser, SIZES[1], str(role), language)
        button = watched.page.get_by_role("button", name=words["Change the settings"])
        if role is Role.OPERATOR:
            button.click()
            dialog = watched.page.get_by_role("dialog")
            expect(dialog.get_by_label(words["Another key"])).to_be_visible()
            assert watched.faults() == []
        else:
            expect(button).to_be_disabled()
        assert width_of(watched.page) <= 0
        assert watched.errors == []
        watched.close()
