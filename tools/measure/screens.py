"""From a door to the pages: the kiosk's screen and the wall, in a real browser without a display.

`screens`: a door's change until the page shows it, and whether large pages stay fluid. An opening counts from
the moment the simulated door moves; a closing from the moment it is believed: the contact has read closed for
50 ms. The page's clock is that of the machine.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w
from playwright.sync_api import Browser, Page, sync_playwright

from edge_agent.field.doors import DEBOUNCE_S
from tools.bench.ports import HOST
from tools.measure.figures import Figure, p50_p99, quantile
from tools.measure.lives import opening_time_s
from tools.measure.page_load import MACHINES, publishing_machines
from tools.measure.rig import MeasureFault, Rig, Run, rig_of

CHROMIUM = "/usr/bin/chromium"
CELLS = 512
CHANGES, QUICK_CHANGES = 120, 4
FRAMES_S, QUICK_FRAMES_S = 15.0, 1.0
TARGET_MS = 200
LONG_FRAME_MS = 50
SHOWN_S = 20.0
CHANGE_LOG = """() => {
  window.changes = [];
  const shown = new Map();
  new MutationObserver(list => {
    for (const { target } of list) {
      const label = target.dataset?.label, open = target.classList.contains("is-open");
      if (label === undefined || shown.get(label) === open) continue;
      shown.set(label, open);
      requestAnimationFrame(() => {
        window.changes.push([label, open, performance.timeOrigin + performance.now()]);
      });
    }
  }).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["class"] });
}"""
FRAME_LOG = """milliseconds => new Promise(resolve => {
  const times = [], end = performance.now() + milliseconds;
  const tick = now => {
    times.push(now);
    if (now < end) requestAnimationFrame(tick);
    else resolve(times.slice(1).map((time, at) => time - times[at]));
  };
  requestAnimationFrame(tick);
})"""


def screens(run: Run) -> list[Figure]:
    """Every figure of the pages."""
    with browser() as chromium:
        figures = door_to_pages(run, chromium)
        figures += kiosk_frames(run, chromium)
        return figures + wall_frames(run, chromium)


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    if not Path(CHROMIUM).exists():
        raise MeasureFault("Chromium is missing; install it with: apt install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()


def door_to_pages(run: Run, chromium: Browser) -> list[Figure]:
    """A door of the demo's locker until both pages show its change, the wall by telemetry alone."""
    with rig_of(run, screen=True) as rig:
        _start(rig)
        pages = {"kiosk": _page(chromium, rig.screen_url), "wall": _page(chromium, rig.wall_url)}
        labels = [cell.label for cell in rig.settings.cells]
        for page in pages.values():
            page.wait_for_selector(f".cell[data-label={labels[0]}]", timeout=SHOWN_S * 1000)
            page.evaluate(CHANGE_LOG)
        opened: dict[str, list[float]] = {name: [] for name in pages}
        closed: dict[str, list[float]] = {name: [] for name in pages}
        changes = QUICK_CHANGES if run.quick else CHANGES
        for number in range(changes + 1):
            label = labels[number % len(labels)]
            for found, moved_s, is_open in _one_cycle(rig, pages, label):
                if number:  # the first one is a warm-up
                    name, shown_s = found
                    (opened if is_open else closed)[name].append(shown_s - moved_s)
    figures = []
    for name in pages:
        how = {"kiosk": "server-sent events", "wall": "telemetry, gateway, server-sent events"}[name]
        for what, samples in (("opened", opened[name]), ("closed", closed[name])):
            since = "the door moves" if what == "opened" else "the contact has read closed for 50 ms"
            note = f"since {since}, until a frame of the page has it; {how}"
            targets = ("", f"<= {TARGET_MS}")
            figures += p50_p99(f"door {what} -> {name}", samples, targets=targets, note=note)
    return figures


def _one_cycle(
    rig: Rig, pages: dict[str, Page], label: str
) -> Iterator[tuple[tuple[str, float], float, bool]]:
    """A technician opens a door, and closes it once both pages show it open."""
    to_wall_s = time.time() - time.monotonic()
    before = len(rig.sim.call("GET", "/actuations"))
    _open_by_hand(rig, label)
    (pulse,) = rig.sim.call("GET", f"/actuations?since={before}")
    moved_s = float(pulse["monotonic"]) + opening_time_s(label) + to_wall_s
    for name, page in pages.items():
        yield (name, _shown_s(page, label, is_open=True)), moved_s, True
    time.sleep(0.3)
    closed_s = time.time()
    rig.sim.call("POST", f"/cells/{label}/close")
    for name, page in pages.items():
        yield (name, _shown_s(page, label, is_open=False)), closed_s + DEBOUNCE_S, False
    time.sleep(0.7)  # the closing settles


def _shown_s(page: Page, label: str, *, is_open: bool) -> float:
    """The Unix time at which the page showed the last change of a door."""
    end_s = time.monotonic() + SHOWN_S
    while time.monotonic() < end_s:
        for found, shown_open, shown_ms in reversed(page.evaluate("window.changes")):
            if found == label:
                if shown_open is is_open:
                    return float(shown_ms) / 1000
                break
        time.sleep(0.01)
    raise MeasureFault(f"a page does not show the door of {label}")


def _open_by_hand(rig: Rig, label: str) -> None:
    connection = http.client.HTTPConnection("agent", timeout=20)
    with contextlib.closing(connection):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(rig.settings.path(rig.settings.paths.socket)))
        body = json.dumps({"reason": "measured"})
        connection.request("POST", f"/v1/cells/{label}/open", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise MeasureFault(f"open {label}: {response.read().decode()}")


def _start(rig: Rig) -> None:
    rig.start_broker()
    rig.start_simulator()
    rig.start_gateway()
    rig.start_agent()
    rig.wait(lambda: _answers(rig.screen_url), "the kiosk's screen")


def _answers(url: str) -> bool:
    port = int(url.rstrip("/").rpartition(":")[2])
    with contextlib.suppress(OSError):
        socket.create_connection((HOST, port), timeout=1).close()
        return True
    return False


def _page(chromium: Browser, url: str) -> Page:
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.goto(url)
    return page


def kiosk_frames(run: Run, chromium: Browser) -> list[Figure]:
    """Frames of the kiosk's picture of 512 cells while one door a second opens or closes."""
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        config = Path(folder) / "large.toml"
        config.write_text(tomli_w.dumps(large_locker()), encoding="utf-8")
        with rig_of(run, config=config, screen=True) as rig:
            _start(rig)
            page = _page(chromium, rig.screen_url)
            _wait_cells(page, CELLS)
            labels = [cell.label for cell in rig.settings.cells]
            return _frames(run, chromium, page, f"kiosk, {CELLS} cells", lambda n: _toggle(rig, labels, n))


def _toggle(rig: Rig, labels: list[str], number: int) -> None:
    rig.sim.call("POST", f"/cells/{labels[(number // 2) % len(labels)]}/{('open', 'close')[number % 2]}")


def wall_frames(run: Run, chromium: Browser) -> list[Figure]:
    """Frames of the wall with 20 machines of 512 cells that publish telemetry."""
    with rig_of(run, screen=True) as rig:
        rig.start_broker()
        rig.start_gateway()
        with publishing_machines(rig.mqtt_port, CELLS) as publish:
            page = _page(chromium, rig.wall_url)
            _wait_cells(page, CELLS)
            if page.locator("#machines button").count() != MACHINES:
                raise MeasureFault("the wall does not have every machine")
            name = f"wall, {MACHINES} machines of {CELLS} cells"
            return _frames(run, chromium, page, name, publish)


def _wait_cells(page: Page, count: int) -> None:
    end_s = time.monotonic() + 60
    while page.locator(".cell").count() != count:
        if time.monotonic() > end_s:
            raise MeasureFault(f"the page shows {page.locator('.cell').count()} cells of {count}")
        time.sleep(0.2)


def _frames(run: Run, chromium: Browser, page: Page, name: str, act: Any) -> list[Figure]:
    """Times between drawn frames while `act(number)` is called ten times a second, beside an empty page's."""
    seconds = QUICK_FRAMES_S if run.quick else FRAMES_S
    empty = chromium.new_page(viewport={"width": 1440, "height": 900})
    bare = [ms / 1000 for ms in empty.evaluate(FRAME_LOG, 1000 * seconds)]
    empty.close()
    page.bring_to_front()
    page.evaluate(f"window.frameTimes = ({FRAME_LOG})({1000 * seconds}); 0")
    end_s, number = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        act(number)
        number += 1
        time.sleep(0.1)
    times = [ms / 1000 for ms in page.evaluate("window.frameTimes")]
    note = f"time between frames, {number} changes in {seconds:.0f} s"
    figures = p50_p99(f"{name}, frame", times, bare, peer_is="an empty page", note=note)
    long_frames = 100 * sum(one > LONG_FRAME_MS / 1000 for one in times) / len(times)
    figures.append(
        Figure(f"{name}, frames over {LONG_FRAME_MS} ms", long_frames, "%", len(times), target="<= 1")
    )
    worst = 1000 * quantile(times, 1.0)
    return [*figures, Figure(f"{name}, longest frame", worst, "ms", len(times))]


def large_locker() -> dict[str, Any]:
    """16 columns of 32 plain cells on two buses, eight cells a board."""
    boards = [(bus, address) for bus in ("left", "right") for address in range(1, CELLS // 16 + 1)]
    cells = []
    for number in range(CELLS):
        (bus, address), channel = boards[number // 8], number % 8 + 1
        wiring = {"device": f"{bus}_{address}", "channel": channel}
        label = f"{chr(65 + number // 32)}{number % 32 + 1:02d}"
        cells.append(
            {"label": label, "cell_id": f"cell_{label}", "size": "one", "lock": wiring, "door": wiring}
        )
    return {
        "machine": {
            "machine_id": "machine_large",
            "name": "512 cells",
            "location": "",
            "latitude": 0.0,
            "longitude": 0.0,
        },
        "mqtt": {"host": HOST},
        "doors": {"closed_level": 1},
        "codes": {"code_digits": 6},
        "paths": {"profiles": str(Path(__file__).resolve().parents[2] / "config" / "devices")},
        "buses": {
            name: {"port": f"/dev/ttyUSB{at}", "baud": 115_200} for at, name in enumerate(("left", "right"))
        },
        "sizes": {"one": {"width_mm": 350, "height_mm": 250, "depth_mm": 450, "max_mass_g": 10_000}},
        "devices": {
            f"{bus}_{address}": {"bus": bus, "address": address, "profile": "waveshare-io-8ch"}
            for bus, address in boards
        },
        "cells": cells,
    }
