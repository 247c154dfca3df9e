"""The projection: writes what machines' events and replies state of reservations to the database.

The machine decides; the projection only records. Events come in order (see `sequence`), but replies overtake
them or are repeated, so a status moves forward only. Every function works inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from cloud_gateway.db.store import FINISHED, ReservationRow, find_reservation, insert_once
from cloud_gateway.db.tables import (
    abandonments,
    cell_owners,
    machines,
    reservations,
)
from cloud_gateway.events.dates import correct_dates, corrected, note_undated
from cloud_gateway.events.reservation_writes import ABANDONED, TICKETS, UNDATED, ReservationWrites
from cloud_gateway.events.tickets import (
    close_tickets_of,
    note_cleared,
    put_ticket,
    record_abandoned,
    ticket_of,
)
from cloud_gateway.value_bounds import moment_s
from edge_agent.model import CellCause, ReservationStatus
from edge_agent.protocol.api import Machine, ReservationView
from edge_agent.protocol.events import DETAIL_KEY, WEBHOOK_TYPES, Event, EventType

NEEDS = {"packaging", "eta_minutes", "grace_period_dropoff_in_seconds"}
"""Fields of a view that are stored only to restore the reservation on a machine that has lost it."""
RANK = {
    ReservationStatus.PENDING.value: 0,
    ReservationStatus.DROPPED_OFF.value: 1,
    ReservationStatus.PICKED_UP.value: 2,
    ReservationStatus.CANCELLED.value: 2,
    ReservationStatus.ABANDONED.value: 2,
}
"""A reservation goes to a higher rank or stays: the last three are final."""

STATUS_AFTER = {
    EventType.RESERVATION_CREATED: ReservationStatus.PENDING,
    EventType.DROPOFF: ReservationStatus.DROPPED_OFF,
    EventType.PICKUP: ReservationStatus.PICKED_UP,
    EventType.RESERVATION_CANCELLED: ReservationStatus.CANCELLED,
    EventType.PICKUP_ABANDONED: ReservationStatus.ABANDONED,
    EventType.RESERVATION_COMPLETED: ReservationStatus.PICKED_UP,
}
"""The status that an event gives its reservation; other types do not change it."""

WEBHOOK_FIELDS = (
    "event_id",
    "idempotency_key",
    "event_time_unix_timestamp",
    "event_time_timestamp",
    "platform_order_id",
    "reservation_id",
    "event_type",
)

STUBS_MAX = 1024
"""The most reservations of a machine that may be known from events only: twice its maximum of cells."""

TIME_TOLERANCE_S = 60
"""How far a machine's time in a reply may differ from our own to be believed."""

DETAIL_FIELDS = frozenset({"source_type", "cell", "machine"})
MORE_DETAIL = {
    EventType.PICKUP_FAILED: frozenset({"outcome", "reason"}),
    EventType.OPEN_DOOR_FULFILLED: frozenset({"request_id", "platform_reference_id", "outcome", "reason"}),
}
"""The fields of a webhook's detail besides `DETAIL_FIELDS`; an event may have more, for the projection
only."""


# Built once: to build a statement costs more than to run it.
_DOCUMENT = select(machines.c.document).where(machines.c.machine_id == bindparam("id"))
_PUBLISHED = update(machines).where(machines.c.machine_id == bindparam("id"))
_HELD = select(cell_owners.c.cell_id).where(cell_owners.c.machine_id == bindparam("id"))
_CHANGED = update(reservations).where(reservations.c.reservation_id == bindparam("id"))


def put_machine(db: Connection, machine: Machine, now_s: float) -> None:
    """Stores a machine's published state; written only if it changed, because every gateway receives it."""
    document, machine_id = machine.model_dump_json(), machine.machine_id
    known = db.execute(_DOCUMENT, {"id": machine_id}).scalar_one_or_none()
    values = {"document": document, "updated_s": now_s}
    if known is None:
        db.execute(insert(machines).values(machine_id=machine_id, **values))
    elif known != document:
        db.execute(_PUBLISHED, {"id": machine_id, **values})
    _own_cells(db, machine, now_s)


def _own_cells(db: Connection, machine: Machine, now_s: float) -> None:
    """Releases the ids of cells that a machine no longer has, so that another machine can own them; takes ids
    that have no owner."""
    owners, named = cell_owners.c, {cell.cell_id for cell in machine.all_cells}
    held = set(db.execute(_HELD, {"id": machine.machine_id}).scalars())
    gone = sorted(held - named)
    if gone:
        db.execute(
            delete(cell_owners).where(owners.machine_id == machine.machine_id, owners.cell_id.in_(gone))
        )
    for cell_id in sorted(named - held):
        values = {"cell_id": cell_id, "machine_id": machine.machine_id, "since_s": now_s}
        insert_once(db, cell_owners, values)


def owner_of(db: Connection, cell_id: str) -> str | None:
    """The machine that a cell id belongs to; None if it is not known."""
    query = select(cell_owners.c.machine_id).where(cell_owners.c.cell_id == cell_id)
    owner: str | None = db.execute(query).scalar_one_or_none()
    return owner


def apply_events(db: Connection, machine_events: Sequence[Event], now_s: float) -> None:
    """Writes the effects of events of locked machines, one after the other, on their reservations, and the
    webhooks that they trigger.

    Raises `ValueError` for an event without the fields of its type; then the caller undoes the others.
    """
    writes = ReservationWrites(db, machine_events)
    for machine_event in machine_events:
        _apply(writes, machine_event, now_s)
    writes.flush()


def apply_event(db: Connection, machine_event: Event, now_s: float) -> None:
    """`apply_events` of one event."""
    apply_events(db, (machine_event,), now_s)


def _apply(writes: ReservationWrites, machine_event: Event, now_s: float) -> None:
    kind, reservation_id = machine_event.event_type, machine_event.reservation_id
    if writes.concerns(machine_event.machine_id, UNDATED):
        writes.flush()
        correct_dates(writes.db, machine_event)
        writes.read_again()
    if kind is EventType.MAINTENANCE_REQUESTED:
        ticket = ticket_of(machine_event, _event_time_s(machine_event, now_s))
        put_ticket(writes.db, ticket, by_event=True)
        writes.note(machine_event.machine_id, TICKETS)
    elif kind is EventType.CELL_STATUS_CHANGED:
        _apply_cell_change(writes, machine_event, now_s)
    if reservation_id is not None and kind in STATUS_AFTER:
        _apply_status(writes, reservation_id, machine_event, now_s)
        if note_undated(writes.db, reservation_id, machine_event, now_s):
            writes.note(machine_event.machine_id, UNDATED)
    if reservation_id is not None and kind in WEBHOOK_TYPES:
        if kind not in STATUS_AFTER:
            _row_for(writes, reservation_id, machine_event, now_s)
        _queue_webhook(writes, reservation_id, machine_event, now_s)


def _event_time_s(machine_event: Event, now_s: float) -> int:
    """When it happened; when we received it, if the machine's clock was not synchronised."""
    return machine_event.event_time_unix_timestamp if machine_event.clock_synced else int(now_s)


def _apply_cell_change(writes: ReservationWrites, machine_event: Event, now_s: float) -> None:
    """Writes that a reservation moved to another cell, or that a technician handled a cell."""
    detail = machine_event.detail
    if detail is None or detail.cell is None:
        return
    machine_id, at_s = machine_event.machine_id, _event_time_s(machine_event, now_s)
    if detail.cause is CellCause.MOVED and machine_event.reservation_id is not None:
        row = _row_for(writes, machine_event.reservation_id, machine_event, now_s)
        if row.status == ReservationStatus.PENDING.value:
            writes.update(row.reservation_id, {"cell_label": detail.cell.description})
    handled = detail.cause in (CellCause.CLEARED, CellCause.UNBLOCKED)
    if handled and writes.concerns(machine_id, TICKETS):
        close_tickets_of(writes.db, machine_id, detail.cell, at_s)
    if detail.cause is CellCause.CLEARED and writes.concerns(machine_id, ABANDONED):
        writes.flush()  # it looks for the reservations of the cell
        note_cleared(writes.db, machine_id, detail.cell.description, at_s)


def _apply_status(writes: ReservationWrites, reservation_id: str, machine_event: Event, now_s: float) -> None:
    kind, at_s = machine_event.event_type, machine_event.event_time_unix_timestamp
    status = STATUS_AFTER[kind].value
    row = _row_for(writes, reservation_id, machine_event, now_s)
    values: dict[str, Any] = {}
    if RANK[status] > RANK[row.status]:
        values["status"] = status
    cell = machine_event.detail.cell if machine_event.detail is not None else None
    moved = kind is not EventType.RESERVATION_CREATED and RANK[status] >= RANK[row.status]
    if cell is not None and (row.cell_label is None or moved):
        values["cell_label"] = cell.description
    if kind is EventType.DROPOFF and row.dropped_off_s is None:
        values["dropped_off_s"] = at_s
    if kind is EventType.PICKUP:
        values["picked_up_s"] = at_s if row.picked_up_s is None else row.picked_up_s
        # A machine without a synchronised clock: only our own time of receipt can be compared with our clock.
        values["grace_from_s"] = float(at_s) if machine_event.clock_synced else row.grace_from_s or now_s
    if kind is EventType.RESERVATION_COMPLETED:
        values["completed"] = True
    if row.ended_s is None and (kind is EventType.RESERVATION_COMPLETED or values.get("status") in FINISHED):
        values["ended_s"] = now_s
    if kind is EventType.PICKUP_ABANDONED:
        since_s = _event_time_s(machine_event, now_s)
        certain = machine_event.clock_synced
        record_abandoned(writes.db, reservation_id, row.machine_id, since_s, certain=certain)
        writes.note(row.machine_id, ABANDONED)
    writes.update(reservation_id, values)


def _row_for(
    writes: ReservationWrites, reservation_id: str, machine_event: Event, now_s: float
) -> ReservationRow:
    """The reservation of an event. Raises `ValueError` if it belongs to another machine or order."""
    row = writes.row(reservation_id)
    if row is None:
        return _stub(writes, reservation_id, machine_event, now_s)
    if row.machine_id != machine_event.machine_id:
        raise ValueError("an event about another machine's reservation")
    if machine_event.platform_order_id not in (None, row.platform_order_id):
        raise ValueError("an event about another order than its reservation's")
    return row


def _stub(
    writes: ReservationWrites, reservation_id: str, machine_event: Event, now_s: float
) -> ReservationRow:
    """A row for a reservation that is known from events only; a reply completes it. Raises `ValueError` if a
    machine has more than `STUBS_MAX` of them."""
    lacking = (reservations.c.machine_id == machine_event.machine_id, reservations.c.details_known.is_(False))
    if writes.db.execute(select(func.count()).where(*lacking)).scalar_one() >= STUBS_MAX:
        raise ValueError("more reservations known from events only than a machine can hold")
    return writes.insert(
        {
            "reservation_id": reservation_id,
            "details_known": False,
            "machine_id": machine_event.machine_id,
            "platform": "",
            "platform_order_id": machine_event.platform_order_id or "",
            "notes": "",
            "webhook_url": "",
            "status": ReservationStatus.PENDING.value,
            "created_s": machine_event.event_time_unix_timestamp,
            "drop_off_code": "",
            "pickup_code": "",
            "grace_pickup_s": 0,
            "completed": False,
            "learned_s": now_s,
        }
    )


def _queue_webhook(
    writes: ReservationWrites, reservation_id: str, machine_event: Event, now_s: float
) -> None:
    kind, detail = machine_event.event_type, machine_event.detail
    if machine_event.platform_order_id is None or detail is None:
        raise ValueError("a webhook event without order or detail")
    body: dict[str, Any] = {name: getattr(machine_event, name) for name in WEBHOOK_FIELDS}
    fields = DETAIL_FIELDS | MORE_DETAIL.get(kind, frozenset())
    body[DETAIL_KEY[kind]] = detail.model_dump(mode="json", include=set(fields), exclude_none=True)
    writes.queue_webhook(
        {
            "reservation_id": reservation_id,
            "platform_order_id": machine_event.platform_order_id,
            "body": json.dumps(body, ensure_ascii=False),
            "state": "waiting",
            "attempts": 0,
            "next_attempt_s": now_s,
            "last_problem": "",
            "x_request_id": writes.x_request_id(machine_event.request_id),
            "queued_s": now_s,
        }
    )


def put_view(db: Connection, view: ReservationView, now_s: float, *, up_to_date: bool) -> None:
    """Writes a reservation as a reply states it; `up_to_date` is false for a reply that may be a stored, old
    one.

    Raises `ValueError` for a bad time or another machine's reservation.
    """
    row = find_reservation(db, view.reservation_id)
    if row is not None and row.machine_id != view.machine_id:
        raise ValueError("a reply about another machine's reservation")
    if (
        row is not None
        and not row.details_known
        and row.platform_order_id not in ("", view.platform_order_id)
    ):
        raise ValueError("events about another order than the reservation's")
    values = _lasting(view) if row is None or not row.details_known else {}
    if row is not None and row.unknown_s is not None:
        values["unknown_s"] = None
    if row is not None and up_to_date:
        known = corrected(db, view.reservation_id)
        values |= {name: at_s for name, at_s in _dates(view).items() if name not in known}
    if row is None or RANK[view.status.value] > RANK[row.status]:
        values["status"] = view.status.value
        values["ended_s"] = now_s if view.status.value in FINISHED else None
    if row is None or _has_newer_cell(view, row, up_to_date):
        values["cell_label"] = view.cell.description
    if view.dropped_off_at is not None and (row is None or row.dropped_off_s is None):
        values["dropped_off_s"] = moment_s(view.dropped_off_at)
    if view.picked_up_at is not None and (row is None or row.picked_up_s is None):
        values["picked_up_s"] = moment_s(view.picked_up_at)
        # A time far from ours may come from an old reply or a wrong clock; the event will give it.
        near = abs(now_s - values["picked_up_s"]) <= TIME_TOLERANCE_S
        values["grace_from_s"] = float(values["picked_up_s"]) if near else now_s
    if view.status is ReservationStatus.ABANDONED:
        record_abandoned(db, view.reservation_id, view.machine_id, int(now_s), certain=False)
    if row is not None:
        _update(db, view.reservation_id, values)
        return
    db.execute(
        insert(reservations).values(
            reservation_id=view.reservation_id,
            machine_id=view.machine_id,
            completed=False,
            learned_s=now_s,
            **values,
        )
    )


def restate(db: Connection, view: ReservationView) -> None:
    """Writes a live reservation as its machine holds it; the events of another machine had changed it."""
    picked_up = None if view.picked_up_at is None else moment_s(view.picked_up_at)
    values: dict[str, Any] = {
        "status": view.status.value,
        "completed": False,
        "ended_s": None,
        "cell_label": view.cell.description,
        "dropped_off_s": None if view.dropped_off_at is None else moment_s(view.dropped_off_at),
        "picked_up_s": picked_up,
    }
    if picked_up is None:
        values["grace_from_s"] = None
    _update(db, view.reservation_id, values)
    db.execute(delete(abandonments).where(abandonments.c.reservation_id == view.reservation_id))


def put_over(db: Connection, reservation_id: str, now_s: float) -> None:
    """Completes a picked up reservation that no longer holds a cell; the event that reported it is lost."""
    mine = (reservations.c.reservation_id == reservation_id, reservations.c.completed.is_(False))
    picked = reservations.c.status == ReservationStatus.PICKED_UP.value
    db.execute(update(reservations).where(*mine, picked).values(completed=True, ended_s=now_s))


def _lasting(view: ReservationView) -> dict[str, Any]:
    """The fields that never change once they are known."""
    return {
        "details_known": True,
        "platform": view.platform,
        "platform_order_id": view.platform_order_id,
        "notes": view.notes,
        "webhook_url": view.webhook_url,
        "created_s": moment_s(view.created_at),
        "drop_off_code": view.drop_off_code,
        "pickup_code": view.pickup_code,
        "grace_pickup_s": view.grace_period_pickup_in_seconds,
        "needs": view.model_dump_json(include=NEEDS, exclude_none=True),
    }


def _dates(view: ReservationView) -> dict[str, Any]:
    """The dates as the machine knows them now: it corrects those that a wrong clock gave."""
    dates = {"dropped_off_s": view.dropped_off_at, "picked_up_s": view.picked_up_at}
    known = {name: moment_s(text) for name, text in dates.items() if text is not None}
    return {"created_s": moment_s(view.created_at), **known}


def _has_newer_cell(view: ReservationView, row: ReservationRow, up_to_date: bool) -> bool:
    """Whether the view's cell is newer than the row's: a pending reservation may have been given another
    cell."""
    if row.cell_label is None:
        return True
    given, known = RANK[view.status.value], RANK[row.status]
    return given > known or (up_to_date and given == known)


def _update(db: Connection, reservation_id: str, values: dict[str, Any]) -> None:
    if values:
        db.execute(_CHANGED, {"id": reservation_id, **values})
