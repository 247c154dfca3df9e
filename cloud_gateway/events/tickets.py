"""Maintenance tickets and abandoned parcels for the operators, from replies and events.

A ticket's reply and its event may come in either order, or twice; what is closed stays closed. Every function
works inside the caller's transaction.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from cloud_gateway.db.tables import abandonments, reservations, tickets
from edge_agent.model import Severity, Source
from edge_agent.protocol.api import CellReference
from edge_agent.protocol.events import Event

OPEN_MAX = 1024
"""The most open tickets that one machine's events may make: two for each cell that it can have."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is known of a maintenance ticket; None: not given, or no cell, if it is about the whole
    machine."""

    ticket_id: str
    machine_id: str
    cell_label: str | None
    cell_id: str | None
    description: str | None
    severity: Severity | None
    created_s: int
    source: Source
    blocked: bool | None


def ticket_of(machine_event: Event, at_s: int) -> Ticket:
    """The ticket of an event. Raises `ValueError` if it has no id."""
    detail = machine_event.detail
    if detail is None or not detail.maintenance_ticket_id:
        raise ValueError("a request for maintenance without its ticket")
    cell = detail.cell
    return Ticket(
        ticket_id=detail.maintenance_ticket_id,
        machine_id=machine_event.machine_id,
        cell_label=None if cell is None else cell.description,
        cell_id=None if cell is None else cell.cell_id,
        description=detail.description,
        severity=detail.severity,
        created_s=at_s,
        source=detail.source_type,
        blocked=detail.blocked,
    )


def put_ticket(db: Connection, ticket: Ticket, *, by_event: bool = False) -> None:
    """Writes a ticket, or its fields that were not known yet; an event takes precedence over the request.

    A ticket belongs to its machine: two machines may use the same id. Raises `ValueError` for one open ticket
    too many.
    """
    mine = (tickets.c.ticket_id == ticket.ticket_id, tickets.c.machine_id == ticket.machine_id)
    given = {name: value for name, value in asdict(ticket).items() if value is not None}
    row = db.execute(select(tickets).where(*mine)).one_or_none()
    if row is None:
        unsolved = (tickets.c.machine_id == ticket.machine_id, tickets.c.closed_s.is_(None))
        if by_event and db.execute(select(func.count()).where(*unsolved)).scalar_one() >= OPEN_MAX:
            raise ValueError("more open tickets than a machine may have")
        db.execute(insert(tickets).values(given))
        return
    known = row._mapping
    fixed = ("ticket_id", "machine_id", "created_s")
    news = {n: v for n, v in given.items() if n not in fixed and (by_event or known[n] is None)}
    if news:
        db.execute(update(tickets).where(*mine).values(news))


def close_ticket(db: Connection, ticket_id: str, at_s: int, machine_id: str | None = None) -> bool:
    """Closes a ticket, once; False if there is none.

    Raises `LookupError` if several machines have a ticket with this id and `machine_id` is not given.
    """
    named = tickets.c.ticket_id == ticket_id
    if machine_id is not None:
        named = and_(named, tickets.c.machine_id == machine_id)
    found = db.execute(select(tickets.c.machine_id).where(named)).all()
    if len(found) > 1:
        raise LookupError("several machines have a ticket with this id")
    db.execute(update(tickets).where(named, tickets.c.closed_s.is_(None)).values(closed_s=at_s))
    return bool(found)


def close_tickets_of(db: Connection, machine_id: str, cell: CellReference, at_s: int) -> None:
    """Closes the open tickets of a cell after a technician handled it."""
    same = tickets.c.cell_label == cell.description
    if cell.cell_id is not None:
        same = or_(same, tickets.c.cell_id == cell.cell_id)
    mine = (tickets.c.machine_id == machine_id, tickets.c.closed_s.is_(None), same)
    db.execute(update(tickets).where(*mine).values(closed_s=at_s))


def record_abandoned(
    db: Connection, reservation_id: str, machine_id: str, since_s: int, *, certain: bool
) -> None:
    """A parcel was abandoned; `certain`: `since_s` is the machine's own time, else when we learned of it."""
    mine = abandonments.c.reservation_id == reservation_id
    if db.execute(select(abandonments).where(mine)).first() is None:
        values = {"reservation_id": reservation_id, "machine_id": machine_id, "since_s": since_s}
        db.execute(insert(abandonments).values(values))
    elif certain:
        db.execute(update(abandonments).where(mine).values(since_s=since_s))


def note_cleared(db: Connection, machine_id: str, label: str, at_s: int) -> None:
    """A technician has cleared a cell: marks the abandoned parcels in it as removed."""
    there = select(reservations.c.reservation_id).where(
        reservations.c.machine_id == machine_id, reservations.c.cell_label == label
    )
    change = update(abandonments).where(
        abandonments.c.machine_id == machine_id,
        abandonments.c.cleared_s.is_(None),
        abandonments.c.reservation_id.in_(there),
    )
    db.execute(change.values(cleared_s=at_s))
