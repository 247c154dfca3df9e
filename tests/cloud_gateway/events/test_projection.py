"""The projection: late, doubled and early messages, and the rule of what is ongoing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.db.store import ReservationRow, Store
from cloud_gateway.events.projection import apply_event, put_view
from cloud_gateway.events.sync import incomplete
from cloud_gateway.webhooks.queue import Due, PlausibleAhead, due_webhooks
from edge_agent.protocol.api import ReservationView, rfc3339
from edge_agent.protocol.events import DETAIL_KEY, Event, EventType

NOW_S = 1_750_000_000


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    """A store with a database file."""
    store = Store(f"sqlite:///{folder}/gateway.db")
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def view(status: str = "PENDING", cell: str = "A03", **changes: Any) -> ReservationView:
    """A reservation as a reply states it."""
    return ReservationView.model_validate(
        {
            "reservation_id": "res_1",
            "machine_id": "m1",
            "platform": "acme",
            "platform_order_id": "o1",
            "status": f"RESERVATION_STATUS_{status}",
            "created_at": rfc3339(NOW_S),
            "cell": {"description": cell},
            "drop_off_code": "1234",
            "pickup_code": "5678",
            "packaging": {"width": 1, "height": 1, "depth": 1},
            "grace_period_pickup_in_seconds": 120,
            "grace_period_dropoff_in_seconds": 120,
            **changes,
        }
    )


def event(kind: EventType, number: int, *, at_s: int = NOW_S, cell: str = "A03", **changes: Any) -> Event:
    """An event about that reservation."""
    detail = {
        "source_type": "SOURCE_TYPE_API",
        "machine": {"machine_id": "m1", "name": "", "location": ""},
        "cell": {"description": cell},
    }
    return Event.model_validate(
        {
            "event_id": f"evt_{number}",
            "idempotency_key": f"idem_{number}",
            "event_time_unix_timestamp": at_s,
            "event_time_timestamp": rfc3339(at_s),
            "event_type": kind.value,
            "machine_id": "m1",
            "sequence": number,
            "boot_id": "b",
            "clock_synced": True,
            "reservation_id": "res_1",
            "platform_order_id": "o1",
            DETAIL_KEY[kind]: detail,
            **changes,
        }
    )


async def put(
    store: Store, *items: Event | ReservationView, now_s: float = NOW_S, up_to_date: bool = True
) -> None:
    """Writes events and views in order."""
    for item in items:
        if isinstance(item, Event):
            taken: Event = item
            await store.write(lambda db, taken=taken: apply_event(db, taken, now_s))  # type: ignore[misc]
        else:
            seen: ReservationView = item
            await store.write(lambda db, seen=seen: put_view(db, seen, now_s, up_to_date=up_to_date))  # type: ignore[misc]


async def row(store: Store) -> ReservationRow:
    """The reservation."""
    found = await store.reservation("res_1")
    assert found is not None
    return found


async def due(store: Store) -> list[Due]:
    """The webhooks that may be delivered."""
    return await store.read(lambda db: due_webhooks(db, NOW_S + 1, PlausibleAhead(600, 30), 10))


async def ongoing(store: Store, now_s: float) -> int:
    """How many reservations are ongoing at a moment."""
    after = None
    _, total = await store.ongoing("acme", now_s=now_s, page_size=10, after=after, created_after_s=None)
    return total


async def test_a_late_message_reverts_nothing(tmp_path: Path) -> None:
    created, dropped = event(EventType.RESERVATION_CREATED, 1), event(EventType.DROPOFF, 2)
    picked = event(EventType.PICKUP, 3)
    async with opened(tmp_path) as store:
        await put(store, view(), view("PICKED_UP", picked_up_at=rfc3339(NOW_S)), created, dropped, picked)
        await put(store, view(), view("DROPPED_OFF", cell="B01"))
        now = await row(store)
        assert now.status == "RESERVATION_STATUS_PICKED_UP"
        assert now.cell_label == "A03"
        assert (now.dropped_off_s, now.picked_up_s) == (NOW_S, NOW_S)


async def test_an_ended_reservation_stays_ended(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, view(), view("CANCELLED"), event(EventType.DROPOFF, 1), view("PICKED_UP"))
        assert (await row(store)).status == "RESERVATION_STATUS_CANCELLED"


async def test_a_stored_old_reply_does_not_move_the_cell_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, view(), view(cell="B01"))
        assert (await row(store)).cell_label == "B01"
        await put(store, view(cell="A03"), up_to_date=False)
        await put(store, event(EventType.RESERVATION_CREATED, 1))
        assert (await row(store)).cell_label == "B01"


async def test_events_before_the_reply_are_kept_and_completed_by_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, event(EventType.RESERVATION_CREATED, 1), event(EventType.DROPOFF, 2, cell="B01"))
        assert await store.reservation("res_1") is None
        assert await store.read(lambda db: incomplete(db, ["m1"], NOW_S + 1, 10)) == [("res_1", "m1")]
        assert await due(store) == []
        await put(store, view(), up_to_date=False)
        now = await row(store)
        assert now.status == "RESERVATION_STATUS_DROPPED_OFF"
        assert (now.cell_label, now.drop_off_code) == ("B01", "1234")
        assert len(await due(store)) == 1


@pytest.mark.behaviour("reservation-14")
async def test_picked_up_is_ongoing_within_its_grace(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, view(), event(EventType.PICKUP, 1), now_s=NOW_S + 60)
        assert await ongoing(store, NOW_S + 120) == 1
        assert await ongoing(store, NOW_S + 121) == 0


async def test_without_the_right_time_the_grace_counts_from_learning(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        wrong = event(EventType.PICKUP, 1, at_s=1000, clock_synced=False)
        await put(store, view(created_at=rfc3339(900)), wrong, now_s=NOW_S)
        await put(store, view("PICKED_UP", picked_up_at=rfc3339(1000)), now_s=NOW_S + 50)
        assert await ongoing(store, NOW_S + 120) == 1
        assert await ongoing(store, NOW_S + 121) == 0


async def test_completed_is_not_ongoing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, view(), event(EventType.PICKUP, 1), event(EventType.RESERVATION_COMPLETED, 2))
        assert await ongoing(store, NOW_S) == 0


async def test_no_machine_can_change_another_machine_s_reservations(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, view())
        with pytest.raises(ValueError, match="another machine"):
            await put(store, event(EventType.DROPOFF, 1, machine_id="m2"))
        with pytest.raises(ValueError, match="another machine"):
            await put(store, view("CANCELLED", machine_id="m2"))
        assert (await row(store)).status == "RESERVATION_STATUS_PENDING"


async def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await put(store, view())
        bad = event(EventType.DROPOFF, 1, platform_order_id=None)
        with pytest.raises(ValueError, match="without order"):
            await put(store, bad)
        assert (await row(store)).status == "RESERVATION_STATUS_PENDING"
