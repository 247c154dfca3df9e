"""Debian's Chromium without a screen, driven by Playwright; what its console and axe-core find."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""A browser that asks no host but the page's own."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def running_browser() -> Iterator[Browser]:
    """The browser, ended with the test."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page whose errors and foreign requests are recorded."""

    def __init__(self, browser: Browser, width: int, height: int, **options: Any) -> None:
        self._context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page: Page = self._context.new_page()
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console", lambda message: self.errors.append(message.text) if message.type == "error" else None
        )
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))

    def close(self) -> None:
        """Closes the page and forgets everything that it kept."""
        self._context.close()

    def faults(self, rules: list[str] | None = None) -> list[str]:
        """What axe-core finds wrong with the page as it is shown now, by `RULES` if none are given.

        Moving doors are shown at their end: halfway, a label stands on the colours of both states.
        """
        script = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.page.evaluate(script)
        self.page.emulate_media(reduced_motion="reduce")
        found = self.page.evaluate(
            "rules => axe.run({runOnly: {type: 'tag', values: rules}})"
            ".then(({violations}) => violations.map(one => "
            "({id: one.id, help: one.help, at: one.nodes.map(node => node.target.join(' '))})))",
            RULES if rules is None else rules,
        )
        self.page.emulate_media(reduced_motion="no-preference")
        return [json.dumps(one) for one in found]
