"""Long lines on a terminal: they are divided at blanks, and what follows the first line is indented.

Where the output is no terminal, a line stays one line, for scripts.
"""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.text import Text

INDENT = 4
ROOM = 3
"""Columns that a prompt leaves for its colon and the beginning of the answer."""


def hanging(text: Text, console: Console) -> Text:
    """A text of one or more lines; each that is too wide continues on indented lines."""
    lines = text.split("\n", allow_blank=True)
    return Text("\n").join([part for line in lines for part in _divided(line, console)])


def _divided(line: Text, console: Console) -> list[Text]:
    first, *others = line.wrap(console, console.width, overflow="fold") or [line]
    if not others:
        return [line]
    plain = line.plain[len(first.plain) :]
    first.rstrip()
    rest = line[len(line.plain) - len(plain.lstrip()) :]
    return [
        first,
        *(
            Text.assemble(" " * INDENT, part)
            for part in rest.wrap(console, max(1, console.width - INDENT), overflow="fold")
        ),
    ]


def prompt(question: str, console: Console) -> str:
    """A question that is answered on its last line, divided at blanks if it is too wide."""
    if not console.is_terminal:
        return question
    width = max(1, console.width - ROOM)
    return textwrap.fill(question, width, break_long_words=False, break_on_hyphens=False)
