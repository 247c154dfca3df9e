"""The tables of the first version, if absent: that version made them without recording a revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "first"
down_revision = None


def upgrade() -> None:
    """Creates them."""
    _tables_of_machines()
    _tables_of_webhooks_and_requests()
    _tables_for_operators()


def _tables_of_machines() -> None:
    op.create_table(
        "machines",
        sa.Column("machine_id", sa.String(1024), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("updated_s", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "reservations",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("reservation_id", sa.String(1024), nullable=False, unique=True),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("machine_id", sa.String(1024), nullable=False),
        sa.Column("platform", sa.String(1024), nullable=False),
        sa.Column("platform_order_id", sa.String(1024), nullable=False),
        sa.Column("notes", sa.String(1024), nullable=False),
        sa.Column("webhook_url", sa.String(1024), nullable=False),
        sa.Column("status", sa.String(64), nullable=False),
        sa.Column("created_s", sa.BigInteger, nullable=False),
        sa.Column("cell_label", sa.String(1024)),
        sa.Column("drop_off_code", sa.String(16), nullable=False),
        sa.Column("pickup_code", sa.String(16), nullable=False),
        sa.Column("grace_pickup_s", sa.Integer, nullable=False),
        sa.Column("dropped_off_s", sa.BigInteger),
        sa.Column("picked_up_s", sa.BigInteger),
        sa.Column("grace_from_s", sa.Float),
        sa.Column("completed", sa.Boolean, nullable=False),
        sa.Column("learned_s", sa.Float, nullable=False),
        if_not_exists=True,
    )
    op.create_index(
        "reservations_by_platform", "reservations", ["platform", "created_s", "position"], if_not_exists=True
    )
    op.create_table(
        "events",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("machine_id", sa.String(1024), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("idempotency_key", sa.String(1024), nullable=False),
        sa.Column("event_type", sa.String(64), nullable=False),
        sa.Column("reservation_id", sa.String(1024)),
        sa.Column("received_s", sa.Float, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_index(
        "events_once", "events", ["machine_id", "idempotency_key"], unique=True, if_not_exists=True
    )
    op.create_index("events_in_order", "events", ["machine_id", "sequence"], if_not_exists=True)
    op.create_table(
        "rejected",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("received_s", sa.Float, nullable=False),
        if_not_exists=True,
    )


def _tables_of_webhooks_and_requests() -> None:
    op.create_table(
        "webhooks",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("reservation_id", sa.String(1024), nullable=False),
        sa.Column("platform_order_id", sa.String(1024), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt_s", sa.Float, nullable=False),
        sa.Column("last_problem", sa.Text, nullable=False),
        if_not_exists=True,
    )
    op.create_index(
        "webhooks_waiting", "webhooks", ["state", "reservation_id", "position"], if_not_exists=True
    )
    op.create_table(
        "requests",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("body_digest", sa.String(64), nullable=False),
        sa.Column("reservation_id", sa.String(128), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("answer", sa.Text),
        sa.Column("created_s", sa.Float, nullable=False),
        if_not_exists=True,
    )


def _tables_for_operators() -> None:
    op.create_table(
        "maintenance_tickets",
        sa.Column("ticket_id", sa.String(128), primary_key=True),
        sa.Column("machine_id", sa.String(1024), nullable=False),
        sa.Column("cell_label", sa.String(1024)),
        sa.Column("cell_id", sa.String(1024)),
        sa.Column("description", sa.Text),
        sa.Column("severity", sa.String(16)),
        sa.Column("created_s", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("blocked", sa.Boolean),
        sa.Column("closed_s", sa.BigInteger),
        if_not_exists=True,
    )
    op.create_index(
        "maintenance_tickets_by_machine",
        "maintenance_tickets",
        ["machine_id", "closed_s"],
        if_not_exists=True,
    )
    op.create_table(
        "abandonments",
        sa.Column("reservation_id", sa.String(1024), primary_key=True),
        sa.Column("machine_id", sa.String(1024), nullable=False),
        sa.Column("since_s", sa.BigInteger, nullable=False),
        sa.Column("cleared_s", sa.BigInteger),
        if_not_exists=True,
    )
    op.create_index("abandonments_waiting", "abandonments", ["cleared_s", "machine_id"], if_not_exists=True)
