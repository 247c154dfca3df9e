"""The database's migrations: one revision after the other, applied at every start.

A database of the first version records no revision; its existing tables are kept.
"""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text

from cloud_gateway.logs import log

LOCK = 0x6C6F636B6572
"""An arbitrary number that no other program uses as an advisory lock of this database."""

_ONE_AT_A_TIME = threading.Lock()
"""Alembic uses globals."""


def upgrade(db: Connection) -> None:
    """Upgrades the database to the present revision, inside the caller's transaction.

    If several gateways start at once, one does it while the others wait. Raises SQLAlchemy's errors, and
    alembic's `CommandError` for a database that is newer than this program.
    """
    with _ONE_AT_A_TIME:
        _upgrade(db)


def _upgrade(db: Connection) -> None:
    if db.dialect.name == "postgresql":
        db.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = db
    try:
        command.upgrade(config, "head")
    except CommandError:
        log().critical("database_of_a_newer_version")
        raise
