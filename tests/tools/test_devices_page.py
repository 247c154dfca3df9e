"""The page of devices says what the profiles say."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.pages.devices.page import PAGE, PROFILES, render


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"


def test_every_profile_has_its_line(tmp_path: Path) -> None:
    for name in ("wkly-12", "cheap-4-relay"):
        shutil.copy(PROFILES / f"{name}.toml", tmp_path)
    rows = [line for line in render(tmp_path).splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["cheap-4-relay", "wkly-12"]
    assert "nothing ends them" in rows[0]
    assert "500 ms only" in rows[1]
