"""`make screenshots`: pictures of the pages, from a running bench in a real browser, into `docs/screens`.

The bench runs on free ports in a temporary folder. The pictures show no code.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tools.bench.ports import free_port

FOLDER = Path("docs/screens")
SIZES = ((800, 480), (1024, 600), (1080, 1920), (1440, 1000))
"""Width and height in CSS pixels: two boards' screens, an upright one, a desk."""
LANGUAGES = ("en", "ar")
"""One from left to right, and one from right to left."""
READY_S = 60.0
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
HEADERS = {"X-API-Key": "bench-key"}
ORDERS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("medicine", {"cooling_required": True}, True),
    ("dinner", {"heating_required": True}, False),
    ("books", {}, True),
)
"""Order, what its parcel needs, and whether its door is closed again after the drop-off."""


class Addresses(NamedTuple):
    """Where the parts of the bench are."""

    api: str
    simulator: str
    screen: str

    @property
    def rest(self) -> str:
        """The REST API."""
        return f"{self.api}/api/delivery/external/v1"


def main() -> int:
    """Makes every picture; returns the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        _bench(Path(folder)) as addresses,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for size in SIZES:
            for language in LANGUAGES:
                _kiosk(browser, addresses, size, language)
        _scene(addresses)
        for size in SIZES:
            for language in LANGUAGES:
                _wall(browser, addresses, size, language)
        browser.close()
    return 0


def _page(browser: Browser, url: str, size: tuple[int, int]) -> Page:
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(url)
    return page


def _take(page: Page, name: str, size: tuple[int, int]) -> None:
    file = FOLDER / f"{name}-{size[0]}x{size[1]}.png"
    page.screenshot(path=file, animations="disabled")
    print(file)


def _kiosk(browser: Browser, addresses: Addresses, size: tuple[int, int], language: str) -> None:
    """The start page, and a door that a drop-off has opened. The code is not in the pictures."""
    made = _reserved(addresses, "parcel", {})
    page = _page(browser, addresses.screen, size)
    page.locator(".cell").first.wait_for()
    page.locator(f"[data-language={language}]").click()
    _take(page, f"kiosk-start-{language}", size)
    page.keyboard.type(str(made["drop_off_code"]))
    page.keyboard.press("Enter")
    page.locator(".cell.mine.is-open").wait_for()
    _take(page, f"kiosk-open-{language}", size)
    label = page.locator(".cell.mine").get_attribute("data-label")
    cell = f"{addresses.simulator}/cells/{label}"
    httpx.post(f"{cell}/close").raise_for_status()
    page.locator('body[data-view="closed"]').wait_for()
    page.close()
    _picked_up(addresses, made["reservation_id"], cell)


def _wall(browser: Browser, addresses: Addresses, size: tuple[int, int], language: str) -> None:
    page = _page(browser, f"{addresses.api}/#{language}", size)
    page.locator('.cell[data-sign="open"]').wait_for()
    page.locator('.cell[data-sign="in doubt"]').wait_for()
    page.locator('.plot path[d^="M"]').first.wait_for()
    _take(page, f"wall-{language}", size)
    page.close()


def _reserved(addresses: Addresses, order: str, needs: dict[str, Any]) -> dict[str, Any]:
    packaging = {"width": 300, "height": 150, "depth": 400, "weight": 800, **needs}
    body: dict[str, Any] = {"machine_id": "machine_123", "platform_order_id": order, "packaging": packaging}
    body["grace_period_pickup_in_seconds"] = 0
    made = httpx.post(f"{addresses.rest}/reservations", json=body, headers=HEADERS, timeout=30)
    found: dict[str, Any] = made.raise_for_status().json()
    return found


def _picked_up(addresses: Addresses, rid: str, cell: str) -> None:
    """Frees the cell for the next picture."""
    with httpx.Client(base_url=addresses.rest, headers=HEADERS, timeout=30) as client:
        _until(lambda: client.get(f"/reservations/{rid}").json()["status"].endswith("DROPPED_OFF"))
        client.post(f"/reservations/{rid}/pickups").raise_for_status()
        httpx.post(f"{cell}/close").raise_for_status()
        _until(lambda: client.get("/reservations").json()["reservations"] == [])


def _until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > end_s:
            raise SystemExit("the bench does not do what the picture shows")
        time.sleep(0.1)


def _scene(addresses: Addresses) -> None:
    """Two parcels inside, one being dropped off, a contact in doubt."""
    for order, needs, closed in ORDERS:
        rid = _reserved(addresses, order, needs)["reservation_id"]
        opened = httpx.post(f"{addresses.rest}/reservations/{rid}/dropoffs", headers=HEADERS, timeout=30)
        cell = f"{addresses.simulator}/cells/{opened.raise_for_status().json()['cell']['description']}"
        httpx.post(f"{cell}/place", json={"grams": 800}).raise_for_status()
        if closed:
            httpx.post(f"{cell}/close").raise_for_status()
    fault = {"kind": "door_sensor_stuck", "target": "A05", "value": 0}
    httpx.post(f"{addresses.simulator}/faults", json=fault).raise_for_status()


@contextmanager
def _bench(folder: Path) -> Iterator[Addresses]:
    """A bench on free ports."""
    names = ("BENCH_API_PORT", "BENCH_SIM_PORT", "BENCH_SCREEN_PORT", "BENCH_MQTT_PORT")
    ports = [free_port() for _ in names]
    environment = os.environ | dict(zip(names, map(str, ports), strict=True)) | {"BENCH_DIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.bench"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        end_s = time.monotonic() + READY_S
        while not process.stdout.readline().startswith("bench ready"):
            if process.poll() is not None or time.monotonic() > end_s:
                raise SystemExit("the bench did not start")
        yield Addresses(*(f"http://127.0.0.1:{port}" for port in ports[:3]))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    sys.exit(main())
