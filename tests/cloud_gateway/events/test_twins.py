"""Two machines under one name: a copied card, the word of an operator, and whose events count."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_gateway.events.audit import NOT_OURS
from edge_agent.cloud import link as link_module
from edge_agent.model import Alarm
from tests.cloud_gateway.machines.test_mqtt_link import stored
from tests.cloud_gateway.operations.test_routes import ask, basic
from tests.cloud_gateway.support import OPERATIONS_KEY, Gateway, eventually, running_gateway, settings
from tests.support.broker import Broker
from tests.support.real_site import RealSite, real_site
from tools.bench.ports import free_port

NUMBER_TAKEN = "another event has its number, or a later one was applied"
PARCEL = {"width": 200, "height": 100, "depth": 300}
ORDER = {
    "machine_id": "m1",
    "platform_order_id": "o",
    "packaging": {"width": 200, "height": 100, "depth": 300},
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that come back at once after a takeover, so that the twins meet often."""
    monkeypatch.setattr(link_module, "FIRST_REFUSED_S", 0.05)
    monkeypatch.setattr(link_module, "LONGEST_REFUSED_S", 0.2)
    monkeypatch.setattr(link_module, "LONGEST_TAKEN_S", 0.4)


def copied(source: Path, target: Path) -> None:
    """The card of a stopped machine, copied."""
    shutil.copytree(source, target)
    (target / "agent.sock").unlink(missing_ok=True)


@asynccontextmanager
async def machine(folder: Path, port: int) -> AsyncIterator[RealSite]:
    """A machine whose card is this folder."""
    async with real_site(folder, {"host": "127.0.0.1", "port": port}, synced=True) as site:
        yield site


async def release(gateway: Gateway) -> None:
    """The word of an operator."""
    headers = {"Authorization": basic(OPERATIONS_KEY)}
    response = await gateway.http.post("/operations/machines/m1/release", headers=headers)
    assert response.status_code == 303, response.text


async def named_twins(gateway: Gateway) -> Any:
    """What `/operations` says of the twins."""
    response = await ask(gateway, "/operations.json")
    return response.json()["machines"][0].get("twins")


def journaled(site: RealSite) -> list[str]:
    """The idempotency keys of all events of a machine's own journal, in order."""
    kept = site.agent.store.events_kept(1, 1000)
    return [json.loads(body)["idempotency_key"] for _, body in kept]


def known(folder: Path) -> set[str]:
    """The ids of the reservations that the gateway knows."""
    return {row[0] for row in stored(folder, "SELECT reservation_id FROM reservations")}


def rejected_events(folder: Path) -> list[tuple[str, str]]:
    """Idempotency key and reason of what the gateway keeps for a person."""
    rows = stored(folder, "SELECT payload, reason FROM rejected")
    return [(json.loads(payload)["idempotency_key"], reason) for payload, reason in rows]


def applied(folder: Path) -> list[str]:
    """The idempotency keys of the events that the gateway has applied, in order."""
    query = "SELECT idempotency_key FROM events WHERE state = 'applied' ORDER BY sequence"
    return [row[0] for row in stored(folder, query)]


async def until_named(gateway: Gateway) -> Any:
    """The twins, once `/operations` names them."""
    async with asyncio.timeout(60):
        while (found := await named_twins(gateway)) is None:
            await asyncio.sleep(0.02)
    return found


@pytest.mark.behaviour("identity-01", "identity-02")
async def test_w21_a_cloned_card_is_granted_nothing_and_loses_no_event(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, copy = tmp_path / "right", tmp_path / "copy"
    right.mkdir()
    async with running_gateway(settings(tmp_path, broker.port)) as gateway:
        async with machine(right, broker.port) as site:
            await gateway.sees("m1")
            mine = (await gateway.post("/reservations", ORDER)).json()
        copied(right, copy)
        async with machine(copy, free_port()) as other:  # it works alone for a while
            strange = other.reserve_here()
            await other.until(lambda: other.held(strange) == "PENDING")
        # The right one comes back a second or more after the first takeover.
        monkeypatch.setattr(link_module, "FIRST_PAUSE_S", 4.0)
        async with machine(right, broker.port) as site:
            await gateway.sees("m1")
            monkeypatch.setattr(link_module, "FIRST_PAUSE_S", 0.2)
            async with machine(copy, broker.port) as other:
                await eventually(lambda: strange in known(tmp_path))  # it took the right one's next number
                ours = site.reserve_here()
                found = await until_named(gateway)
                assert len(set(found["instances"])) == 2
                refused = await gateway.post("/reservations", ORDER)
                assert (refused.status_code, refused.json()["code"]) == (503, 14)
                await site.until(lambda: site.alarm(Alarm.LINK_REFUSED) is not None)
                await other.until(lambda: other.alarm(Alarm.LINK_REFUSED) is not None)
                await serves_the_drop_off(site, mine)
                theirs = set(journaled(other)) - set(journaled(site))
                assert theirs & set(applied(tmp_path))
            await release(gateway)
            await eventually(lambda: applied(tmp_path) == journaled(site), 20)
            assert {key for key, _ in rejected_events(tmp_path)} >= theirs
            assert {reason for _, reason in rejected_events(tmp_path)} <= {NOT_OURS, NUMBER_TAKEN}
            assert (await named_twins(gateway)) is None
            assert (await gateway.until(mine["reservation_id"], "DROPPED_OFF"))["dropped_off_at"]
            assert ours in known(tmp_path)
            async with asyncio.timeout(60):
                while (made := await gateway.post("/reservations", ORDER)).status_code == 503:
                    await asyncio.sleep(0.1)
            assert made.status_code == 200, made.text
            await eventually(lambda: applied(tmp_path) == journaled(site), 20)


async def serves_the_drop_off(site: RealSite, made: Any) -> None:
    """The codes of a machine whose link is refused go on."""
    answer = await site.agent.local.enter_code(made["drop_off_code"])
    assert answer.refusal is None
    site.plant.world.close(site.agent.loop.state.reservations[made["reservation_id"]].cell)
    await site.until(lambda: site.held(made["reservation_id"]) == "DROPPED_OFF")
