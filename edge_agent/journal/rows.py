"""Converts the core's records into rows of the journal's tables and back."""

from __future__ import annotations

import json
from typing import Any

from edge_agent.journal.records import RESERVATION, dump
from edge_agent.model import Reservation
from edge_agent.statemachine.outputs import TemperatureRecord, UnlockRecord


def event_line(sequence: int, body: str, sent: int) -> dict[str, Any]:
    """An event as the API shows it."""
    return {"kind": "event", "sequence": sequence, "sent": bool(sent), "body": json.loads(body)}


COLUMNS = {
    "entity": "kind, key, body",
    "reservation": "reservation_id, live, status, body",
    "unlock": "unlock_id, attempt, cell, reservation_id, purpose, source, request_id, boottime_ns, wall_s,"
    " outcome, reason, pulsed, after_sequence, actor",
    "temperature": "reservation_id, wall_s, synced, temperature_c, setpoint_c, limit_c, need, door, output",
    "inbox": "request_id, received_s, response_topic, correlation, reply, body_digest, synced",
    "outbox": "sequence, body",
    "owner": "machine_id",
    "label": "cell_id, label",
    "wires": "cell, place",
    "port": "bus, identity",
}
"""The columns that this version writes, in the order of its rows; a later schema may have more."""


def insert(table: str, *, replace: bool = False) -> str:
    """The statement that adds a row to a table; `replace`: instead of one with the same key."""
    columns = COLUMNS[table]
    holes = ", ".join("?" * (columns.count(",") + 1))
    return f"INSERT {'OR REPLACE ' if replace else ''}INTO {table} ({columns}) VALUES ({holes})"


LEDGER = (
    "n",
    "unlock_id",
    "attempt",
    "cell",
    "reservation_id",
    "purpose",
    "source",
    "request_id",
    "wall_s",
    "outcome",
    "reason",
    "pulsed",
    "after_sequence",
    "actor",
)
"""Columns of the ledger."""


def ledger_line(row: tuple[Any, ...]) -> dict[str, Any]:
    """A line of the unlock ledger as the API shows it."""
    return {"kind": "unlock", **dict(zip(LEDGER, row, strict=True))}


TEMPERATURE = ("wall_s", "temperature_c", "setpoint_c", "limit_c", "need", "door", "output")
"""Columns of the temperature log."""


def temperature_row(r: TemperatureRecord) -> tuple[Any, ...]:
    """A row of the temperature log."""
    who = (r.reservation_id, r.at.wall_s, r.at.synced)
    return (*who, r.temperature_c, r.setpoint_c, r.limit_c, r.need, r.door, r.output)


def reservation_row(reservation: Reservation, live: int) -> tuple[str, int, str, str]:
    """A row of `reservation`."""
    body = dump(RESERVATION, reservation)
    return reservation.reservation_id, live, reservation.status.value, body


def unlock_row(after_sequence: int, u: UnlockRecord) -> tuple[Any, ...]:
    """A row of the unlock ledger; `after_sequence` is that of the last event before it."""
    who = (u.unlock_id, u.pulse_number, u.cell, u.reservation_id, u.purpose, u.source, u.request_key)
    return (*who, u.at.boottime_ns, u.at.wall_s, u.outcome, u.reason, u.pulsed, after_sequence, u.actor)
