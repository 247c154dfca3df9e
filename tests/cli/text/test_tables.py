"""Tables at any width: no id, no name and no heading is cut."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.table import Column, Table

from edge_agent.cli.daemon import TerminalConsole, encodable

IDS = ("res_0f8fad5b-d9cb-469f-a165-70867728950e", "ORDER-2026-11-30-0000017", "A03")
WORDS = "the door opened although nobody had commanded it"


def shown(width: int, encoding: str = "utf-8", **columns: Any) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="replace")
    console = TerminalConsole(file=stream, width=width, force_terminal=False)
    table = Table("reservation", "order", "cell", Column("what happened", **columns))
    for _ in range(2):
        table.add_row(*IDS, WORDS)
    console.print(table)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 132, 200, 400])
def test_t2_every_id_and_name_is_whole_at_any_width(width: int) -> None:
    text = shown(width)
    for word in (*IDS, *WORDS.split(), "reservation", "order", "cell"):
        assert word in text.replace("\n", " \n"), word
    assert "\u2026" not in text
    if width >= 50:
        assert max(map(len, text.splitlines())) <= width


def test_t2_a_wide_terminal_shows_a_table_and_a_narrow_one_lines() -> None:
    wide, narrow = shown(200), shown(60)
    assert len([line for line in wide.splitlines() if IDS[0] in line and IDS[1] in line]) == 2
    assert len([line for line in narrow.splitlines() if IDS[0] in line]) == 2
    assert not [line for line in narrow.splitlines() if IDS[0] in line and IDS[1] in line]


def test_t2_the_widest_columns_stand_below_their_rows_where_the_others_fit() -> None:
    raw = io.StringIO()
    console = TerminalConsole(file=raw, width=50, force_terminal=False)
    table = Table("cell", "door", "status", "reservation")
    table.add_row("A01", "closed", "AWAITING_INSPECTION", IDS[0])
    table.add_row("A02", "open", "IDLE", "")
    console.print(table)
    assert [line.rstrip() for line in raw.getvalue().splitlines()] == [
        "cell door   status",
        "A01  closed AWAITING_INSPECTION",
        "    reservation:",
        f"    {IDS[0]}",
        "A02  open   IDLE",
    ]


@pytest.mark.parametrize("encoding", ["iso-8859-1", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_t1_a_table_is_shown_in_any_encoding(encoding: str, width: int) -> None:
    text = shown(width, encoding)
    assert "?" not in text
    assert IDS[0] in text


def test_t2_a_squeezed_table_loses_its_borders_where_that_makes_it_shorter() -> None:
    raw = io.StringIO()
    console = TerminalConsole(file=raw, width=80, force_terminal=False)
    since = Column("since", no_wrap=True)
    table = Table("alarm", "cell", "device", since, "count", "detail")
    detail = "reads open although this machine did not open the door"
    for label in ("A05", "A06", "A07"):
        table.add_row("SENSOR_FAULT", label, "", "2026-11-30 16:23:04 UTC", "1", detail)
    console.print(table)
    lines = raw.getvalue().splitlines()
    assert lines[0].split() == ["alarm", "cell", "since", "count", "detail"]
    assert len(lines) <= 10


def test_t1_signs_that_an_encoding_lacks_are_spelled() -> None:
    assert encodable("120 Ω, 5 °C, …", "iso-8859-1") == "120 Ohm, 5 °C, ..."
    assert encodable("120 Ω, …", "utf-8") == "120 Ω, …"
    assert encodable("漢 Ω", "no such encoding") == "漢 Ohm"


def test_t2_a_table_that_is_a_little_too_wide_loses_borders_and_empty_columns_first() -> None:
    raw = io.StringIO()
    console = TerminalConsole(file=raw, width=60, force_terminal=False)
    table = Table("cell", "door", "status", "flags", "weight", "temperature", "climate", "reservation")
    for number in range(3):
        table.add_row(f"A{number:02}", "closed", "AWAITING_INSPECTION", "", "1250 g", "", "", "")
    console.print(table)
    lines = raw.getvalue().splitlines()
    assert lines[0].split() == ["cell", "door", "status", "weight"]
    assert [line.split()[0] for line in lines[1:]] == ["A00", "A01", "A02"]
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80])
def test_names_and_their_values_are_shown_on_the_narrowest_terminal(width: int) -> None:
    raw = io.StringIO()
    console = TerminalConsole(file=raw, width=width, force_terminal=False)
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("clock difference in s", "0.002")
    table.add_row(
        "alarm", "[yellow]DOOR_FORCED C04[/] since 2026-12-01 05:19:24 +07:00: opened without a pulse"
    )
    console.print(table)
    text = raw.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for word in ("clock", "difference", "0.002", "DOOR_FORCED", "C04", "05:19:24", "pulse"):
        assert word in text.split() or f"{word}:" in text.split(), word
    beside = [line for line in text.splitlines() if "clock" in line and "0.002" in line and ":" not in line]
    assert bool(beside) is (width >= 40)
