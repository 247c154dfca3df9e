"""Two machines of one id: the digest that the broker keeps proves the other one (W21)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from edge_agent.cloud.link import STEADY_S
from edge_agent.model import Alarm
from edge_agent.protocol.topics import Topics
from tests.support.site import Site, at_site


def refused(site: Site) -> bool:
    """Whether LINK_REFUSED stands."""
    assert site.plant.agent is not None
    return any(alarm.alarm is Alarm.LINK_REFUSED for alarm in site.plant.agent.loop.state.alarms.values())


@pytest.mark.parametrize("ahead", [-1, 0, 5])
def test_w21_a_digest_of_another_run_proves_a_twin_and_freezes_no_code(tmp_path: Path, ahead: int) -> None:
    """The machine never found a digest at its broker; the one that it published there was overwritten."""

    async def test(site: Site) -> None:
        await site.reserve(1)
        broker = site.plant.broker
        topic = Topics(site.plant.settings.machine.machine_id).digest
        await site.until(lambda: topic in broker.retained)
        digest = json.loads(broker.retained[topic])
        await asyncio.sleep(1)
        agent = site.plant.agent
        assert agent is not None
        before = agent.loop.state.history
        broker.leave()
        other = digest | {"run": "run-of-another", "last_sequence": digest["last_sequence"] + ahead}
        broker.retained[topic] = json.dumps(other)
        broker.come_back()
        await site.until(lambda: refused(site))
        assert agent.loop.state.history == before
        await asyncio.sleep(STEADY_S + 6)
        assert not refused(site)

    at_site(tmp_path, test)
