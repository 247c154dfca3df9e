"""The next events of many machines at once, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event as database_event

from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import events, rejected, reservations, webhooks
from cloud_gateway.events.projection import put_view
from cloud_gateway.machines.message_validation import ReceivedEvent
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.events.test_projection import NOW_S, view
from tests.cloud_gateway.events.test_sequence import applied, column, life, opened, received, take, url

__all__ = ["url"]


def life_of(machine_id: str, first: int = 1) -> list[ReceivedEvent]:
    """One reservation's events on a machine of its own."""
    reservation_id = f"res_{machine_id}_{first}"
    return life(first, machine_id=machine_id, reservation_id=reservation_id)


def count_statements(store: Store) -> list[str]:
    """The statements that the store sends from now on."""
    seen: list[str] = []

    def note(_db: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    database_event.listen(store._engine, "before_cursor_execute", note)
    return seen


async def begin(store: Store, names: list[str]) -> None:
    """Every machine has had its first reservation."""
    for name in names:
        await take(store, *life_of(name))


async def test_the_number_of_statements_does_not_grow_with_machines(url: str) -> None:
    names = [f"m{n}" for n in range(12)]
    async with opened(url) as store:
        await begin(store, names)
        seen = count_statements(store)
        assert await take(store, *life_of("m0", 4)) == 3
        few, seen[:] = len(seen), []
        assert await take(store, *(one for name in names for one in life_of(name, 7 if name == "m0" else 4)))
        # A stub of a reservation that no reply has made known costs three statements of its own.
        assert len(seen) <= few + 3 * (len(names) - 1)
        for name in names:
            assert await applied(store, name) == (9 if name == "m0" else 6)


async def test_reservations_that_are_known_cost_no_statement_each(url: str) -> None:
    names = [f"m{n}" for n in range(12)]
    async with opened(url) as store:
        await begin(store, names)
        for name in names:
            changes = {"machine_id": name, "reservation_id": f"res_{name}_4"}
            await store.write(lambda db, c=changes: put_view(db, view(**c), NOW_S, up_to_date=True))  # type: ignore[misc]
        seen = count_statements(store)
        assert await take(store, *(one for name in names for one in life_of(name, 4))) == 36
        assert len(seen) < 20
        assert await column(store, reservations.c.status) == ["RESERVATION_STATUS_PICKED_UP"] * 24


async def test_one_machine_with_a_gap_a_repeat_or_a_fault_does_not_disturb_others(url: str) -> None:
    names = ["gap", "good", "repeat", "wrong"]
    async with opened(url) as store:
        await begin(store, names)
        batch = [*life_of("good", 4), *life_of("gap", 5), *life_of("repeat", 4), *life_of("repeat", 1)]
        batch += [received(EventType.DROPOFF, 4, machine_id="wrong", reservation_id="res_good_1")]
        assert await take(store, *batch) == 6
        assert [await applied(store, name) for name in names] == [3, 6, 6, 4]
        assert (await column(store, events.c.state)).count("held") == 3
        assert len(await column(store, rejected.c.reason)) == 1
        assert len(await column(store, webhooks.c.position)) == 2 * 6


@pytest.mark.parametrize("times", [1, 2])
async def test_a_key_that_is_stored_under_another_number_is_not_stored_again(url: str, times: int) -> None:
    async with opened(url) as store:
        await begin(store, ["m1", "m2"])
        again = received(
            EventType.PICKUP, 4, machine_id="m1", idempotency_key=life_of("m1")[2].number.idempotency_key
        )
        assert await take(store, *[again] * times, *life_of("m2", 4)) == 3
        assert await applied(store, "m1") == 3
        assert await applied(store, "m2") == 6
