"""Reads of the journal's file: requests, reservations, events, the unlock ledger, temperatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_agent.journal.database import Connection, as_storage_fault
from edge_agent.journal.records import RESERVATION, load
from edge_agent.journal.rows import COLUMNS, LEDGER, TEMPERATURE, event_line, ledger_line
from edge_agent.model import Reservation, ReservationStatus

INBOX_COLUMNS = COLUMNS["inbox"]
"""Columns of `InboxRow`, in its order."""


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A request that was given to the core, where its reply goes, and the reply once there is one (JSON).

    `body_digest` distinguishes a repetition of the same bytes from a new attempt under the same id; `synced`:
    whether `received_s` (Unix time) was known to be right.
    """

    request_id: str
    received_s: float
    response_topic: str | None
    correlation: bytes | None
    reply: str | None = None
    body_digest: str | None = None
    synced: bool = True


class JournalReader:
    """Answers what is asked of one journal over a connection of its own.

    All methods raise `StorageFault` if the file cannot be used.
    """

    def __init__(self, reader: Connection) -> None:
        self._reader = reader

    def events_kept(self, from_sequence: int, limit: int) -> list[tuple[int, str]]:
        """Events from a sequence on, oldest first, whether the broker has them or not."""
        with as_storage_fault():
            query = "SELECT sequence, body FROM outbox WHERE sequence >= ? ORDER BY sequence LIMIT ?"
            return list(self._reader.execute(query, (from_sequence, limit)))

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows that a query returns."""
        with as_storage_fault():
            return list(self._reader.execute(query, values))

    def sent_through(self) -> int:
        """The broker is known to have every event up to this sequence."""
        with as_storage_fault():
            return self._through()

    def _through(self) -> int:
        (through,) = self._reader.execute("SELECT through FROM sent").fetchone()
        return int(through)

    def oldest_sequence(self) -> int | None:
        """The sequence of the oldest event that is kept; None if there is none."""
        with as_storage_fault():
            (oldest,) = self._reader.execute("SELECT min(sequence) FROM outbox").fetchone()
            return None if oldest is None else int(oldest)

    def timeline(self, after: tuple[int, int], limit: int) -> list[dict[str, Any]]:
        """Kept events and lines of the unlock ledger, in the order in which they happened.

        The `limit` newest after the position `after`: the sequence of an event and the number of a ledger
        line. Rows of kind `event` hold `sequence`, `sent` and the event's `body`; those of kind `unlock` the
        ledger's columns.
        """
        with as_storage_fault():
            query = "SELECT sequence, body, sequence <= (SELECT through FROM sent) FROM outbox"
            query += " WHERE sequence > ? ORDER BY sequence DESC LIMIT ?"
            events = [event_line(*row) for row in self._reader.execute(query, (after[0], limit))]
            query = f"SELECT {', '.join(LEDGER)} FROM unlock WHERE n > ? ORDER BY n DESC LIMIT ?"
            unlocks = [ledger_line(row) for row in self._reader.execute(query, (after[1], limit))]
        ordered = [((row["after_sequence"], 1, row["n"]), row) for row in unlocks]
        ordered += [((row["sequence"], 0, 0), row) for row in events]
        return [row for _, row in sorted(ordered, key=lambda item: item[0])][-limit:]

    def lock_figures(self, limit: int) -> list[tuple[str, int, int]]:
        """Of the newest `limit` unlocks that ended with a pulse and a known outcome, by cell: label, how many
        there were, and how many opened the door at the first pulse."""
        query = (
            "SELECT cell, count(*), sum(outcome = 'OPENED' AND attempt = 1) FROM"
            " (SELECT cell, attempt, outcome FROM unlock WHERE outcome IN ('OPENED', 'NO_MOVEMENT')"
            " AND attempt > 0 AND pulsed IS NOT 0 ORDER BY n DESC LIMIT ?) GROUP BY cell ORDER BY cell"
        )
        return [(label, int(unlocks), int(first)) for label, unlocks, first in self.rows(query, (limit,))]

    def newest_place(self) -> tuple[int, int]:
        """The position after everything that `timeline` holds now."""
        with as_storage_fault():
            query = "SELECT ifnull(max(sequence), 0), (SELECT ifnull(max(n), 0) FROM unlock) FROM outbox"
            sequence, number = self._reader.execute(query).fetchone()
            return int(sequence), int(number)

    def outbox_size(self) -> int:
        """How many events wait for the broker."""
        with as_storage_fault():
            query = "SELECT count(*) FROM outbox WHERE sequence > (SELECT through FROM sent)"
            (count,) = self._reader.execute(query).fetchone()
            return int(count)

    def request(self, request_id: str) -> InboxRow | None:
        """The request with this id, if it was seen before; otherwise None."""
        with as_storage_fault():
            query = f"SELECT {INBOX_COLUMNS} FROM inbox WHERE request_id = ?"
            row = self._reader.execute(query, (request_id,)).fetchone()
            return None if row is None else InboxRow(*row)

    def reservation(self, reservation_id: str) -> Reservation | None:
        """A reservation, also one that is over."""
        with as_storage_fault():
            query = "SELECT body FROM reservation WHERE reservation_id = ?"
            row = self._reader.execute(query, (reservation_id,)).fetchone()
        if row is None:
            return None
        reservation: Reservation = load(RESERVATION, row[0], f"reservation {reservation_id}")
        return reservation

    def ended_reservations(self, before: int | None, limit: int) -> list[tuple[int, Reservation]]:
        """The reservations that are over, with their positions in the journal (`rowid`): the newest `limit`
        of those whose position is below `before` (None: of all), newest first."""
        query = (
            "SELECT rowid, body FROM reservation WHERE live <> 1 AND (?1 IS NULL OR rowid < ?1)"
            " ORDER BY rowid DESC LIMIT ?2"
        )
        found = self.rows(query, (before, limit))
        return [(place, load(RESERVATION, body, f"reservation at {place}")) for place, body in found]

    def temperatures(self, reservation_id: str) -> list[dict[str, Any]]:
        """The temperature log of a reservation, also of one that is over, oldest first.

        Rows hold `wall_s` (Unix time), `temperature_c` (None: the sensor was lost), `setpoint_c`, `limit_c`,
        `need`, `door`, `output`.
        """
        with as_storage_fault():
            query = f"SELECT {', '.join(TEMPERATURE)} FROM temperature WHERE reservation_id = ? ORDER BY n"
            rows = self._reader.execute(query, (reservation_id,)).fetchall()
            return [dict(zip(TEMPERATURE, row, strict=True)) for row in rows]

    def ended_status(self, reservation_id: str) -> ReservationStatus | None:
        """The last status of a reservation that is over; None if it is live or never existed."""
        with as_storage_fault():
            query = "SELECT status FROM reservation WHERE reservation_id = ? AND live <> 1"
            row = self._reader.execute(query, (reservation_id,)).fetchone()
            return None if row is None else ReservationStatus(row[0])
