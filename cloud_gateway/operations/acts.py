"""The record of what people did at the operators' pages: rows are added and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from cloud_gateway.db.tables import operator_acts
from cloud_gateway.users import Role
from edge_agent.protocol.api import rfc3339

PAGE_MAX = 1_000
"""Rows of one export."""
NAME_MAX = 64
"""The longest name; `tables.operator_acts` has room for it and what `routes.actor_of` adds."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: the name, and the role."""

    name: str
    role: Role


def record_act(db: Connection, actor: Actor, act: str, target: str, result: str, now_s: float) -> None:
    """Adds a row. Works inside the caller's transaction."""
    row = {"actor": actor.name[:128], "role": str(actor.role), "act": act, "target": target, "result": result}
    db.execute(insert(operator_acts).values(at_s=now_s, **row))


def acts_after(db: Connection, position: int, limit: int = PAGE_MAX) -> list[dict[str, Any]]:
    """Rows after a position, oldest first."""
    query = select(operator_acts).where(operator_acts.c.position > position)
    rows = db.execute(query.order_by(operator_acts.c.position).limit(limit)).mappings()
    return [_shown(dict(row)) for row in rows]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {"position": row.pop("position"), "at": rfc3339(row.pop("at_s")), **row}
