"""What a page of the wall is sent, where the projection cannot be read at first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from cloud_gateway.db.store import Store
from cloud_gateway.wall import feed
from cloud_gateway.wall.feed import WallFeed

ROWS = [{"reservation_id": "res_1"}]


class FailingStore:
    """A store whose second reading fails."""

    def __init__(self) -> None:
        self.readings = 0

    async def read(self, work: Callable[[Any], Any]) -> list[dict[str, Any]]:
        self.readings += 1
        if self.readings == 2:
            raise OSError("the database is not there")
        return [] if self.readings == 1 else ROWS


async def test_a_failed_reading_of_the_projection_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "READ_AGAIN_S", 0.01)
    store = FailingStore()
    wall = WallFeed(cast("Store", store), lambda: True)
    stream = wall.stream()
    first = [await anext(stream) for _ in range(2)]
    assert first[1] == 'event: reservations\ndata: {"rows":[]}\n\n'
    running = asyncio.create_task(wall.run())
    wall.reservations_changed()
    async with asyncio.timeout(10):
        assert '"reservation_id":"res_1"' in await anext(stream)
    assert store.readings == 3
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
