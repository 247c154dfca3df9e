"""Forgets whose a reservation was: order id, notes, addresses and codes. Ids, times, cells and outcomes stay,
so that the ledger of unlocks remains complete (docs/privacy.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edge_agent.journal.reader import JournalReader
from edge_agent.journal.store import LIVE, Statement

FORGOTTEN = "forgotten"
NO_CODE = "-"
"""In place of a code: no entry consists of it."""
AT_ONCE = 100
"""At most this many reservations are forgotten with one commit."""
_REPLY = {"error": {"code": 5, "message": "the reservation was forgotten", "details": []}}


def reservations_of_order(store: JournalReader, platform_order_id: str) -> list[tuple[str, bool]]:
    """The reservations of an order, each with whether it is over. Raises `StorageFault`."""
    query = (
        f"SELECT reservation_id, live != {LIVE} FROM reservation"
        " WHERE json_extract(body, '$.platform_order_id') = ? ORDER BY reservation_id"
    )
    return [(rid, bool(over)) for rid, over in store.rows(query, (platform_order_id,))]


def live_among(store: JournalReader, reservation_ids: Sequence[str]) -> list[str]:
    """Those that are not over. Raises `StorageFault`."""
    query = (
        f"SELECT reservation_id FROM reservation WHERE live = {LIVE} AND reservation_id IN"
        " (SELECT value FROM json_each(?))"
    )
    return [rid for (rid,) in store.rows(query, (json.dumps(list(reservation_ids)),))]


def unsent_among(store: JournalReader, reservation_ids: Sequence[str]) -> bool:
    """Whether the broker does not have every event of these reservations yet. Raises `StorageFault`."""
    query = (
        "SELECT 1 FROM outbox WHERE sequence > (SELECT through FROM sent) AND"
        " json_extract(body, '$.reservation_id') IN (SELECT value FROM json_each(?)) LIMIT 1"
    )
    return bool(store.rows(query, (json.dumps(list(reservation_ids)),)))


def older_than(store: JournalReader, before_s: float) -> list[str]:
    """Some reservations that are over, were made before an instant, and are not forgotten yet. Raises
    `StorageFault`."""
    query = (
        f"SELECT reservation_id FROM reservation WHERE live != {LIVE}"
        " AND json_extract(body, '$.created.synced') AND json_extract(body, '$.created.wall_s') < ?"
        " AND json_extract(body, '$.platform_order_id') != ? LIMIT ?"
    )
    return [rid for (rid,) in store.rows(query, (before_s, FORGOTTEN, AT_ONCE))]


def forget(reservation_ids: Sequence[str]) -> list[Statement]:
    """Forgets whose these reservations were."""
    ids = json.dumps(list(reservation_ids))
    among = "IN (SELECT value FROM json_each(?))"
    personal = (
        f"'$.platform_order_id', '{FORGOTTEN}', '$.notes', '', '$.webhook_url', '',"
        f" '$.drop_off_code', '{NO_CODE}', '$.pickup_code', '{NO_CODE}'"
    )
    in_events = (
        f"'$.platform_order_id', '{FORGOTTEN}', '$.open_door_fulfilled_event.platform_reference_id', ''"
    )
    of_them = f"WHERE json_extract(body, '$.reservation_id') {among}"
    in_reply = "json_extract(reply, '$.result.reservation.reservation_id')"
    return [
        (
            f"UPDATE reservation SET body = json_replace(body, {personal}) WHERE reservation_id {among}",
            [(ids,)],
        ),
        (f"UPDATE outbox SET body = json_replace(body, {in_events}) {of_them}", [(ids,)]),
        (
            f"UPDATE inbox SET reply = ? WHERE json_valid(reply) AND {in_reply} {among}",
            [(json.dumps(_REPLY), ids)],
        ),
    ]
