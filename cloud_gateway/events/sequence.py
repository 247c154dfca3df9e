"""Events are stored as they come, and applied in the order of their machine's sequence, without a gap.

They come in any order: several gateways share the subscription, a broker's session may be lost, and machines
send events again. A transaction that writes messages of a machine locks that machine's row in `sources`.
Every function works inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import DataError, DBAPIError

from cloud_gateway.db.store import insert_once
from cloud_gateway.db.tables import counts, events, rejected, sources
from cloud_gateway.events.expected import event_row, store_expected
from cloud_gateway.events.projection import apply_event, apply_events
from cloud_gateway.logs import error_fields, log
from cloud_gateway.machines.message_validation import (
    NotEntitled,
    ReceivedEvent,
    read_stored_event,
    reason_of,
    received_event,
)
from edge_agent.protocol.events import Event
from edge_agent.protocol.topics import Topics

STORED_AT_ONCE = 200
"""How many waiting events are read from the database at a time."""
JOURNALS_MAX = 100
"""The most journals that one machine may have had; each new disk begins one."""
HELD_MAX = 20_000
"""The most events of a machine that may wait for a missing one. Further ones are not stored, but requested
with `sync` when their turn has come."""
REJECTED_MAX = 200
REJECTED_CHARACTERS = 4096
"""How much is kept for an operator: the last ones of each topic, each up to that length."""

UNNAMED = ""
"""The journal of a machine that names none."""
SUSPECTED = "suspected"
"""State of an event that came while two machines used one machine_id."""

# Built once: to build a statement costs more than to run it.
_PRESENT = select(sources.c.journal_id).where(sources.c.machine_id == bindparam("id"))
_LOCK = _PRESENT.with_for_update()
_DOUBT = select(sources.c.machine_id).where(
    sources.c.machine_id == bindparam("id"),
    or_(sources.c.twins.is_not(None), sources.c.audit_from.is_not(None)),
)
_APPLIED = select(counts.c.applied_sequence).where(
    counts.c.machine_id == bindparam("id"), counts.c.journal_id == bindparam("journal")
)
_STORED = (
    select(events.c.position, events.c.sequence, events.c.state, events.c.payload)
    .where(
        events.c.machine_id == bindparam("id"),
        events.c.journal_id == bindparam("journal"),
        events.c.state.in_(("held", "rejected")),
        events.c.sequence > bindparam("after"),
    )
    .order_by(events.c.sequence)
    .limit(STORED_AT_ONCE)
)


def take_events(db: Connection, received: Sequence[ReceivedEvent], now_s: float) -> int:
    """Stores events, applies what is in order now, and returns how many were applied."""
    # Sorted, so that two transactions never wait for each other's machines.
    groups = {one: list(group) for one, group in groupby(sorted(received, key=_machine), key=_machine)}
    applied, done = store_expected(db, groups, now_s)
    for machine_id, group in groups.items():
        if machine_id not in done:
            applied += _take_of_machine(db, machine_id, group, now_s)
    return applied


def _take_of_machine(db: Connection, machine_id: str, received: Sequence[ReceivedEvent], now_s: float) -> int:
    """Takes any events of one machine, as `take_events`."""
    present = lock_machine(db, machine_id)
    new = unknown(db, machine_id, received)
    if is_suspected(db, machine_id):
        store_suspected(db, machine_id, present or UNNAMED, new, now_s)
        return 0
    by_journal: dict[str, list[ReceivedEvent]] = {}
    for one in new:
        journal = one.number.journal_id or present
        if journal is None or journal != present:
            journal = journal_for(db, machine_id, one.number.journal_id, one.number.sequence)
            present = present_journal(db, machine_id)
        by_journal.setdefault(journal, []).append(one)
    return sum(
        apply_in_order(db, machine_id, journal, by_journal[journal], now_s) for journal in sorted(by_journal)
    )


def _machine(received: ReceivedEvent) -> str:
    return received.number.machine_id


def unknown(db: Connection, machine_id: str, received: Sequence[ReceivedEvent]) -> list[ReceivedEvent]:
    """The events of a locked machine that are not stored yet, each once."""
    by_key: dict[str, ReceivedEvent] = {}
    for one in received:
        by_key.setdefault(one.number.idempotency_key, one)
    mine = (events.c.machine_id == machine_id, events.c.idempotency_key.in_(list(by_key)))
    known = set(db.execute(select(events.c.idempotency_key).where(*mine)).scalars())
    return [one for key, one in by_key.items() if key not in known]


def lock_machine(db: Connection, machine_id: str) -> str | None:
    """Locks a machine's row until the transaction ends; returns its present journal, if one is known."""
    row = db.execute(_LOCK, {"id": machine_id}).one_or_none()
    if row is None:
        insert_once(db, sources, {"machine_id": machine_id})
        row = db.execute(_LOCK, {"id": machine_id}).one()
    journal: str | None = row.journal_id
    return journal


def is_suspected(db: Connection, machine_id: str) -> bool:
    """Whether two machines use this machine_id, or an operator's decision on that is not carried out yet."""
    return db.execute(_DOUBT, {"id": machine_id}).first() is not None


def store_suspected(
    db: Connection, machine_id: str, present: str, received: Sequence[ReceivedEvent], now_s: float
) -> None:
    """Stores events of a machine that may be another one; they take no number and are not applied."""
    rows = [event_row(one, one.number.journal_id or present, SUSPECTED, now_s) for one in received]
    rows = rows[: _room(db, machine_id)]
    if rows:
        db.execute(insert(events), rows)


def _room(db: Connection, machine_id: str) -> int:
    """How many more events of a machine may wait."""
    waiting = select(func.count()).where(
        events.c.machine_id == machine_id, events.c.state.in_(("held", SUSPECTED))
    )
    return max(0, HELD_MAX - int(db.execute(waiting).scalar_one()))


def applied_sequence(db: Connection, machine_id: str, journal_id: str) -> int | None:
    """The last applied sequence of a journal; None while the first one is not known."""
    applied: int | None = db.execute(_APPLIED, {"id": machine_id, "journal": journal_id}).scalar_one_or_none()
    return applied


def journal_for(db: Connection, machine_id: str, named: str | None, sequence: int) -> str:
    """The journal of a numbered message of a locked machine; a new journal becomes the present one."""
    present = present_journal(db, machine_id)
    if named is None:
        if present is None:
            use_journal(db, machine_id, UNNAMED)
        return present or UNNAMED
    if present is None:
        use_journal(db, machine_id, named)
    elif present == UNNAMED:
        applied = applied_sequence(db, machine_id, UNNAMED)
        if applied is None or sequence >= applied:
            _name_journal(db, machine_id, named)
        use_journal(db, machine_id, named)
    elif present != named:
        known = select(counts.c.journal_id).where(*_count(machine_id, named))
        if db.execute(known).first() is None:  # otherwise it is a late message of an earlier journal
            _refuse_many_journals(db, machine_id)
            log().warning("journal_changed", machine_id=machine_id)
            use_journal(db, machine_id, named)
    return named


def _refuse_many_journals(db: Connection, machine_id: str) -> None:
    """Raises `NotEntitled` for a machine that begins too many journals."""
    had = select(func.count()).where(counts.c.machine_id == machine_id)
    if db.execute(had).scalar_one() >= JOURNALS_MAX:
        raise NotEntitled("journal_id: one more than a machine can have had")


def present_journal(db: Connection, machine_id: str) -> str | None:
    """The id of a machine's present journal; None if it is not known yet."""
    present: str | None = db.execute(_PRESENT, {"id": machine_id}).scalar_one()
    return present


def use_journal(db: Connection, machine_id: str, journal_id: str) -> None:
    """Makes this journal the present one of a locked machine."""
    db.execute(update(sources).where(sources.c.machine_id == machine_id).values(journal_id=journal_id))
    insert_once(db, counts, {"machine_id": machine_id, "journal_id": journal_id})


def _name_journal(db: Connection, machine_id: str, journal_id: str) -> None:
    """Gives the unnamed journal this name, and its events too; otherwise a repeat would count again."""
    db.execute(update(counts).where(*_count(machine_id, UNNAMED)).values(journal_id=journal_id))
    unnamed = (events.c.machine_id == machine_id, events.c.journal_id == UNNAMED, events.c.state == "held")
    db.execute(update(events).where(*unnamed).values(journal_id=journal_id))


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event that waits to be applied; without a position it is not stored yet."""

    sequence: int
    position: int | None
    received: ReceivedEvent | None
    payload: str
    readable: bool

    def read(self) -> Event:
        """Returns the event. Raises `ValueError`."""
        if self.received is not None and self.received.event is not None:
            return self.received.event
        return read_stored_event(self.payload)


def apply_in_order(
    db: Connection,
    machine_id: str,
    journal_id: str,
    received: Sequence[ReceivedEvent],
    now_s: float,
    through: int = 0,
) -> int:
    """Takes new events of a locked machine's journal and applies all waiting ones up to the first gap;
    returns how many.

    What is still missing up to the sequence `through` is lost and skipped.
    """
    applied = applied_before = applied_sequence(db, machine_id, journal_id)
    new_events = _with_free_number(db, machine_id, journal_id, received, applied, now_s)
    count = 0
    while True:
        stored = _stored(db, machine_id, journal_id, applied or 0)
        all_read = len(stored) < STORED_AT_ONCE
        if not all_read and new_events:
            # The new events have to be read in order among the stored ones: they are stored first.
            _store(db, journal_id, new_events, {}, now_s)
            new_events = []
            continue
        waiting = sorted([*stored, *new_events], key=_sequence)
        next_events, applied = _next_without_gap(machine_id, waiting, applied, through)
        states = _apply_each(db, machine_id, next_events, now_s)
        count += sum(state == "applied" for state in states.values())
        _mark(db, stored, states)
        if all_read or not next_events:
            _store(db, journal_id, new_events, states, now_s)
            break
    if through > (applied or 0):
        applied = _skip_missing(machine_id, applied or 0, through)
    if applied != applied_before:
        db.execute(update(counts).where(*_count(machine_id, journal_id)).values(applied_sequence=applied))
    return count


def _sequence(waiting: _Waiting) -> int:
    return waiting.sequence


def _with_free_number(
    db: Connection,
    machine_id: str,
    journal_id: str,
    received: Sequence[ReceivedEvent],
    applied: int | None,
    now_s: float,
) -> list[_Waiting]:
    """New events whose number is free; the others are kept for an operator, as are unreadable ones."""
    numbers = [one.number.sequence for one in received]
    mine = (events.c.machine_id == machine_id, events.c.journal_id == journal_id)
    query = select(events.c.sequence).where(*mine, events.c.sequence.in_(numbers))
    taken = set(db.execute(query).scalars()) if numbers else set()
    fitting = []
    for one in received:
        number = one.number.sequence
        if number in taken or number <= (applied or 0):
            why = "another event has its number, or a later one was applied"
            reject(db, machine_id, one.payload, why, now_s)
            continue
        taken.add(number)
        if one.event is None:
            reject(db, machine_id, one.payload, one.problem, now_s)
        fitting.append(_Waiting(number, None, one, one.payload, readable=one.event is not None))
    return fitting


def _stored(db: Connection, machine_id: str, journal_id: str, after: int) -> list[_Waiting]:
    """The next stored events after a sequence; unreadable ones only occupy their number."""
    rows = db.execute(_STORED, {"id": machine_id, "journal": journal_id, "after": after}).all()
    return [_Waiting(row.sequence, row.position, None, row.payload, row.state == "held") for row in rows]


def _next_without_gap(
    machine_id: str, waiting: Sequence[_Waiting], applied: int | None, through: int
) -> tuple[list[_Waiting], int | None]:
    """The next events without a gap, and the applied sequence after them."""
    if applied is None and (through or (waiting and waiting[0].sequence == 1)):
        applied = 0
    next_events: list[_Waiting] = []
    for one in waiting:
        if applied is None:
            break
        if one.sequence > applied + 1:
            applied = _skip_missing(machine_id, applied, min(through, one.sequence - 1))
        if one.sequence > applied + 1:
            break
        next_events.append(one)
        applied = one.sequence
    return next_events, applied


def _apply_each(db: Connection, machine_id: str, waiting: Sequence[_Waiting], now_s: float) -> dict[int, str]:
    """Applies events one after the other; returns the state of each by its sequence."""
    try:
        with db.begin_nested():
            apply_events(db, [one.read() for one in waiting if one.readable], now_s)
    except DBAPIError as error:
        if not isinstance(error, DataError):
            raise
    except Exception:  # any fault of one event must not stop the others
        log().warning("events_one_by_one", machine_id=machine_id, count=len(waiting))
    else:
        return {one.sequence: "applied" if one.readable else "rejected" for one in waiting}
    return {one.sequence: _apply(db, machine_id, one, now_s) for one in waiting}


def _apply(db: Connection, machine_id: str, one: _Waiting, now_s: float) -> str:
    """Applies one event and returns its state; one that cannot be applied is kept for an operator."""
    if not one.readable:
        return "rejected"
    return apply_or_reject(db, machine_id, one.read, one.payload, now_s)


def apply_or_reject(
    db: Connection, machine_id: str, read: Callable[[], Event], payload: str, now_s: float
) -> str:
    """Applies an event and returns its state. One that cannot be applied is kept for an operator."""
    try:
        with db.begin_nested():
            apply_event(db, read(), now_s)
    except Exception as error:
        if isinstance(error, DBAPIError) and not isinstance(error, DataError):
            raise
        problem = reason_of(error)
        if problem == type(error).__name__:
            problem = f"{problem} at {error_fields(error)['at'][-1]}"
        reject(db, machine_id, payload, problem, now_s)
        return "rejected"
    return "applied"


def _mark(db: Connection, stored: Sequence[_Waiting], states: dict[int, str]) -> None:
    """Writes the states of events that were stored before."""
    for state in ("applied", "rejected"):
        positions = [one.position for one in stored if one.readable and states.get(one.sequence) == state]
        if positions:
            db.execute(update(events).where(events.c.position.in_(positions)).values(state=state))


def _store(
    db: Connection, journal_id: str, new_events: Sequence[_Waiting], states: dict[int, str], now_s: float
) -> None:
    """Stores new events, each with its resulting state."""
    rows: list[dict[str, Any]] = []
    held: list[dict[str, Any]] = []
    for one in sorted(new_events, key=_sequence):
        received = one.received
        assert received is not None
        state = states.get(one.sequence, "held" if one.readable else "rejected")
        place = rows if one.sequence in states else held
        place.append(event_row(received, journal_id, state, now_s))
    if held:
        rows += held[: _room(db, held[0]["machine_id"])]
    if rows:
        db.execute(insert(events), rows)


def _skip_missing(machine_id: str, applied: int, through: int) -> int:
    """Skips the missing events up to `through`, which are lost; returns the last sequence that is dealt
    with."""
    if through <= applied:
        return applied
    log().error("events_lost", machine_id=machine_id, from_sequence=applied + 1, to_sequence=through)
    return through


def skip_to_first_held(db: Connection, machine_id: str, now_s: float) -> int:
    """For a machine that cannot report what is missing: continues with the first event held; returns how many
    were applied."""
    journal = lock_machine(db, machine_id)
    if journal is None:
        return 0
    applied = applied_sequence(db, machine_id, journal)
    stored = _stored(db, machine_id, journal, applied or 0)
    if not stored:
        return 0
    first = stored[0].sequence
    if applied is None:
        begin = update(counts).where(*_count(machine_id, journal)).values(applied_sequence=first - 1)
        db.execute(begin)
    return apply_in_order(db, machine_id, journal, (), now_s, through=first - 1)


def reject_beyond(db: Connection, machine_id: str, journal_id: str, last: int, before_s: float) -> None:
    """Rejects held events of a locked machine with a sequence beyond `last`, the end of its journal,
    that were received before a moment: they cannot be the journal's. Their numbers are free again."""
    mine = (events.c.machine_id == machine_id, events.c.journal_id == journal_id, events.c.state == "held")
    query = select(events.c.position, events.c.payload).where(*mine)
    query = query.where(events.c.sequence > last, events.c.received_s < before_s)
    now_s = before_s  # close enough: a few seconds before now
    for row in db.execute(query).all():
        reject(db, machine_id, row.payload, "its number is beyond the end of the machine's journal", now_s)
        db.execute(delete(events).where(events.c.position == row.position))


def reject(db: Connection, machine_id: str, payload: str, reason: str, now_s: float) -> None:
    """Keeps an unusable event for an operator."""
    keep_rejected(db, Topics(machine_id).events, payload, reason, now_s)


def keep_rejected(db: Connection, topic: str, payload: str, reason: str, now_s: float) -> None:
    """Keeps an unusable message for an operator: the last ones of each topic, each truncated."""
    log().error("message_rejected", topic=topic, reason=reason)
    text = payload[:REJECTED_CHARACTERS].replace("\0", "\ufffd")
    db.execute(insert(rejected).values(topic=topic, payload=text, reason=reason, received_s=now_s))
    same = rejected.c.topic == topic
    oldest = select(rejected.c.position).where(same).order_by(rejected.c.position.desc())
    oldest = oldest.offset(REJECTED_MAX).limit(1)
    db.execute(delete(rejected).where(same, rejected.c.position <= oldest.scalar_subquery()))


def events_in_reply(
    db: Connection, machine_id: str, documents: Sequence[Any], now_s: float
) -> list[ReceivedEvent]:
    """Events out of a reply; those without a valid number are kept for an operator."""
    received = []
    for document in documents:
        payload = json.dumps(document)
        try:
            received.append(received_event(machine_id, document, payload, len(payload)))
        except ValueError as error:
            reject(db, machine_id, payload, reason_of(error), now_s)
    return received


def _count(machine_id: str, journal_id: str) -> tuple[Any, Any]:
    return counts.c.machine_id == machine_id, counts.c.journal_id == journal_id
