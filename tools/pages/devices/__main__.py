"""`python -m tools.pages.devices`: writes docs/devices.md."""

from __future__ import annotations

from tools.pages.devices.page import PAGE, render

if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
