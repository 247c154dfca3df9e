"""What a machine needs to restore a reservation, and whether two machines use one name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "history"
down_revision = "many"


def upgrade() -> None:
    """Adds the columns."""
    op.add_column("reservations", sa.Column("needs", sa.Text))
    op.add_column("sources", sa.Column("twins", sa.Text))
