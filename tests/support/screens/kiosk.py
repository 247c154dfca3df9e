"""The kiosk's screen in a real browser, and the hands of a customer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Route, expect

from edge_agent.console.screen import feed
from tests.support.bench import SMALL, Bench
from tests.support.screens.browser import RULES, Watched

SLOW_MS = 30_000
STRICT = [*RULES, "wcag2aaa"]
"""With the rule for a contrast of 7:1."""
MESSAGES = Path(feed.__file__).parent / "messages"


class Kiosk(Watched):
    """A touch screen at the kiosk, and the hands of a customer."""

    def __init__(
        self, bench: Bench, browser: Browser, *size: int, held: bool = False, **options: Any
    ) -> None:
        """`size`: width and height, 800 x 480 if not given. `held`: the test moves the page's clock."""
        width, height = size or (800, 480)
        super().__init__(browser, width, height, has_touch=True, **options)
        self.url = f"http://127.0.0.1:{bench.ports['BENCH_SCREEN_PORT']}/"
        if held:
            self.page.clock.install()
        self.page.goto(self.url)
        expect(self.page.locator(".cell")).to_have_count(24, timeout=SLOW_MS)

    def language(self, name: str) -> dict[str, str]:
        """Touches a language; returns its messages."""
        self.page.locator(f"[data-language={name}]").tap()
        found: dict[str, str] = json.loads((MESSAGES / f"{name}.json").read_text(encoding="utf-8"))
        return found

    def type(self, code: str) -> None:
        """Touches the digits and Enter."""
        for digit in code:
            self.page.locator("#keys").get_by_role("button", name=digit, exact=True).tap()
        self.page.locator("#key-enter").tap()

    def touch(self, act: str) -> None:
        """Touches a button of the present step."""
        self.page.locator(f"[data-act={act}]").tap()

    def at(self, view: str) -> None:
        """Waits for a step of the course."""
        expect(self.page.locator("body")).to_have_attribute("data-view", view, timeout=SLOW_MS)

    def says(self, *parts: str) -> None:
        """Waits until the heading and the texts hold these words."""
        for part in parts:
            expect(self.page.locator("#talk")).to_contain_text(part, timeout=SLOW_MS)

    def marked(self) -> str | None:
        """The label of the marked door."""
        return self.page.locator(".cell.mine").get_attribute("data-label")

    def well(self) -> None:
        """Nothing is wrong with what is shown, and nothing was logged, kept or fetched elsewhere."""
        assert self.faults(STRICT) == []
        assert self.errors == [], self.errors
        assert self.hosts == {self.url.split("/")[2]}
        kept = "[localStorage.length, sessionStorage.length, document.cookie, history.length, location.href]"
        before = self.page.evaluate(kept)
        assert before == [0, 0, "", before[3], self.url]
        assert self.page.evaluate("indexedDB.databases()") == []
        assert self.page.title() == "Locker"


def reserved(bench: Bench, **fields: Any) -> tuple[dict[str, Any], str]:
    """A reservation, and the label of its cell."""
    made = bench.reserve(SMALL, grace_period_pickup_in_seconds=60, **fields)
    return made, bench.reservation(made["reservation_id"])["cell"]["description"]


def plain(message: str, **values: object) -> str:
    """A message as it is shown, with its values isolated."""
    for name, value in values.items():
        message = message.replace(f"{{{name}}}", f"\u2068{value}\u2069")
    return message


def answering(answer: dict[str, Any]) -> Callable[[Route], None]:
    """Answers an entry in the daemon's place."""
    return lambda route: route.fulfill(json=answer)
