"""`python -m tools.pages.outputs` writes the pictures."""

from __future__ import annotations

from tools.bench.settings import REPOSITORY
from tools.pages.outputs.pictures import pictures

FOLDER = REPOSITORY / "docs"

if __name__ == "__main__":
    for name, text in pictures().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(name)
