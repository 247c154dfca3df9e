"""Forgets whose reservations were, at the gateway: order id, notes, addresses and codes (docs/privacy.md).
Works inside the caller's transaction."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, delete, select, update

from cloud_gateway.db.store import is_ongoing
from cloud_gateway.db.tables import events, rejected, requests, reservations, webhooks
from edge_agent.errors import Code, Refusal

FORGOTTEN = "forgotten"
WAITING = "waiting"
PERSONAL = ("platform_order_id", "platform_reference_id", "notes", "webhook_url", "description")
"""Fields of stored events that may name an order or a person."""


def forget_order(db: Connection, platform_order_id: str, now_s: float) -> dict[str, list[str]]:
    """Forgets the reservations of an order; returns their ids by machine. Raises `Refusal`: `NOT_FOUND`, and
    `NOT_ALLOWED` while one of them is not over, or has a webhook to deliver."""
    table = reservations.c
    query = select(table.reservation_id, table.machine_id).where(table.platform_order_id == platform_order_id)
    found = db.execute(query).all()
    if not found:
        raise Refusal(Code.NOT_FOUND, "order not found")
    ids = [row.reservation_id for row in found]
    live = select(table.reservation_id).where(table.reservation_id.in_(ids), is_ongoing(now_s)).limit(1)
    if (rid := db.execute(live).scalar_one_or_none()) is not None:
        raise Refusal(Code.NOT_ALLOWED, f"reservation {rid} is not over")
    owed = select(webhooks.c.position).where(webhooks.c.reservation_id.in_(ids), webhooks.c.state == WAITING)
    if db.execute(owed.limit(1)).scalar_one_or_none() is not None:
        raise Refusal(Code.NOT_ALLOWED, "a webhook of the order is not delivered yet")
    if db.dialect.name == "sqlite":
        db.exec_driver_sql("PRAGMA secure_delete = ON")
    personal = {"platform_order_id": FORGOTTEN, "notes": "", "webhook_url": ""}
    codes = {"drop_off_code": "", "pickup_code": ""}
    db.execute(update(reservations).where(table.reservation_id.in_(ids)).values(**personal, **codes))
    db.execute(delete(webhooks).where(webhooks.c.reservation_id.in_(ids)))
    for rid in ids:
        db.execute(delete(requests).where(requests.c.answer.contains(rid, autoescape=True)))
        db.execute(delete(rejected).where(rejected.c.payload.contains(rid, autoescape=True)))
    _scrub_events(db, ids)
    by_machine: dict[str, list[str]] = {}
    for row in found:
        by_machine.setdefault(row.machine_id, []).append(row.reservation_id)
    return by_machine


def _scrub_events(db: Connection, ids: list[str]) -> None:
    query = select(events.c.position, events.c.payload).where(events.c.reservation_id.in_(ids))
    for row in db.execute(query).all():
        payload = json.dumps(_scrubbed(json.loads(row.payload)), ensure_ascii=False)
        db.execute(update(events).where(events.c.position == row.position).values(payload=payload))


def _scrubbed(document: dict[str, Any]) -> dict[str, Any]:
    """An event without personal data; cells keep their labels."""
    clean = {name: FORGOTTEN if name in PERSONAL and value else value for name, value in document.items()}
    for name, value in clean.items():
        if isinstance(value, dict) and name.endswith("_event"):
            inner = {k: v for k, v in value.items() if k not in PERSONAL}
            clean[name] = inner
    return clean
