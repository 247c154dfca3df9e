"""What stands for a character that the terminal's encoding lacks.

Registered as an error handler of the standard streams, so it holds for everything that is printed, the watch
screen included: there a character must stay one column wide, and an open door must differ from a closed one.
"""

from __future__ import annotations

import codecs
from unicodedata import category, name, normalize

HANDLER = "edge-agent-terminal"
_SIGNS = {
    "▣": "#",
    "□": "o",
    "…": ".",
    "Ω": "O",
    "←": "<",
    "→": ">",
    "↑": "^",
    "↓": "v",
    "–": "-",
    "—": "-",
    "•": "*",
    "“": '"',
    "”": '"',
    "„": '"',
    "’": "'",
    "‘": "'",
}
_LINES, _BLOCKS = range(0x2500, 0x2580), range(0x2580, 0x25A0)


def stand_in(character: str) -> str:
    """The ASCII character that is shown for another one; `?` if none is near."""
    if character in _SIGNS:
        return _SIGNS[character]
    if ord(character) in _LINES:
        words = name(character).split()
        vertical, horizontal = "VERTICAL" in words, "HORIZONTAL" in words
        return "+" if vertical is horizontal or "AND" in words else "|" if vertical else "-"
    if ord(character) in _BLOCKS:
        return "#"
    plain = normalize("NFKD", character)[:1]
    return plain if plain.isascii() and category(plain)[0] in "LNP" else "?"


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(map(stand_in, lost)), error.end


def register() -> str:
    """Makes the handler known; returns its name, for the `errors` of a stream."""
    codecs.register_error(HANDLER, _replace)
    return HANDLER
