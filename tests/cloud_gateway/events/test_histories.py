"""Machines that do not know what they did before get an answer, in whatever order things connect."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import time
from typing import Any

import pytest

from cloud_gateway.db.store import Store
from cloud_gateway.events.restore_sender import RestoreSender
from cloud_gateway.machines.commands import MachineCommands
from cloud_gateway.machines.mqtt_link import OutgoingCommand
from edge_agent.protocol.events import HistoryState, Online
from tests.cloud_gateway.peer import MACHINE
from tests.cloud_gateway.support import QUICK, eventually


class RecordedLink:
    """A link to the broker that records the topics to which it publishes."""

    def __init__(self) -> None:
        self.connected = False
        self.topics: list[str] = []

    async def publish(self, command: OutgoingCommand, _: Any) -> None:
        self.topics.append(command.topic)


def online(history: HistoryState) -> Online:
    return Online(online=True, boot_id="b", agent_version="1", at="2026-01-01T00:00:00Z", history=history)


@pytest.mark.parametrize("history", ["asking", "lost"])
async def test_a_retained_question_that_arrives_before_the_link_is_connected_is_answered(
    tmp_path: Path, history: HistoryState
) -> None:
    store, link = Store(f"sqlite:///{tmp_path}/db"), RecordedLink()
    machines = MachineCommands("s", QUICK, time, link)
    await store.open()
    restore_sender = RestoreSender(store, machines)
    answering = asyncio.create_task(restore_sender.run())
    machines.set_online(MACHINE, online(history))
    restore_sender.machine_came_online(MACHINE)
    await asyncio.sleep(0)
    link.connected = True
    await eventually(lambda: [topic for topic in link.topics if topic.endswith("/cmd/restore")])
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    await store.close()
