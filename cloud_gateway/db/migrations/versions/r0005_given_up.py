"""Reservations whose callers got an answer before the machine replied; dates that wait for correction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "given_up"
down_revision = "history"


def upgrade() -> None:
    """Adds the tables."""
    op.create_table(
        "given_up",
        sa.Column("reservation_id", sa.String(1024), primary_key=True),
        sa.Column("machine_id", sa.String(1024), nullable=False),
        sa.Column("cancel_after_s", sa.Float, nullable=False),
        sa.Column("attempt_until_s", sa.Float, nullable=False, server_default="0"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("cancelled_s", sa.Float),
        sa.Column("given_up_s", sa.Float, nullable=False),
    )
    op.create_index("given_up_waiting", "given_up", ["cancelled_s", "machine_id"])
    op.create_table(
        "undated",
        sa.Column("machine_id", sa.String(1024), primary_key=True),
        sa.Column("boot_id", sa.String(128), primary_key=True),
        sa.Column("reservation_id", sa.String(1024), primary_key=True),
        sa.Column("field", sa.String(32), primary_key=True),
        sa.Column("uptime_ms", sa.BigInteger, nullable=False),
        sa.Column("noted_s", sa.Float, nullable=False),
    )
