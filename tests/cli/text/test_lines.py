"""Long lines on a terminal: no word is divided, and it is seen where a line begins."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from edge_agent.cli.daemon import TerminalConsole
from edge_agent.cli.text.lines import hanging, prompt

FRAME = "05:20:52.444 +07:00  main  03 02 00 00 00 08 78 2E  -> locks_c(3) read 8 inputs from 0"
ID = "res_0f8fad5b-d9cb-469f-a165-70867728950e"


def console(width: int, *, terminal: bool = True) -> TerminalConsole:
    return TerminalConsole(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)


def printed(text: str, width: int, *, terminal: bool = True) -> list[str]:
    shown = console(width, terminal=terminal)
    shown.print(text, highlight=False, markup=False, soft_wrap=True)
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue().splitlines()


def test_a_long_line_goes_on_below_indented_at_a_blank() -> None:
    assert printed(FRAME, 80) == [FRAME.removesuffix(" from 0"), "    from 0"]
    assert printed(FRAME, 200) == [FRAME]


def test_a_line_stays_one_line_where_there_is_no_terminal() -> None:
    assert printed(FRAME, 40, terminal=False) == [FRAME]


@pytest.mark.parametrize("width", [44, 60, 80, 132])
def test_no_word_is_divided_at_any_width(width: int) -> None:
    text = f"{FRAME} {ID} {FRAME}\nsecond {ID}"
    lines = printed(text, width)
    assert max(map(len, lines)) <= width
    assert [word for line in lines for word in line.split()] == text.split()
    assert "second" in [line.split()[0] for line in lines if not line.startswith(" ")]


def test_a_word_that_is_wider_than_the_terminal_is_shown_whole() -> None:
    lines = printed(f"a {ID} b", 20)
    assert "".join("".join(lines).split()) == f"a{ID}b"


def test_the_style_of_a_line_goes_on_below() -> None:
    text = hanging(Text("x " * 30, style="red"), console(40))
    assert len(text.plain.splitlines()) == 2


def test_a_question_leaves_room_for_its_answer_on_the_last_line() -> None:
    question = (
        "cells of the scales bus0:11, bus0:12, bus0:13, bus0:14, bus0:15, bus0:16, bus0:17, in order [A01]"
    )
    lines = prompt(question, console(80)).splitlines()
    assert len(lines) == 2
    assert " ".join(lines) == question
    assert max(map(len, lines)) <= 77
    assert prompt(question, console(40, terminal=False)) == question
