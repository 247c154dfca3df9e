"""X2 from the broker's side: floods of messages neither fill the memory nor keep the loop from its work."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from edge_agent.cloud import publisher as publisher_module
from edge_agent.mqtt.receive_queue import ReceiveQueue
from edge_agent.mqtt.settings import MOST_WAITING_MESSAGES, RECEIVE_MAXIMUM
from edge_agent.runtime import command_handler as handler_module
from tests.cloud.test_link import make_link, running, until
from tests.support.site import Site, at_site
from tools.simulate.plant import rfc3339


@dataclass
class Sent:
    qos: int
    number: int


async def test_x2_messages_are_handled_one_per_loop_turn_in_order() -> None:
    taken: list[int] = []
    turns: list[int] = []
    receive_queue: ReceiveQueue[Sent] = ReceiveQueue(
        lambda message: taken.append(message.number), MOST_WAITING_MESSAGES, 1
    )

    def flood() -> None:
        for number in range(500):
            receive_queue.put(Sent(1, number))

    await asyncio.to_thread(flood)
    while len(taken) < 500:
        turns.append(len(taken))
        await asyncio.sleep(0)
    assert taken == list(range(500))
    assert max(after - before for before, after in pairwise(turns)) == 1
    assert receive_queue.dropped == 0


async def test_x2_waiting_qos_0_messages_are_bounded_and_the_rest_counted() -> None:
    taken: list[int] = []
    receive_queue: ReceiveQueue[Sent] = ReceiveQueue(
        lambda message: taken.append(message.number), MOST_WAITING_MESSAGES, 1
    )
    for number in range(10_000):
        receive_queue.put(Sent(0, number))
    receive_queue.put(Sent(1, -1))
    while not taken or taken[-1] != -1:
        await asyncio.sleep(0)
    assert taken == [*range(MOST_WAITING_MESSAGES), -1]
    assert receive_queue.dropped == 10_000 - MOST_WAITING_MESSAGES


async def test_x2_the_broker_is_asked_for_a_bounded_number_unacknowledged() -> None:
    connects: list[bytes] = []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connects.append(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    async with server, running(make_link(server.sockets[0].getsockname()[1])):
        await until(lambda: bool(connects))
    assert b"\x21" + RECEIVE_MAXIMUM.to_bytes(2, "big") in connects[0]  # MQTT 5, 3.1.2.11.3


def test_x2_too_many_waiting_commands_are_answered_offline_and_never_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_module, "MOST_WAITING_COMMANDS", 3)

    async def test(site: Site) -> None:
        assert site.plant.agent is not None
        now_s = asyncio.get_running_loop().time()
        times = {"issued_at": rfc3339(now_s), "expires_at": rfc3339(now_s + 30)}
        specs = list(site.plant.agent.loop.layout.specs.values())[:6]

        async def block(cell_id: str, request_id: str) -> int:
            body = {"request_id": request_id, "cell_id": cell_id, "reason": "x"} | times
            reply = await site.plant.broker.call("block-cell", body)
            return int(reply.get("error", {}).get("code", 0))

        codes = await asyncio.gather(*(block(spec.cell_id, f"b{n}") for n, spec in enumerate(specs)))
        assert codes == [0, 0, 0, 14, 14, 14]
        cells = site.plant.agent.loop.state.cells
        assert [cells[spec.label].blocked is not None for spec in specs] == [True] * 3 + [False] * 3
        assert await block(specs[3].cell_id, "b3") == 14, "delivered again it gets the same answer"
        assert await block(specs[3].cell_id, "anew") == 0

    at_site(tmp_path, test)


def test_x2_remembered_refusals_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_module, "MOST_REFUSED", 5)

    async def test(site: Site) -> None:
        assert site.plant.agent is not None
        handler = site.plant.agent.commands
        for number in range(20):
            handler._remember_refused(f"r{number}", "d", "{}")
        assert [key for key, _ in handler._refused] == [f"r{n}" for n in range(15, 20)]

    at_site(tmp_path, test)


def test_x2_replies_that_the_broker_does_not_accept_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "MOST_REPLIES", 10)
    monkeypatch.setattr(publisher_module, "MOST_REPLY_CHARACTERS", 500)

    async def test(site: Site) -> None:
        assert site.plant.agent is not None
        publisher = site.plant.agent.publisher
        monkeypatch.setattr(publisher._link, "publish", lambda message, acknowledged=None: None)
        for number in range(30):
            publisher.reply("locker/v1/m/reply/x", None, f"{number:020d}")
        assert len(publisher._replies) == 10
        publisher._replies.clear()
        for number in range(30):
            publisher.reply("locker/v1/m/reply/x", None, f"{number:0100d}")
        assert len(publisher._replies) == 5
        await asyncio.sleep(publisher_module.REPLY_LIFE_S + 1)
        publisher.reply("locker/v1/m/reply/x", None, json.dumps({}))
        assert len(publisher._replies) == 1

    at_site(tmp_path, test)
