"""Tables that fit the terminal: no id and no name is cut, whatever the width.

A word is never divided. Where the longest words of all columns do not fit beside each other, each row is
shown as lines of "heading: value", or only the widest columns, below their row.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from edge_agent.cli.text.lines import hanging

PADDING = 2
"""Blanks beside a cell of a column."""
MOST_BELOW, LEAST_BESIDE = 2, 3
"""At most this many columns are shown below their rows, and at least this many beside each other."""
INDENT = 4
VALUE = 24
"""This many columns are enough for values beside their names, though words may be longer."""
MOST_COMPARED, FRAME, SHORTER = 100, 3, 1.3
"""A table of at most this many rows loses its frame (its lines) if it is shorter by this factor then."""


def fitting(table: Table, console: Console) -> RenderableType:
    """The table with a width for each column. If the terminal is too narrow for it: without borders and empty
    columns; else with the widest columns below their rows; else its rows as lines. One without a header has
    names and their values."""
    if not table.columns:
        return table
    if not table.show_header:
        return table if _has_room_for_values(table, console) else _as_pairs(table, console)
    if _fit(table, console):
        return _shorter(table, console)
    narrow = _without_borders(table)
    if _fit(narrow, console):
        return narrow
    for number in range(1, MOST_BELOW + 1):
        shown = _with_lines_below(narrow, console, number)
        if shown is not None:
            return shown
    return _as_lines(table, console)


def _has_room_for_values(table: Table, console: Console) -> bool:
    """Whether the last column of a table without a header is as wide as its longest word, or wide enough."""
    *names, values = (_bounds(console, column) for column in table.columns)
    room = console.width - sum(longest for _, longest in names) - PADDING * len(table.columns)
    return room >= min(values[0], VALUE)


def _as_pairs(table: Table, console: Console) -> Group:
    """Each row as "name: value"."""
    lines = []
    for row in zip(*(list(column.cells) for column in table.columns), strict=True):
        *names, value = (_text(console, cell) for cell in row)
        heading = " ".join(name.plain for name in names if isinstance(name, Text)).strip()
        shown = value if isinstance(value, Text) else Text(str(value))
        lines.append(hanging(Text.assemble((f"{heading}: ", "bold"), shown), console))
    return Group(*lines)


def _shorter(table: Table, console: Console) -> Table:
    """The table, or where that needs far fewer lines, the same without borders."""
    if table.box is None or table.show_lines or table.row_count > MOST_COMPARED:
        return table
    narrow = _without_borders(table)
    if not _fit(narrow, console):
        return table
    lines, fewer = (len(console.render_lines(one, pad=False)) for one in (table, narrow))
    return narrow if (fewer + FRAME) * SHORTER < lines else table


def _fit(table: Table, console: Console) -> bool:
    """Sets the widths of the columns; False if the longest words do not fit beside each other."""
    count = len(table.columns)
    beside = count - 1 if table.box is None else count + 1 + PADDING * count
    available = console.width - beside
    bounds = [_bounds(console, column) for column in table.columns]
    if sum(least for least, _ in bounds) > available:
        return False
    for column, width in zip(table.columns, _widths(bounds, available), strict=True):
        column.width, column.overflow = width, "fold"
    return True


def _without_borders(table: Table) -> Table:
    """The same rows without borders, and without the columns that are empty in each of them."""
    narrow = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    kept = [column for column in table.columns if any(cell not in ("", None) for cell in column.cells)]
    for column in kept:
        narrow.add_column(column.header, no_wrap=column.no_wrap, justify=column.justify)
    for row in zip(*(list(column.cells) for column in kept), strict=True):
        narrow.add_row(*row)
    return narrow


def _bounds(console: Console, column: Column) -> tuple[int, int]:
    """The width of the longest word of a column, and of its longest line."""
    cells = [column.header, *column.cells]
    sizes = [Measurement.get(console, console.options, _text(console, cell)) for cell in cells]
    longest = max(size.maximum for size in sizes)
    return (longest if column.no_wrap else max(size.minimum for size in sizes)), longest


def _text(console: Console, cell: RenderableType) -> RenderableType:
    return console.render_str(cell) if isinstance(cell, str) else cell


def _widths(bounds: Sequence[tuple[int, int]], available: int) -> list[int]:
    """Shares the width: each column gets its longest word; the rest goes to the columns that need most."""
    widths = [least for least, _ in bounds]
    for _ in range(available - sum(widths)):
        wanting = [longest - width for (_, longest), width in zip(bounds, widths, strict=True)]
        most = max(wanting)
        if most <= 0:
            break
        widths[wanting.index(most)] += 1
    return widths


def _with_lines_below(narrow: Table, console: Console, number: int) -> RenderableType | None:
    """The table without its `number` widest columns, whose values stand below their rows, indented; None if
    that does not fit. The first column stays."""
    widths = [_bounds(console, column)[0] for column in narrow.columns]
    moved = sorted(range(1, len(widths)), key=lambda place: -widths[place])[:number]
    kept = [place for place in range(len(widths)) if place not in moved]
    if len(kept) < LEAST_BESIDE:
        return None
    rows = list(zip(*(list(column.cells) for column in narrow.columns), strict=True))
    rest = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for place in kept:
        column = narrow.columns[place]
        rest.add_column(column.header, no_wrap=column.no_wrap, justify=column.justify)
    for row in rows:
        rest.add_row(*(row[place] for place in kept))
    below = [_below(narrow, row, sorted(moved), console) for row in rows]
    widest = max((len(word) for lines in below for line in lines for word in line.plain.split()), default=0)
    if not _fit(rest, console) or widest + INDENT > console.width:
        return None
    parts: list[RenderableType] = []
    for count, (row, lines) in enumerate(zip(rows, below, strict=True)):
        one = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=count == 0)
        for column in rest.columns:
            one.add_column(
                column.header,
                no_wrap=column.no_wrap,
                justify=column.justify,
                width=column.width,
                overflow="fold",
            )
        one.add_row(*(row[place] for place in kept))
        parts += [one, *(Padding(line, (0, 0, 0, INDENT)) for line in lines)]
    return Group(*parts)


def _below(
    table: Table, row: Sequence[RenderableType], places: Sequence[int], console: Console
) -> list[Text]:
    lines = []
    for place in places:
        value = _text(console, row[place])
        if isinstance(value, Text) and value.plain:
            heading = (f"{table.columns[place].header}: ", "dim")
            lines.append(Text.assemble(heading, value, overflow="fold"))
    return lines


def _as_lines(table: Table, console: Console) -> Group:
    """One block of lines for each row, without what is empty."""
    rows = zip(*(list(column.cells) for column in table.columns), strict=True)
    lines: list[RenderableType] = []
    for row in rows:
        lines += [Text("")] if lines else []
        for column, cell in zip(table.columns, row, strict=True):
            value = _text(console, cell)
            if not isinstance(value, Text) or not value.plain:
                continue
            heading = f"{column.header}: "
            longest = max(map(len, value.plain.split()), default=0)
            if len(heading) + longest > console.width:
                heading = heading.rstrip() + "\n"
            lines.append(Text.assemble((heading, "bold"), value, overflow="fold"))
    return Group(*lines)
