"""Alembic's entry: runs the revisions over the connection that `upgrade` passes."""

from __future__ import annotations

from alembic import context

from cloud_gateway.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
