"""Millions of rows: numbers that do not overflow, and indexes for frequent queries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "many"
down_revision = "order"

NUMBERED = ("events", "rejected", "reservations", "webhooks")


def upgrade() -> None:
    """Widens the numbers (SQLite's are wide) and changes the indexes."""
    if op.get_bind().dialect.name == "postgresql":
        for table in NUMBERED:
            _widen(table)
    op.create_index("events_over", "events", ["state", "received_s"])
    op.drop_index("events_by_age", "events")
    open_ones = sa.column("ended_s", sa.Float).is_(None)
    op.create_index(
        "reservations_open",
        "reservations",
        ["platform", "created_s", "position"],
        sqlite_where=open_ones,
        postgresql_where=open_ones,
    )
    op.drop_index("reservations_by_platform", "reservations")
    lacking = sa.and_(
        sa.column("complete", sa.Boolean).is_(False), sa.column("unknown_s", sa.Float).is_(None)
    )
    op.create_index(
        "reservations_incomplete",
        "reservations",
        ["machine_id", "position"],
        sqlite_where=lacking,
        postgresql_where=lacking,
    )


def _widen(table: str) -> None:
    op.alter_column(table, "position", type_=sa.BigInteger, existing_type=sa.Integer, existing_nullable=False)
    name = sa.text("SELECT pg_get_serial_sequence(:table, 'position')")
    sequence = op.get_bind().execute(name, {"table": table}).scalar_one()
    op.execute(f"ALTER SEQUENCE {sequence} AS BIGINT")
