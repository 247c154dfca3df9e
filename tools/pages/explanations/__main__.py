"""`python -m tools.pages.explanations` writes the sections into docs/operations.md and docs/integrate.md."""

from __future__ import annotations

from tools.pages.explanations.sections import PAGES, with_sections

if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_sections(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(path.name)
