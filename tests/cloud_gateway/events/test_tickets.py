"""The projection of moves, abandoned parcels and maintenance tickets: early, late and doubled messages."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import abandonments, tickets
from cloud_gateway.events.tickets import Ticket, close_ticket, put_ticket
from edge_agent.model import Severity, Source
from edge_agent.protocol.api import ReservationView
from edge_agent.protocol.events import DETAIL_KEY, Event, EventType
from tests.cloud_gateway.events.test_projection import NOW_S, event, ongoing, opened, put, row, view

REPLY = Ticket(
    ticket_id="maint_1",
    machine_id="m1",
    cell_label=None,
    cell_id="cell_a03",
    description="it rattles",
    severity=Severity.HIGH,
    created_s=NOW_S,
    source=Source.API,
    blocked=True,
)


def changed(number: int, cause: str, cell: str = "A03", **changes: Any) -> Event:
    """A CELL_STATUS_CHANGED; without a reservation unless one is named."""
    return detailed(
        EventType.CELL_STATUS_CHANGED,
        number,
        {"cell": {"description": cell, "cell_id": f"cell_{cell.lower()}"}, "cause": cause},
        **{"reservation_id": None, "platform_order_id": None, **changes},
    )


def asked(number: int, **changes: Any) -> Event:
    """A MAINTENANCE_REQUESTED."""
    detail = {
        "cell": {"description": "A03", "cell_id": "cell_a03"},
        "maintenance_ticket_id": "maint_1",
        "description": "it rattles",
        "severity": "HIGH",
        "blocked": True,
        **changes,
    }
    nobody = {"reservation_id": None, "platform_order_id": None}
    return detailed(EventType.MAINTENANCE_REQUESTED, number, detail, **nobody)


def detailed(kind: EventType, number: int, detail: dict[str, Any], **changes: Any) -> Event:
    """An event with more in its detail."""
    plain = event(kind, number).model_dump(mode="json", exclude_none=True)
    key = DETAIL_KEY[kind]
    found = {**plain[key], **detail}
    known = {name: value for name, value in found.items() if value is not None}
    return Event.model_validate({**plain, key: known, **changes})


async def reply(store: Store, ticket: Ticket = REPLY) -> None:
    """Stores a ticket as a reply states it."""
    await store.write(lambda db: put_ticket(db, ticket))


async def all_tickets(store: Store) -> list[dict[str, Any]]:
    """Every ticket."""
    return await store.read(lambda db: [dict(found._mapping) for found in db.execute(select(tickets))])


async def lying(store: Store) -> list[tuple[str, int]]:
    """Reservation and time of the abandoned parcels that await clean-up."""
    query = select(abandonments.c.reservation_id, abandonments.c.since_s)
    query = query.where(abandonments.c.cleared_s.is_(None))
    return await store.read(lambda db: [(found[0], found[1]) for found in db.execute(query)])


async def test_a_moved_reservation_is_where_the_event_says(tmp_path: Path) -> None:
    there = {"reservation_id": "res_1", "platform_order_id": "o1"}
    async with opened(tmp_path) as store:
        await put(store, view(), event(EventType.RESERVATION_CREATED, 1))
        await put(store, changed(2, "MOVED", cell="B02", **there))
        assert (await row(store)).cell_label == "B02"
        await put(store, view(), up_to_date=False)
        assert (await row(store)).cell_label == "B02"
        await put(store, changed(3, "FAULT", cell="C03", **there))
        assert (await row(store)).cell_label == "B02"
        await put(store, event(EventType.DROPOFF, 4, cell="B02"))
        await put(store, changed(5, "MOVED", cell="D04", **there))
        assert (await row(store)).cell_label == "B02"
        assert (await row(store)).status == "RESERVATION_STATUS_DROPPED_OFF"


async def test_a_move_that_is_known_before_its_reservation_counts(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, changed(1, "MOVED", cell="B02", reservation_id="res_1", platform_order_id="o1"))
        await put(store, view(cell="A03"), up_to_date=False)
        assert (await row(store)).cell_label == "B02"


async def test_the_reply_of_a_drop_off_names_the_new_cell(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, view(cell="A03"))
        await put(store, view(cell="B02"))
        await put(store, changed(1, "MOVED", cell="B02", reservation_id="res_1", platform_order_id="o1"))
        assert (await row(store)).cell_label == "B02"


@pytest.mark.parametrize("first", ["reply", "event"])
async def test_an_abandoned_reservation_has_ended_and_awaits_clean_up(tmp_path: Path, first: str) -> None:
    items: list[tuple[Event | ReservationView, float]] = [
        (view("ABANDONED"), NOW_S + 7.5),
        (event(EventType.PICKUP_ABANDONED, 2, at_s=NOW_S + 5), NOW_S + 9.0),
    ]
    async with opened(tmp_path) as store:
        await put(store, view(), event(EventType.DROPOFF, 1))
        for item, now_s in items if first == "reply" else reversed(items):
            await put(store, item, now_s=now_s)
        assert (await row(store)).status == "RESERVATION_STATUS_ABANDONED"
        assert await ongoing(store, NOW_S + 10) == 0
        assert await lying(store) == [("res_1", NOW_S + 5)]
        await put(store, view("DROPPED_OFF"), event(EventType.PICKUP, 3))
        assert (await row(store)).status == "RESERVATION_STATUS_ABANDONED"


async def test_clearing_the_cell_removes_its_abandoned_parcel(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, view(), event(EventType.DROPOFF, 1), event(EventType.PICKUP_ABANDONED, 2))
        await put(store, changed(3, "UNBLOCKED"), changed(4, "CLEARED", cell="B09"))
        await put(store, changed(5, "CLEARED", machine_id="m2"))
        assert await lying(store) == [("res_1", NOW_S)]
        await put(store, changed(6, "CLEARED"))
        assert await lying(store) == []
        await put(store, view("ABANDONED"), event(EventType.PICKUP_ABANDONED, 7))
        assert await lying(store) == []


async def test_without_the_right_time_a_parcel_lies_since_we_know(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        wrong = event(EventType.PICKUP_ABANDONED, 1, at_s=1000, clock_synced=False)
        await put(store, view(), wrong, now_s=NOW_S + 3)
        assert await lying(store) == [("res_1", NOW_S + 3)]


@pytest.mark.parametrize("order", ["reply, event", "event, reply", "event", "reply, event, reply, event"])
async def test_a_repeated_ticket_is_stored_once(tmp_path: Path, order: str) -> None:
    async with opened(tmp_path) as store:
        for number, word in enumerate(order.split(", ")):
            if word == "reply":
                await reply(store)
            else:
                await put(store, asked(number))
        (found,) = await all_tickets(store)
        source = "SOURCE_TYPE_API"
        assert found == {
            "ticket_id": "maint_1",
            "machine_id": "m1",
            "cell_label": "A03",
            "cell_id": "cell_a03",
            "description": "it rattles",
            "severity": "HIGH",
            "created_s": NOW_S,
            "source": source,
            "blocked": True,
            "closed_s": None,
        }


async def test_the_machine_s_statement_of_a_ticket_overrides_the_request(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await reply(store)
        await put(store, asked(1, blocked=False))
        await reply(store)
        (found,) = await all_tickets(store)
        assert found["blocked"] is False


async def test_a_ticket_of_the_machines_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, asked(1, cell=None, severity=None, blocked=None, source_type="SOURCE_TYPE_MACHINE"))
        (found,) = await all_tickets(store)
        assert (found["cell_label"], found["severity"], found["blocked"]) == (None, None, None)
        assert found["source"] == "SOURCE_TYPE_MACHINE"


@pytest.mark.parametrize("cause", ["CLEARED", "UNBLOCKED"])
async def test_clearing_or_unblocking_a_cell_closes_its_tickets(tmp_path: Path, cause: str) -> None:
    other = {"description": "B04", "cell_id": "cell_b04"}
    async with opened(tmp_path) as store:
        await put(store, asked(1), asked(2, maintenance_ticket_id="maint_2", cell=other))
        await put(store, asked(3, maintenance_ticket_id="maint_3", cell=None))
        await put(store, changed(4, "REPAIRED"), changed(5, cause, cell="C01"))
        await put(store, changed(6, cause, machine_id="m2"))
        assert [found["closed_s"] for found in await all_tickets(store)] == [None, None, None]
        await put(store, changed(7, cause))
        closed = {found["ticket_id"]: found["closed_s"] for found in await all_tickets(store)}
        assert closed == {"maint_1": NOW_S, "maint_2": None, "maint_3": None}
        await reply(store)
        await put(store, asked(8))
        closed = {found["ticket_id"]: found["closed_s"] for found in await all_tickets(store)}
        assert closed["maint_1"] == NOW_S


async def test_a_ticket_known_by_its_cell_id_only_is_closed_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await reply(store)
        await put(store, changed(1, "CLEARED"))
        (found,) = await all_tickets(store)
        assert (found["cell_label"], found["closed_s"]) == (None, NOW_S)


async def test_a_database_without_tickets_is_upgraded(tmp_path: Path) -> None:
    first = (Path(__file__).parents[1] / "db" / "data" / "first_version.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as db:
        db.executescript(first)
        db.executescript("DROP TABLE maintenance_tickets; DROP TABLE abandonments")
    async with opened(tmp_path) as store:
        await reply(store)
        await put(store, view(), event(EventType.PICKUP_ABANDONED, 9))
        assert len(await all_tickets(store)) == len(await lying(store)) == 1


async def test_closing_by_hand_keeps_the_first_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await reply(store)
        assert await store.write(lambda db: close_ticket(db, "maint_1", 5))
        assert await store.write(lambda db: close_ticket(db, "maint_1", 6))
        assert not await store.write(lambda db: close_ticket(db, "maint_2", 6))
        await put(store, changed(1, "CLEARED"))
        (found,) = await all_tickets(store)
        assert found["closed_s"] == 5


async def test_no_machine_changes_another_machine_s_ticket_or_cell(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await reply(store)
        await put(store, asked(1).model_copy(update={"machine_id": "m2"}))
        assert [row["machine_id"] for row in await all_tickets(store)] == ["m1", "m2"]
        with pytest.raises(ValueError, match="without its ticket"):
            await put(store, asked(2, maintenance_ticket_id=None))
        moved = changed(3, "MOVED", reservation_id="res_1", platform_order_id="o1", machine_id="m2")
        await put(store, view())
        with pytest.raises(ValueError, match="another machine"):
            await put(store, moved)


async def test_x6_a_machine_cannot_claim_the_ticket_id_of_another_one(tmp_path: Path) -> None:
    """Ids that a machine makes can be guessed: each machine has tickets of its own."""
    async with opened(tmp_path) as store:
        await reply(store, replace(REPLY, machine_id="thief", description="mine"))
        await reply(store)
        found = {row["machine_id"]: row["description"] for row in await all_tickets(store)}
        assert found == {"thief": "mine", "m1": "it rattles"}
        with pytest.raises(LookupError, match="several machines"):
            await store.write(lambda db: close_ticket(db, "maint_1", NOW_S))
        assert await store.write(lambda db: close_ticket(db, "maint_1", NOW_S, "m1"))
        closed = {row["machine_id"]: row["closed_s"] for row in await all_tickets(store)}
        assert closed == {"thief": None, "m1": NOW_S}
