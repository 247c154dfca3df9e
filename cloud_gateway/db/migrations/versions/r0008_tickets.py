"""A maintenance ticket belongs to its machine: no machine can claim the id of another one's ticket."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "tickets"
down_revision = "gate"

TABLE, NEW, INDEX = "maintenance_tickets", "maintenance_tickets_new", "maintenance_tickets_by_machine"


def upgrade() -> None:
    """Copies the tickets into a table whose key is machine and ticket."""
    new = op.create_table(
        NEW,
        sa.Column("ticket_id", sa.String(128), primary_key=True),
        sa.Column("machine_id", sa.String(1024), primary_key=True),
        sa.Column("cell_label", sa.String(1024)),
        sa.Column("cell_id", sa.String(1024)),
        sa.Column("description", sa.Text),
        sa.Column("severity", sa.String(16)),
        sa.Column("created_s", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("blocked", sa.Boolean),
        sa.Column("closed_s", sa.BigInteger),
    )
    names = [column.name for column in new.columns]
    old = sa.table(TABLE, *(sa.column(name) for name in names))
    op.execute(new.insert().from_select(names, sa.select(*(old.c[name] for name in names))))
    op.drop_table(TABLE)
    op.rename_table(NEW, TABLE)
    op.create_index(INDEX, TABLE, ["machine_id", "closed_s"])
