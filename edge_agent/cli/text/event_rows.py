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
        fields = row["detail"].items()
        more = ", ".join(f"{detail_word(key)} {_value(row, key, value)}" for key, value in fields)
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


def _value(row: dict[str, Any], key: str, value: Any) -> Any:
    """A detail of an event; texts of the daemon are translated."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return from_daemon(value) if isinstance(value, str) and not _by_a_person(row, key) else value


def _by_a_person(row: dict[str, Any], key: str) -> bool:
    """Whether somebody wrote this: the reason of a block, what a platform or a technician describes. Other
    reasons are the daemon's, also where a person acted, and so are descriptions of its own tickets."""
    if key == "description":
        own = row["what"] == "EVENT_TYPE_MAINTENANCE_REQUESTED" and row["source"] == "SOURCE_TYPE_MACHINE"
        return not own or row["actor"] is not None
    if key == "reason":
        return row["actor"] is not None and row["detail"].get("cause") == "BLOCKED"
    return key == "platform_reference_id"
