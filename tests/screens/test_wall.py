"""The locker wall at the gateway's `/`, in a real browser, on a whole bench."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from cloud_gateway.wall import feed
from tests.support.bench import Bench, running_bench, wait_for
from tests.support.screens.browser import Watched
from tools.measure.page_load import MACHINES, publishing_machines

pytestmark = pytest.mark.long
MESSAGES = Path(feed.__file__).parent / "messages"
SLOW_MS = 30_000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture
def wall(bench: Bench, browser: Browser) -> Iterator[Watched]:
    watched = Watched(browser, 1440, 1000)
    watched.page.goto(str(bench.gateway.base_url))
    expect(watched.page.locator(".cell")).to_have_count(24)
    yield watched
    watched.close()


def cell(page: Page, label: str) -> Locator:
    return page.locator(f'.cell[data-label="{label}"]')


def sign(page: Page, label: str, text: str) -> None:
    expect(cell(page, label)).to_have_attribute("data-sign", text, timeout=SLOW_MS)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def panel(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def english(text: str) -> str:
    """The texts of the code, which are English."""
    return text


def reserved(page: Page, order: str, say: Callable[[str], str] = english) -> str:
    """Reserves by the form; returns the label of the chosen cell."""
    panel(page, say("Platform"))
    page.get_by_label(say("Order"), exact=True).fill(order)
    page.get_by_label(say("Pick-up grace, s")).fill("1")
    press(page, say("Reserve"))
    chosen = page.locator(".cell.chosen")
    expect(chosen).to_contain_text(order)
    label = chosen.get_attribute("data-label")
    assert label is not None
    return label


@pytest.mark.parametrize("language", ["en", "de", "ar"])
def test_a_whole_life_by_clicks(bench: Bench, wall: Watched, language: str) -> None:
    page, say = wall.page, english
    if language != "en":
        words = json.loads((MESSAGES / f"{language}.json").read_text(encoding="utf-8"))
        say = words.__getitem__
        page.get_by_label("Language").select_option(language)
        expect(page.locator("h1")).to_have_text(say("Locker wall"))
        expect(page.locator(".cell")).to_have_count(24)
    label = reserved(page, "by clicks", say)
    press(page, say("Drop off"))
    sign(page, label, "open")
    expect(page.locator("#panel-platform pre").first).to_contain_text("curl -X POST")
    panel(page, say("Person"))
    page.get_by_label(say("Parcel, grams")).first.fill("700")
    press(page, say("Put a parcel in"))
    press(page, say("Close the door"))
    sign(page, label, "closed")
    expect(cell(page, label)).to_contain_text(f"{say('parcel inside')}: by clicks")
    panel(page, say("Platform"))
    press(page, say("Pick up"))
    sign(page, label, "open")
    panel(page, say("Person"))
    press(page, say("Take all out"))
    press(page, say("Close the door"))
    expect(cell(page, label)).to_contain_text(say("free"), timeout=SLOW_MS)
    lines = page.locator("#log-lines")
    for name in ("RESERVATION_CREATED", "DROPOFF", "PICKUP", "RESERVATION_COMPLETED"):
        expect(lines).to_contain_text(f"machine_123: {name}")
    expect(lines).to_contain_text(f"{say('webhook')} DROPOFF")
    expect(lines).to_contain_text(re.compile("req_[0-9a-f]+ res_"))
    assert wall.faults() == []
    assert wall.errors == []


def test_several_machines_are_shown_one_at_a_time(bench: Bench, wall: Watched) -> None:
    page = wall.page
    with publishing_machines(bench.ports["BENCH_MQTT_PORT"], cells=64) as publish:
        tabs = page.locator("#machines [role=tab]")
        expect(tabs).to_have_count(MACHINES + 1, timeout=SLOW_MS)
        expect(page.locator(".cell")).to_have_count(24)
        page.get_by_role("tab", name="machine_07").click()
        expect(page.locator(".cell")).to_have_count(64)
        for number in range(20):
            publish(number)
        expect(page.locator(".cell[data-sign=open]").first).to_be_visible(timeout=SLOW_MS)
        panel(page, "Person")
        expect(page.locator("#panel-person")).to_contain_text("not simulated here")
        expect(page.get_by_role("button", name="Close the door")).to_be_disabled()
        assert wall.faults() == []
        page.get_by_role("tab", name="machine_123").click()
        expect(page.locator(".cell")).to_have_count(24)
    assert wall.errors == []


def test_a_reservation_is_cancelled_and_another_one_abandoned(bench: Bench, wall: Watched) -> None:
    page = wall.page
    label = reserved(page, "cancelled")
    press(page, "Cancel")
    expect(cell(page, label)).to_contain_text("free", timeout=SLOW_MS)
    label = reserved(page, "abandoned")
    press(page, "Drop off")
    sign(page, label, "open")
    bench.person(label, "place", "close")
    expect(cell(page, label)).to_contain_text("parcel inside", timeout=SLOW_MS)
    press(page, "Abandon")
    expect(cell(page, label)).to_contain_text("awaits clean-up", timeout=SLOW_MS)
    assert wall.errors == []


def test_codes_at_the_kiosk_open_without_the_broker(bench: Bench, wall: Watched) -> None:
    page = wall.page
    label = reserved(page, "offline")
    press(page, "Type the drop-off code")
    sign(page, label, "open")
    panel(page, "Person")
    press(page, "Put a parcel in")
    press(page, "Close the door")
    expect(cell(page, label)).to_contain_text("parcel inside", timeout=SLOW_MS)
    bench.act("broker", "stop")
    try:
        expect(page.locator("#links")).to_contain_text("broker not connected", timeout=SLOW_MS)
        panel(page, "Platform")
        press(page, "Type the pick-up code")
        sign(page, label, "open")
        panel(page, "Person")
        press(page, "Take all out")
        press(page, "Close the door")
        sign(page, label, "closed")
    finally:
        bench.act("broker", "start")
    expect(page.locator("#links")).to_contain_text("broker connected", timeout=SLOW_MS)
    expect(cell(page, label)).to_contain_text("free", timeout=SLOW_MS)


def test_faults_are_raised_shown_and_cleared(bench: Bench, wall: Watched) -> None:
    page = wall.page
    panel(page, "Faults")
    page.get_by_label("Kind").select_option("door_sensor_stuck")
    page.get_by_label("Target").fill("C08")
    page.get_by_role("spinbutton", name="Value").fill("0")
    press(page, "Raise the fault")
    sign(page, "C08", "in doubt")
    expect(page.locator(".faults")).to_contain_text("door_sensor_stuck C08")
    page.locator(".faults").get_by_role("button", name="Clear").click()
    expect(page.locator(".faults")).to_contain_text("No fault is active.")
    wait_for(lambda: bench.command("clear", "C08").returncode == 0)
    sign(page, "C08", "closed")
    assert wall.errors == []


def test_a_jammed_lock_is_shown_and_the_reservation_moves(bench: Bench, wall: Watched) -> None:
    page = wall.page
    label = reserved(page, "moves")
    fault = bench.sim.post("/faults", json={"kind": "lock_jammed", "target": label}).json()["id"]
    press(page, "Drop off")
    sign(page, label, "jammed")
    moved = page.locator(".cell", has_text="reserved: moves").first
    expect(moved).to_have_attribute("data-sign", "open", timeout=SLOW_MS)
    bench.sim.delete(f"/faults/{fault}").raise_for_status()
    wait_for(lambda: bench.command("clear", label).returncode == 0)
    other = moved.get_attribute("data-label")
    assert other is not None
    bench.person(other, "close")
    sign(page, label, "closed")


def test_the_daemon_and_the_gateway_are_killed_and_the_page_goes_on(bench: Bench, wall: Watched) -> None:
    page = wall.page
    bench.act("agent", "stop")
    expect(page.get_by_role("tab", name="machine_123 (offline)")).to_be_visible(timeout=SLOW_MS)
    bench.act("agent", "start")
    expect(page.get_by_role("tab", name="machine_123", exact=True)).to_be_visible(timeout=SLOW_MS)
    bench.act("gateway", "kill")
    expect(page.locator("#links")).to_contain_text("gateway not connected", timeout=SLOW_MS)
    expect(page.locator("#links")).to_contain_text("gateway connected", timeout=SLOW_MS)
    bench.person("C01", "open")
    sign(page, "C01", "in doubt")
    bench.person("C01", "close")
    wait_for(lambda: bench.cell("C01")["door"] == "closed")
    wait_for(lambda: bench.command("clear", "C01").returncode == 0)
    sign(page, "C01", "closed")


def test_a_life_by_keyboard_alone(bench: Bench, wall: Watched) -> None:
    page = wall.page
    page.get_by_label("Order").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    chosen = page.locator(".cell.chosen")
    expect(chosen).to_contain_text("by keyboard")
    label = str(chosen.get_attribute("data-label"))
    reach(page, "Drop off")
    page.keyboard.press("Enter")
    sign(page, label, "open")
    page.get_by_role("tab", name="Platform").focus()
    page.keyboard.press("ArrowRight")
    reach(page, "Close the door")
    page.keyboard.press("Space")
    sign(page, label, "closed")
    assert wall.errors == []


def reach(page: Page, name: str) -> None:
    """Moves the focus with Tab until it is on a button."""
    for _ in range(80):
        if page.evaluate("document.activeElement.textContent") == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{name} cannot be reached by keyboard")


@pytest.mark.parametrize("name", ["Platform", "Person", "Faults"])
def test_axe_finds_no_fault(wall: Watched, name: str) -> None:
    panel(wall.page, name)
    cell(wall.page, "B01").click()
    assert wall.faults() == []


def test_no_other_host_is_reached_and_nothing_is_kept(bench: Bench, wall: Watched) -> None:
    own = {f"127.0.0.1:{bench.ports[name]}" for name in ("BENCH_API_PORT", "BENCH_SIM_PORT")}
    assert wall.hosts <= own
    kept = wall.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
    assert kept == [0, 0, ""]
