"""Which rows of `/v1/events` the command `events` shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from edge_agent.cli.text.language import _

SEARCHED = 1000
"""How many of the newest rows a filter searches: the most that the daemon returns at once."""
AGES = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"([0-9]{1,5}) ?(s|sec|m|min|h|d|w)")


@dataclass(slots=True)
class EventFilter:
    """What is wanted; None: any. Upper and lower case are the same.

    `order` is an order id, a reservation id, or the beginning of either. Lines of the unlock ledger have no
    order id: they match by the reservations whose events match.
    """

    cell: str | None = None
    order: str | None = None
    alarm: str | None = None
    since: datetime | None = None
    _reservations: set[str] = field(default_factory=set)

    @property
    def limits(self) -> bool:
        """Whether it may leave out any row."""
        return any(wanted is not None for wanted in (self.cell, self.order, self.alarm, self.since))

    def choose(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows that match, in their order."""
        found = list(rows)
        for row in found:
            self._note(row)
        return [row for row in found if self.matches(row)]

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether one row is shown."""
        self._note(row)
        alarm = str((row.get("detail") or {}).get("alarm") or "")
        return (
            (self.cell is None or str(row["cell"] or "").lower() == self.cell.lower())
            and (self.alarm is None or alarm.lower() == self.alarm.lower())
            and (self.since is None or datetime.fromisoformat(row["at"]) >= self.since)
            and (self.order is None or self._is_of_order(row) or row["reservation_id"] in self._reservations)
        )

    def _note(self, row: dict[str, Any]) -> None:
        if self.order is not None and row["reservation_id"] is not None and self._is_of_order(row):
            self._reservations.add(row["reservation_id"])

    def _is_of_order(self, row: dict[str, Any]) -> bool:
        ids = (row.get("platform_order_id"), row["reservation_id"])
        return any(begins(one, self.order or "") for one in ids if one is not None)


def begins(text: str, wanted: str | None) -> bool:
    """Whether an id begins with what was asked for, in upper or lower case; None: any."""
    return wanted is None or text.casefold().startswith(wanted.casefold())


def moment_since(text: str | None, now: datetime, *, utc: bool) -> datetime | None:
    """The moment in an option such as `90m`, `2h`, `3d` (that long ago), `2026-11-30T10:00` (local time, or
    UTC with `utc`, unless it has a zone) or a time as tables show it. Raises `typer.BadParameter`."""
    if text is None:
        return None
    age = _AGE.fullmatch(text.strip().lower())
    if age is not None:
        return now - timedelta(**{AGES[age[2][0]]: int(age[1])})
    try:
        at = datetime.fromisoformat(re.sub(r" (?=[+-]|UTC$)", "", text.strip()).replace("UTC", "Z"))
    except ValueError:
        raise typer.BadParameter(
            _(
                "{text} is neither an age such as 90m, 2h or 3d nor a time such as 2026-11-30T10:00",
                text=repr(text),
            ),
            param_hint="--since",
        ) from None
    if at.tzinfo is not None:
        return at
    return at.replace(tzinfo=UTC) if utc else at.astimezone()
