"""Limits on one machine's rows: owners of cell ids, an index for the kept refusals, and impossible dates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "gate"
down_revision = "audit"

FIRST_S, LAST_S = 0, 4_102_444_800
"""1970 to 2100."""
DATES = {
    "reservations": ("created_s", "dropped_off_s", "picked_up_s"),
    "maintenance_tickets": ("created_s", "closed_s"),
    "abandonments": ("since_s", "cleared_s"),
}


def upgrade() -> None:
    """Adds the table and the index; changes impossible dates to the nearest possible one."""
    op.create_table(
        "cell_owners",
        sa.Column("cell_id", sa.String(1024), primary_key=True),
        sa.Column("machine_id", sa.String(1024), nullable=False),
        sa.Column("since_s", sa.Float, nullable=False),
    )
    op.create_index("cell_owners_by_machine", "cell_owners", ["machine_id"])
    op.create_index("rejected_by_topic", "rejected", ["topic", "position"])
    for table, names in DATES.items():
        for name in names:
            column = sa.column(name, sa.BigInteger)
            rows = sa.table(table, column)
            op.execute(rows.update().where(column < FIRST_S).values({name: FIRST_S}))
            op.execute(rows.update().where(column > LAST_S).values({name: LAST_S}))
