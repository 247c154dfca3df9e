"""The parts of pages that are made: each stands between `<!-- begin NAME … -->` and `<!-- end NAME -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from textwrap import fill

from cloud_gateway.api.errors import HTTP_STATUS
from edge_agent.cli.explain.alarms import ALARMS
from edge_agent.cli.explain.command import EVENT_PREFIX, STATUS_PREFIX
from edge_agent.cli.explain.words import CODES, EVENTS, LOCAL_EVENTS, OUTCOMES, RESERVATIONS, STATUSES
from edge_agent.protocol.events import WEBHOOK_TYPES
from tools.bench.settings import REPOSITORY

PAGES = (REPOSITORY / "docs" / "operations.md", REPOSITORY / "docs" / "integrate.md")
WIDTH = 140
"""Columns of a line of prose."""
_PART = re.compile(r"(<!-- begin (\w+)[^>]*-->\n).*?(<!-- end \2 -->\n)", re.DOTALL)


def with_sections(page: str) -> str:
    """The page with each made part made again."""
    return _PART.sub(lambda found: f"{found[1]}{SECTIONS[found[2]]()}{found[3]}", page)


def alarms() -> str:
    """A section for each alarm."""
    parts = []
    for alarm, text in ALARMS.items():
        prose = (
            f"**Cause.** {text.cause} **The machine** {text.machine} **Do:** {text.do} **Ends** {text.ends}"
        )
        parts += [f"### {alarm}", _prose(prose), ""]
        parts += [_prose(text.note), ""] if text.note else []
    return "\n".join(parts)


def words() -> str:
    """What a technician reads beside alarms: statuses, outcomes, events, error codes."""
    statuses = ((f"`{status}`", text.means, text.do) for status, text in STATUSES.items())
    reservations = (
        (f"`{status.removeprefix(STATUS_PREFIX)}`", text.means, text.do)
        for status, text in RESERVATIONS.items()
    )
    outcomes = ((f"`{outcome}`", text.means, text.do) for outcome, text in OUTCOMES.items())
    events = (
        (f"`{event.removeprefix(EVENT_PREFIX)}`", text.means, text.do) for event, text in EVENTS.items()
    )
    local = ((f"`{name}`", text.means, text.do) for name, text in LOCAL_EVENTS.items())
    codes = ((f"{code.name} ({int(code)})", text.means, text.do) for code, text in CODES.items())
    return "\n".join(
        [
            *_table(("status of a cell", "what it means", "do"), statuses),
            "",
            *_table(("status of a reservation", "what it means", "do"), reservations),
            "",
            *_table(("outcome of an unlock", "what it means", "do"), outcomes),
            "",
            *_table(("event", "what it means", "do"), events),
            "",
            *_table(("kept on the machine", "what it means", "do"), local),
            "",
            *_table(("error code", "what it means", "do, at the machine"), codes),
            "",
        ]
    )


def errors() -> str:
    """The error codes as a platform sees them."""
    rows = (
        (str(int(code)), code.name, str(HTTP_STATUS[code]), text.means, text.repeat)
        for code, text in CODES.items()
    )
    return "\n".join([*_table(("code", "name", "HTTP", "what it means", "repeat?"), rows), ""])


def webhooks() -> str:
    """The events that a platform gets."""
    rows = ((f"`{event}`", text.means) for event, text in EVENTS.items() if event in WEBHOOK_TYPES)
    return "\n".join([*_table(("event", "when"), rows), ""])


SECTIONS: dict[str, Callable[[], str]] = {
    "alarms": alarms,
    "words": words,
    "errors": errors,
    "webhooks": webhooks,
}
"""Each part and its generator."""


def _prose(text: str) -> str:
    return fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (heading, ("---",) * len(heading)):
        yield "|" + "|".join(row) + "|" if row[0] == "---" else f"| {' | '.join(row)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
