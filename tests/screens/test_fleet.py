"""The fleet page in a real browser, on a whole bench: the list, one machine, and acts on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from cloud_gateway.operations import fleet_page
from tests.support.bench import Bench, running_bench, wait_for
from tests.support.screens.browser import Watched
from tools.measure.fleet_page.load import publishing_fleet

pytestmark = pytest.mark.long
MESSAGES = Path(fleet_page.__file__).parent / "messages"
MACHINE = "machine_123"
OTHERS = 200
SLOW_MS = 30_000
SIZES = ((1280, 800), (390, 844))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with (
        running_bench(tmp_path_factory.mktemp("bench")) as bench,
        publishing_fleet(bench.ports["BENCH_MQTT_PORT"], OTHERS),
    ):
        wait_for(lambda: machines(bench)["total_count"] == OTHERS + 1)
        yield bench


def machines(bench: Bench) -> dict[str, Any]:
    """One page of the API."""
    answer = bench.gateway.get("/api/operations/v1/machines?page_size=1", auth=("x", "bench-key"))
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(params=SIZES, ids=["desk", "phone"])
def fleet(bench: Bench, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    credentials = {"username": "ada", "password": "bench-key"}
    watched = Watched(browser, *request.param, http_credentials=credentials, locale="en-GB")
    watched.page.goto(f"{bench.gateway.base_url}/fleet")
    expect(watched.page.locator("#count")).to_contain_text(f"of {OTHERS + 1} machines")
    yield watched
    watched.close()


def blocked(bench: Bench, label: str) -> str | None:
    """Why a cell is blocked, as the machine itself reports it."""
    rows = json.loads(bench.command("cells", "--json").stdout)
    reason: str | None = next(row["blocked_reason"] for row in rows if row["label"] == label)
    return reason


def open_machine(page: Page) -> None:
    """Goes from the list to the bench's own machine."""
    page.get_by_label("Search").fill(MACHINE)
    expect(page.locator("#rows tr")).to_have_count(1)
    page.locator("#rows a").click()
    expect(page.locator("#cells .cell")).to_have_count(24)


def confirm(page: Page, button: str, reason: str = "tried by a test") -> None:
    """Gives a reason in the dialog."""
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=button, exact=True).click()
    expect(dialog).to_be_hidden()


def width_of(page: Page) -> int:
    """How wide the page is; more than the window means that it scrolls to the side."""
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width


def lines_of(page: Page, selector: str) -> list[int]:
    """On how many lines the text of each element stands."""
    script = """elements => elements.map(element => {
        const range = document.createRange();
        range.selectNodeContents(element);
        return new Set([...range.getClientRects()].map(one => one.top)).size;
    })"""
    lines: list[int] = page.locator(selector).evaluate_all(script)
    return lines


def test_problems_come_first_and_filters_narrow_the_list(fleet: Watched) -> None:
    page = fleet.page
    rows = page.locator("#rows tr")
    expect(rows.first.locator("[data-column=state]")).to_have_text("offline")
    assert set(lines_of(page, "#rows [data-column=state]")) == {1}
    page.get_by_label("State").select_option("good")
    expect(rows.first.locator("[data-column=problems]")).to_be_empty()
    page.get_by_label("Version").select_option("0.1.9")
    expect(rows.first.locator("[data-column=version]")).to_have_text("0.1.9")
    page.get_by_label("State").select_option("")
    page.get_by_label("Version").select_option("")
    page.get_by_label("Search").fill("nordpark locker 8")
    expect(rows.first.locator("th")).to_contain_text("Nordpark")
    page.get_by_label("Search").fill("no such machine")
    expect(rows).to_have_count(0)
    page.get_by_label("Search").fill("")
    expect(page.locator("#count")).to_contain_text(f"{OTHERS + 1} of {OTHERS + 1}")
    before = rows.count()
    page.locator("#more").scroll_into_view_if_needed()
    expect(rows.nth(before)).to_be_attached()
    assert width_of(page) <= 0
    assert fleet.faults() == []
    assert fleet.errors == []


def test_a_cell_is_blocked_and_its_ticket_closed_with_the_cell(bench: Bench, fleet: Watched) -> None:
    page = fleet.page
    open_machine(page)
    body = {
        "machine_id": MACHINE,
        "cell_id": "C07",
        "description": "the door rubs",
        "severity": "HIGH",
        "block_cell_immediately": True,
    }
    bench.api.post("/maintenances", json=body).raise_for_status()
    cell = page.locator('.cell[data-label="C07"]')
    expect(cell).to_have_attribute("data-sign", "blocked", timeout=SLOW_MS)
    cell.click()
    expect(page.get_by_role("button", name="Unblock", exact=True)).to_be_visible()
    assert fleet.faults() == []
    page.get_by_role("button", name="Close ticket").click()
    assert fleet.faults() == []
    page.get_by_role("dialog").get_by_label("Unblock C07 too").check()
    confirm(page, "Close the ticket")
    expect(cell).to_have_attribute("data-sign", "closed", timeout=SLOW_MS)
    expect(page.locator("#ticket-rows")).to_contain_text("closed")
    expect(page.locator("#act-rows")).to_contain_text("unblock cell", timeout=SLOW_MS)
    expect(page.locator("#event-rows")).to_contain_text("CELL_STATUS_CHANGED", timeout=SLOW_MS)
    assert blocked(bench, "C07") is None
    assert width_of(page) <= 0
    assert fleet.errors == []


def test_an_act_by_keyboard_and_one_that_is_cancelled(bench: Bench, fleet: Watched) -> None:
    page = fleet.page
    open_machine(page)
    expect(page.locator("#machine-name")).to_be_focused()
    page.locator('.cell[data-label="B02"]').focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Block", exact=True).focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("Enter")
    page.keyboard.type("hinge")
    page.keyboard.press("Enter")
    expect(page.locator('.cell[data-label="B02"]')).to_have_attribute("data-sign", "blocked", timeout=SLOW_MS)
    assert blocked(bench, "B02") == "hinge (ada (operations key))"
    page.get_by_role("button", name="Unblock", exact=True).click()
    confirm(page, "Unblock")
    expect(page.locator('.cell[data-label="B02"]')).to_have_attribute("data-sign", "closed", timeout=SLOW_MS)
    page.get_by_role("button", name="Clear", exact=True).click()
    confirm(page, "Clear")  # nothing is to be cleared: the machine refuses, and the page says why
    expect(page.locator("#answer")).to_contain_text("B02", timeout=SLOW_MS)
    assert all("400" in error for error in fleet.errors)
    page.go_back()
    expect(page.get_by_label("Search")).to_have_value(MACHINE)


def test_the_keyboard_keeps_its_place_when_the_cell_changes_meanwhile(bench: Bench, fleet: Watched) -> None:
    page = fleet.page
    open_machine(page)
    page.locator('.cell[data-label="B03"]').click()
    page.get_by_role("button", name="Block", exact=True).click()
    bench.command("block", "B03", "--reason", "blocked at the machine")
    cell = page.locator('.cell[data-label="B03"]')
    expect(cell).to_have_attribute("data-sign", "blocked", timeout=SLOW_MS)
    page.keyboard.press("Escape")
    unblock = page.get_by_role("button", name="Unblock", exact=True)
    expect(unblock).to_be_focused()
    bench.command("unblock", "B03")
    expect(cell).to_have_attribute("data-sign", "closed", timeout=SLOW_MS)
    expect(page.get_by_role("button", name="Block", exact=True)).to_be_focused()
    assert fleet.errors == []


@pytest.mark.parametrize("language", ["de", "id"])
def test_it_is_read_in_other_languages(fleet: Watched, language: str) -> None:
    words = json.loads((MESSAGES / f"{language}.json").read_text(encoding="utf-8"))
    page = fleet.page
    page.locator("#languages").select_option(language)
    expect(page.locator("h1")).to_have_text(words["Fleet"])
    expect(page.locator("html")).to_have_attribute("lang", language)
    page.get_by_label(words["Search"]).fill(MACHINE)
    page.locator("#rows a").first.click()
    expect(page.locator("#cells .cell")).to_have_count(24)
    expect(page.locator("#tickets-title")).to_have_text(words["Maintenance tickets"])
    assert width_of(page) <= 0
    assert fleet.faults() == []
    assert fleet.errors == []


def test_no_other_host_is_reached_and_nothing_is_kept(bench: Bench, fleet: Watched) -> None:
    open_machine(fleet.page)
    assert fleet.hosts == {f"127.0.0.1:{bench.ports['BENCH_API_PORT']}"}
    kept = fleet.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
    assert kept == [0, 0, ""]
