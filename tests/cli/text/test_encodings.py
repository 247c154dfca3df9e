"""A terminal without UTF-8 shows what is meant, one column for each character."""

from __future__ import annotations

import pytest

from edge_agent.cli.text.encodings import register, stand_in
from edge_agent.cli.watch.tiles import DOOR


def shown(text: str, encoding: str = "iso-8859-1") -> str:
    return text.encode(encoding, register()).decode(encoding)


@pytest.mark.parametrize("encoding", ["iso-8859-1", "ascii"])
def test_t1_open_closed_and_unknown_doors_differ_without_utf_8(encoding: str) -> None:
    signs = [shown(sign, encoding) for sign, _colour in DOOR.values()]
    assert len(set(signs)) == 3
    assert all(sign.isascii() and len(sign) == 1 for sign in signs)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("╭─┬─╮ │ ║ ═ ╰", "+-+-+ | | - +"),
        ("█▀▄", "###"),
        ("← ↑ ↓ → …", "< ^ v > ."),
        ("5 °C, Tür, 120 Ω", "5 °C, Tür, 120 O"),
        ("„x“ – y", '"x" - y'),
        ("Łódź", "?ódz"),
        ("漢\U0001f600", "??"),
    ],
)
def test_t1_what_an_encoding_lacks_stays_readable(text: str, seen: str) -> None:
    assert shown(text) == seen
    assert len(seen) == len(text)
    assert shown(text, "utf-8") == text


def test_every_character_has_one_stand_in() -> None:
    for number in [*range(0x80, 0x3000), *range(0x1F300, 0x1F700)]:
        assert len(stand_in(chr(number))) == 1
        assert stand_in(chr(number)).isascii()
