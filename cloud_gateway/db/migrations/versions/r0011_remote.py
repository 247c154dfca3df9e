"""Remote work: service commands with their results, configurations of machines, releases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "remote"
down_revision = "replaced_acts"


def _number() -> sa.Column[int]:
    return sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "service_requests",
        _number(),
        sa.Column("request_id", sa.String(64), nullable=False, unique=True),
        sa.Column("machine_id", sa.String(64), nullable=False),
        sa.Column("command", sa.String(32), nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("requested_s", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("ended_s", sa.Float),
        sa.Column("error", sa.Text),
        sa.Column("content_type", sa.String(64)),
        sa.Column("bytes", sa.Integer),
        sa.Column("complete", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_index("service_requests_of", "service_requests", ["machine_id", "position"])
    op.create_table(
        "service_parts",
        sa.Column("request_id", sa.String(64), primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_table(
        "machine_configurations",
        sa.Column("machine_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger),
        sa.Column("settings", sa.Text),
        sa.Column("actor", sa.String(128)),
        sa.Column("wanted_s", sa.Float),
        sa.Column("sent_version", sa.BigInteger),
        sa.Column("reported", sa.Text),
        sa.Column("reported_s", sa.Float),
    )
    op.create_table(
        "releases",
        _number(),
        sa.Column("release_id", sa.String(64), nullable=False, unique=True),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("begun_s", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("ended_s", sa.Float),
    )
    op.create_table(
        "release_machines",
        sa.Column("release_id", sa.String(64), primary_key=True),
        sa.Column("machine_id", sa.String(64), primary_key=True),
        sa.Column("wave", sa.Integer, nullable=False),
        sa.Column("result", sa.String(16), nullable=False),
        sa.Column("since_s", sa.Float, nullable=False),
        sa.Column("request_id", sa.String(64)),
    )
    op.create_index("release_machines_request", "release_machines", ["request_id"])
