"""Times as people read them: local with the zone, or UTC. JSON and CSV keep RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

Utc = Annotated[bool, typer.Option("--utc", help="show times in UTC instead of local time")]


def moment(at: str | None, *, utc: bool) -> str:
    """An RFC 3339 time of the local API to the second: `2026-11-30 17:00:00 +07:00`, or with `UTC` as the
    zone; empty for None."""
    if at is None:
        return ""
    shown = _placed(at, utc)
    return f"{shown:%Y-%m-%d %H:%M:%S} {_zone(shown)}"


def time_of_day(at: str, *, utc: bool) -> str:
    """The same without its date, to the millisecond."""
    shown = _placed(at, utc)
    return f"{shown:%H:%M:%S}.{shown.microsecond // 1000:03d} {_zone(shown)}"


def _placed(at: str, utc: bool) -> datetime:
    return datetime.fromisoformat(at).astimezone(UTC if utc else None)


def _zone(at: datetime) -> str:
    return at.isoformat()[-6:] if at.utcoffset() else "UTC"
