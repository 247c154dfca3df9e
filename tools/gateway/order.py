"""Events in the order of their machine: stored as they come, applied one after the other without a gap.

With shared subscriptions, lost queues and repeats they come in any order. One row per machine is locked by
whoever writes what that machine told; every function works inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any

from pydantic import Field, ValidationError
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import DataError

from edge_agent.protocol.api import Body, refusal_from
from edge_agent.protocol.events import Event
from edge_agent.protocol.topics import Topics
from tools.gateway.logs import log, where
from tools.gateway.projection import apply_event
from tools.gateway.store import insert_once
from tools.gateway.tables import counts, events, rejected, sources

AT_ONCE = 200
"""So many waiting events are read at a time."""

UNNAMED = ""
"""The journal of a machine that names none."""


class Numbered(Body):
    """What an event must have to be counted; with it, even one that cannot be read blocks nothing."""

    machine_id: str
    sequence: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]
    idempotency_key: Annotated[str, Field(strict=True, min_length=1, max_length=1024)]
    journal_id: Annotated[str, Field(strict=True, min_length=1, max_length=1024)] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """One event as a machine told it; `event` is None where it cannot be read, `problem` says why."""

    number: Numbered
    event: Event | None
    payload: str
    problem: str


def read_event(machine_id: str, payload: bytes) -> Told:
    """An event's payload. Raises `ValueError` (pydantic's included) if it cannot even be counted."""
    try:
        event, problem = Event.model_validate_json(payload), ""
    except ValidationError as error:
        event, problem = None, refusal_from(error).message
    number = Numbered.model_validate_json(payload)
    if number.machine_id != machine_id:
        raise ValueError("another machine's event")
    return Told(number, event, payload.decode(), problem)


def take_events(db: Connection, told: Sequence[Told], now_s: float) -> int:
    """Stores events, applies what is in order now, and gives how many were applied."""
    applied = 0
    # Sorted, so that two transactions never wait for each other's machines.
    for machine_id, group in groupby(sorted(told, key=_machine), key=_machine):
        lock_source(db, machine_id)
        journals = {keep(db, one, now_s) for one in group}
        applied += sum(apply_held(db, machine_id, journal, now_s) for journal in sorted(journals))
    return applied


def _machine(told: Told) -> str:
    return told.number.machine_id


def lock_source(db: Connection, machine_id: str) -> str | None:
    """Locks a machine's row until the transaction ends; gives the journal it counts by, if one is known."""
    query = select(sources.c.journal_id).where(sources.c.machine_id == machine_id).with_for_update()
    row = db.execute(query).one_or_none()
    if row is None:
        insert_once(db, sources, {"machine_id": machine_id})
        row = db.execute(query).one()
    journal: str | None = row.journal_id
    return journal


def count_of(db: Connection, machine_id: str, journal_id: str) -> int | None:
    """The last applied sequence of a journal; None while it is not known where to begin."""
    query = select(counts.c.applied_sequence).where(*_count(machine_id, journal_id))
    applied: int | None = db.execute(query).scalar_one_or_none()
    return applied


def keep(db: Connection, told: Told, now_s: float) -> str:
    """Stores one event of a locked machine, once; gives the journal that it belongs to."""
    number = told.number
    machine_id = number.machine_id
    mine = events.c.machine_id == machine_id
    same = select(events.c.journal_id).where(mine, events.c.idempotency_key == number.idempotency_key)
    known: str | None = db.execute(same).scalar_one_or_none()
    if known is not None:
        return known
    journal = journal_for(db, machine_id, number.journal_id, number.sequence)
    applied = count_of(db, machine_id, journal)
    taken = select(events.c.position).where(
        mine, events.c.sequence == number.sequence, events.c.journal_id == journal
    )
    if (applied is not None and number.sequence <= applied) or db.execute(taken).first() is not None:
        reject(db, machine_id, told.payload, "another event has its number, or is behind it", now_s)
        return journal
    if told.event is None:
        reject(db, machine_id, told.payload, told.problem, now_s)
    db.execute(
        insert(events).values(
            machine_id=machine_id,
            sequence=number.sequence,
            idempotency_key=number.idempotency_key,
            event_type="" if told.event is None else told.event.event_type.value,
            reservation_id=None if told.event is None else told.event.reservation_id,
            received_s=now_s,
            payload=told.payload,
            journal_id=journal,
            state="rejected" if told.event is None else "held",
        )
    )
    return journal


def journal_for(db: Connection, machine_id: str, told: str | None, sequence: int) -> str:
    """The journal of something that a locked machine told with a sequence; a new one is the present one."""
    query = select(sources.c.journal_id).where(sources.c.machine_id == machine_id)
    present: str | None = db.execute(query).scalar_one()
    if told is None:
        if present is None:
            use_journal(db, machine_id, UNNAMED)
        return present or UNNAMED
    if present is None:
        use_journal(db, machine_id, told)
    elif present == UNNAMED:
        applied = count_of(db, machine_id, UNNAMED)
        if applied is None or sequence >= applied:
            _name_journal(db, machine_id, told)
        use_journal(db, machine_id, told)
    elif present != told:
        known = select(counts.c.journal_id).where(*_count(machine_id, told))
        if db.execute(known).first() is None:  # else something late of an earlier journal
            log().warning("journal_changed", machine_id=machine_id)
            use_journal(db, machine_id, told)
    return told


def use_journal(db: Connection, machine_id: str, journal_id: str) -> None:
    """From now on a locked machine counts by this journal."""
    db.execute(update(sources).where(sources.c.machine_id == machine_id).values(journal_id=journal_id))
    insert_once(db, counts, {"machine_id": machine_id, "journal_id": journal_id})


def _name_journal(db: Connection, machine_id: str, journal_id: str) -> None:
    """The journal that had no name so far has this one; its events too, or a repeat would count anew."""
    db.execute(update(counts).where(*_count(machine_id, UNNAMED)).values(journal_id=journal_id))
    unnamed = (events.c.machine_id == machine_id, events.c.journal_id == UNNAMED, events.c.state == "held")
    db.execute(update(events).where(*unnamed).values(journal_id=journal_id))


def apply_held(db: Connection, machine_id: str, journal_id: str, now_s: float, through: int = 0) -> int:
    """Applies the waiting events of a locked machine as far as none is missing; gives how many.

    What is still missing up to the sequence `through` is gone for good and passed over.
    """
    applied = before = count_of(db, machine_id, journal_id)
    done = 0
    while True:
        rows = _waiting(db, machine_id, journal_id, applied or 0)
        for row in rows:
            if applied is None:
                applied = 0 if row.sequence == 1 or through else None
            if applied is None:
                break
            if row.sequence > applied + 1:
                applied = _pass_over(machine_id, applied, min(through, row.sequence - 1))
            if row.sequence > applied + 1:
                break
            applied = row.sequence
            done += _apply(db, machine_id, row, now_s)
        else:
            if len(rows) == AT_ONCE:
                continue
        break
    if through > (applied or 0):
        applied = _pass_over(machine_id, applied or 0, through)
    if through and applied is None:
        applied = 0
    if applied != before:
        db.execute(update(counts).where(*_count(machine_id, journal_id)).values(applied_sequence=applied))
    return done


def _waiting(db: Connection, machine_id: str, journal_id: str, after: int) -> Sequence[Any]:
    """The next stored events after a sequence; those that cannot be read only count."""
    mine = (events.c.machine_id == machine_id, events.c.journal_id == journal_id)
    query = select(events.c.position, events.c.sequence, events.c.state, events.c.payload)
    query = query.where(*mine, events.c.state.in_(("held", "rejected")), events.c.sequence > after)
    return db.execute(query.order_by(events.c.sequence, events.c.position).limit(AT_ONCE)).all()


def _apply(db: Connection, machine_id: str, row: Any, now_s: float) -> int:
    """Applies one event; what cannot be applied is kept for a person. Gives 1 if it was applied."""
    if row.state == "rejected":
        return 0
    problem = None
    try:
        with db.begin_nested():
            apply_event(db, Event.model_validate_json(row.payload), now_s)
    except (ValueError, DataError) as error:
        problem = f"{type(error).__name__} at {where(error)['at'][-1]}"
        reject(db, machine_id, row.payload, problem, now_s)
    state = "applied" if problem is None else "rejected"
    db.execute(update(events).where(events.c.position == row.position).values(state=state))
    return int(problem is None)


def _pass_over(machine_id: str, applied: int, through: int) -> int:
    """Gives up what is missing up to `through`; gives the new end of what is dealt with."""
    if through <= applied:
        return applied
    log().error("events_lost", machine_id=machine_id, from_sequence=applied + 1, to_sequence=through)
    return through


def go_on_without(db: Connection, machine_id: str, now_s: float) -> int:
    """For a machine that cannot tell what is missing: goes on with the first event held; gives how many."""
    journal = lock_source(db, machine_id)
    if journal is None:
        return 0
    applied = count_of(db, machine_id, journal)
    rows = _waiting(db, machine_id, journal, applied or 0)
    if not rows:
        return 0
    first = rows[0].sequence
    if applied is None:
        begin = update(counts).where(*_count(machine_id, journal)).values(applied_sequence=first - 1)
        db.execute(begin)
    return apply_held(db, machine_id, journal, now_s, through=first - 1)


def give_up_beyond(db: Connection, machine_id: str, journal_id: str, last: int, before_s: float) -> None:
    """Events of a locked machine with a number that its journal has not reached, held since before a moment,
    are not the journal's."""
    mine = (events.c.machine_id == machine_id, events.c.journal_id == journal_id, events.c.state == "held")
    query = select(events.c.position, events.c.payload).where(*mine)
    query = query.where(events.c.sequence > last, events.c.received_s < before_s)
    now_s = before_s
    for row in db.execute(query).all():
        reject(db, machine_id, row.payload, "the machine's journal ends before it", now_s)
        db.execute(update(events).where(events.c.position == row.position).values(state="rejected"))


def reject(db: Connection, machine_id: str, payload: str, reason: str, now_s: float) -> None:
    """Keeps an event that cannot be used for a person to look at."""
    topic = Topics(machine_id).events
    log().error("message_rejected", topic=topic, reason=reason)
    db.execute(insert(rejected).values(topic=topic, payload=payload, reason=reason, received_s=now_s))


def as_told(machine_id: str, document: dict[str, Any]) -> Told:
    """An event out of a reply. Raises `ValueError` if it cannot be counted."""
    return read_event(machine_id, json.dumps(document, ensure_ascii=False).encode())


def _count(machine_id: str, journal_id: str) -> tuple[Any, Any]:
    return counts.c.machine_id == machine_id, counts.c.journal_id == journal_id
