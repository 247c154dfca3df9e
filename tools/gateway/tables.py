"""The gateway's tables. Times are Unix seconds; `…_at` texts are as the API writes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

machines = Table(
    "machines",
    metadata,
    Column("machine_id", String(1024), primary_key=True),
    Column("document", Text, nullable=False),
    Column("updated_s", Float, nullable=False),
)
"""The last `state/machine` of each machine, as JSON."""

reservations = Table(
    "reservations",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("reservation_id", String(1024), nullable=False, unique=True),
    Column("complete", Boolean, nullable=False),
    Column("machine_id", String(1024), nullable=False),
    Column("platform", String(1024), nullable=False),
    Column("platform_order_id", String(1024), nullable=False),
    Column("notes", String(1024), nullable=False),
    Column("webhook_url", String(1024), nullable=False),
    Column("status", String(64), nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("cell_label", String(1024)),
    Column("drop_off_code", String(16), nullable=False),
    Column("pickup_code", String(16), nullable=False),
    Column("grace_pickup_s", Integer, nullable=False),
    Column("dropped_off_s", BigInteger),
    Column("picked_up_s", BigInteger),
    Column("grace_from_s", Float),
    Column("completed", Boolean, nullable=False),
    Column("learned_s", Float, nullable=False),
    Index("reservations_by_platform", "platform", "created_s", "position"),
)
"""The projection. `complete` is false while a reservation is known from events only (no platform, no
codes yet); `grace_from_s` is when the pick-up grace began on the clock that counts for it; `completed`
when the machine told that the cell is free again."""

events = Table(
    "events",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("machine_id", String(1024), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("idempotency_key", String(1024), nullable=False),
    Column("event_type", String(64), nullable=False),
    Column("reservation_id", String(1024)),
    Column("received_s", Float, nullable=False),
    Column("payload", Text, nullable=False),
    Index("events_once", "machine_id", "idempotency_key", unique=True),
    Index("events_in_order", "machine_id", "sequence"),
)
"""Every event received, once."""

rejected = Table(
    "rejected",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("received_s", Float, nullable=False),
)
"""Events and states that could not be used, for a person to look at."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("reservation_id", String(1024), nullable=False),
    Column("platform_order_id", String(1024), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_s", Float, nullable=False),
    Column("last_problem", Text, nullable=False),
    Index("webhooks_waiting", "state", "reservation_id", "position"),
)
"""The delivery queue; `state` is waiting, delivered or no_receiver."""

requests = Table(
    "requests",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("body_digest", String(64), nullable=False),
    Column("reservation_id", String(128), nullable=False),
    Column("status", Integer),
    Column("answer", Text),
    Column("created_s", Float, nullable=False),
)
"""Requests that came with an X-Request-ID; `answer` is there once the machine has decided."""

tickets = Table(
    "maintenance_tickets",
    metadata,
    Column("ticket_id", String(128), primary_key=True),
    Column("machine_id", String(1024), nullable=False),
    Column("cell_label", String(1024)),
    Column("cell_id", String(1024)),
    Column("description", Text),
    Column("severity", String(16)),
    Column("created_s", BigInteger, nullable=False),
    Column("source", String(64), nullable=False),
    Column("blocked", Boolean),
    Column("closed_s", BigInteger),
    Index("maintenance_tickets_by_machine", "machine_id", "closed_s"),
)
"""Maintenance tickets; OPEN until `closed_s` is there, then CLOSED. `cell_label` and `cell_id` are absent
for a whole machine."""

abandonments = Table(
    "abandonments",
    metadata,
    Column("reservation_id", String(1024), primary_key=True),
    Column("machine_id", String(1024), nullable=False),
    Column("since_s", BigInteger, nullable=False),
    Column("cleared_s", BigInteger),
    Index("abandonments_waiting", "cleared_s", "machine_id"),
)
"""Parcels that nobody will fetch; `cleared_s` is when somebody cleared the cell."""
