"""Enrolment: claims, machines with a certificate, refused attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "enrolment"
down_revision = "remote"


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "claims",
        sa.Column("claim_id", sa.String(64), primary_key=True),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("code_hash", sa.String(64), nullable=False),
        sa.Column("board", sa.Text, nullable=False),
        sa.Column("agent_version", sa.Text, nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("asked_s", sa.Float, nullable=False),
        sa.Column("expires_s", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("machine_id", sa.String(64)),
    )
    op.create_index("ix_claims_code_hash", "claims", ["code_hash"])
    op.create_table(
        "enrolled_machines",
        sa.Column("machine_id", sa.String(64), primary_key=True),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("latitude", sa.Float, nullable=False),
        sa.Column("longitude", sa.Float, nullable=False),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("serial", sa.String(64), nullable=False),
        sa.Column("not_before_s", sa.Float, nullable=False),
        sa.Column("not_after_s", sa.Float, nullable=False),
        sa.Column("enrolled_s", sa.Float, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("revoked_s", sa.Float),
    )
    op.create_table(
        "enrolment_attempts",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("machine_id", sa.Text, nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
    )
