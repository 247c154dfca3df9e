"""What a machine sends is believed in its own matters only, within bounds, where it was asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from cloud_gateway.db.tables import machines, rejected, tickets, webhooks
from cloud_gateway.machines import message_validation
from cloud_gateway.machines.commands import ENDED_MAX, SentCommand
from cloud_gateway.value_bounds import DEPTH_MAX, OutOfBounds, read_json
from edge_agent.protocol.events import DETAIL_KEY, EventType
from tests.cloud_gateway.events.test_projection import event
from tests.cloud_gateway.hostile import HOSTILE, NOW_S, Hostile, hostile, plant
from tests.cloud_gateway.peer import MACHINE
from tests.cloud_gateway.support import API

POISON = "0001-01-01T00:00:00+14:00"
FAR_S = 100_000_000_000_000


def document_of(kind: EventType, number: int, **changes: Any) -> dict[str, Any]:
    """An event of the hostile machine."""
    made: dict[str, Any] = event(kind, number, machine_id=HOSTILE, **changes).model_dump(
        mode="json", exclude_none=True
    )
    return made


async def count(site: Hostile, table: Any) -> int:
    """How many rows a table has."""
    query = select(func.count()).select_from(table)
    return await site.store.read(lambda db: db.execute(query).scalar_one())


async def test_x3_an_unrequested_reply_is_dropped_and_counted(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        view = site.view(site.request(), created_at=POISON)
        await site.send("reply/test", {"result": {"reservation": view}}, b"nobody asked")
        await site.send("reply/test", {"result": {"reservation": view}})
        assert await site.rows() == {}
        assert await count(site, rejected) == 0
        assert site.accounts.rejected(HOSTILE) == 2
        await site.look()


async def test_x3_a_repeated_or_late_reply_was_requested(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        pending = SentCommand("pickup", HOSTILE, asyncio.get_running_loop().create_future(), {})
        site.machines._keep_ended(b"over", pending, asyncio.get_running_loop().time())
        await site.send("reply/test", {"error": {"code": 9, "message": "no", "details": []}}, b"over")
        assert site.accounts.rejected(HOSTILE) == 0
        assert not pending.reply.done()  # no caller waits for it any more
        for number in range(ENDED_MAX):
            site.machines._keep_ended(str(number).encode(), pending, 0.0)
        assert site.machines.sent_command(b"over") is None


async def test_x3_a_time_that_no_clock_can_give_is_refused_and_breaks_no_page(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        detail = {"maintenance_ticket_id": "t1", "description": "x", "severity": "HIGH"}
        asked = document_of(EventType.MAINTENANCE_REQUESTED, 1)
        asked[DETAIL_KEY[EventType.MAINTENANCE_REQUESTED]] |= detail
        asked["event_time_unix_timestamp"] = FAR_S
        await site.send("evt", asked)
        assert await count(site, tickets) == 0
        # It is counted all the same: what comes after it is applied.
        after = document_of(EventType.MAINTENANCE_REQUESTED, 2)
        after[DETAIL_KEY[EventType.MAINTENANCE_REQUESTED]] |= detail
        await site.send("evt", after)
        assert await count(site, tickets) == 1
        assert site.accounts.rejected(HOSTILE) == 1
        correlation, pending = site.asks("reserve", reservation_id="res_1", platform="acme")
        view = site.view(site.request(), reservation_id="res_1", created_at=POISON)
        await site.send("reply/test", {"result": {"reservation": view}}, correlation)
        assert pending.reply.exception() is not None
        assert await site.rows() == {}
        await site.look()
        shown = (await site.http.get("/operations.json")).json()["machines"]
        assert {one["machine_id"]: one["refused_messages"] for one in shown} == {MACHINE: 0}
        assert "created_at" not in str(await count(site, rejected))


@pytest.mark.parametrize("created_s", [-62_135_647_200, FAR_S, 2**62, -(2**62)])
async def test_x3_a_row_that_an_earlier_version_took_breaks_no_list(tmp_path: Path, created_s: int) -> None:
    async with hostile(tmp_path) as site:
        await plant(site.store, created_s=created_s, dropped_off_s=created_s)
        poisoned = {"machine_id": HOSTILE, "document": '{"machine_id": 1}', "updated_s": NOW_S}
        await site.store.write(lambda db: db.execute(insert(machines).values(poisoned)))
        ticket = {"ticket_id": "t", "machine_id": HOSTILE, "created_s": created_s, "source": "x"}
        await site.store.write(lambda db: db.execute(insert(tickets).values(ticket)))
        await site.look()
        listed = (await site.http.get(f"{API}/reservations")).json()["reservations"]
        edge = "1970-01-01T00:00:00Z" if created_s < 0 else "2100-01-01T00:00:00Z"
        assert [(one["reservation_id"], one["created_at"]) for one in listed] == [("res_planted", edge)]
        assert (await site.http.get(f"{API}/reservations/res_planted")).status_code == 200
        page = (await site.http.get("/operations")).text
        assert "cannot be shown" in page
        assert page.count(HOSTILE) >= 2


async def test_x3_bidirectional_controls_do_not_reach_the_page(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        await plant(site.store, notes="left\u202edoor\x07<b>")
        page = (await site.http.get("/operations")).text
        assert "left\ufffddoor\ufffd&lt;b&gt;" in page


async def test_x4_a_view_of_another_command_or_reservation_is_not_stored(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        other = site.view(site.request())
        correlation, pending = site.asks("pickup", reservation_id="res_mine")
        await site.send("reply/test", {"result": {"reservation": other}}, correlation)
        assert await site.rows() == {}
        assert pending.reply.exception() is not None
        # The reply to another machine's command is not this machine's to give.
        correlation, pending = site.asks("reserve", MACHINE, reservation_id=other["reservation_id"])
        await site.send("reply/test", {"result": {"reservation": other}}, correlation)
        assert await site.rows() == {}
        assert not pending.reply.done()
        assert site.accounts.rejected(HOSTILE) == 2


async def test_x4_platform_and_webhook_come_from_the_gateways_own_request(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        rid = site.seals.new_id(site.request())
        fields = {"reservation_id": rid, "platform": "acme", "platform_order_id": "order_1", "notes": "n"}
        correlation, pending = site.asks("reserve", **fields)
        forged = site.view(
            site.request(),
            reservation_id=rid,
            platform="other",
            platform_order_id="order_of_other",
            webhook_url="https://evil.example/",
        )
        await site.send("reply/test", {"result": {"reservation": forged}}, correlation)
        assert pending.reply.done()
        row = await site.store.reservation(rid)
        assert row is not None
        assert (row.platform, row.platform_order_id, row.notes) == ("acme", "order_1", "n")
        assert row.webhook_url == ""
        # Its webhooks are about that order, whatever the event says.
        dropped = document_of(EventType.DROPOFF, 1, reservation_id=rid, platform_order_id="order_of_other")
        await site.send("evt", dropped)
        assert await count(site, webhooks) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"platform": "other"},
        {"platform_order_id": "another"},
        {"webhook_url": "https://evil.example/"},
        {"notes": "leave it open"},
        {"platform": "nobody"},
        {"reservation_id": "res_x"},
        {"reservation_id": "ü" * 30},
    ],
)
async def test_x4_what_sync_reports_needs_the_seal_of_the_request(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with hostile(tmp_path) as site:
        good = site.view(site.request())
        assert site.seals.holds(message_validation.view_in(HOSTILE, good))
        assert not site.seals.holds(message_validation.view_in(HOSTILE, good | changes))
        # Another machine that has learned of the id may not take it over.
        stolen = site.view(site.request(MACHINE)) | {"machine_id": HOSTILE}
        assert not site.seals.holds(message_validation.view_in(HOSTILE, stolen))


async def test_x4_forged_events_queue_no_webhook_that_is_sent(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        for number in range(1, 50):
            forged = document_of(EventType.DROPOFF, number, reservation_id=f"res_{number}")
            await site.send("evt", forged)
        assert await site.rows() == {}
        correlation, _ = site.asks("get-reservation", reservation_id="res_1")
        view = site.view(site.request(), reservation_id="res_1", platform="other", platform_order_id="o1")
        await site.send("reply/test", {"result": {"reservation": view}}, correlation)
        assert await site.rows() == {}
        await site.look()


async def test_x9_a_deep_reply_is_answered_and_dropped(tmp_path: Path) -> None:
    async with hostile(tmp_path) as site:
        for payload in (b"[" * 100_000 + b"]" * 100_000, b'{"result":' * 5000 + b"1" + b"}" * 5000):
            correlation, pending = site.asks("pickup", reservation_id="r")
            await site.send("reply/test", payload, correlation)
            assert pending.reply.exception() is not None
            assert await count(site, rejected) == 0


def test_x9_depth_size_and_number_are_bounded_before_anything_is_parsed() -> None:
    fits = b"[" * DEPTH_MAX + b"]" * DEPTH_MAX
    assert read_json(fits, 1000) == eval(fits)
    for bad in (
        b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1),
        b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1),
        b'"' + b"x" * 500_000 + b'"',
        b"[" + b"1," * 600 + b"1]",
        b"\xff\xfe[\x00]\x00",
        b"NaN",
        b'{"a": Infinity}',
        b'"\\ud800"',
        b"",
        b"{",
        # Nothing of it may take longer than in proportion to its length.
        b'"' + b'\\"' * 200_000,
        b'"' * 200_000,
        b'"' + b"\\" * 200_001,
    ):
        with pytest.raises(OutOfBounds):
            read_json(bad, 500_000, values_max=500)
    assert read_json(b'"[[[[[[[[[[[[[[[[[[[[[[[[[[[\\"[["', 1000) == "[" * 27 + '"[['
