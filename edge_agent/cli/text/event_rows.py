"""One event, or one line of the ledger of unlocks, as a row of a table."""

from __future__ import annotations

from typing import Any, NamedTuple

from edge_agent.cli.text.display import detail_word, purpose_word
from edge_agent.cli.text.language import _, from_daemon
from edge_agent.cli.text.times import moment


class EventRow(NamedTuple):
    """The columns; empty where there is nothing to say. Markup is not escaped."""

    at: str
    what: str
    cell: str
    reservation: str
    who: str
    more: str


def event_row(row: dict[str, Any], *, utc: bool) -> EventRow:
    """A row of `/v1/events`; its time in local time or in UTC."""
    source = {"SOURCE_TYPE_API": "API", "SOURCE_TYPE_MACHINE": _("machine")}.get(row["source"], "")
    who = row["actor"] or source
    if row["kind"] == "event":
        what = row["what"].removeprefix("EVENT_TYPE_")
        by_person = row["actor"] is not None
        fields = row["detail"].items()
        more = ", ".join(f"{detail_word(key)} {_value(key, value, by_person)}" for key, value in fields)
        if not row["sent"]:
            more = f"{more} {_('(waits for the broker)')}".strip()
    elif row["kind"] == "configuration":
        what, more = row["what"], "; ".join(map(from_daemon, row["detail"]["changes"]))
    else:
        what = _("unlock: {outcome}", outcome=row["what"])
        more = purpose_word(row["purpose"])
        if row["attempt"]:
            text = {True: _("pulse {number} given"), False: _("pulse {number} not given")}
            more += ", " + text.get(row["pulsed"], _("pulse {number}")).format(number=row["attempt"])
        more += f": {row['reason'] if row['actor'] else from_daemon(row['reason'])}" if row["reason"] else ""
    return EventRow(
        moment(row["at"], utc=utc), what, row["cell"] or "", row["reservation_id"] or "", who, more
    )


WRITTEN_BY_PEOPLE = frozenset({"description", "platform_reference_id"})


def _value(key: str, value: Any, by_person: bool) -> Any:
    """A detail of an event: its reason is a text of the daemon, unless a person gave it."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    written = by_person or key in WRITTEN_BY_PEOPLE or not isinstance(value, str)
    return value if written else from_daemon(value)
