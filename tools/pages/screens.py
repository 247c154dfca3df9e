"""`make screenshots`: pictures of the pages, from a running bench in a real browser, into `docs/screens`.

The bench runs on free ports in a temporary folder. The pictures show no code: no reservation is chosen.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

from tools.bench.ports import free_port

FOLDER = Path("docs/screens")
SIZES = ((800, 480), (1024, 600), (1080, 1920), (1440, 1000))
"""Width and height in CSS pixels: two boards' screens, an upright one, a desk."""
READY_S = 60.0
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
ORDERS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("medicine", {"cooling_required": True}, True),
    ("dinner", {"heating_required": True}, False),
    ("books", {}, True),
)
"""Order, what its parcel needs, and whether its door is closed again after the drop-off."""


def main() -> int:
    """Makes every picture; returns the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _bench(Path(folder)) as (api, simulator):
        _scene(api, simulator)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            for width, height in SIZES:
                page = browser.new_page(viewport={"width": width, "height": height})
                _wall(page, api, FOLDER / f"wall-{width}x{height}.png")
                page.close()
            browser.close()
    return 0


def _wall(page: Page, api: str, file: Path) -> None:
    page.goto(f"{api}/")
    page.locator('.cell[data-sign="open"]').wait_for()
    page.locator('.cell[data-sign="in doubt"]').wait_for()
    page.locator('.plot path[d^="M"]').first.wait_for()
    page.screenshot(path=file, animations="disabled")
    print(file)


def _scene(api: str, simulator: str) -> None:
    """Two parcels inside, one being dropped off, a contact in doubt."""
    headers = {"X-API-Key": "bench-key"}
    with httpx.Client(base_url=f"{api}/api/delivery/external/v1", headers=headers, timeout=30) as client:
        for order, needs, closed in ORDERS:
            packaging = {"width": 300, "height": 150, "depth": 400, "weight": 800, **needs}
            body = {"machine_id": "machine_123", "platform_order_id": order, "packaging": packaging}
            made = client.post("/reservations", json=body).raise_for_status().json()
            opened = client.post(f"/reservations/{made['reservation_id']}/dropoffs").raise_for_status().json()
            cell = f"{simulator}/cells/{opened['cell']['description']}"
            httpx.post(f"{cell}/place", json={"grams": 800}).raise_for_status()
            if closed:
                httpx.post(f"{cell}/close").raise_for_status()
    fault = {"kind": "door_sensor_stuck", "target": "A05", "value": 0}
    httpx.post(f"{simulator}/faults", json=fault).raise_for_status()


@contextmanager
def _bench(folder: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a bench's gateway and simulator."""
    ports = {name: free_port() for name in ("BENCH_API_PORT", "BENCH_SIM_PORT", "BENCH_MQTT_PORT")}
    environment = os.environ | {name: str(port) for name, port in ports.items()} | {"BENCH_DIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.bench"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        end_s = time.monotonic() + READY_S
        while not process.stdout.readline().startswith("bench ready"):
            if process.poll() is not None or time.monotonic() > end_s:
                raise SystemExit("the bench did not start")
        api, simulator = ports["BENCH_API_PORT"], ports["BENCH_SIM_PORT"]
        yield f"http://127.0.0.1:{api}", f"http://127.0.0.1:{simulator}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    sys.exit(main())
