"""`python -m tools.pages.contracts` writes docs/asyncapi.yaml and docs/openapi.yaml."""

from __future__ import annotations

from tools.pages.contracts.pages import PAGES

if __name__ == "__main__":
    for path, make in PAGES.items():
        path.write_text(make(), encoding="utf-8")
        print(path.name)
