"""One event, or one line of the ledger of unlocks, as a row of a table."""

from __future__ import annotations

from typing import Any, NamedTuple

from edge_agent.cli.times import moment


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
    source = {"SOURCE_TYPE_API": "API", "SOURCE_TYPE_MACHINE": "machine"}.get(row["source"], "")
    who = row["actor"] or source
    if row["kind"] == "event":
        what = row["what"].removeprefix("EVENT_TYPE_")
        more = ", ".join(f"{key} {value}" for key, value in row["detail"].items())
        if not row["sent"]:
            more = f"{more} (waits for the broker)".strip()
    else:
        what = f"unlock: {row['what']}"
        pulse = {True: " given", False: " not given", None: ""}[row["pulsed"]]
        more = f"{row['purpose']}, pulse {row['attempt']}" if row["attempt"] else row["purpose"]
        more += pulse + (f": {row['reason']}" if row["reason"] else "")
    return EventRow(
        moment(row["at"], utc=utc), what, row["cell"] or "", row["reservation_id"] or "", who, more
    )
