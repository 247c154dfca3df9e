"""`python -m tools.pages.state_machine` writes the page and its pictures."""

from __future__ import annotations

from pathlib import Path

from tools.pages.state_machine.page import cell_picture, page, reservation_picture

DOCS = Path(__file__).resolve().parents[3] / "docs"


def drawn() -> dict[Path, str]:
    """Every generated file with its content."""
    return {
        DOCS / "state-machine.md": page() + "\n",
        DOCS / "state-machine-reservation.svg": reservation_picture(),
        DOCS / "state-machine-cell.svg": cell_picture(),
    }


if __name__ == "__main__":
    for path, text in drawn().items():
        path.write_text(text, encoding="utf-8")
        print(path.name)
