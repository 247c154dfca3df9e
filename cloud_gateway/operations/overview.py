"""The operators' overview, read from the projection in one go; it contains no codes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, case, or_, select

from cloud_gateway.db.store import FINISHED, Store, is_ongoing, shown_machine
from cloud_gateway.db.tables import abandonments, machines, reservations, tickets, webhooks
from cloud_gateway.events.twins import TwinsFound, kept
from cloud_gateway.machines.commands import MachineCommands
from cloud_gateway.machines.message_validation import MachineAccounts
from cloud_gateway.value_bounds import shown_date
from cloud_gateway.webhooks.deliverer import host_of
from edge_agent.model import Occupancy, Severity
from edge_agent.protocol.api import Body
from edge_agent.protocol.events import Health, HistoryState

CLOSED_MAX = 100
"""How many closed tickets are listed, the last closed first."""

NOT_SHOWN = "(this machine's data cannot be shown)"

DEAD_MAX = 200
"""How many dead webhooks are listed."""

URGENCY = {severity.value: n for n, severity in enumerate(reversed(Severity))}


class NotedReservation(Body):
    """An ongoing reservation with notes for the operators."""

    reservation_id: str
    platform: str
    platform_order_id: str
    machine_id: str
    cell: str | None = None
    status: str
    notes: str
    created_at: str


class AbandonedParcel(Body):
    """An abandoned parcel that still lies in its cell."""

    reservation_id: str
    platform_order_id: str
    machine_id: str
    cell: str | None = None
    since: str


class TicketView(Body):
    """A maintenance ticket; without a cell it is about the whole machine."""

    maintenance_ticket_id: str
    status: Literal["OPEN", "CLOSED"]
    severity: str | None = None
    machine_id: str
    cell: str | None = None
    cell_id: str | None = None
    description: str | None = None
    created_at: str
    blocked: bool | None = None
    source_type: str
    closed_at: str | None = None


class MachineState(Body):
    """A machine and whether it is online."""

    machine_id: str
    name: str
    location: str
    online: bool
    health: Health | None = None
    """Its published health; absent while it is offline, or if its agent is older than the field."""
    occupancy_information: Occupancy | None = None
    """Absent if its published state cannot be shown."""
    refused_messages: int = 0
    """How many of its messages this gateway has rejected since its start."""
    instance: str | None = None
    """The hardware: serial number of its board, and id of its journal."""
    history: HistoryState | None = None
    """`lost` or `asking` while its history is in doubt."""
    twins: TwinsFound | None = None
    """Present while two machines use this machine_id: no command that grants something is sent to it."""


class DeadWebhook(Body):
    """A webhook that its receiver did not accept for days; `webhook_id` is for retrying it."""

    webhook_id: int
    host: str
    reservation_id: str
    platform_order_id: str
    event_type: str
    attempts: int
    last_problem: str
    since: str


class UnknownReservation(Body):
    """A reservation that is live in the gateway and unknown to its machine."""

    reservation_id: str
    platform: str
    platform_order_id: str
    machine_id: str
    cell: str | None = None
    status: str
    since: str


class Overview(Body):
    """Everything at once: response to GET /operations.json."""

    reservations: list[NotedReservation]
    abandoned: list[AbandonedParcel]
    tickets: list[TicketView]
    machines: list[MachineState]
    dead_webhooks: list[DeadWebhook]
    unknown_reservations: list[UnknownReservation]


async def overview(
    store: Store,
    live: MachineCommands,
    accounts: MachineAccounts,
    webhook_urls: Mapping[str, str],
    now_s: float,
) -> Overview:
    """The present state; `webhook_urls` are the platforms' own."""

    def work(db: Connection) -> Overview:
        return Overview(
            reservations=_noted(db, now_s),
            abandoned=_abandoned(db),
            tickets=_tickets(db),
            machines=_machines(db, live, accounts),
            dead_webhooks=_dead(db, webhook_urls),
            unknown_reservations=_unknown(db),
        )

    return await store.read(work)


_LISTED = (
    reservations.c.reservation_id,
    reservations.c.platform,
    reservations.c.platform_order_id,
    reservations.c.machine_id,
    reservations.c.cell_label.label("cell"),
    reservations.c.status,
)
"""What every list of reservations shows."""


def _noted(db: Connection, now_s: float) -> list[NotedReservation]:
    table = reservations.c
    query = select(*_LISTED, table.notes, table.created_s)
    query = query.where(is_ongoing(now_s), table.notes != "").order_by(table.created_s, table.position)
    return [
        NotedReservation(created_at=shown_date(row.created_s), **_without(row, "created_s"))
        for row in db.execute(query)
    ]


def _abandoned(db: Connection) -> list[AbandonedParcel]:
    query = (
        select(
            abandonments.c.reservation_id,
            reservations.c.platform_order_id,
            abandonments.c.machine_id,
            reservations.c.cell_label.label("cell"),
            abandonments.c.since_s,
        )
        .join(reservations, reservations.c.reservation_id == abandonments.c.reservation_id)
        .where(abandonments.c.cleared_s.is_(None))
        .order_by(abandonments.c.since_s, abandonments.c.reservation_id)
    )
    return [
        AbandonedParcel(since=shown_date(row.since_s), **_without(row, "since_s"))
        for row in db.execute(query)
    ]


def _tickets(db: Connection) -> list[TicketView]:
    """The open tickets, most urgent and oldest first; then those closed last."""
    table = tickets.c
    urgency = case(URGENCY, value=table.severity, else_=len(URGENCY))
    unsolved = select(tickets).where(table.closed_s.is_(None))
    unsolved = unsolved.order_by(urgency, table.created_s, table.ticket_id)
    solved = select(tickets).where(table.closed_s.is_not(None))
    solved = solved.order_by(table.closed_s.desc(), table.ticket_id).limit(CLOSED_MAX)
    return [ticket_view(row) for query in (unsolved, solved) for row in db.execute(query)]


def ticket_view(row: Any) -> TicketView:
    """A row of the table of tickets as it is shown."""
    return TicketView(
        maintenance_ticket_id=row.ticket_id,
        status="OPEN" if row.closed_s is None else "CLOSED",
        severity=row.severity,
        machine_id=row.machine_id,
        cell=row.cell_label,
        cell_id=row.cell_id,
        description=row.description,
        created_at=shown_date(row.created_s),
        blocked=row.blocked,
        source_type=row.source,
        closed_at=None if row.closed_s is None else shown_date(row.closed_s),
    )


def _machines(db: Connection, live: MachineCommands, accounts: MachineAccounts) -> list[MachineState]:
    query = select(machines.c.machine_id, machines.c.document).order_by(machines.c.machine_id)
    found = kept(db)
    states = []
    for row in db.execute(query):
        machine_id, machine = row.machine_id, shown_machine(row.machine_id, row.document)
        states.append(
            MachineState(
                machine_id=machine_id,
                name=NOT_SHOWN if machine is None else machine.name,
                location="" if machine is None else machine.location,
                online=live.is_online(machine_id),
                health=live.health(machine_id),
                occupancy_information=None if machine is None else machine.occupancy_information,
                refused_messages=accounts.rejected(machine_id),
                instance=live.instance(machine_id),
                history=live.history(machine_id),
                twins=found.get(machine_id),
            )
        )
    return states


def _dead(db: Connection, webhook_urls: Mapping[str, str]) -> list[DeadWebhook]:
    """The webhooks that became dead last come first."""
    same = reservations.c.reservation_id == webhooks.c.reservation_id
    query = select(webhooks, reservations.c.webhook_url, reservations.c.platform)
    query = query.join_from(webhooks, reservations, same).where(webhooks.c.state == "dead")
    query = query.order_by(webhooks.c.position.desc()).limit(DEAD_MAX)
    return [
        DeadWebhook(
            webhook_id=row.position,
            host=host_of(row.webhook_url or webhook_urls.get(row.platform, "")),
            reservation_id=row.reservation_id,
            platform_order_id=row.platform_order_id,
            event_type=_event_type(row.body),
            attempts=row.attempts,
            last_problem=row.last_problem,
            since=shown_date(row.queued_s),
        )
        for row in db.execute(query)
    ]


def _event_type(body: str) -> str:
    """The type of the event in a webhook's body; empty if it cannot be read."""
    try:
        return str(json.loads(body).get("event_type", ""))
    except (ValueError, AttributeError):
        return ""


def _unknown(db: Connection) -> list[UnknownReservation]:
    table = reservations.c
    query = select(*_LISTED, table.unknown_s)
    over = or_(table.completed.is_(True), table.status.in_(FINISHED))
    query = query.where(table.unknown_s.is_not(None), ~over).order_by(table.unknown_s, table.position)
    return [
        UnknownReservation(since=shown_date(row.unknown_s), **_without(row, "unknown_s"))
        for row in db.execute(query)
    ]


def _without(row: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in row._mapping.items() if key != name}
