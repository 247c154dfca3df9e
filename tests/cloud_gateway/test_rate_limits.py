"""How much may be asked, and what is deleted when it is old."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, update

from cloud_gateway.db.prune import BATCH, Pruner
from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import events, metadata, requests, reservations, webhooks
from cloud_gateway.events.projection import put_view
from cloud_gateway.events.sequence import take_events
from cloud_gateway.rate_limits import CLIENTS_MAX, Bucket, Pauses, RateLimits, TooMany
from cloud_gateway.settings import KeepSettings, LimitSettings, Settings, Timing
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.events.test_projection import NOW_S, opened, view
from tests.cloud_gateway.events.test_sequence import received
from tests.cloud_gateway.machines.test_mqtt_link import sequences
from tests.cloud_gateway.operations.test_routes import basic
from tests.cloud_gateway.support import (
    KEY,
    OPERATIONS_KEY,
    OTHER_KEY,
    bench,
    eventually,
    running_gateway,
    settings,
)
from tests.support.broker import Broker

DAY_S = 86_400


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(2.0, 3, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(0.25) == 0.25
    assert bucket.take(0.5) == 0
    assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_clients_without_a_key_are_counted_by_address_and_network() -> None:
    now = [0.0]
    limits = RateLimits([], LimitSettings(wrong_keys=2, wrong_keys_per_min=60), clock=lambda: now[0])
    for address in ("2001:db8::1", "2001:db8::2"):  # one customer's network
        limits.wrong_key(address)
    with pytest.raises(TooMany) as caught:
        limits.wrong_key("2001:db8::3")
    assert caught.value.retry_after_s == 1
    limits.wrong_key("2001:db8:1::1")
    limits.wrong_key("192.0.2.1")
    now[0] = 1.0
    limits.wrong_key("2001:db8::3")


def test_the_number_of_remembered_addresses_is_limited() -> None:
    limits = RateLimits([], LimitSettings(wrong_keys=1, wrong_keys_per_min=1))
    for number in range(CLIENTS_MAX + 10):
        limits.wrong_key(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limits._wrong_keys) == CLIENTS_MAX
    with pytest.raises(TooMany):
        limits.wrong_key("10.0.0.255")
    limits.wrong_key("10.0.0.0")


def limited(folder: Path, broker: Broker, **changes: Any) -> Settings:
    """Settings where `acme` may ask twice at once and then twice a second."""
    given = settings(folder, broker.port)
    acme = given.platforms[0].model_copy(update={"requests_per_s": 2.0, "burst": 2})
    return given.model_copy(update={"platforms": [acme, given.platforms[1]], **changes})


async def test_only_the_platform_beyond_its_rate_waits(tmp_path: Path, broker: Broker) -> None:
    async with running_gateway(limited(tmp_path, broker)) as gateway:
        answers = [await gateway.get("/reservations") for _ in range(4)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:2] == [200, 200]
        assert 429 in statuses[2:]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json() == {"code": 8, "message": "too many requests", "details": []}
        assert refused.headers["retry-after"] == "1"
        assert (await gateway.get("/reservations", X_API_Key=OTHER_KEY)).status_code == 200
        async with asyncio.timeout(5):
            while (await gateway.get("/reservations")).status_code != 200:
                await asyncio.sleep(0.05)


async def test_after_many_wrong_keys_only_wrong_ones_wait(tmp_path: Path, broker: Broker) -> None:
    few = LimitSettings(wrong_keys=3, wrong_keys_per_min=20)
    given = settings(tmp_path, broker.port).model_copy(update={"limits": few})
    async with running_gateway(given) as gateway:
        for _ in range(3):
            assert (await gateway.get("/reservations", X_API_Key="guess")).status_code == 403
        response = await gateway.get("/reservations", X_API_Key="guess")
        assert (response.status_code, response.json()["code"]) == (429, 8)
        assert int(response.headers["retry-after"]) >= 1
        wrong = await gateway.http.get("/operations", headers={"Authorization": basic("guess")})
        assert wrong.status_code == 429
        assert (await gateway.get("/reservations")).status_code == 200
        page = await gateway.http.get("/operations", headers={"Authorization": basic(OPERATIONS_KEY)})
        assert page.status_code == 200
        async with asyncio.timeout(15):
            while (await gateway.get("/reservations", X_API_Key="guess")).status_code != 403:
                await asyncio.sleep(0.05)


async def counted(store: Store) -> dict[str, int]:
    """How many rows each table has."""
    names = ("events", "requests", "webhooks", "abandonments", "reservations")
    tables = [metadata.tables[name] for name in names]
    return await store.read(
        lambda db: {t.name: db.execute(select(func.count()).select_from(t)).scalar_one() for t in tables}
    )


async def test_only_ended_rows_are_pruned(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number, status in enumerate(("PENDING", "CANCELLED", "CANCELLED", "ABANDONED", "PICKED_UP")):
            known = view(status, reservation_id=f"res_{number}")
            await store.write(lambda db, known=known: put_view(db, known, NOW_S, up_to_date=True))  # type: ignore[misc]
        # Of the second a webhook is still waiting; the fourth's parcel still lies there.
        waiting = received(EventType.RESERVATION_CANCELLED, 1, reservation_id="res_1")
        done = received(EventType.RESERVATION_CANCELLED, 2, reservation_id="res_2")
        held = received(EventType.DROPOFF, 4, reservation_id="res_0")
        await store.write(lambda db: take_events(db, [waiting, done, held], NOW_S))
        of_second = webhooks.c.reservation_id == "res_2"
        settle = update(webhooks).where(of_second).values(state="delivered", ended_s=NOW_S)
        await store.write(lambda db: db.execute(settle))
        for key, answer in (("a", "{}"), ("b", None)):
            row = {"key": key, "body_digest": "", "reservation_id": "", "answer": answer, "created_s": NOW_S}
            await store.write(lambda db, row=row: db.execute(insert(requests).values(row)))  # type: ignore[misc]
        before = await counted(store)
        early = Pruner(store, KeepSettings(), Timing(), lambda: NOW_S + 6 * DAY_S)
        assert await early.prune_once() == {}
        assert await counted(store) == before
        week = Pruner(store, KeepSettings(), Timing(), lambda: NOW_S + 8 * DAY_S)
        assert await week.prune_once() == {"requests": 1}
        late = Pruner(store, KeepSettings(), Timing(), lambda: NOW_S + 31 * DAY_S)
        assert await late.prune_once() == {"events": 2, "requests": 1, "webhooks": 1, "reservations": 1}
        left = select(reservations.c.reservation_id).order_by(reservations.c.position)
        ids = await store.read(lambda db: list(db.execute(left).scalars()))
        assert ids == ["res_0", "res_1", "res_3", "res_4"]
        states = await store.read(lambda db: list(db.execute(select(events.c.state)).scalars()))
        assert states == ["held"]
        # Known by its number, though its row is gone: a repeat is no new event.
        again = received(EventType.RESERVATION_CANCELLED, 2, reservation_id="res_2")
        assert await store.write(lambda db: take_events(db, [again], NOW_S)) == 0


class _Reads(Store):
    """A store that must not be written."""

    async def write(self, work: Callable[[Connection], Any], *, urgent: bool = True) -> Any:
        """Fails."""
        raise AssertionError(f"nothing is to be written: {work}")


async def test_pruning_without_old_rows_delays_no_request(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.write(lambda db: take_events(db, [received(EventType.DROPOFF, 1)], NOW_S))
    reads = _Reads(f"sqlite:///{tmp_path}/gateway.db")
    assert await Pruner(reads, KeepSettings(), Timing(), lambda: NOW_S).prune_once() == {}
    await reads.close()


async def test_many_rows_are_pruned_in_small_batches(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        rows = [
            {"key": f"k{n}", "body_digest": "", "reservation_id": "", "answer": "{}", "created_s": 0.0}
            for n in range(2 * BATCH + 1)
        ]
        await store.write(lambda db: db.execute(insert(requests), rows))
        pruner = Pruner(store, KeepSettings(), Timing(), lambda: NOW_S)
        assert await pruner.prune_once() == {"requests": 2 * BATCH + 1}


async def test_the_gateway_prunes_by_itself(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        await gateway.reserve()
        peer.event(EventType.CELL_STATUS_CHANGED)
        await eventually(lambda: sequences(tmp_path) == [1])
    keep = KeepSettings(events_days=0.01 / DAY_S)
    given = settings(tmp_path, broker.port).model_copy(update={"keep": keep})
    async with running_gateway(given, timing=Timing(prune_s=0.05)):
        await eventually(lambda: sequences(tmp_path) == [])


async def test_x5_refusals_of_strangers_are_held_back_and_those_of_platforms_are_not(
    tmp_path: Path, broker: Broker
) -> None:
    held: list[str] = []

    class Noted(Pauses):
        async def hold(self) -> None:
            held.append("held")

    few = LimitSettings(wrong_keys=1, wrong_keys_per_min=6, qr_images=1, qr_images_per_min=6)
    async with running_gateway(limited(tmp_path, broker, limits=few)) as gateway:
        gateway.app.state.parts.limits.pauses = Noted()
        assert 429 in [(await gateway.get("/reservations")).status_code for _ in range(5)]
        assert held == []
        assert [(await gateway.get("/reservations", X_API_Key="guess")).status_code for _ in range(2)][
            1
        ] == 429
        assert held == ["held"]
        statuses = [(await gateway.http.get("/qrcode/DLV-DROP-res_1-1234")).status_code for _ in range(2)]
        assert (statuses, held) == ([200, 429], ["held", "held"])


async def test_x5_no_more_than_a_few_refusals_are_held_back_at_once() -> None:
    pauses = Pauses(pause_s=3600, most=2)
    waiting = [asyncio.create_task(pauses.hold()) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await pauses.hold()
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = asyncio.create_task(pauses.hold())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)


async def test_every_key_is_compared_in_constant_time_whatever_was_given(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As hashes of one length, each with `compare_digest`, whether an earlier one was right or none is."""
    compared: list[tuple[int, int]] = []

    def noting(given: bytes, known: bytes) -> bool:
        compared.append((len(given), len(known)))
        return really(given, known)

    really = hmac.compare_digest
    monkeypatch.setattr("hmac.compare_digest", noting)
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        platforms = len(gateway.app.state.parts.settings.platforms)
        for key in (KEY, OTHER_KEY, KEY[:-1] + "x", "x", "x" * 500):
            compared.clear()
            await gateway.get("/reservations", X_API_Key=key)
            assert compared[:platforms] == [(32, 32)] * platforms
        for key in (OPERATIONS_KEY, "x"):
            compared.clear()
            await gateway.http.get("/operations", headers={"Authorization": basic(key)})
            assert compared == [(32, 32)]
