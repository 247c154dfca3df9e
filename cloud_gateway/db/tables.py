"""The gateway's tables. Times are Unix seconds; `…_at` texts are as the API writes them; `position` is a
row's number, which rises in the order in which rows were written."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, and_, false
from sqlalchemy import String as AnyString
from sqlalchemy import Text as AnyText
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

metadata = MetaData()


def _plain(value: Any, dialect: Dialect) -> Any:
    """PostgreSQL stores no NUL in a text."""
    if isinstance(value, str) and dialect.name == "postgresql":
        return value.replace("\0", "\ufffd")
    return value


class String(TypeDecorator[str]):
    """A text of limited length."""

    impl = AnyString
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """The value that is written."""
        return _plain(value, dialect)


class Text(TypeDecorator[str]):
    """A text of any length."""

    impl = AnyText
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """The value that is written."""
        return _plain(value, dialect)


Number = BigInteger().with_variant(Integer, "sqlite")
"""A row's number. SQLite autoincrements only what it calls INTEGER, and that is as wide."""

machines = Table(
    "machines",
    metadata,
    Column("machine_id", String(1024), primary_key=True),
    Column("document", Text, nullable=False),
    Column("updated_s", Float, nullable=False),
)
"""The last `state/machine` of each machine, as JSON."""

sources = Table(
    "sources",
    metadata,
    Column("machine_id", String(1024), primary_key=True),
    Column("journal_id", String(1024)),
    Column("asked_until_s", Float, nullable=False, server_default="0"),
    Column("verified_s", Float, nullable=False, server_default="0"),
    Column("twins", Text),
    Column("released_s", Float, nullable=False, server_default="0"),
    Column("audit_from", BigInteger),
    Column("audit_journal", String(1024)),
    Column("audit_mark", BigInteger, nullable=False, server_default="0"),
)
"""One row for each machine that ever sent something, locked by each transaction that writes the machine's
messages. `journal_id` is its present journal (absent: none is known, empty: the machine names none); until
`asked_until_s` one gateway alone may ask it for missing events, and at `verified_s` it was last confirmed
that none are missing. `twins` is present while two machines use the machine_id (JSON: the instances, and
since when); `released_s` is when an operator last decided. After that `audit_from` is present until the
journal of the machine that runs now is compared with the stored events: the next sequence to compare, of
`audit_journal`; `audit_mark` is the last stored event when the machine was asked."""

counts = Table(
    "counts",
    metadata,
    Column("machine_id", String(1024), primary_key=True),
    Column("journal_id", String(1024), primary_key=True),
    Column("applied_sequence", BigInteger),
)
"""The last applied sequence of each journal; absent while its first sequence is not known."""

reservations = Table(
    "reservations",
    metadata,
    Column("position", Number, primary_key=True, autoincrement=True),
    Column("reservation_id", String(1024), nullable=False, unique=True),
    Column("complete", Boolean, key="details_known", nullable=False),
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
    Column("ended_s", Float),
    Column("unknown_s", Float),
    Column("needs", Text),
    Index("reservations_by_machine", "machine_id", "status"),
    Index("reservations_over", "ended_s"),
)
_OPEN = reservations.c.ended_s.is_(None)
_LACKING = and_(reservations.c.details_known.is_(False), reservations.c.unknown_s.is_(None))
Index(
    "reservations_open",
    reservations.c.platform,
    reservations.c.created_s,
    reservations.c.position,
    sqlite_where=_OPEN,
    postgresql_where=_OPEN,
)
Index(
    "reservations_incomplete",
    reservations.c.machine_id,
    reservations.c.position,
    sqlite_where=_LACKING,
    postgresql_where=_LACKING,
)
"""The projection. `details_known` (the column `complete`) is false while a reservation is known from events
only (no platform, no codes yet); `grace_from_s` is when the pick-up grace began, by the machine's clock if
synchronised, else ours; `completed` is true once the machine reported that the cell is free again; `ended_s`
is when we learned that it is over, `unknown_s` when its machine reported that it does not know it; `needs` is
packaging, ETA and drop-off grace as JSON, for a machine that has lost it."""

events = Table(
    "events",
    metadata,
    Column("position", Number, primary_key=True, autoincrement=True),
    Column("machine_id", String(1024), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("idempotency_key", String(1024), nullable=False),
    Column("event_type", String(64), nullable=False),
    Column("reservation_id", String(1024)),
    Column("received_s", Float, nullable=False),
    Column("payload", Text, nullable=False),
    Column("journal_id", String(1024), nullable=False, server_default=""),
    Column("state", String(16), nullable=False, server_default="applied"),
    Index("events_once", "machine_id", "idempotency_key", unique=True),
    Index("events_in_order", "machine_id", "sequence"),
    Index("events_waiting", "state", "machine_id", "journal_id", "sequence"),
    Index("events_over", "state", "received_s"),
)
"""Every event received, once. `state` is held while an earlier one is missing, then applied, or rejected if
it cannot be applied; suspected if it came while two machines used one machine_id."""

rejected = Table(
    "rejected",
    metadata,
    Column("position", Number, primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("received_s", Float, nullable=False),
    Index("rejected_by_topic", "topic", "position"),
)
"""Events and states that could not be used, for an operator; the last ones of each topic."""

cell_owners = Table(
    "cell_owners",
    metadata,
    Column("cell_id", String(1024), primary_key=True),
    Column("machine_id", String(1024), nullable=False),
    Column("since_s", Float, nullable=False),
    Index("cell_owners_by_machine", "machine_id"),
)
"""The owner of a cell id that several machines name: the machine that had it first and still has it."""

webhooks = Table(
    "webhooks",
    metadata,
    Column("position", Number, primary_key=True, autoincrement=True),
    Column("reservation_id", String(1024), nullable=False),
    Column("platform_order_id", String(1024), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_s", Float, nullable=False),
    Column("last_problem", Text, nullable=False),
    Column("x_request_id", String(1024)),
    Column("queued_s", Float, nullable=False, server_default="0"),
    Column("ended_s", Float),
    Column("lease_owner", String(64)),
    Column("lease_until_s", Float, nullable=False, server_default="0"),
    Index("webhooks_waiting", "state", "reservation_id", "position"),
    Index("webhooks_due", "state", "next_attempt_s"),
    Index("webhooks_over", "state", "ended_s"),
)
"""The delivery queue; `state` is waiting, delivered, no_receiver, or dead for one that was not accepted for
days. Until `lease_until_s` the gateway `lease_owner` handles it; its age counts from `queued_s`."""

requests = Table(
    "requests",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("body_digest", String(64), nullable=False),
    Column("reservation_id", String(128), nullable=False),
    Column("status", Integer),
    Column("answer", Text),
    Column("created_s", Float, nullable=False),
    Column("x_request_id", String(1024)),
    Index("requests_by_age", "created_s"),
)
"""HTTP requests that came with an X-Request-ID. `status` and `answer` (the response's body) are present once
the machine has decided; `reservation_id` is for a reserve only; `key` is a hash of platform, method, path and
id."""

COMMAND_PREFIX = "req_"
"""A command's request id is this prefix and the key of its row in `requests`."""

tickets = Table(
    "maintenance_tickets",
    metadata,
    Column("ticket_id", String(128), primary_key=True),
    Column("machine_id", String(1024), primary_key=True),
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
"""Maintenance tickets; OPEN until `closed_s` is present, then CLOSED. `cell_label` and `cell_id` are absent
for a whole machine."""

operator_acts = Table(
    "operator_acts",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("act", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("result", String(64), nullable=False),
)
"""What people did at the operators' pages. The database refuses to change or delete a row (migration
`acts`)."""

abandonments = Table(
    "abandonments",
    metadata,
    Column("reservation_id", String(1024), primary_key=True),
    Column("machine_id", String(1024), nullable=False),
    Column("since_s", BigInteger, nullable=False),
    Column("cleared_s", BigInteger),
    Index("abandonments_waiting", "cleared_s", "machine_id"),
)
"""Abandoned parcels; `cleared_s` is when the cell was cleared."""

replicas = Table(
    "replicas",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("seen_s", Float, nullable=False),
)
"""Every gateway of this database by its client id, and when it was last alive."""

given_up = Table(
    "given_up",
    metadata,
    Column("reservation_id", String(1024), primary_key=True),
    Column("machine_id", String(1024), nullable=False),
    Column("cancel_after_s", Float, nullable=False),
    Column("attempt_until_s", Float, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("cancelled_s", Float),
    Column("given_up_s", Float, nullable=False),
    Index("given_up_waiting", "cancelled_s", "machine_id"),
)
"""Reservations whose caller was answered EXPIRED or OFFLINE before the machine had replied. One that turns up
later is cancelled, not before `cancel_after_s`. Until `attempt_until_s` a cancel may still be under way."""

undated = Table(
    "undated",
    metadata,
    Column("machine_id", String(1024), primary_key=True),
    Column("boot_id", String(128), primary_key=True),
    Column("reservation_id", String(1024), primary_key=True),
    Column("field", String(32), primary_key=True),
    Column("uptime_ms", BigInteger, nullable=False),
    Column("noted_s", Float, nullable=False),
)
"""Dates of reservations that a machine gave while its clock was not synchronised: the column of
`reservations`, and the time on the clock of that boot. Corrected once the boot knows the time; then
`uptime_ms` is -1, and views of the machine no longer change the date."""

service_requests = Table(
    "service_requests",
    metadata,
    Column("position", Number, primary_key=True),
    Column("request_id", String(64), nullable=False, unique=True),
    Column("machine_id", String(64), nullable=False),
    Column("command", String(32), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("requested_s", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("ended_s", Float),
    Column("error", Text),
    Column("content_type", String(64)),
    Column("bytes", Integer),
    Column("complete", Boolean, nullable=False, server_default=false()),
    Index("service_requests_of", "machine_id", "position"),
)
"""The service commands that people requested (`remote.requests`)."""

service_parts = Table(
    "service_parts",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("data", Text, nullable=False),
)
"""The results of service commands, in base64, as they came."""

machine_configurations = Table(
    "machine_configurations",
    metadata,
    Column("machine_id", String(64), primary_key=True),
    Column("version", BigInteger),
    Column("settings", Text),
    Column("actor", String(128)),
    Column("wanted_s", Float),
    Column("sent_version", BigInteger),
    Column("reported", Text),
    Column("reported_s", Float),
)
"""Wanted and reported configurations (`remote.configurations`), as JSON."""

releases = Table(
    "releases",
    metadata,
    Column("position", Number, primary_key=True),
    Column("release_id", String(64), nullable=False, unique=True),
    Column("version", String(64), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("begun_s", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_s", Float),
)
"""Releases of the daemon (`remote.releases`)."""

release_machines = Table(
    "release_machines",
    metadata,
    Column("release_id", String(64), primary_key=True),
    Column("machine_id", String(64), primary_key=True),
    Column("wave", Integer, nullable=False),
    Column("result", String(16), nullable=False),
    Column("since_s", Float, nullable=False),
    Column("request_id", String(64)),
    Index("release_machines_request", "request_id"),
)
"""How far each machine of a release is."""

claims = Table(
    "claims",
    metadata,
    Column("claim_id", String(64), primary_key=True),
    Column("public_key", String(64), nullable=False),
    Column("code_hash", String(64), nullable=False, index=True),
    Column("board", Text, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("address", String(64), nullable=False),
    Column("asked_s", Float, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("machine_id", String(64)),
)
"""Machines that ask to be claimed (`enrolment.claims`)."""

enrolled_machines = Table(
    "enrolled_machines",
    metadata,
    Column("machine_id", String(64), primary_key=True),
    Column("public_key", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("latitude", Float, nullable=False),
    Column("longitude", Float, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("serial", String(64), nullable=False),
    Column("not_before_s", Float, nullable=False),
    Column("not_after_s", Float, nullable=False),
    Column("enrolled_s", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("revoked_s", Float),
)
"""Machines with a certificate of ours."""

enrolment_attempts = Table(
    "enrolment_attempts",
    metadata,
    Column("position", Number, primary_key=True),
    Column("machine_id", Text, nullable=False),
    Column("address", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_s", Float, nullable=False),
)
"""Refused attempts at enrolment and renewal, for the operators."""
