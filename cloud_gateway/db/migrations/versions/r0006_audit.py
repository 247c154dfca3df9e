"""When an operator decided between two machines of one name, and how far the comparison has got."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "audit"
down_revision = "given_up"


def upgrade() -> None:
    """Adds the columns."""
    op.add_column("sources", sa.Column("released_s", sa.Float, nullable=False, server_default="0"))
    op.add_column("sources", sa.Column("audit_from", sa.BigInteger))
    op.add_column("sources", sa.Column("audit_journal", sa.String(1024)))
    op.add_column("sources", sa.Column("audit_mark", sa.BigInteger, nullable=False, server_default="0"))
