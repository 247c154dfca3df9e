"""The operators' page in a real browser: whole words at 1,280 px, problems first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.bench import Bench, running_bench, wait_for
from tests.support.screens.browser import Watched

pytestmark = pytest.mark.long

BROKEN_WORDS = """
() => [...document.querySelectorAll("th, td")].flatMap(cell => {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  const broken = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.closest(".id")) continue;
    for (const found of node.data.matchAll(/[^\\s-]+/g)) {
      const range = document.createRange();
      range.setStart(node, found.index);
      range.setEnd(node, found.index + found[0].length);
      const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
      if (lines.size > 1) broken.push(found[0]);
    }
  }
  return broken;
})
"""
"""The words of the tables, identifiers apart, that stand on two lines."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


def test_no_word_is_broken_at_1280_px_and_problems_come_first(bench: Bench, browser: Browser) -> None:
    made = bench.reserve(notes="the customer comes by wheelchair and asks for help with the lower cell")
    opened = bench.api.post(f"/reservations/{made['reservation_id']}/dropoffs").json()
    bench.person(opened["cell"]["description"], "place", "close")
    wait_for(lambda: bench.status(made["reservation_id"]) == "DROPPED_OFF")
    bench.api.post(f"/reservations/{made['reservation_id']}/abandons").raise_for_status()
    bench.reserve(notes="leave it with the neighbour")
    body = {"machine_id": "machine_123", "description": "the door rubs at the frame", "severity": "HIGH"}
    bench.api.post("/maintenances", json=body).raise_for_status()
    bench.sim.post("/faults", json={"kind": "door_sensor_stuck", "target": "C08", "value": 0})
    wait_for(lambda: "SENSOR_FAULT" in operations(bench))
    watched = Watched(browser, 1280, 900, http_credentials={"username": "x", "password": "bench-key"})
    try:
        watched.page.goto(f"{bench.gateway.base_url}/operations")
        assert watched.page.evaluate(BROKEN_WORDS) == []
        sections = watched.page.locator("section").evaluate_all("found => found.map(one => one.id)")
        assert sections == ["machines", "tickets", "abandoned", "notes"]
        width = watched.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 1280
        assert watched.faults() == []
        assert watched.errors == []
    finally:
        watched.close()


def operations(bench: Bench) -> str:
    """The page as HTML."""
    return bench.gateway.get("/operations", auth=("x", "bench-key")).text
