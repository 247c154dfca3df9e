"""`forget ORDER` through gateway and journal: afterwards no file holds the order's id, notes or codes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edge_agent.app import Agent
from edge_agent.cli.commands import app
from edge_agent.errors import Code, Refusal
from edge_agent.journal.forgetting import FORGOTTEN
from tests.cloud_gateway.operations.test_remote_api import accepts, operations
from tests.cloud_gateway.support import MACHINE
from tests.support.broker import Broker
from tests.support.real_site import real_site
from tests.support.site import Site, at_site

ORDER, NOTES = "order-of-Mr-Smith", "ring-twice-at-Smith"


def holding(folder: Path, *texts: str) -> list[str]:
    """The files below a folder that hold one of these texts."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(text.encode() in path.read_bytes() for text in texts)]


async def one_life(site: Site, number: int = 1, order: str = ORDER) -> dict[str, Any]:
    """A reservation of this order that is over: dropped off, picked up, its grace ended."""
    made = await site.reserve(number, platform_order_id=order, notes=NOTES)
    rid, label = made["reservation_id"], made["cell"]["description"]
    for name in ("dropoff", "pickup"):
        reply = await site.call(name, rid)
        assert "result" in reply, reply
        site.plant.world.close(label)
        await asyncio.sleep(3)
    await site.until(lambda: rid not in agent_of(site).loop.state.reservations)
    return made


def agent_of(site: Site) -> Agent:
    agent = site.plant.agent
    assert agent is not None
    return agent


def test_the_journal_forgets_an_order_that_is_over(tmp_path: Path) -> None:
    async def visit(site: Site) -> None:
        made = await one_life(site)
        other = await one_life(site, 2, "another-order")
        forgetting, store = agent_of(site).remote.forgetting, agent_of(site).store
        await site.until(lambda: store.sent_through() == agent_of(site).loop.last_sequence)
        assert holding(tmp_path, ORDER)
        assert await forgetting.order(ORDER) == 1
        assert holding(tmp_path, ORDER, f'"drop_off_code": "{made["drop_off_code"]}"') == []
        assert holding(tmp_path, other["platform_order_id"])
        ledger = [row for row in store.timeline((0, 0), 1000) if row["kind"] == "unlock"]
        assert {row["reservation_id"] for row in ledger} == {made["reservation_id"], other["reservation_id"]}
        kept = store.reservation(made["reservation_id"])
        assert kept is not None
        assert (kept.platform_order_id, kept.drop_off_code) == (FORGOTTEN, "-")
        with pytest.raises(Refusal) as caught:
            await forgetting.order(ORDER)
        assert caught.value.code is Code.NOT_FOUND

    at_site(tmp_path, visit)


def test_what_is_not_over_is_not_forgotten(tmp_path: Path) -> None:
    async def visit(site: Site) -> None:
        made = await site.reserve(1, platform_order_id=ORDER)
        with pytest.raises(Refusal, match="is not over") as caught:
            await agent_of(site).remote.forgetting.order(ORDER)
        assert caught.value.code is Code.NOT_ALLOWED
        answer = await agent_of(site).local.enter_code(made["drop_off_code"])
        assert answer.refusal is None

    at_site(tmp_path, visit)


def test_a_forgotten_code_and_the_sign_in_its_place_open_nothing(tmp_path: Path) -> None:
    async def visit(site: Site) -> None:
        made = await one_life(site)
        await site.until(lambda: agent_of(site).store.sent_through() == agent_of(site).loop.last_sequence)
        await agent_of(site).remote.forgetting.order(ORDER)
        pulses = site.pulses()
        qr_text = f"DLV-PICK-{made['reservation_id']}-{made['pickup_code']}"
        for text in (made["pickup_code"], "-", FORGOTTEN, qr_text):
            answer = await agent_of(site).local.enter_code(text)
            assert answer.refusal is not None
        assert site.pulses() == pulses

    at_site(tmp_path, visit)


def test_retention_forgets_by_itself_what_is_old(tmp_path: Path) -> None:
    async def visit(site: Site) -> None:
        await one_life(site)
        await site.reserve(9, platform_order_id="a-live-order")
        store, forgetting = agent_of(site).store, agent_of(site).remote.forgetting
        await site.until(lambda: store.sent_through() == agent_of(site).loop.last_sequence)
        await forgetting._forget_old(1.0)
        assert holding(tmp_path, ORDER)  # it is not old enough
        forgetting._clock = Later(agent_of(site)._environment.clock, 2 * 86_400.0)
        await forgetting._forget_old(1.0)
        assert holding(tmp_path, ORDER) == []
        assert holding(tmp_path, "a-live-order")

    at_site(tmp_path, visit)


class Later:
    """A clock that is ahead."""

    def __init__(self, clock: Any, ahead_s: float) -> None:
        self._clock, self._ahead_s = clock, ahead_s

    def now(self) -> Any:
        now = self._clock.now()
        return type(now)(now.boot_id, now.boottime_ns, now.wall_s + self._ahead_s, now.synced)


async def test_the_gateway_forgets_an_order_and_asks_the_machine(tmp_path: Path, broker: Broker) -> None:
    async with operations(tmp_path, broker) as at:
        at.peer.scripts["forget"] = accepts
        made = await at.gateway.reserve(platform_order_id=ORDER, notes=NOTES)
        rid = made["reservation_id"]
        early = await at.call("POST", "/forget", {"platform_order_id": ORDER})
        assert (early.status_code, early.json()["code"]) == (400, Code.NOT_ALLOWED)
        cancelled = await at.gateway.post(f"/reservations/{rid}/deletes", {})
        assert cancelled.status_code == 200, cancelled.text
        assert await asyncio.to_thread(holding, tmp_path, ORDER)
        done = await at.call("POST", "/forget", {"platform_order_id": ORDER})
        assert done.status_code == 200, done.text
        assert done.json()["reservation_ids"] == [rid]
        sent = [one for one in at.peer.commands if one.name == "forget"]
        assert [one.body["reservation_ids"] for one in sent] == [[rid]]
        assert done.json()["machines"][MACHINE].startswith("svc_")
        held = await asyncio.to_thread(holding, tmp_path, ORDER, NOTES)
        assert [name for name in held if name.startswith("gateway.db")] == []
        again = await at.call("POST", "/forget", {"platform_order_id": ORDER})
        assert again.status_code == 404
        acts = (await at.gateway.http.get("/operations/acts.jsonl", auth=("ada", "x"))).text
        assert ORDER not in acts
        listed = (await at.call("GET", f"/machines/{MACHINE}/service-commands")).json()
        assert ORDER not in json.dumps(listed)


async def test_the_command_forgets_through_the_local_api(tmp_path: Path) -> None:
    mqtt = {"host": "127.0.0.1", "port": 1}
    async with real_site(tmp_path, mqtt, synced=True, access={}) as site:
        rid = site.reserve_here()
        await site.until(lambda: rid in site.agent.loop.state.reservations)
        environment = {"EDGE_AGENT_SOCKET": str(tmp_path / "agent.sock")}

        def run(order: str) -> Result:
            return CliRunner().invoke(app, ["forget", order], env=environment)

        unknown = await asyncio.to_thread(run, "no-such-order")
        assert (unknown.exit_code, "knows no such order" in unknown.output) == (1, True)
        live = await asyncio.to_thread(run, "o")
        assert (live.exit_code, f"reservation {rid} is not over" in live.output) == (1, True)
