"""Dates that a machine gave while its clock was not synchronised, and their correction.

Each event also gives its time on the boot's own clock. The first event of the same boot that was dated by a
synchronised clock gives the right date of all earlier ones. Every function works inside the caller's
transaction.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from cloud_gateway.db.store import insert_once
from cloud_gateway.db.tables import abandonments, reservations, undated
from cloud_gateway.value_bounds import TIME_MAX_S, TIME_MIN_S
from edge_agent.protocol.events import Event, EventType

CORRECTED = -1
"""Replaces the time on the boot's clock once the date is corrected."""
ABANDONED = "since_s"
"""The date of the abandonment, not of the reservation."""
FIELD = {
    EventType.RESERVATION_CREATED: "created_s",
    EventType.DROPOFF: "dropped_off_s",
    EventType.PICKUP: "picked_up_s",
    EventType.PICKUP_ABANDONED: ABANDONED,
}
"""The date that an event sets on its reservation. A cancellation sets none: `ended_s` is the gateway's
own."""


_FIXED = select(undated.c.field).where(
    undated.c.reservation_id == bindparam("id"), undated.c.uptime_ms == CORRECTED
)


def note_undated(db: Connection, reservation_id: str, machine_event: Event, now_s: float) -> bool:
    """Records an event that was dated by an unsynchronised clock; skips one without a time on the boot's
    clock, which can never be corrected. Returns whether it recorded one."""
    field = FIELD.get(machine_event.event_type)
    if field is None or machine_event.clock_synced or machine_event.uptime_ms is None:
        return False
    values = {
        "machine_id": machine_event.machine_id,
        "boot_id": machine_event.boot_id,
        "reservation_id": reservation_id,
        "field": field,
        "uptime_ms": machine_event.uptime_ms,
        "noted_s": now_s,
    }
    return insert_once(db, undated, values)


def correct_dates(db: Connection, machine_event: Event) -> None:
    """Corrects the dates that the same boot gave before a correctly dated event."""
    if not machine_event.clock_synced or machine_event.uptime_ms is None:
        return
    boot = (
        undated.c.machine_id == machine_event.machine_id,
        undated.c.boot_id == machine_event.boot_id,
        undated.c.uptime_ms != CORRECTED,
    )
    rows = db.execute(select(undated).where(*boot)).all()
    for row in rows:
        ago_s = (machine_event.uptime_ms - row.uptime_ms) / 1000
        right_s = int(machine_event.event_time_unix_timestamp - ago_s)
        if not TIME_MIN_S <= right_s <= TIME_MAX_S:
            continue  # the uptimes of this boot contradict its dates
        if row.field == ABANDONED:
            abandoned = abandonments.c.reservation_id == row.reservation_id
            db.execute(update(abandonments).where(abandoned).values(since_s=right_s))
            continue
        values: dict[str, Any] = {row.field: right_s}
        if row.field == "picked_up_s":
            values["grace_from_s"] = float(right_s)
        mine = reservations.c.reservation_id == row.reservation_id
        db.execute(update(reservations).where(mine).values(values))
    if rows:
        db.execute(update(undated).where(*boot).values(uptime_ms=CORRECTED))


def corrected(db: Connection, reservation_id: str) -> set[str]:
    """The corrected dates of a reservation. The machine's views continue to carry the wrong ones."""
    return set(db.execute(_FIXED, {"id": reservation_id}).scalars())
