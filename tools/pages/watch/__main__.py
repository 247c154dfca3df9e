"""`python -m tools.pages.watch` writes the picture."""

from __future__ import annotations

from tools.bench.settings import REPOSITORY
from tools.pages.watch.picture import picture
from tools.pages.watch.scene import scene

FILE = REPOSITORY / "docs" / "watch.svg"

if __name__ == "__main__":
    FILE.write_text(picture(scene()), encoding="utf-8")
    print(FILE.name)
