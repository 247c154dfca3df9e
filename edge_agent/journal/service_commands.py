"""The service commands that were requested remotely, and their outcomes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edge_agent.journal.reader import JournalReader
from edge_agent.journal.store import Statement

KEPT = 200
"""This many of the newest service commands are kept."""
_COLUMNS = (
    "request_id, command, key, actor, arguments, body_digest, received_s, state, ended_s, error,"
    " content_type, bytes, sha256, reported, n"
)


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One service command; times in Unix seconds. `arguments` and `error` as from JSON; `n` is 0 before it is
    stored."""

    request_id: str
    command: str
    key: str
    actor: str
    arguments: dict[str, Any]
    body_digest: str
    received_s: float
    state: str = "RUNNING"
    ended_s: float | None = None
    error: dict[str, Any] | None = None
    content_type: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    reported: bool = False
    n: int = 0


def added(row: ServiceRow) -> list[Statement]:
    """Stores a new command, and deletes the oldest of too many that are reported."""
    columns = "request_id, command, key, actor, arguments, body_digest, received_s, state"
    values = (
        row.request_id,
        row.command,
        row.key,
        row.actor,
        json.dumps(row.arguments, ensure_ascii=False),
        row.body_digest,
        row.received_s,
        row.state,
    )
    newest = f"SELECT n FROM service_command ORDER BY n DESC LIMIT {KEPT}"
    return [
        (f"INSERT INTO service_command ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [values]),
        (f"DELETE FROM service_command WHERE reported AND n NOT IN ({newest})", [()]),
    ]


def ended(row: ServiceRow) -> list[Statement]:
    """Stores the outcome of a command; it is not reported yet."""
    error = None if row.error is None else json.dumps(row.error, ensure_ascii=False)
    values = (row.state, row.ended_s, error, row.content_type, row.bytes, row.sha256, row.request_id)
    columns = "state = ?, ended_s = ?, error = ?, content_type = ?, bytes = ?, sha256 = ?, reported = 0"
    return [(f"UPDATE service_command SET {columns} WHERE request_id = ?", [values])]


def reported(request_id: str) -> list[Statement]:
    """Stores that the broker has the outcome."""
    return [("UPDATE service_command SET reported = 1 WHERE request_id = ?", [(request_id,)])]


def service_commands(store: JournalReader, limit: int) -> list[ServiceRow]:
    """The newest `limit` service commands, oldest first. Raises `StorageFault`."""
    rows = _read(store, "ORDER BY n DESC LIMIT ?", (limit,))
    return rows[::-1]


def service_command(store: JournalReader, request_id: str) -> ServiceRow | None:
    """A service command by its request id; None if it is not known. Raises `StorageFault`."""
    rows = _read(store, "WHERE request_id = ?", (request_id,))
    return rows[0] if rows else None


def unfinished(store: JournalReader) -> list[ServiceRow]:
    """The commands without an outcome, and those whose outcome the broker may not have, oldest first. Raises
    `StorageFault`."""
    return _read(store, "WHERE reported = 0 ORDER BY n", ())


def _read(store: JournalReader, where: str, values: tuple[Any, ...]) -> list[ServiceRow]:
    return [_row(*found) for found in store.rows(f"SELECT {_COLUMNS} FROM service_command {where}", values)]


def _row(*found: Any) -> ServiceRow:
    raw = list(found)
    raw[4] = json.loads(raw[4])
    raw[9] = None if raw[9] is None else json.loads(raw[9])
    raw[13] = bool(raw[13])
    return ServiceRow(*raw)
