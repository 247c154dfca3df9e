"""The gateways of one database: which are alive, and which died. Inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select, update

from cloud_gateway.db.store import insert_once
from cloud_gateway.db.tables import replicas


def record_alive(db: Connection, gateway_id: str, now_s: float, lost_s: float) -> dict[str, float]:
    """Records that a gateway is alive; returns those without such a record for `lost_s`, and their last
    one."""
    if not insert_once(db, replicas, {"name": gateway_id, "seen_s": now_s}):
        db.execute(update(replicas).where(replicas.c.name == gateway_id).values(seen_s=now_s))
    query = select(replicas.c.name, replicas.c.seen_s)
    query = query.where(replicas.c.name != gateway_id, replicas.c.seen_s < now_s - lost_s)
    return {row.name: row.seen_s for row in db.execute(query)}


def forget_gateways(db: Connection, gateway_ids: Sequence[str]) -> None:
    """Forgets gateways that will not come back."""
    db.execute(delete(replicas).where(replicas.c.name.in_(gateway_ids)))
