"""Takes events that are just the next ones of their machines: those of many machines with few statements.

That is nearly every event. What is missing, repeated, unreadable or in doubt is left to `sequence`, which
takes one machine after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Connection, and_, bindparam, exists, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError

from cloud_gateway.db.tables import counts, events, sources
from cloud_gateway.events.projection import apply_events
from cloud_gateway.logs import log
from cloud_gateway.machines.message_validation import ReceivedEvent

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_LOCK = (
    select(
        sources.c.machine_id,
        sources.c.journal_id,
        or_(sources.c.twins.is_not(None), sources.c.audit_from.is_not(None)).label("suspected"),
    )
    .where(sources.c.machine_id.in_(_IDS))
    .order_by(sources.c.machine_id)
    .with_for_update()
)
_LATER = exists().where(
    events.c.machine_id == counts.c.machine_id,
    events.c.journal_id == counts.c.journal_id,
    events.c.state.in_(("held", "rejected", "suspected", "applied")),
    events.c.sequence > counts.c.applied_sequence,
)
"""Whether events after the last applied one are stored."""
_COUNTS = (
    select(counts.c.machine_id, counts.c.applied_sequence)
    .join(
        sources,
        and_(sources.c.machine_id == counts.c.machine_id, sources.c.journal_id == counts.c.journal_id),
    )
    .where(counts.c.machine_id.in_(_IDS), ~_LATER)
)
_COUNT = (
    update(counts)
    .where(counts.c.machine_id == bindparam("of_machine"), counts.c.journal_id == bindparam("of_journal"))
    .values(applied_sequence=bindparam("applied"))
)
_INSERT = {
    "postgresql": postgresql.insert(events)
    .on_conflict_do_nothing()
    .execution_options(preserve_rowcount=True),
    "sqlite": sqlite.insert(events).on_conflict_do_nothing().execution_options(preserve_rowcount=True),
}


class _NotExpected(Exception):
    """An event is stored already."""


def store_expected(
    db: Connection, groups: Mapping[str, Sequence[ReceivedEvent]], now_s: float
) -> tuple[int, set[str]]:
    """Locks machines, and stores and applies the events of those whose events are the next ones without a
    gap. `groups`: events by machine. Returns how many were applied, and the machines that are done."""
    locked = db.execute(_LOCK, {"ids": list(groups)}).all()
    journals = {
        row.machine_id: row.journal_id
        for row in locked
        if row.journal_id is not None
        and not row.suspected
        and all(
            one.event is not None and one.number.journal_id in (None, row.journal_id)
            for one in groups[row.machine_id]
        )
    }
    if not journals:
        return 0, set()
    # Read after the locks are held: another transaction may have changed them until then.
    found = db.execute(_COUNTS, {"ids": list(journals)}).all()
    expected: dict[str, list[ReceivedEvent]] = {}
    for row in found:
        ordered = sorted(groups[row.machine_id], key=_sequence)
        if row.applied_sequence is not None and all(
            one.number.sequence == n for n, one in enumerate(ordered, start=row.applied_sequence + 1)
        ):
            expected[row.machine_id] = ordered
    taken = [(one, journals[machine_id]) for machine_id, ordered in expected.items() for one in ordered]
    if not taken or not _store(db, taken, now_s):
        return 0, set()
    return len(taken), set(expected)


def _store(db: Connection, taken: Sequence[tuple[ReceivedEvent, str]], now_s: float) -> bool:
    """Stores and applies events; False, and nothing is written, if one of them cannot be."""
    rows = [event_row(one, journal, "applied", now_s) for one, journal in taken]
    last = {(one.number.machine_id, journal): one.number.sequence for one, journal in taken}
    try:
        with db.begin_nested():
            if db.execute(_INSERT[db.dialect.name], rows).rowcount != len(rows):
                raise _NotExpected
            apply_events(db, [one.event for one, _ in taken if one.event is not None], now_s)
            changes = [
                {"of_machine": machine_id, "of_journal": journal, "applied": sequence}
                for (machine_id, journal), sequence in last.items()
            ]
            db.execute(_COUNT, changes)
    except _NotExpected:
        return False
    except DBAPIError as error:
        if not isinstance(error, DataError):
            raise
    except Exception:  # any fault of one event must not stop the others
        log().warning("events_one_by_one", count=len(taken))
        return False
    else:
        return True
    return False


def _sequence(received: ReceivedEvent) -> int:
    return received.number.sequence


def event_row(received: ReceivedEvent, journal_id: str, state: str, now_s: float) -> dict[str, Any]:
    """The row of an event."""
    return {
        "machine_id": received.number.machine_id,
        "sequence": received.number.sequence,
        "idempotency_key": received.number.idempotency_key,
        "event_type": "" if received.event is None else received.event.event_type.value,
        "reservation_id": None if received.event is None else received.event.reservation_id,
        "received_s": now_s,
        "payload": received.payload,
        "journal_id": journal_id,
        "state": state,
    }
