"""`fleet-page`: the page of a thousand machines in a real browser without a display.

From the start of the navigation until something is painted, until the rows of a screen are drawn, and until
every machine is there; and from a letter in the search field, or a choice, until the next frame has the rows.
"""

from __future__ import annotations

import time
from pathlib import Path

from playwright.sync_api import Browser, Page

from tools.measure.figures import Figure, p50_p99, quantile
from tools.measure.fleet_page.load import publishing_fleet
from tools.measure.rig import API_KEY, MeasureFault, Rig, Run, rig_of
from tools.measure.screens import browser

MACHINES, QUICK_MACHINES = 1_000, 50
LOADS, QUICK_LOADS = 12, 2
FIRST_PAINT_MS, FILTER_MS = 1_000, 100
SHOWN_S, STORED_S = 60.0, 180.0
SIZES = ((1280, 800), (390, 844))
SEARCHES = ("l", "lo", "locker 7", "nordpark", "machine_0999", "no such machine", "")
ROWS_LOG = """new MutationObserver(() => {
  const rows = document.getElementById("rows")?.children.length ?? 0;
  if (rows === 0) return;
  const text = document.getElementById("count").textContent;
  window.rowTimes ??= [];
  requestAnimationFrame(now => window.rowTimes.push([now, rows, text]));
}).observe(document, { subtree: true, childList: true, characterData: true });"""
FILTER = """([id, value]) => new Promise(resolve => {
  const field = document.getElementById(id), before = performance.now();
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - before)));
})"""


def fleet_page(run: Run) -> list[Figure]:
    """Every figure of the fleet page, and of its API."""
    machines = QUICK_MACHINES if run.quick else MACHINES
    with browser() as chromium, rig_of(run) as rig:
        rig.start_broker()
        rig.start_gateway()
        with publishing_fleet(rig.mqtt_port, machines):
            wait_known(chromium, rig, machines)
            figures = []
            for width, height in SIZES:
                figures += _page_figures(run, chromium, rig, machines, (width, height))
            return figures


def page_of(chromium: Browser, rig: Rig, size: tuple[int, int] = SIZES[0]) -> Page:
    """A page that is let in, not loaded yet. Its context ends with the browser."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        http_credentials={"username": "measure", "password": API_KEY},
    )
    return context.new_page()


def wait_known(chromium: Browser, rig: Rig, machines: int) -> None:
    """Returns when the gateway has stored every machine. Raises `MeasureFault`."""
    page, end_s, known = page_of(chromium, rig), time.monotonic() + STORED_S, 0
    while time.monotonic() < end_s:
        answer = page.request.get(f"{rig.wall_url}api/operations/v1/machines?page_size=1")
        known = answer.json()["total_count"] if answer.ok else 0
        if known == machines:
            page.context.close()
            return
        time.sleep(0.5)
    raise MeasureFault(f"the gateway knows {known} of {machines} machines")


def _page_figures(
    run: Run, chromium: Browser, rig: Rig, machines: int, size: tuple[int, int]
) -> list[Figure]:
    name = f"fleet page, {machines} machines, {size[0]}x{size[1]}"
    paints, rows, whole, filters = [], [], [], []
    for _ in range(QUICK_LOADS if run.quick else LOADS):
        page = page_of(chromium, rig, size)
        page.add_init_script(ROWS_LOG)
        page.goto(f"{rig.wall_url}fleet")
        times = _rows_drawn(page, machines)
        paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        paints.append(page.evaluate(paint) / 1000)
        rows.append(times[0] / 1000)
        whole.append(times[1] / 1000)
        for text in SEARCHES:
            filters.append(page.evaluate(FILTER, ["search", text]) / 1000)
        for state in ("problem", "offline", ""):
            filters.append(page.evaluate(FILTER, ["state", state]) / 1000)
        page.context.close()
    since = "since the start of the navigation, without a cache"
    return [
        *p50_p99(f"{name}, first paint", paints, targets=("", f"<= {FIRST_PAINT_MS}"), note=since),
        *p50_p99(f"{name}, first rows", rows, targets=("", f"<= {FIRST_PAINT_MS}"), note=since),
        *p50_p99(f"{name}, every machine there", whole, note=since),
        *p50_p99(
            f"{name}, filter", filters, targets=("", f"<= {FILTER_MS}"), note="until the frame with the rows"
        ),
        Figure(
            f"{name}, slowest filter",
            1000 * quantile(filters, 1.0),
            "ms",
            len(filters),
            target=f"<= {FILTER_MS}",
        ),
    ]


def _rows_drawn(page: Page, machines: int) -> tuple[float, float]:
    """When the first rows were drawn and when every machine was there, in ms of the page's clock."""
    end_s = time.monotonic() + SHOWN_S
    while time.monotonic() < end_s:
        times = page.evaluate("window.rowTimes ?? []")
        done = [at for at, _, text in times if text.startswith(f"{machines} of {machines} ")]
        if done:
            return times[0][0], done[0]
        time.sleep(0.02)
    raise MeasureFault("the fleet page does not show every machine")


def pictures(chromium: Browser, rig: Rig, folder: Path) -> None:
    """Pictures of the list and of a machine, in both sizes."""
    for width, height in SIZES:
        page = page_of(chromium, rig, (width, height))
        page.goto(f"{rig.wall_url}fleet")
        page.locator("#rows tr").first.wait_for()
        page.screenshot(path=folder / f"fleet-{width}x{height}.png")
        page.locator("#rows a").nth(40).click()
        page.locator("#cells .cell").first.wait_for()
        page.screenshot(path=folder / f"fleet-machine-{width}x{height}.png", full_page=True)
        page.context.close()
