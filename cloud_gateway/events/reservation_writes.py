"""What the events of one transaction change of reservations, and the webhooks that they trigger.

Rows are read together before the first event is applied, changed in memory, and written together by `flush`.
The caller's transaction holds the locks of the events' machines meanwhile, so that nobody else changes these
rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, insert, literal, select, union_all, update

from cloud_gateway.db.store import ReservationRow, find_reservation, find_reservations
from cloud_gateway.db.tables import (
    COMMAND_PREFIX,
    abandonments,
    requests,
    reservations,
    tickets,
    undated,
    webhooks,
)
from cloud_gateway.events.dates import CORRECTED
from edge_agent.protocol.events import WEBHOOK_TYPES, Event

UNDATED, TICKETS, ABANDONED = "undated", "tickets", "abandoned"
"""What a machine may have that an event can change: dates to correct, open tickets, abandoned parcels."""

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_MATTERS = union_all(
    select(undated.c.machine_id, literal(UNDATED).label("matter")).where(
        undated.c.machine_id.in_(_IDS), undated.c.uptime_ms != CORRECTED
    ),
    select(tickets.c.machine_id, literal(TICKETS)).where(
        tickets.c.machine_id.in_(_IDS), tickets.c.closed_s.is_(None)
    ),
    select(abandonments.c.machine_id, literal(ABANDONED)).where(
        abandonments.c.machine_id.in_(_IDS), abandonments.c.cleared_s.is_(None)
    ),
)
_REQUESTS = select(requests.c.key, requests.c.x_request_id).where(requests.c.key.in_(_IDS))
_INSERT_WEBHOOKS = insert(webhooks)
_CHANGE = update(reservations).where(reservations.c.reservation_id == bindparam("changed_id"))


class ReservationWrites:
    """Used within one transaction, for the events that it was made for."""

    def __init__(self, db: Connection, machine_events: Sequence[Event]) -> None:
        self.db = db
        self._rows = find_reservations(db, {e.reservation_id for e in machine_events if e.reservation_id})
        self._changed: dict[str, dict[str, Any]] = {}
        self._webhooks: list[dict[str, Any]] = []
        machine_ids = {e.machine_id for e in machine_events}
        found = db.execute(_MATTERS, {"ids": list(machine_ids)}).all() if machine_ids else ()
        self._matters = {(row.machine_id, row.matter) for row in found}
        commands = {e.request_id for e in machine_events if e.event_type in WEBHOOK_TYPES}
        keys = [key for key in (_key_of(command) for command in commands) if key is not None]
        self._x_request_ids: dict[str, str | None] = {}
        if keys:
            self._x_request_ids = {row.key: row.x_request_id for row in db.execute(_REQUESTS, {"ids": keys})}

    def concerns(self, machine_id: str, matter: str) -> bool:
        """Whether a machine has dates to correct, open tickets or abandoned parcels."""
        return (machine_id, matter) in self._matters

    def note(self, machine_id: str, matter: str) -> None:
        """A machine has one from now on."""
        self._matters.add((machine_id, matter))

    def row(self, reservation_id: str) -> ReservationRow | None:
        """A reservation with every change so far."""
        return self._rows.get(reservation_id)

    def update(self, reservation_id: str, values: dict[str, Any]) -> None:
        """Changes a reservation that exists."""
        if values:
            self._rows[reservation_id] = replace(self._rows[reservation_id], **values)
            self._changed.setdefault(reservation_id, {}).update(values)

    def insert(self, values: dict[str, Any]) -> ReservationRow:
        """Adds a reservation, at once."""
        self.db.execute(insert(reservations).values(values))
        row = find_reservation(self.db, values["reservation_id"])
        assert row is not None
        self._rows[row.reservation_id] = row
        return row

    def queue_webhook(self, values: dict[str, Any]) -> None:
        """Adds a webhook behind the earlier ones."""
        self._webhooks.append(values)

    def x_request_id(self, command_id: str | None) -> str | None:
        """The X-Request-ID of the request that caused an event. A command's id contains the key of the
        request's row. If the caller gave no X-Request-ID, the response carried the command's id."""
        key = _key_of(command_id)
        return None if key is None else self._x_request_ids.get(key) or command_id

    def flush(self) -> None:
        """Writes everything so far."""
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for reservation_id, values in self._changed.items():
            place = by_columns.setdefault(tuple(sorted(values)), [])
            place.append({"changed_id": reservation_id, **values})
        self._changed = {}
        for rows in by_columns.values():
            self.db.execute(_CHANGE, rows)
        if self._webhooks:
            self.db.execute(_INSERT_WEBHOOKS, self._webhooks)
            self._webhooks = []

    def read_again(self) -> None:
        """Reads the rows again after somebody else in this transaction has changed some; flushed before."""
        self._rows |= find_reservations(self.db, set(self._rows))


def _key_of(command_id: str | None) -> str | None:
    """The key in `requests` of a command's id; None for no request, or an id of the machine's own, which
    begins with a control character."""
    if command_id is None or not command_id.isprintable():
        return None
    return command_id.removeprefix(COMMAND_PREFIX)
