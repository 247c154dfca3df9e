"""The kiosk's screen in a real browser, on a whole bench."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, Request, expect

from edge_agent.console.screen.results import REASONS
from tests.support.bench import Bench, running_bench, wait_for
from tests.support.screens.kiosk import SLOW_MS, STRICT, Kiosk, answering, plain, reserved
from tools.bench.settings import REPOSITORY

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture
def kiosk(bench: Bench, browser: Browser) -> Iterator[Kiosk]:
    kiosk = Kiosk(bench, browser)
    yield kiosk
    kiosk.close()


def dropped_off(bench: Bench, kiosk: Kiosk) -> tuple[dict[str, Any], str]:
    """A parcel in its cell, by the drop-off code at the screen, which is back at the start."""
    made, label = reserved(bench)
    kiosk.type(made["drop_off_code"])
    kiosk.at("opened")
    bench.person(label, "place", "close")
    kiosk.at("closed")
    kiosk.touch("done")
    kiosk.at("start")
    wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")
    return made, label


@pytest.mark.parametrize("language", ["de", "ar"])
def test_a_whole_life_by_touch(bench: Bench, kiosk: Kiosk, language: str) -> None:
    words = kiosk.language(language)
    kiosk.says(words["start.title"])
    kiosk.well()
    made, label = reserved(bench)
    kiosk.type(made["drop_off_code"])
    kiosk.says(plain(words["opened.title"], cell=label), words["opened.dropoff"])
    assert kiosk.marked() == label
    expect(kiosk.page.locator("#more")).to_contain_text("1:5")  # of two minutes
    kiosk.well()
    bench.person(label, "place", "close")
    kiosk.says(plain(words["closed.title"], cell=label), words["closed.dropoff"])
    kiosk.touch("again")
    kiosk.says(words["opened.dropoff"])
    bench.person(label, "close")
    kiosk.at("closed")
    kiosk.well()
    kiosk.touch("done")
    wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")
    kiosk.type(made["pickup_code"])
    kiosk.says(plain(words["opened.title"], cell=label), words["opened.pickup"])
    bench.person(label, "take", "close")
    kiosk.says(words["closed.pickup"])
    kiosk.touch("done")
    kiosk.says(words["start.title"])
    wait_for(lambda: bench.status(made["reservation_id"]) == "PICKED_UP")
    kiosk.well()


def test_a_life_by_the_numeric_keypad_alone(bench: Bench, kiosk: Kiosk) -> None:
    made, label = reserved(bench)
    keyboard = kiosk.page.keyboard

    def keyed(code: str) -> None:
        for digit in code:
            keyboard.press(f"Numpad{digit}")
        keyboard.press("NumpadEnter")

    keyed(made["drop_off_code"])
    kiosk.at("opened")
    bench.person(label, "place", "close")
    kiosk.at("closed")
    reach(kiosk.page, "again")
    keyboard.press("NumpadEnter")
    kiosk.at("opened")
    bench.person(label, "close")
    kiosk.at("closed")
    reach(kiosk.page, "done")
    keyboard.press("NumpadEnter")
    kiosk.at("start")
    wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")
    keyboard.press("Numpad9")
    keyboard.press("NumpadDecimal")
    keyed(made["pickup_code"])
    kiosk.at("opened")
    bench.person(label, "take", "close")
    kiosk.at("closed")
    keyboard.press("NumpadMultiply")
    expect(kiosk.page.locator("html")).to_have_attribute("lang", "de")
    keyboard.press("NumpadDivide")
    expect(kiosk.page.locator("html")).to_have_class("large")
    keyboard.press("NumpadSubtract")
    kiosk.at("start")
    kiosk.well()


def reach(page: Page, act: str) -> None:
    """Moves on with the keypad's plus until a button has the focus."""
    for _ in range(12):
        if page.evaluate("document.activeElement.dataset.act") == act:
            return
        page.keyboard.press("NumpadAdd")
    raise AssertionError(f"{act} cannot be reached by the keypad")


def test_a_life_by_keyboard_and_tab(bench: Bench, kiosk: Kiosk) -> None:
    made, label = reserved(bench)
    page = kiosk.page
    page.keyboard.type(made["drop_off_code"])
    page.keyboard.press("Enter")
    kiosk.at("opened")
    bench.person(label, "place", "close")
    kiosk.at("closed")
    for _ in range(20):
        if page.evaluate("document.activeElement.dataset.act") == "done":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    kiosk.at("start")
    wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")
    page.keyboard.type(made["pickup_code"])
    page.keyboard.press("Enter")
    kiosk.at("opened")
    bench.person(label, "take", "close")
    kiosk.at("closed")
    page.keyboard.type("77")  # the next customer begins at once
    kiosk.at("start")
    expect(page.locator("#shown")).to_have_text("77")
    page.keyboard.press("Escape")
    expect(page.locator("#shown")).not_to_contain_text("7")


def test_the_scanner_opens_and_the_screen_shows_the_door(bench: Bench, kiosk: Kiosk) -> None:
    made, label = reserved(bench)
    bench.scan(made["drop_off_qrcode"])
    kiosk.at("opened")
    assert kiosk.marked() == label
    bench.person(label, "place", "close")
    kiosk.at("closed")
    expect(kiosk.page.locator("[data-act=again]")).to_have_count(0)  # the page does not know the code
    kiosk.says("scan your code again")
    kiosk.well()


def test_without_the_broker_codes_work_and_the_screen_shows_it(bench: Bench, kiosk: Kiosk) -> None:
    made, label = dropped_off(bench, kiosk)
    bench.act("broker", "stop")
    try:
        expect(kiosk.page.locator("#notice")).to_contain_text("No network", timeout=SLOW_MS)
        kiosk.well()
        kiosk.type(made["pickup_code"])
        kiosk.at("opened")
        bench.person(label, "take", "close")
        kiosk.at("closed")
        kiosk.touch("done")
    finally:
        bench.act("broker", "start")
    expect(kiosk.page.locator("#notice")).to_have_text("", timeout=SLOW_MS)
    wait_for(lambda: bench.status(made["reservation_id"]) == "PICKED_UP")


def test_a_jammed_lock_says_what_to_do_and_is_tried_again(bench: Bench, kiosk: Kiosk) -> None:
    made, label = dropped_off(bench, kiosk)
    fault = bench.sim.post("/faults", json={"kind": "lock_jammed", "target": label}).json()["id"]
    kiosk.type(made["pickup_code"])
    kiosk.at("not_opened")
    kiosk.says(plain("Door {cell} did not open", cell=label), "Push the door", "call for help")
    assert kiosk.marked() == label
    kiosk.well()
    bench.sim.delete(f"/faults/{fault}").raise_for_status()
    kiosk.touch("retry")
    kiosk.at("opened")
    bench.person(label, "take", "close")
    kiosk.at("closed")


def test_a_contact_in_doubt_names_the_door(bench: Bench, kiosk: Kiosk) -> None:
    made, label = dropped_off(bench, kiosk)
    fault = {"kind": "door_sensor_stuck", "target": label, "value": 0}
    number = bench.sim.post("/faults", json=fault).json()["id"]
    wait_for(
        lambda: (
            f'"{label}/contact"' in bench.command("alarms", "--json").stdout
            or "SENSOR_FAULT" in bench.command("alarms", "--json").stdout
        )
    )
    kiosk.type(made["pickup_code"])
    kiosk.at("in_doubt")
    kiosk.says(plain("Look at door {cell}", cell=label), "If it is shut, call for help")
    assert kiosk.marked() == label
    kiosk.well()
    wait_for(lambda: bench.cell(label)["door"] == "open")
    bench.person(label, "take", "close")
    bench.sim.delete(f"/faults/{number}").raise_for_status()
    kiosk.touch("start")
    kiosk.at("start")


def test_the_daemon_is_killed_and_the_page_goes_on(bench: Bench, kiosk: Kiosk) -> None:
    made, label = reserved(bench)
    kiosk.type(made["drop_off_code"])
    kiosk.at("opened")
    bench.person(label, "place")
    bench.act("agent", "kill")
    expect(kiosk.page.locator("#notice")).to_contain_text("does not answer", timeout=SLOW_MS)
    kiosk.says(plain("Door {cell} is open", cell=label))
    expect(kiosk.page.locator("#notice")).not_to_contain_text("does not answer", timeout=SLOW_MS)
    bench.person(label, "close")
    kiosk.at("closed")
    kiosk.touch("done")
    bench.act("agent", "stop")
    kiosk.says("The locker does not answer")
    assert kiosk.faults(STRICT) == []
    bench.act("agent", "start")
    kiosk.says("Enter your code")
    wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")
    kiosk.type(made["pickup_code"])
    kiosk.at("opened")
    bench.person(label, "take", "close")
    kiosk.at("closed")


def test_out_of_order_while_the_bus_is_gone(bench: Bench, kiosk: Kiosk) -> None:
    number = bench.sim.post("/faults", json={"kind": "bus_unplugged"}).json()["id"]
    kiosk.says("Out of order")
    expect(kiosk.page.locator("#entry")).to_be_hidden()
    kiosk.well()
    bench.sim.delete(f"/faults/{number}").raise_for_status()
    kiosk.says("Enter your code")


def test_back_to_the_start_by_itself_and_prolonged(bench: Bench, browser: Browser) -> None:
    kiosk = Kiosk(bench, browser, held=True)
    page = kiosk.page
    kiosk.language("ar")
    kiosk.page.locator("#large").tap()
    page.keyboard.type("12")
    expect(page.locator("#time")).to_be_hidden()
    page.clock.run_for(25_000)
    expect(page.locator("#time")).to_be_visible()
    assert kiosk.faults(STRICT) == []
    page.locator("#longer").tap()
    expect(page.locator("#time")).to_be_hidden()
    expect(page.locator("#shown")).to_have_text("12")
    page.clock.run_for(41_000)
    expect(page.locator("#shown")).not_to_contain_text("1")
    expect(page.locator("html")).to_have_attribute("lang", "en")  # as the next customer expects it
    expect(page.locator("html")).not_to_have_class("large")
    kiosk.close()


def test_open_again_is_not_offered_to_the_next_customer(bench: Bench, browser: Browser) -> None:
    kiosk = Kiosk(bench, browser, held=True)
    made, label = reserved(bench)
    kiosk.type(made["drop_off_code"])
    kiosk.at("opened")
    bench.person(label, "place", "close")
    kiosk.at("closed")
    expect(kiosk.page.locator("[data-act=again]")).to_be_visible()
    kiosk.page.clock.run_for(13_000)
    kiosk.at("start")
    expect(kiosk.page.locator("[data-act=again]")).to_have_count(0)
    wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")
    bench.api.post(f"/reservations/{made['reservation_id']}/pickups").raise_for_status()
    bench.person(label, "take", "close")
    kiosk.close()


def test_nothing_zooms_or_leaves(kiosk: Kiosk) -> None:
    page = kiosk.page
    assert page.evaluate("getComputedStyle(document.body).touchAction") == "pan-y"
    for script in (
        "new MouseEvent('contextmenu', {bubbles: true, cancelable: true})",
        "new WheelEvent('wheel', {bubbles: true, cancelable: true, ctrlKey: true})",
        "new KeyboardEvent('keydown', {bubbles: true, cancelable: true, key: '+', ctrlKey: true})",
        "new KeyboardEvent('keydown', {bubbles: true, cancelable: true, key: 'F5'})",
        "new KeyboardEvent('keydown', {bubbles: true, cancelable: true, key: 'ArrowLeft', altKey: true})",
        "new DragEvent('drop', {bubbles: true, cancelable: true})",
    ):
        assert page.evaluate(f"!document.body.dispatchEvent({script})"), script
    assert page.locator("a, form, iframe, input").count() == 0


CUT = """() => {
  const talk = document.querySelector('#talk').getBoundingClientRect();
  const all = [...document.querySelectorAll('h1, p, button, #shown, .cell')];
  return all.filter(one => one.offsetParent !== null).flatMap(one => {
    const box = one.getBoundingClientRect(), found = [];
    const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const spare = [one.clientWidth - one.scrollWidth, one.clientHeight - one.scrollHeight];
    if (Math.min(...spare) < -1) found.push('is cut');
    if (box.left < -1 || box.top < -1 || box.right > innerWidth + 1) found.push('is outside');
    if (box.bottom > innerHeight + 1) found.push('is below the screen');
    if (one.closest('#talk') && box.bottom > talk.bottom + 1) found.push('has to be scrolled to');
    if (hit && !one.contains(hit) && !hit.contains(one)) found.push('is covered');
    const small = Math.min(box.width, box.height) < 47.9;
    if (small && one.tagName === 'BUTTON') found.push('is smaller than 48 px');
    return found.map(what => `${one.id || one.textContent}: ${what}`);
  });
}"""


@pytest.mark.parametrize("size", [(800, 480), (1024, 600), (1080, 1920), (1920, 1080)], ids=str)
@pytest.mark.parametrize("language", ["en", "de", "id", "ar"])
@pytest.mark.parametrize("large", [False, True], ids=["usual", "large"])
def test_nothing_is_cut_or_covered(
    bench: Bench, browser: Browser, size: tuple[int, int], language: str, large: bool
) -> None:
    kiosk = Kiosk(bench, browser, *size, reduced_motion="reduce")
    try:
        kiosk.language(language)
        if large:
            kiosk.page.locator("#large").tap()
        assert kiosk.page.evaluate(CUT) == []
        for answer in ANSWERS:
            kiosk.page.route("**/code", answering(answer))
            kiosk.page.keyboard.type("1234")
            kiosk.page.keyboard.press("Enter")
            result = answer["result"]
            kiosk.at("start" if result == "not_valid" else result)
            assert kiosk.page.evaluate(CUT) == [], answer
            if result == "opened":
                kiosk.touch("trouble")
                assert kiosk.page.evaluate(CUT) == [], "trouble"
        kiosk.well()
    finally:
        kiosk.close()


ANSWERS: list[dict[str, Any]] = [
    {"result": "opened", "cell": "C08", "purpose": "dropoff", "grace_s": 86_400},
    {"result": "opened", "cell": "C08", "purpose": "pickup", "grace_s": 58},
    {
        "result": "opened",
        "cell": "C08",
        "purpose": "dropoff",
        "grace_s": 86_400,
        "larger": {"session": "session_1", "seconds": 60},
    },
    *(
        {"result": reason, "cell": "B07", "seconds": 9}
        for reason in REASONS.values()
        if reason != "no_larger_cell"  # the page of the open door says it
    ),
    *({"result": result} for result in ("not_valid", "too_late", "try_again")),
]
"""Every answer to an entry, for what does not depend on the machine: whether its texts fit."""


def test_the_flags_of_the_unit_show_the_page_and_no_other_host(bench: Bench, browser: Browser) -> None:
    """Chromium starts with them; what needs a display or a folder of its own is left out."""
    unit = (REPOSITORY / "systemd" / "examples" / "kiosk-screen.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=.*?chromium (.*?)\n\n?[A-Z]", unit, re.DOTALL | re.MULTILINE)
    flags = [word for word in shlex.split(command.replace("\\\n", " ")) if word.startswith("--")]
    left_out = ("--ozone-platform", "--user-data-dir", "--remote-debugging-pipe")
    used = [flag for flag in flags if not flag.startswith(left_out)]
    assert len(used) == len(flags) - 3 >= 10
    ours = browser.browser_type.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", *used])
    try:
        kiosk = Kiosk(bench, ours)
        kiosk.well()
        with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
            kiosk.page.goto("http://localhost.localdomain:8082/")
        kiosk.close()
    finally:
        ours.close()


def test_the_daemon_grows_by_less_than_a_megabyte(tmp_path: Path, browser: Browser) -> None:
    with running_bench(tmp_path) as bench:
        made, label = reserved(bench)
        bench.command("code", made["drop_off_code"])
        bench.person(label, "place", "close")
        wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")
        before = resident_kb(bench.pids()["agent"])
        kiosk = Kiosk(bench, browser)
        kiosk.type(made["pickup_code"])
        kiosk.at("opened")
        bench.person(label, "take", "close")
        kiosk.at("closed")
        assert resident_kb(bench.pids()["agent"]) - before < 1000
        kiosk.close()


def resident_kb(pid: int) -> int:
    """The resident memory of a process."""
    (line,) = (one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1])


PLAYED = """window.played = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...given) {
  window.played.push(this.buffer.duration);
  return start.apply(this, given);
};"""


@pytest.mark.parametrize("language", ["de", "ar"])
def test_each_step_is_read_aloud(bench: Bench, kiosk: Kiosk, language: str) -> None:
    kiosk.page.add_init_script(PLAYED)
    kiosk.page.reload()
    expect(kiosk.page.locator(".cell")).to_have_count(24, timeout=SLOW_MS)
    words = kiosk.language(language)
    texts: list[str] = []

    def record(request: Request) -> None:
        if request.url.endswith("/speech"):
            texts.append(json.loads(request.post_data or "")["text"])

    kiosk.page.on("request", record)
    kiosk.page.locator("#speech").tap()
    wait_for(lambda: len(kiosk.page.evaluate("window.played")) == 1)
    assert texts == [f"{words['start.title']}. {words['start.text']}"]
    made, label = reserved(bench)
    kiosk.type(made["drop_off_code"])
    kiosk.says(plain(words["opened.title"], cell=label))
    wait_for(lambda: label in texts[-1] and len(kiosk.page.evaluate("window.played")) > 1)
    assert texts[-1].startswith(plain(words["opened.title"], cell=label))
    assert not any(made["drop_off_code"] in text for text in texts)
    kiosk.well()
    kiosk.page.locator("#speech").tap()
    bench.person(label, "place", "close")
    kiosk.at("closed")
    assert texts[-1].startswith(plain(words["opened.title"], cell=label))  # it is silent now


def test_the_keypad_rests_and_counts_down(bench: Bench, kiosk: Kiosk) -> None:
    """The last test of the module: a rest cannot be ended."""
    made, label = dropped_off(bench, kiosk)
    for _ in range(5):
        kiosk.type("0000000")
        if kiosk.page.locator("body").get_attribute("data-view") == "notice":
            break
        expect(kiosk.page.locator("body")).not_to_have_attribute("data-view", "opening")
    kiosk.says("The keypad is paused", "Try again in")
    expect(kiosk.page.locator("#entry")).to_be_hidden()
    kiosk.well()
    bench.scan(made["pickup_code_qrcode"])
    kiosk.at("opened")
    bench.person(label, "take", "close")
    kiosk.at("closed")
