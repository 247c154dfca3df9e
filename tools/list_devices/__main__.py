"""`python -m tools.list_devices`: writes docs/devices.md."""

from __future__ import annotations

from tools.list_devices.page import PAGE, render

if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
