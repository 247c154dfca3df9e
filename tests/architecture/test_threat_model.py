"""The threat model names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "threat-model.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)
    assert len(named) >= 20
    for file, name in named:
        text = (REPOSITORY / file).read_text(encoding="utf-8")
        assert re.search(rf"\bdef {name}\(", text), f"{file} has no {name}"


def test_every_case_of_the_attacks_is_there() -> None:
    assert {f"X{number}" for number in range(1, 10)} <= set(re.findall(r"\| (X\d) ", PAGE))
