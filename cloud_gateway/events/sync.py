"""What a gateway lacks of a machine, and what the replies to `sync` change.

Every function works inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from cloud_gateway.db.store import UNUSABLE, find_reservation, insert_once
from cloud_gateway.db.tables import counts, events, reservations, sources
from cloud_gateway.events import audit
from cloud_gateway.events.projection import put_over, put_view, restate
from cloud_gateway.events.sequence import (
    applied_sequence,
    apply_in_order,
    events_in_reply,
    journal_for,
    lock_machine,
    reject_beyond,
    unknown,
    use_journal,
)
from cloud_gateway.logs import log
from cloud_gateway.machines.message_validation import NotEntitled, ReceivedEvent, SyncPage, reason_of, view_in
from edge_agent.model import ReservationStatus
from edge_agent.protocol.api import ReservationView
from edge_agent.protocol.sync import Digest

CLOCKS_DIFFER_S = 5.0
"""How far the clocks of two gateways may differ."""
NAMES_MAX = 10_000
"""The most values in one query: a statement takes some ten thousand parameters."""

MayAdd = Callable[[ReservationView], bool]
"""Whether a reservation that is new to this database is one that a platform requested."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The result of a page: how many events were applied, whether it was the last one, and the reservations
    that the machine does not hold although we think it does."""

    applied: int
    last: bool
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventProgress:
    """How far a machine's events are applied (None: the first one is not known), and whether some wait, or
    its journal has to be compared."""

    journal_id: str | None
    applied: int | None
    waiting: bool


def progress_of(db: Connection, machine_ids: Sequence[str] | None = None) -> dict[str, EventProgress]:
    """The progress of each machine; without ids, of those whose events or comparison wait."""
    waiting = select(events.c.machine_id, func.count()).where(events.c.state == "held")
    if machine_ids is not None:
        waiting = waiting.where(events.c.machine_id.in_(machine_ids))
    held = {row[0] for row in db.execute(waiting.group_by(events.c.machine_id))}
    audited = select(sources.c.machine_id).where(sources.c.audit_from.is_not(None), sources.c.twins.is_(None))
    if machine_ids is not None:
        audited = audited.where(sources.c.machine_id.in_(machine_ids))
    held.update(db.execute(audited).scalars())
    wanted = held if machine_ids is None else set(machine_ids)
    if not wanted:
        return {}
    same = and_(counts.c.machine_id == sources.c.machine_id, counts.c.journal_id == sources.c.journal_id)
    query = select(sources.c.machine_id, sources.c.journal_id, counts.c.applied_sequence)
    query = query.join_from(sources, counts, same, isouter=True).where(sources.c.machine_id.in_(wanted))
    found = {
        row.machine_id: EventProgress(row.journal_id, row.applied_sequence, row.machine_id in held)
        for row in db.execute(query)
    }
    return {name: found.get(name, EventProgress(None, None, name in held)) for name in wanted}


def differs(db: Connection, digest: Digest, progress: EventProgress) -> bool:
    """Whether a machine's digest shows something that we lack or record differently."""
    if progress.applied is None or progress.journal_id != digest.journal_id:
        return True
    if progress.applied != digest.last_sequence:
        return progress.applied < digest.last_sequence  # otherwise the digest is the older one
    table = reservations.c
    query = select(table.reservation_id, table.status, table.details_known)
    ours = {
        row.reservation_id: row.status
        for row in db.execute(query.where(live_on(digest.machine_id), table.unknown_s.is_(None)))
        if row.details_known
    }
    reported = {reservation_id: status.value for reservation_id, status in digest.reservations.items()}
    if any(reservation_id not in reported for reservation_id in ours):
        return True
    known = {
        row.reservation_id: row.status
        for row in db.execute(query.where(table.reservation_id.in_(reported), table.details_known.is_(True)))
    }
    return known != reported


def start_request(db: Connection, machine_id: str, until_s: float) -> int:
    """The sequence from which to request `sync`. Extends this gateway's lease on asking the machine until
    `until_s`."""
    db.execute(update(sources).where(sources.c.machine_id == machine_id).values(asked_until_s=until_s))
    audit_state = audit.audit_of(db, machine_id)
    if audit_state is not None:
        lock_machine(db, machine_id)
        audit.record_mark(db, machine_id)
        return audit_state.next_sequence
    return (progress_of(db, [machine_id])[machine_id].applied or 0) + 1


def take_page(
    db: Connection,
    machine_id: str,
    page: SyncPage,
    from_sequence: int,
    asked_s: float,
    now_s: float,
    may_learn: MayAdd,
) -> Taken:
    """Takes one page of the reply to `sync`; it was requested at `asked_s`, from `from_sequence` on. Raises
    `ValueError` for invalid content."""
    lock_machine(db, machine_id)
    if has_unresolved_twins(db, machine_id):
        return Taken(0, last=True)  # it is not known whose page it is
    journal = journal_for(db, machine_id, page.journal_id, page.last_sequence)
    use_journal(db, machine_id, journal)
    audit_state = audit.audit_of(db, machine_id)
    if audit_state is not None:
        return _take_compared(
            db, machine_id, journal, page, from_sequence, audit_state, asked_s, now_s, may_learn
        )
    applied = applied_sequence(db, machine_id, journal)
    if from_sequence > (applied or 0) + 1:
        return Taken(0, last=False)  # another journal than we thought: its own gap is requested
    received, through = _read(db, machine_id, page, from_sequence, now_s)
    done = apply_in_order(db, machine_id, journal, unknown(db, machine_id, received), now_s, through)
    if page.reservations is None:
        return Taken(done, last=False)
    if applied is None:
        begin = and_(counts.c.machine_id == machine_id, counts.c.journal_id == journal)
        nothing = counts.c.applied_sequence.is_(None)
        db.execute(update(counts).where(begin, nothing).values(applied_sequence=0))
    reject_beyond(db, machine_id, journal, page.last_sequence, asked_s - CLOCKS_DIFFER_S)
    done += _finish_others(db, machine_id, journal, asked_s - CLOCKS_DIFFER_S, now_s)
    exact = applied_sequence(db, machine_id, journal) == page.last_sequence
    _put_views(db, machine_id, page.reservations, now_s, may_learn, exact=exact)
    db.execute(update(sources).where(sources.c.machine_id == machine_id).values(verified_s=now_s))
    return Taken(done, last=True, missing=_missing(db, machine_id, page.reservations, asked_s))


def _read(
    db: Connection, machine_id: str, page: SyncPage, from_sequence: int, now_s: float
) -> tuple[list[ReceivedEvent], int]:
    """A page's events, and the sequence up to which it is complete. Raises `ValueError` for invalid
    content."""
    received = events_in_reply(db, machine_id, page.events, now_s)
    last = page.reservations is not None
    if any(one.number.journal_id not in (None, page.journal_id) for one in received):
        raise ValueError("events of several journals in one page")
    through = page.last_sequence if last else max((one.number.sequence for one in received), default=0)
    if not last and through < from_sequence:
        raise ValueError("a page that makes no progress")
    return received, through


def _take_compared(
    db: Connection,
    machine_id: str,
    journal: str,
    page: SyncPage,
    from_sequence: int,
    audit_state: audit.Audit,
    asked_s: float,
    now_s: float,
    may_learn: MayAdd,
) -> Taken:
    """Takes one page during an audit (`audit`): the machine's journal decides which events are its own."""
    if audit_state.journal_id != journal:
        audit.restart(db, machine_id, journal)
        return Taken(0, last=False)
    if audit_state.next_sequence != from_sequence:
        return Taken(0, last=False)
    received, through = _read(db, machine_id, page, from_sequence, now_s)
    first = max(from_sequence, page.oldest_sequence)
    done = audit.compare(db, machine_id, journal, received, first, through, now_s)
    if page.reservations is None or not audit.finish(db, machine_id, journal, page.last_sequence, now_s):
        return Taken(done, last=False)
    _put_views(db, machine_id, page.reservations, now_s, may_learn, exact=True, overrule=True)
    db.execute(update(sources).where(sources.c.machine_id == machine_id).values(verified_s=now_s))
    return Taken(done, last=True, missing=_missing(db, machine_id, page.reservations, asked_s))


def has_unresolved_twins(db: Connection, machine_id: str) -> bool:
    """Whether two machines use this machine_id, and no operator has decided yet."""
    query = select(sources.c.machine_id).where(
        sources.c.machine_id == machine_id, sources.c.twins.is_not(None)
    )
    return db.execute(query).first() is not None


def _finish_others(db: Connection, machine_id: str, journal: str, before_s: float, now_s: float) -> int:
    """Applies what waits in earlier journals of the machine: what it waits for is lost. Returns how many."""
    query = select(events.c.journal_id, func.max(events.c.sequence)).where(
        events.c.machine_id == machine_id,
        events.c.state == "held",
        events.c.journal_id != journal,
        events.c.received_s < before_s,
    )
    done = 0
    for row in db.execute(query.group_by(events.c.journal_id)).all():
        insert_once(db, counts, {"machine_id": machine_id, "journal_id": row[0]})
        done += apply_in_order(db, machine_id, row[0], (), now_s, through=row[1])
    return done


def _put_views(
    db: Connection,
    machine_id: str,
    documents: Sequence[Any],
    now_s: float,
    may_learn: MayAdd,
    *,
    exact: bool,
    overrule: bool = False,
) -> None:
    """Writes the live reservations as the machine reports them; `exact` if nothing newer is known of any,
    `overrule` if what is known may come from another machine."""
    for document in documents:
        try:
            view = view_in(machine_id, document)
            known = find_reservation(db, view.reservation_id)
            if (known is None or not known.details_known) and not may_learn(view):
                raise NotEntitled("reservations: one that no platform asked for")
            with db.begin_nested():
                put_view(db, view, now_s, up_to_date=exact)
        except UNUSABLE as error:
            # Without its text, which may hold codes.
            log().error("reservation_unusable", machine_id=machine_id, reason=reason_of(error))
            continue
        row = find_reservation(db, view.reservation_id)
        if exact and row is not None and row.status != view.status.value:
            log().error(
                "reservation_differs",
                machine_id=machine_id,
                reservation_id=view.reservation_id,
                ours=row.status,
                machines=view.status.value,
            )
        if overrule and row is not None and (row.status != view.status.value or row.completed):
            restate(db, view)


def live_on(machine_id: str) -> ColumnElement[bool]:
    """The reservations that hold a cell of a machine, as far as we know."""
    open_ones = (ReservationStatus.PENDING.value, ReservationStatus.DROPPED_OFF.value)
    picked = reservations.c.status == ReservationStatus.PICKED_UP.value
    return and_(
        reservations.c.machine_id == machine_id,
        or_(
            reservations.c.status.in_(open_ones),
            and_(picked, reservations.c.completed.is_(False)),
        ),
    )


def _missing(
    db: Connection, machine_id: str, documents: Sequence[dict[str, Any]], asked_s: float
) -> tuple[str, ...]:
    """The reservations that are live in the projection and not on the machine; without those that were added
    after the machine was asked."""
    table = reservations.c
    query = select(table.reservation_id).where(
        live_on(machine_id),
        table.unknown_s.is_(None),
        table.learned_s < asked_s,
    )
    listed = {str(document.get("reservation_id")) for document in documents}
    return tuple(found for found in db.execute(query).scalars() if found not in listed)


def note_unknown(db: Connection, machine_id: str, reservation_id: str, now_s: float) -> None:
    """The machine reports that it does not know a reservation: an operator has to look into it."""
    lock_machine(db, machine_id)
    mine = (reservations.c.reservation_id == reservation_id, reservations.c.unknown_s.is_(None))
    db.execute(update(reservations).where(*mine).values(unknown_s=now_s))


def note_over(db: Connection, machine_id: str, reservation_id: str, now_s: float) -> None:
    """The machine no longer holds a cell for a reservation."""
    lock_machine(db, machine_id)
    put_over(db, reservation_id, now_s)


def incomplete(
    db: Connection, machine_ids: Sequence[str], before_s: float, limit: int
) -> list[tuple[str, str]]:
    """(reservation id, machine id) of the reservations of these machines that have been known from events
    only since before a moment, oldest first; without those that the machine does not know."""
    table = reservations.c
    query = select(table.position, table.reservation_id, table.machine_id)
    query = query.where(table.details_known.is_(False), table.unknown_s.is_(None), table.learned_s < before_s)
    query = query.order_by(table.position).limit(limit)
    found: list[tuple[int, str, str]] = []
    for start in range(0, len(machine_ids), NAMES_MAX):
        some = machine_ids[start : start + NAMES_MAX]
        found += [tuple(row) for row in db.execute(query.where(table.machine_id.in_(some)))]
    return [(reservation_id, machine_id) for _, reservation_id, machine_id in sorted(found)[:limit]]


class Asking(Enum):
    """Whether a gateway may ask a machine for missing events."""

    MINE = "mine"
    BUSY = "busy"
    """Another gateway is asking, or no gateway may ask."""
    DONE = "done"
    """Another gateway asked, and nothing was missing."""


def begin_asking(db: Connection, machine_id: str, now_s: float, lease_s: float, since_s: float) -> Asking:
    """Whether this gateway may ask the machine now for what is missing since a moment."""
    lock_machine(db, machine_id)
    if has_unresolved_twins(db, machine_id):
        return Asking.BUSY
    mine = sources.c.machine_id == machine_id
    row = db.execute(select(sources.c.asked_until_s, sources.c.verified_s).where(mine)).one()
    # A time far ahead comes from a clock that was wrong.
    if now_s < row.asked_until_s < now_s + 2 * lease_s:
        return Asking.BUSY
    if since_s <= row.verified_s < now_s + 2 * lease_s:
        return Asking.DONE
    db.execute(update(sources).where(mine).values(asked_until_s=now_s + lease_s))
    return Asking.MINE


def end_asking(db: Connection, machine_id: str) -> None:
    """Allows other gateways to ask."""
    db.execute(update(sources).where(sources.c.machine_id == machine_id).values(asked_until_s=0.0))
