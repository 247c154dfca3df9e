"""The audit after an operator decided between two machines with one machine_id: it compares the journal of
the machine that runs now with the stored events, number by number.

The journal decides. An event that it does not hold came from the other machine and is kept in `rejected`; one
that is missing here, because the other machine had used its number, is applied. Every function works inside
the caller's transaction, with the machine's row locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from cloud_gateway.db.tables import counts, events, sources
from cloud_gateway.events.expected import event_row
from cloud_gateway.events.sequence import (
    SUSPECTED,
    UNNAMED,
    applied_sequence,
    apply_in_order,
    apply_or_reject,
    lock_machine,
    reject,
)
from cloud_gateway.machines.message_validation import ReceivedEvent

NOT_OURS = "another machine of this name sent it"
OPEN = ("held", SUSPECTED)


@dataclass(frozen=True, slots=True)
class Audit:
    """The progress of a comparison. `journal_id` is None before the machine has named its journal; `mark` is
    the row number (`position`) of the last event that was stored when the machine was asked."""

    next_sequence: int
    journal_id: str | None
    mark: int


def begin(db: Connection, machine_id: str, now_s: float) -> None:
    """An operator has decided: the machine that answers from now on is the right one."""
    lock_machine(db, machine_id)
    _note(db, machine_id, twins=None, released_s=now_s, audit_from=1, audit_journal=None)


def audit_of(db: Connection, machine_id: str) -> Audit | None:
    """The pending comparison; None if there is none."""
    query = select(sources.c.audit_from, sources.c.audit_journal, sources.c.audit_mark)
    row = db.execute(query.where(sources.c.machine_id == machine_id)).one_or_none()
    if row is None or row.audit_from is None:
        return None
    return Audit(row.audit_from, row.audit_journal, row.audit_mark)


def record_mark(db: Connection, machine_id: str) -> None:
    """Records the last stored event when the machine is asked: its reply covers all of its events up to that
    one."""
    last = select(func.max(events.c.position)).where(events.c.machine_id == machine_id)
    _note(db, machine_id, audit_mark=db.execute(last).scalar_one() or 0)


def restart(db: Connection, machine_id: str, journal_id: str) -> None:
    """The machine has named its journal: the comparison begins at that journal's first stored event."""
    db.execute(update(events).where(*_mine(machine_id, UNNAMED)).values(journal_id=journal_id))
    first = select(func.min(events.c.sequence)).where(*_mine(machine_id, journal_id))
    begin_at = (applied_sequence(db, machine_id, journal_id) or 0) + 1
    stored = db.execute(first).scalar_one()
    begin_at = begin_at if stored is None else min(begin_at, stored)
    _note(db, machine_id, audit_from=begin_at, audit_journal=journal_id)


def compare(
    db: Connection,
    machine_id: str,
    journal_id: str,
    received: Sequence[ReceivedEvent],
    first: int,
    last: int,
    now_s: float,
) -> int:
    """Compares the journal from one sequence to another; returns how many events were applied."""
    own = {one.number.idempotency_key: one for one in received}
    query = select(events.c.position, events.c.idempotency_key, events.c.payload)
    query = query.where(*_mine(machine_id, journal_id), events.c.sequence.between(first, last))
    _disown(db, machine_id, [row for row in db.execute(query) if row.idempotency_key not in own], now_s)
    known = select(events.c.position, events.c.idempotency_key, events.c.state)
    known = known.where(events.c.machine_id == machine_id, events.c.idempotency_key.in_(list(own)))
    stored = {row.idempotency_key: row for row in db.execute(known)}
    done = 0
    for key, one in sorted(own.items(), key=lambda item: item[1].number.sequence):
        row = stored.get(key)
        if row is not None and row.state not in OPEN:
            continue
        state = _apply(db, machine_id, one, now_s)
        done += state == "applied"
        if row is None:
            db.execute(insert(events).values(event_row(one, journal_id, state, now_s)))
        else:
            new = {"state": state, "journal_id": journal_id, "sequence": one.number.sequence}
            db.execute(update(events).where(events.c.position == row.position).values(new))
    _note(db, machine_id, audit_from=last + 1)
    return done


def finish(db: Connection, machine_id: str, journal_id: str, last: int, now_s: float) -> bool:
    """Ends the comparison at the journal's last sequence; False if newer events have come meanwhile, so that
    the machine has to be asked again."""
    audit = audit_of(db, machine_id)
    assert audit is not None
    columns = select(events.c.position, events.c.payload)
    beyond = columns.where(*_mine(machine_id, journal_id), events.c.sequence > last)
    _disown(db, machine_id, db.execute(beyond.where(events.c.position <= audit.mark)).all(), now_s)
    others = columns.where(events.c.machine_id == machine_id, events.c.journal_id != journal_id)
    _disown(db, machine_id, db.execute(others.where(events.c.state == SUSPECTED)).all(), now_s)
    if db.execute(beyond.limit(1)).first() is not None:
        return False
    count = (counts.c.machine_id == machine_id, counts.c.journal_id == journal_id)
    db.execute(update(counts).where(*count).values(applied_sequence=last))
    _note(db, machine_id, audit_from=None, audit_journal=None)
    return True


def skip(db: Connection, machine_id: str, now_s: float) -> int:
    """For a machine that cannot report its journal: waiting events count as its own; returns how many were
    applied."""
    journal = lock_machine(db, machine_id)
    if journal is None or audit_of(db, machine_id) is None:
        return 0
    waiting = (events.c.machine_id == machine_id, events.c.state == SUSPECTED)
    query = select(events.c.position, events.c.payload, events.c.sequence, events.c.journal_id)
    taken = set(
        db.execute(select(events.c.sequence).where(*_mine(machine_id, journal), ~waiting[1])).scalars()
    )
    rows = db.execute(query.where(*waiting).order_by(events.c.position)).all()
    for row in rows:
        if row.journal_id in (journal, UNNAMED) and row.sequence not in taken:
            taken.add(row.sequence)
            own = {"state": "held", "journal_id": journal}
            db.execute(update(events).where(events.c.position == row.position).values(own))
        else:
            _disown(db, machine_id, [row], now_s)
    _note(db, machine_id, audit_from=None, audit_journal=None)
    return apply_in_order(db, machine_id, journal, (), now_s)


def _apply(db: Connection, machine_id: str, one: ReceivedEvent, now_s: float) -> str:
    event = one.event
    if event is None:
        reject(db, machine_id, one.payload, one.problem, now_s)
        return "rejected"
    return apply_or_reject(db, machine_id, lambda: event, one.payload, now_s)


def _disown(db: Connection, machine_id: str, rows: Sequence[Any], now_s: float) -> None:
    for row in rows:
        reject(db, machine_id, row.payload, NOT_OURS, now_s)
        db.execute(delete(events).where(events.c.position == row.position))


def _mine(machine_id: str, journal_id: str) -> tuple[Any, ...]:
    return events.c.machine_id == machine_id, events.c.journal_id == journal_id


def _note(db: Connection, machine_id: str, **values: Any) -> None:
    db.execute(update(sources).where(sources.c.machine_id == machine_id).values(**values))
