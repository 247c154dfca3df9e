"""`python -m tools.pages.manual` writes the page."""

from __future__ import annotations

from tools.bench.settings import REPOSITORY
from tools.pages.manual.page import page

FILE = REPOSITORY / "docs" / "man" / "edge-agent.1"

if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(page(), encoding="utf-8")
    print(FILE.name)
