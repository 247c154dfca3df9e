"""The only user of SQLite in the daemon: connections to the journal's file, and what their errors become."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.errors import StorageFault

Connection = sqlite3.Connection
OperationalError = sqlite3.OperationalError


def connect(path: Path) -> Connection:
    """A connection whose commits survive a power cut (WAL, `synchronous=FULL`). It may be used on any thread,
    by one at a time."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA secure_delete = FAST")  # codes do not stay in freed space
    connection.execute("PRAGMA journal_size_limit = 4194304")
    return connection


@contextmanager
def as_storage_fault() -> Iterator[None]:
    """Raises `StorageFault` in place of an error of SQLite or of the file system."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageFault(f"journal: {error}") from error
