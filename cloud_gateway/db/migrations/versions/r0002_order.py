"""Ordered events, several gateways on one database, final states of webhooks, deletion of old rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "order"
down_revision = "first"

ENDED = ("RESERVATION_STATUS_CANCELLED", "RESERVATION_STATUS_ABANDONED")


def upgrade() -> None:
    """Adds the new parts; every stored event was applied when it came."""
    _machines()
    _reservations_and_events()
    _webhooks_and_requests()
    _fill()


def _machines() -> None:
    op.create_table(
        "sources",
        sa.Column("machine_id", sa.String(1024), primary_key=True),
        sa.Column("journal_id", sa.String(1024)),
        sa.Column("asked_until_s", sa.Float, nullable=False, server_default="0"),
        sa.Column("verified_s", sa.Float, nullable=False, server_default="0"),
    )
    op.create_table(
        "counts",
        sa.Column("machine_id", sa.String(1024), primary_key=True),
        sa.Column("journal_id", sa.String(1024), primary_key=True),
        sa.Column("applied_sequence", sa.BigInteger),
    )
    op.create_table(
        "replicas",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("seen_s", sa.Float, nullable=False),
    )


def _reservations_and_events() -> None:
    op.add_column("reservations", sa.Column("ended_s", sa.Float))
    op.add_column("reservations", sa.Column("unknown_s", sa.Float))
    op.create_index("reservations_by_machine", "reservations", ["machine_id", "status"])
    op.create_index("reservations_over", "reservations", ["ended_s"])
    op.add_column("events", sa.Column("journal_id", sa.String(1024), nullable=False, server_default=""))
    op.add_column("events", sa.Column("state", sa.String(16), nullable=False, server_default="applied"))
    op.create_index("events_waiting", "events", ["state", "machine_id", "journal_id", "sequence"])
    op.create_index("events_by_age", "events", ["received_s"])


def _webhooks_and_requests() -> None:
    op.add_column("webhooks", sa.Column("x_request_id", sa.String(1024)))
    op.add_column("webhooks", sa.Column("queued_s", sa.Float, nullable=False, server_default="0"))
    op.add_column("webhooks", sa.Column("ended_s", sa.Float))
    op.add_column("webhooks", sa.Column("lease_owner", sa.String(64)))
    op.add_column("webhooks", sa.Column("lease_until_s", sa.Float, nullable=False, server_default="0"))
    op.create_index("webhooks_due", "webhooks", ["state", "next_attempt_s"])
    op.create_index("webhooks_over", "webhooks", ["state", "ended_s"])
    op.add_column("requests", sa.Column("x_request_id", sa.String(1024)))
    op.create_index("requests_by_age", "requests", ["created_s"])


def _fill() -> None:
    """Each machine's count continues after its last event; ages count from the newest event, because the
    first version kept no other time."""
    newest = "(SELECT MAX(received_s) FROM events)"
    op.execute("INSERT INTO sources (machine_id, journal_id) SELECT DISTINCT machine_id, '' FROM events")
    op.execute(
        "INSERT INTO counts (machine_id, journal_id, applied_sequence) SELECT machine_id, '', sequence"
        " FROM events WHERE position IN (SELECT MAX(position) FROM events GROUP BY machine_id)"
    )
    op.execute(f"UPDATE webhooks SET queued_s = COALESCE({newest}, 0)")
    op.execute("UPDATE webhooks SET ended_s = queued_s WHERE state <> 'waiting'")
    over = ", ".join(f"'{status}'" for status in ENDED)
    ended = f"UPDATE reservations SET ended_s = COALESCE({newest}, learned_s)"
    op.execute(f"{ended} WHERE completed OR status IN ({over})")
