"""The wall's texts: English in the code, the other languages in files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cloud_gateway.wall import feed

FOLDER = Path(feed.__file__).parent
LANGUAGES = ("de", "id", "ar")
NAMED = {
    "delivered", "failed", "given up", "no receiver", "open", "closed",
    "PENDING", "DROPPED_OFF", "PICKED_UP", "agent", "broker", "gateway",
}  # fmt: skip
"""Texts that come from a message and are translated by their value."""


def keys() -> set[str]:
    """Every text that the page looks up."""
    code = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "static").glob("*.js"))
    page = (FOLDER / "static" / "wall.html").read_text(encoding="utf-8")
    found = set(re.findall(r'\bt\(\s*"((?:[^"\\]|\\.)+)"', code))
    return (
        found | set(re.findall(r'data-t-label="([^"]+)"', page)) | set(re.findall(r"data-t>([^<]+)<", page))
    )


def test_there_is_a_file_for_each_language_but_english() -> None:
    assert {path.stem for path in (FOLDER / "messages").iterdir()} == set(LANGUAGES)
    code = (FOLDER / "static" / "words.js").read_text(encoding="utf-8")
    assert set(re.findall(r'(\w\w): "', code)) == {*LANGUAGES, "en"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_and_no_other(language: str) -> None:
    words = json.loads((FOLDER / "messages" / f"{language}.json").read_text(encoding="utf-8"))
    assert set(words) == keys() | NAMED
    for text, translated in words.items():
        assert translated.strip(), text
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", translated)), text
