"""The page and pictures of the state machine are those of today's tables."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from edge_agent.statemachine.transitions import CELL_TABLE, TABLE, CellRule, Refused, Rule
from tools.pages.state_machine.__main__ import drawn
from tools.pages.state_machine.page import cell_picture, page, reservation_picture


@pytest.mark.parametrize("path", list(drawn()), ids=lambda path: path.name)
def test_the_drawn_page_and_pictures_are_not_stale(path: Path) -> None:
    again = "run again: python -m tools.pages.state_machine"
    assert path.read_text(encoding="utf-8") == drawn()[path], again


def words(svg: str) -> str:
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return " ".join(text.text or "" for text in texts)


def test_the_pictures_hold_every_transition() -> None:
    drawn = words(reservation_picture())
    for (phase, trigger), entry in TABLE.items():
        if isinstance(entry, Rule):
            assert phase == "none" or phase in drawn
            assert entry.to in drawn
            assert trigger in drawn
    drawn = words(cell_picture())
    for (status, cell_trigger), cell_entry in CELL_TABLE.items():
        if isinstance(cell_entry, CellRule) and cell_entry.to is not status:
            assert cell_trigger in drawn


def test_the_page_holds_every_reason() -> None:
    text = page()
    for entry in TABLE.values():
        if isinstance(entry, Refused):
            assert f"*{entry.code.name}: {entry.why}*" in text
