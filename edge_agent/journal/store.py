"""The journal's file: what is committed here survives a power cut (WAL, `synchronous=FULL`)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import structlog

from edge_agent.errors import StorageFault
from edge_agent.journal.database import OperationalError, as_storage_fault, connect
from edge_agent.journal.reader import INBOX_COLUMNS, InboxRow, JournalReader
from edge_agent.journal.records import ENTITIES, ENTITY_KINDS, RESERVATION, dump, load
from edge_agent.journal.rows import (
    insert,
    reservation_row,
    temperature_row,
    unlock_row,
)
from edge_agent.model import Reservation, UnlockAttempt
from edge_agent.statemachine.locker import outlives_process
from edge_agent.statemachine.outputs import TemperatureRecord, UnlockRecord
from edge_agent.statemachine.state import LockerState

log = structlog.get_logger()

Statement = tuple[str, list[tuple[Any, ...]]]
"""SQL, and the rows that it is executed with."""
OVER, LIVE, FORMER = 0, 1, 2
"""Values of the column `live` of a reservation. FORMER: it is over, and its cell was not allocated since.
They stand in the text of the queries, not as parameters: so SQLite uses the partial indexes."""
INBOX_KEPT_S = 7 * 24 * 3600
"""How long a request id and its reply are kept at least."""
UPGRADE_STEPS = 10_000_000
"""An upgrade reports progress after this many of SQLite's instructions: about once a second."""
SPARE_BYTES = 4 * 1024 * 1024
"""Space reserved on the disk for the journal when everything else is full: for thousands of pick-ups."""
FREE_FOR_SPARE_BYTES = 4 * SPARE_BYTES
"""How much must be free before the reserve is taken (again)."""
EVENTS_KEPT = 50_000
"""How many events are kept after the broker has them, for the technician and for `sync`."""
PRUNED_EVENTS = 50
"""At most this many events that are no longer kept are deleted with one commit."""

TEMPERATURES_KEPT_S = 30 * 24 * 3600
"""How long temperature readings are kept, while there are no more than `TEMPERATURES_KEPT`."""
TEMPERATURES_KEPT = 500_000
"""At most this many temperature readings are kept: some 50 MB, weeks of eight heated or cooled cells."""
PRUNED_AT_ONCE = 100
"""At most this many old readings are deleted with one commit."""


@dataclass(slots=True)
class Batch:
    """The content of one commit: the change from state `before` to `after` and what belongs to it."""

    before: LockerState
    after: LockerState
    changed: dict[tuple[str, str], None] = field(default_factory=dict)
    """The differences between the two, as (field of the state, key), in the order of their first change."""
    ended: list[Reservation] = field(default_factory=list)
    ledger_lines: list[tuple[int, UnlockRecord]] = field(default_factory=list)
    """Lines of the ledger, each with the sequence of the last event before it."""
    events: list[tuple[int, str]] = field(default_factory=list)
    requests: list[InboxRow] = field(default_factory=list)
    replies: dict[str, str] = field(default_factory=dict)
    sent_through: int | None = None
    """The broker has every event up to this sequence."""
    temperatures: list[TemperatureRecord] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    """Changes of tables that the core knows nothing of."""
    scrub: bool = False
    """Whether what is overwritten must not be left in the files, the log included."""
    new_journal: tuple[str, int] | None = None
    """The new id of the journal, and the last event of the old id: later ones are published again."""
    now_s: float | None = None
    """Unix time; None while it is unknown, and then nothing expires."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (
            self.changed
            or self.ended
            or self.ledger_lines
            or self.events
            or self.requests
            or self.replies
            or self.sent_through is not None
            or self.temperatures
            or self.statements
            or self.new_journal is not None
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """The content of a journal at the start."""

    entities: Mapping[str, Mapping[str, Any]]
    reservations: Mapping[str, Reservation]
    former: Mapping[str, Reservation]
    """Completed reservations whose cell has not been allocated since, by the cell's label."""
    last_sequence: int
    requests: list[InboxRow]
    """Requests without a reply, and recent ones with theirs."""


class JournalStore(JournalReader):
    """One journal. `commit` may run on another thread than the reads: they use their own connections.

    All methods raise `StorageFault` if the file cannot be used.
    """

    def __init__(self, path: Path, on_upgrade: Callable[[], object] = lambda: None) -> None:
        """`on_upgrade` is called repeatedly while an older file is upgraded."""
        self._path = path
        self._on_upgrade = on_upgrade
        self._spare_file = path.with_name(f"{path.name}.reserve")
        with as_storage_fault():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StorageFault(f"journal: {path} is in use by another process") from None
            with as_storage_fault():
                self._writer = connect(self._path)
                self._migrate()
                (self.journal_id,) = self._writer.execute("SELECT journal_id FROM journal").fetchone()
                reader = connect(self._path)
                reader.execute("PRAGMA query_only = ON")
                super().__init__(reader)
        except StorageFault:
            os.close(self._lock)
            raise

    def _migrate(self) -> None:
        """Upgrades an older file: `schema/NNNN.sql`, each in one transaction."""
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        scripts = _scripts()
        newest = scripts[-1][0]
        if version > newest:
            self._require_compatible(version, newest)
        for number, script in scripts:
            if number > version:
                text = script.read_text(encoding="utf-8")
                whole = f"BEGIN;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;"
                self._on_upgrade()
                self._writer.set_progress_handler(self._upgrades, UPGRADE_STEPS)
                try:
                    self._writer.executescript(whole)
                except OperationalError:
                    # A full disk must not prevent a start: the reserved space may be enough.
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    if not self.use_spare_space():
                        raise
                    self._writer.executescript(whole)
                finally:
                    self._writer.set_progress_handler(None, 0)

    def _require_compatible(self, version: int, newest: int) -> None:
        """Raises `StorageFault` if a newer journal cannot be used by this version of the program."""
        (oldest,) = self._writer.execute("SELECT oldest_schema FROM compatible").fetchone()
        if oldest > newest:
            raise StorageFault(f"journal: written by a newer version (schema {version}, known: {newest})")
        log.warning("the journal was upgraded by a newer version", schema=version, known=newest)

    def _upgrades(self) -> int:
        """SQLite calls this from within a statement; 0 lets it continue."""
        self._on_upgrade()
        return 0

    @property
    def has_spare_space(self) -> bool:
        """Whether spare space is reserved on the disk."""
        return self._spare_file.exists()

    def keep_spare_space(self) -> bool:
        """Reserves space on the disk, if enough is free; returns whether the reserve exists now."""
        try:
            if self.has_spare_space:
                return True
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < FREE_FOR_SPARE_BYTES:
                return False
            taken = os.open(self._spare_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(taken, 0, SPARE_BYTES)
            finally:
                os.close(taken)
        except OSError:
            self.use_spare_space()
            return False
        return True

    def use_spare_space(self) -> bool:
        """Gives the reserved space to the journal; False if there was none left."""
        try:
            self._spare_file.unlink()
        except OSError:
            return False
        return True

    def quick_check(self) -> list[str]:
        """The faults that SQLite finds in the file, if any. Reads it all: not for the event loop."""
        with as_storage_fault():
            connection = connect(self._path)
            try:
                found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
            finally:
                connection.close()
        return [] if found == ["ok"] else found

    @property
    def path(self) -> Path:
        """The path of the file; its log (`-wal`) and its reserve are beside it."""
        return self._path

    def close(self) -> None:
        """Closes the file and releases it."""
        self._reader.close()
        self._writer.close()
        os.close(self._lock)

    def load(self, replies_since_s: float) -> Loaded:
        """What a start needs. Requests with a reply: only those received after a Unix time."""
        with as_storage_fault():
            entities: dict[str, dict[str, Any]] = {kind: {} for kind in ENTITIES}
            for kind, key, body in self._reader.execute("SELECT kind, key, body FROM entity"):
                entities[kind][key] = load(ENTITIES[kind], body, f"{kind} {key}")
            live = self._reader.execute(f"SELECT reservation_id, body FROM reservation WHERE live = {LIVE}")
            reservations = {rid: load(RESERVATION, body, f"reservation {rid}") for rid, body in live}
            former = self._former()
            row = self._reader.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
            query = (
                f"SELECT {INBOX_COLUMNS} FROM inbox WHERE reply IS NULL OR received_s > ? ORDER BY received_s"
            )
            requests = self._reader.execute(query, (replies_since_s,))
            sequence = 0 if row is None else row[0]
            return Loaded(entities, reservations, former, sequence, [InboxRow(*r) for r in requests])

    def _former(self) -> dict[str, Reservation]:
        rows = self._reader.execute(f"SELECT reservation_id, body FROM reservation WHERE live = {FORMER}")
        last = [load(RESERVATION, body, f"reservation {rid}") for rid, body in rows]
        return {reservation.cell: reservation for reservation in last}

    def commit(self, batch: Batch) -> None:
        """Writes a batch whole or not at all; returns when it is on the disk."""
        if batch.scrub:
            self._writer.execute("PRAGMA secure_delete = ON")
        with self._transaction():
            self._write_state(batch)
            self._write_records(batch)
            if batch.new_journal is not None:
                self._begin_journal(*batch.new_journal)
        if batch.scrub:
            with as_storage_fault():
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._writer.execute("PRAGMA secure_delete = FAST")
        if batch.new_journal is not None:
            self.journal_id = batch.new_journal[0]

    def _begin_journal(self, journal_id: str, through: int) -> None:
        """Changes the journal's id; events after `through` belong to the new one."""
        execute = self._writer.execute
        execute("UPDATE journal SET journal_id = ?", (journal_id,))
        execute("DELETE FROM outbox WHERE sequence <= ?", (through,))
        execute("UPDATE outbox SET body = json_set(body, '$.journal_id', ?)", (journal_id,))
        execute("UPDATE sent SET through = ?", (through,))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with as_storage_fault():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _write_state(self, batch: Batch) -> None:
        put, gone = [], []
        for name, key in batch.changed:
            kind = ENTITY_KINDS.get(name, name)
            if kind in ENTITIES:
                value = getattr(batch.after, name).get(key)
                if value is None or (isinstance(value, UnlockAttempt) and not outlives_process(value)):
                    gone.append((kind, key))
                else:
                    put.append((kind, key, dump(ENTITIES[kind], value)))
        self._writer.executemany(insert("entity", replace=True), put)
        self._writer.executemany("DELETE FROM entity WHERE kind = ? AND key = ?", gone)
        self._write_reservations(batch)

    def _write_reservations(self, batch: Batch) -> None:
        after = batch.after
        rows = [reservation_row(r, OVER) for r in batch.ended]
        given_again = []
        for kind, key in batch.changed:
            if kind == "reservations" and key in after.reservations:
                rows.append(reservation_row(after.reservations[key], LIVE))
            elif kind == "former":
                left = batch.before.former.get(key)
                if left is not None:
                    given_again.append((left.reservation_id,))
                if key in after.former:
                    rows.append(reservation_row(after.former[key], FORMER))
        over = {reservation.reservation_id for reservation in batch.ended}
        # Removed without being over: the history was lost, and the gateway did not confirm them.
        lost = [
            (key,)
            for kind, key in batch.changed
            if kind == "reservations" and key not in after.reservations and key not in over
        ]
        self._writer.executemany("DELETE FROM reservation WHERE reservation_id = ?", lost)
        self._writer.executemany(
            f"UPDATE reservation SET live = {OVER} WHERE reservation_id = ?", given_again
        )
        self._writer.executemany(insert("reservation", replace=True), rows)

    def _write_records(self, batch: Batch) -> None:
        execute = self._writer.executemany
        execute(
            insert("unlock"),
            [unlock_row(after, record) for after, record in batch.ledger_lines],
        )
        execute(insert("outbox"), batch.events)
        execute(
            insert("inbox", replace=True),
            [astuple(request) for request in batch.requests],
        )
        execute(
            "UPDATE inbox SET reply = ? WHERE request_id = ?",
            [(reply, request_id) for request_id, reply in batch.replies.items()],
        )
        if batch.sent_through is not None:
            self._write_sent_through(batch.sent_through)
        if batch.requests and batch.now_s is not None:
            # Requests received before the clock was synchronised count as received at the synchronisation.
            self._writer.execute(
                "UPDATE inbox SET received_s = ?, synced = 1 WHERE NOT synced", (batch.now_s,)
            )
            self._writer.execute("DELETE FROM inbox WHERE received_s < ?", (batch.now_s - INBOX_KEPT_S,))
        if batch.temperatures:
            self._write_temperatures(batch)
        for statement, rows in batch.statements:
            execute(statement, rows)

    def _write_sent_through(self, through: int) -> None:
        """Stores the last event that the broker has; deletes some of the oldest events if there are too
        many."""
        self._writer.execute("UPDATE sent SET through = max(through, ?)", (through,))
        (oldest,) = self._writer.execute("SELECT min(sequence) FROM outbox").fetchone()
        if oldest is not None and oldest <= through - EVENTS_KEPT:
            # One bound only: with two, the database would search by one and scan every row below it.
            first_kept = min(oldest + PRUNED_EVENTS, through - EVENTS_KEPT + 1)
            self._writer.execute("DELETE FROM outbox WHERE sequence < ?", (first_kept,))

    def _write_temperatures(self, batch: Batch) -> None:
        """Adds readings to the log; deletes old or surplus ones from its beginning."""
        rows = [temperature_row(record) for record in batch.temperatures]
        self._writer.executemany(insert("temperature"), rows)
        too_many = "DELETE FROM temperature WHERE n <= (SELECT max(n) FROM temperature) - ?"
        self._writer.execute(too_many, (TEMPERATURES_KEPT,))
        if batch.now_s is not None:
            oldest = "SELECT n FROM temperature ORDER BY n LIMIT ?"
            old = f"DELETE FROM temperature WHERE n IN ({oldest}) AND synced AND wall_s < ?"
            self._writer.execute(old, (PRUNED_AT_ONCE, batch.now_s - TEMPERATURES_KEPT_S))

    def write_all(self, statements: list[Statement]) -> None:
        """Writes all statements or none; for a start, when there is no other writer."""
        with self._transaction():
            for statement, rows in statements:
                self._writer.executemany(statement, rows)


def _scripts() -> list[tuple[int, Traversable]]:
    """The schema scripts with their numbers, oldest first."""
    return sorted(
        (int(entry.name[:4]), entry)
        for entry in resources.files("edge_agent.journal").joinpath("schema").iterdir()
        if entry.name.endswith(".sql")
    )
