"""`edge-agent explain`: the meaning of a name, and the next step. It needs no daemon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edge_agent.cli.daemon import AsJson, console, print_json
from edge_agent.cli.explain.alarms import ALARMS
from edge_agent.cli.explain.words import CODES, EVENTS, STATUSES

EVENT_PREFIX = "EVENT_TYPE_"
NEAREST = 3


@dataclass(frozen=True, slots=True)
class Explanation:
    """A name in plain words; empty where there is nothing to say. `number` is that of an error code."""

    name: str
    kind: str
    means: str
    do: str
    number: int | None = None
    machine: str = ""
    """What the machine does by itself."""
    ends: str = ""
    note: str = ""


def plain(markdown: str) -> str:
    """A text of the pages for a terminal: one line, a link as the title of its section."""
    text = re.sub(r"\[([^\]]+)\]\(#[\w-]+\)", r'"\1" in the field manual', markdown)
    return " ".join(text.replace("**", "").split())


def _explanations() -> Iterator[Explanation]:
    for alarm, text in ALARMS.items():
        parts = (plain(part) for part in (text.cause, text.do, text.machine, text.ends, text.note))
        means, do, machine, ends, note = parts
        yield Explanation(alarm.value, "alarm", means, do, machine=machine, ends=ends, note=note)
    for code, about in CODES.items():
        yield Explanation(code.name, "error code", plain(about.means), plain(about.do), number=int(code))
    for name, kind, words in (
        *((event.removeprefix(EVENT_PREFIX), "event", words) for event, words in EVENTS.items()),
        *((status.value, "cell status", words) for status, words in STATUSES.items()),
    ):
        yield Explanation(name, kind, plain(words.means), plain(words.do))


def known() -> dict[str, Explanation]:
    """Every explanation by its name."""
    return {one.name: one for one in _explanations()}


def names(incomplete: str) -> list[str]:
    """The names that begin with `incomplete`; in lower case if that is: the shell offers only what goes on
    with what was typed."""
    found = [name for name in known() if name.startswith(incomplete.upper())]
    return [name.lower() for name in found] if incomplete.islower() else found


def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="an alarm, error code, event or status of a cell", autocompletion=names
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Explain an alarm, an error code, an event or a status of a cell, and what to do about it."""
    found = _find(name)
    if as_json:
        print_json(
            {
                "name": found.name,
                "kind": found.kind,
                "number": found.number,
                "means": found.means,
                "machine": found.machine or None,
                "do": found.do,
                "ends": found.ends or None,
                "note": found.note or None,
            }
        )
        return
    number = "" if found.number is None else f" {found.number}"
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(found.kind, f"[bold]{found.name}[/]{number}")
    for heading in ("means", "machine", "do", "ends", "note"):
        text = getattr(found, heading)
        if text:
            table.add_row(heading, escape(text))
    console.print(table)


def _find(name: str) -> Explanation:
    """Raises `typer.BadParameter` with the nearest names."""
    wanted = name.strip().upper().replace("-", "_").replace(" ", "_").removeprefix(EVENT_PREFIX)
    everything = known()
    if wanted in everything:
        return everything[wanted]
    nearest = ", ".join(get_close_matches(wanted, everything, NEAREST, cutoff=0.0))
    raise typer.BadParameter(f"{name!r} is not known; the nearest are {nearest}", param_hint="NAME")
