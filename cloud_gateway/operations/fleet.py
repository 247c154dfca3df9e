"""The fleet as operators see it: each machine's state, link, figures, tickets and problems in one row.

A row is put together from the projection, the published states and `Observations`. A machine's document is
parsed only after it has changed: a thousand rows cost a few queries and no parsing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from cloud_gateway.db.store import Store, shown_machine
from cloud_gateway.db.tables import events, machines, operator_acts, sources, tickets
from cloud_gateway.events.twins import kept
from cloud_gateway.machines.commands import MachineCommands
from cloud_gateway.machines.message_validation import MachineAccounts, read_stored_event
from cloud_gateway.machines.observations import WINDOW_S, Observations, Observed, offline_s
from cloud_gateway.operations.fleet_models import (
    FleetAct,
    FleetCell,
    FleetEvent,
    FleetEvents,
    FleetMachine,
    FleetMachineDetail,
    LinkQuality,
    Problem,
)
from cloud_gateway.operations.overview import NOT_SHOWN, URGENCY, TicketView, ticket_view
from cloud_gateway.operations.problems import Signs, problems_of, score_of
from cloud_gateway.value_bounds import shown_date
from edge_agent.protocol.api import CellDetail, Machine, rfc3339
from edge_agent.protocol.telemetry import MachineFigures

CLOSED_SHOWN, EVENTS_SHOWN, ACTS_SHOWN = 20, 20, 20
"""How many closed tickets, events and acts the page of a machine has."""
APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class _Summary:
    """What a row needs of a machine's document."""

    name: str
    location: str
    cells: int
    cells_out: int
    shown: bool


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the database holds of one machine, its document aside."""

    updated_s: float
    verified_s: float
    tickets: dict[str, int]
    """Open ones by severity; without one: empty text."""
    two_machines: bool


class Fleet:
    """Reads everything that operators ask about machines. Used on the event loop only."""

    def __init__(
        self,
        store: Store,
        live: MachineCommands,
        accounts: MachineAccounts,
        observations: Observations,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._live = live
        self._accounts = accounts
        self._observations = observations
        self._clock = clock
        self._summaries: dict[str, tuple[float, _Summary]] = {}
        """By machine: when its document was stored, and what was read from it."""

    @property
    def observed_since(self) -> str:
        """Since when links and telemetry are observed."""
        return rfc3339(self._observations.since_s)

    async def rows(self) -> list[FleetMachine]:
        """Every machine, the highest score first."""
        known = {machine_id: at_s for machine_id, (at_s, _) in self._summaries.items()}
        stored, changed = await self._store.read(lambda db: _read_all(db, known))
        for machine_id, (at_s, document) in changed.items():
            self._summaries[machine_id] = (at_s, _summary_of(machine_id, document))
        for gone in known.keys() - stored.keys():
            self._summaries.pop(gone, None)
        now_s = self._clock()
        rows = [self._row(machine_id, one, now_s) for machine_id, one in stored.items()]
        return sorted(rows, key=lambda row: (-row.score, row.machine_id))

    async def detail(self, machine_id: str) -> FleetMachineDetail | None:
        """One machine with its cells, tickets, last events and acts; None if it never published its state."""

        def work(db: Connection) -> tuple[Any, ...] | None:
            document = db.execute(select(machines.c.document).where(_is(machine_id))).scalar_one_or_none()
            if document is None:
                return None
            stored, _ = _read_all(db, {machine_id: None}, machine_id)
            return (
                document,
                stored[machine_id],
                kept(db).get(machine_id),
                _tickets_of(db, machine_id),
                _events_of(db, machine_id, None, EVENTS_SHOWN),
                _acts_on(db, machine_id),
            )

        found = await self._store.read(work)
        if found is None:
            return None
        document, stored, twins, its_tickets, its_events, acts = found
        self._summaries[machine_id] = (stored.updated_s, _summary_of(machine_id, document))
        observed, machine = self._observations.of(machine_id), shown_machine(machine_id, document)
        health = self._live.health(machine_id)
        return FleetMachineDetail(
            machine=self._row(machine_id, stored, self._clock()),
            twins=twins,
            buses_down=[] if health is None else health.buses_down,
            telemetry_at=None if observed is None else _date(observed.telemetry_s),
            cells=_cells(machine, observed),
            tickets=its_tickets,
            events=its_events,
            acts=acts,
        )

    async def events(self, machine_id: str, before: int | None, limit: int) -> FleetEvents | None:
        """The newest events before a sequence; None for an unknown machine."""

        def work(db: Connection) -> list[FleetEvent] | None:
            if db.execute(select(machines.c.machine_id).where(_is(machine_id))).first() is None:
                return None
            return _events_of(db, machine_id, before, limit)

        found = await self._store.read(work)
        if found is None:
            return None
        return FleetEvents(events=found, next_before=found[-1].sequence if len(found) == limit else 0)

    def _row(self, machine_id: str, stored: _Stored, now_s: float) -> FleetMachine:
        _, summary = self._summaries[machine_id]
        observed, health = self._observations.of(machine_id), self._live.health(machine_id)
        figures = None if observed is None else observed.figures
        unlocks, rate = _first_open(figures)
        link = _link(observed, now_s)
        signs = Signs(
            online=self._live.is_online(machine_id),
            verdict=None if health is None else health.verdict,
            history=self._live.history(machine_id),
            twins=stored.two_machines,
            alarms=0 if health is None else sum(health.alarms.values()),
            cells_out=summary.cells_out if health is None else health.cells_out,
            worn=0 if figures is None else len(figures.worn),
            losses=link.losses,
            refused_messages=self._accounts.rejected(machine_id),
            events_waiting=None if figures is None else figures.events_waiting,
            first_open_rate=rate,
            unlocks=unlocks or 0,
            tickets=stored.tickets,
            shown=summary.shown,
        )
        problems = problems_of(signs)
        seen_s = max(stored.updated_s, stored.verified_s, (observed and observed.seen_s) or 0.0)
        return FleetMachine(
            machine_id=machine_id,
            name=summary.name,
            location=summary.location,
            online=signs.online,
            state_since=None if observed is None else _date(observed.since_s),
            last_seen=_date(seen_s),
            agent_version=None if observed is None else observed.version,
            up_since=None if figures is None or not signs.online else figures.up_since,
            verdict=None if health is None else health.verdict,
            alarms={} if health is None else health.alarms,
            cells=summary.cells if health is None else health.cells,
            cells_out=signs.cells_out,
            unlocks=unlocks,
            first_open_rate=rate,
            worn=None if figures is None else figures.worn,
            events_waiting=signs.events_waiting,
            link=link,
            open_tickets=sum(stored.tickets.values()),
            worst_ticket=min((one for one in stored.tickets if one), key=_urgency, default=None),
            refused_messages=signs.refused_messages,
            history=signs.history,
            two_machines=signs.twins,
            score=score_of(problems),
            problems=[Problem(kind=kind, points=points) for kind, points in problems],
        )


def _is(machine_id: str) -> Any:
    return machines.c.machine_id == machine_id


def _urgency(severity: str) -> int:
    return URGENCY.get(severity, len(URGENCY))


def _date(at_s: float | None) -> str | None:
    return None if not at_s else shown_date(at_s)


def _read_all(
    db: Connection, known: dict[str, Any], only: str | None = None
) -> tuple[dict[str, _Stored], dict[str, tuple[float, str]]]:
    """Every machine, or one; and the documents that are newer than those of `known`."""
    query = select(machines.c.machine_id, machines.c.updated_s)
    verified = select(sources.c.machine_id, sources.c.verified_s)
    counted = select(tickets.c.machine_id, tickets.c.severity, func.count().label("n"))
    counted = counted.where(tickets.c.closed_s.is_(None)).group_by(tickets.c.machine_id, tickets.c.severity)
    if only is not None:
        query = query.where(_is(only))
        verified = verified.where(sources.c.machine_id == only)
        counted = counted.where(tickets.c.machine_id == only)
    open_tickets: dict[str, dict[str, int]] = {}
    for row in db.execute(counted):
        open_tickets.setdefault(row.machine_id, {})[row.severity or ""] = row.n
    checked = {row.machine_id: row.verified_s for row in db.execute(verified)}
    twins = kept(db)
    stored, newer = {}, []
    for row in db.execute(query.order_by(machines.c.machine_id)):
        name = row.machine_id
        stored[name] = _Stored(
            row.updated_s, checked.get(name, 0.0), open_tickets.get(name, {}), name in twins
        )
        if name not in known or (known[name] is not None and known[name] != row.updated_s):
            newer.append(name)
    changed: dict[str, tuple[float, str]] = {}
    for at in range(0, len(newer), 500):
        wanted = machines.c.machine_id.in_(newer[at : at + 500])
        for row in db.execute(select(machines).where(wanted)):
            changed[row.machine_id] = (row.updated_s, row.document)
    return {name: one for name, one in stored.items() if name not in newer or name in changed}, changed


def _summary_of(machine_id: str, document: str) -> _Summary:
    machine = shown_machine(machine_id, document)
    if machine is None:
        return _Summary(NOT_SHOWN, "", 0, 0, shown=False)
    out = sum(cell.blocked or cell.faulty for cell in machine.all_cells)
    return _Summary(machine.name, machine.location, len(machine.all_cells), out, shown=True)


def _first_open(figures: MachineFigures | None) -> tuple[int | None, float | None]:
    """How many unlocks were counted, and the share that opened at the first pulse."""
    if figures is None:
        return None, None
    unlocks = sum(lock.unlocks for lock in figures.locks)
    return unlocks, _rate(sum(lock.opened_first for lock in figures.locks), unlocks)


def _rate(first: int, unlocks: int) -> float | None:
    return round(min(max(first / unlocks, 0.0), 1.0), 4) if unlocks > 0 else None


def _link(observed: Observed | None, now_s: float) -> LinkQuality:
    if observed is None:
        return LinkQuality(losses=0, offline_s=0, restarts=0)
    from_s = now_s - WINDOW_S
    return LinkQuality(
        losses=sum(at_s >= from_s for at_s in observed.went_offline_s),
        offline_s=int(offline_s(observed, now_s, from_s)),
        restarts=sum(at_s >= from_s for at_s in observed.restarted_s),
    )


def _cells(machine: Machine | None, observed: Observed | None) -> list[FleetCell]:
    return [] if machine is None else [_cell(one, observed) for one in machine.all_cells]


def _cell(cell: CellDetail, observed: Observed | None) -> FleetCell:
    label = cell.description
    last = None if observed is None else observed.cells.get(label)
    figures = None if observed is None else observed.figures
    lock = None if figures is None else next((one for one in figures.locks if one.label == label), None)
    return FleetCell(
        label=label,
        cell_id=cell.cell_id,
        height=cell.height,
        status=cell.status,
        blocked=cell.blocked,
        faulty=cell.faulty,
        door=None if last is None else last.door,
        in_doubt=None if last is None else last.in_doubt,
        alarms=None if last is None else last.alarms,
        mass_g=None if last is None else last.mass_g,
        temperature_c=None if last is None else last.temperature_c,
        worn=None if figures is None else label in figures.worn,
        unlocks=None if lock is None else lock.unlocks,
        first_open_rate=None if lock is None else _rate(lock.opened_first, lock.unlocks),
    )


def _tickets_of(db: Connection, machine_id: str) -> list[TicketView]:
    table = tickets.c
    mine = select(tickets).where(table.machine_id == machine_id)
    unsolved = list(db.execute(mine.where(table.closed_s.is_(None)).order_by(table.created_s)))
    unsolved.sort(key=lambda row: _urgency(row.severity))
    solved = mine.where(table.closed_s.is_not(None)).order_by(table.closed_s.desc(), table.ticket_id)
    return [ticket_view(row) for row in (*unsolved, *db.execute(solved.limit(CLOSED_SHOWN)))]


def _events_of(db: Connection, machine_id: str, before: int | None, limit: int) -> list[FleetEvent]:
    """Applied events of the machine's present journal: in that index they are in order."""
    journal = select(sources.c.journal_id).where(sources.c.machine_id == machine_id)
    journal_id = db.execute(journal).scalar_one_or_none() or ""
    table = events.c
    query = select(table.sequence, table.payload).where(
        table.state == APPLIED, table.machine_id == machine_id, table.journal_id == journal_id
    )
    if before is not None:
        query = query.where(table.sequence < before)
    rows = db.execute(query.order_by(table.sequence.desc()).limit(limit))
    shown_events = (_event(row.payload) for row in rows)
    return [event for event in shown_events if event is not None]


def _event(payload: str) -> FleetEvent | None:
    """None for an event that an earlier version stored and this one cannot read."""
    try:
        event = read_stored_event(payload)
    except ValueError:
        return None
    detail = event.detail
    more: dict[str, Any] = {}
    if detail is not None:
        more = {
            "cell": None if detail.cell is None else detail.cell.description,
            "alarm": detail.alarm,
            "device": detail.device,
            "outcome": detail.outcome,
            "cause": detail.cause,
            "text": detail.reason or detail.description,
            "actor": detail.actor,
        }
    return FleetEvent(
        sequence=event.sequence,
        at=event.event_time_timestamp,
        event_type=event.event_type,
        reservation_id=event.reservation_id,
        platform_order_id=event.platform_order_id,
        **more,
    )


def _acts_on(db: Connection, machine_id: str) -> list[FleetAct]:
    target = operator_acts.c.target
    mine = target == machine_id
    for separator in "/ ":
        mine |= target.startswith(f"{machine_id}{separator}", autoescape=True)
    query = select(operator_acts).where(mine).order_by(operator_acts.c.position.desc()).limit(ACTS_SHOWN)
    return [
        FleetAct(at=shown_date(row.at_s), actor=row.actor, act=row.act, target=row.target, result=row.result)
        for row in db.execute(query)
    ]
