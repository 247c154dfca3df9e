"""SQLite's `REPLACE INTO` deletes the row in its way without the trigger for deletions: acts are not replaced
either."""

from __future__ import annotations

from alembic import op

revision = "replaced_acts"
down_revision = "acts"


def upgrade() -> None:
    """Has SQLite refuse a new row at a position that is taken; PostgreSQL refuses it already."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER operator_acts_no_replace BEFORE INSERT ON operator_acts "
            "WHEN EXISTS (SELECT 1 FROM operator_acts WHERE position = NEW.position) "
            "BEGIN SELECT RAISE(ABORT, 'acts of operators are never changed or deleted'); END"
        )
