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
from edge_agent.cli.explain.words import CODES, EVENTS, LOCAL_EVENTS, OUTCOMES, RESERVATIONS, STATUSES
from edge_agent.cli.text.language import _, marked

EVENT_PREFIX, STATUS_PREFIX = "EVENT_TYPE_", "RESERVATION_STATUS_"
NEAREST = 3
KINDS = (
    marked("alarm"),
    marked("error code"),
    marked("event"),
    marked("cell status"),
    marked("reservation status"),
    marked("outcome of an unlock"),
)
HEADINGS = {
    "means": marked("means"),
    "machine": marked("machine"),
    "do": marked("do"),
    "ends": marked("ends"),
    "note": marked("note"),
}


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


SECTION = marked('"{section}" in the field manual')


def plain(markdown: str, manual: str = SECTION) -> str:
    """A text of the pages for a terminal: one line; a link by `manual`, with the title of its section."""
    text = re.sub(
        r"\[([^\]]+)\]\(#[\w-]+\)", lambda found: manual.format(section=found[1]), markdown.replace("**", "")
    )
    return joined(text)


def joined(text: str) -> str:
    """A text on one line: line breaks and indents do not count."""
    return " ".join(text.split())


def _explanations() -> Iterator[Explanation]:
    for alarm, text in ALARMS.items():
        parts = (joined(part) for part in (text.cause, text.do, text.machine, text.ends, text.note))
        means, do, machine, ends, note = parts
        yield Explanation(alarm.value, "alarm", means, do, machine=machine, ends=ends, note=note)
    for code, about in CODES.items():
        yield Explanation(code.name, "error code", about.means, about.do, number=int(code))
    for name, kind, words in (
        *((event.removeprefix(EVENT_PREFIX), "event", words) for event, words in EVENTS.items()),
        *((name, "event", words) for name, words in LOCAL_EVENTS.items()),
        *((status.value, "cell status", words) for status, words in STATUSES.items()),
        *(
            (status.removeprefix(STATUS_PREFIX), "reservation status", words)
            for status, words in RESERVATIONS.items()
        ),
        *((outcome.value, "outcome of an unlock", words) for outcome, words in OUTCOMES.items()),
    ):
        yield Explanation(name, kind, words.means, words.do)


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
            metavar="NAME",
            help="an alarm, error code (name or number), event, outcome, or status of a cell or reservation",
            autocompletion=names,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Explain an alarm, an error code, an event, an outcome or a status, and what to do about it."""
    found = _find(name)
    if as_json:
        print_json(
            {
                "name": found.name,
                "kind": found.kind,
                "number": found.number,
                "means": plain(found.means),
                "machine": plain(found.machine) or None,
                "do": plain(found.do),
                "ends": plain(found.ends) or None,
                "note": plain(found.note) or None,
            }
        )
        return
    number = "" if found.number is None else f" {found.number}"
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(_(found.kind), f"[bold]{found.name}[/]{number}")
    for field, heading in HEADINGS.items():
        text = getattr(found, field)
        if text:
            table.add_row(_(heading), escape(plain(_(text), _(SECTION))))
    console.print(table)


def _find(name: str) -> Explanation:
    """Raises `typer.BadParameter` with the nearest names."""
    wanted = (
        name.strip()
        .upper()
        .replace("-", "_")
        .replace(" ", "_")
        .removeprefix(EVENT_PREFIX)
        .removeprefix(STATUS_PREFIX)
    )
    everything = known()
    if wanted.isdecimal():
        wanted = next((one.name for one in everything.values() if str(one.number) == wanted), wanted)
    if wanted in everything:
        return everything[wanted]
    nearest = ", ".join(get_close_matches(wanted, everything, NEAREST, cutoff=0.0))
    why = _("{name} is not known; the nearest are {nearest}", name=repr(name), nearest=nearest)
    raise typer.BadParameter(why, param_hint="NAME")
