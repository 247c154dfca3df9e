"""The pictures of five outputs: current, whole, and in three languages."""

from __future__ import annotations

import html
import re

import pytest

from tools.pages.outputs.__main__ import FOLDER
from tools.pages.outputs.pictures import OUTPUTS, Output, pictures


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return pictures()


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.file)
def test_the_picture_in_the_docs_is_current(drawn: dict[str, str], output: Output) -> None:
    file = output.file
    again = "run again: python -m tools.pages.outputs"
    assert (FOLDER / file).read_text(encoding="utf-8") == drawn[file], again
    guide = (FOLDER / "guide.md").read_text(encoding="utf-8")
    assert f"({file})" in guide


def test_the_pictures_show_the_scene_in_their_languages(drawn: dict[str, str]) -> None:
    words = {
        "status.svg": ("machine_123", "broker", "connected", "DEVICE_SILENT"),
        "cells.svg": ("cell", "C05", "blocked", "res_0002"),
        "alarms.svg": ("alarm", "scale_c04"),
        "diagnose-de.svg": ("Befund", "antwortet nicht", "device_silent"),
        "events-id.svg": ("bilik", "pembukaan: OPENED", "maria"),
    }
    assert {output.language for output in OUTPUTS} == {"en", "de", "id"}
    assert drawn.keys() == words.keys()
    for file, shown in words.items():
        text = html.unescape(re.sub(r"<[^>]*>", " ", drawn[file])).replace("\xa0", " ")
        assert [word for word in shown if word not in text] == []
