"""`python -m tools.pages.behaviour` writes docs/behaviour.md."""

from __future__ import annotations

from tools.pages.behaviour.page import PAGE, page
from tools.pages.behaviour.sources import sentences, shown

if __name__ == "__main__":
    PAGE.write_text(page(sentences(), shown()), encoding="utf-8")
    print(PAGE.name)
