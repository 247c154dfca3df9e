"""A client that was answered EXPIRED or OFFLINE sees no door open afterwards. The broker may deliver the same
bytes again, as it should when it got no acknowledgement."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.model import Instant
from edge_agent.runtime.incoming import IncomingCommand
from tests.support.site import Site, at_site


def kept_by_the_broker(site: Site) -> list[IncomingCommand]:
    """Every command that arrives from now on; none of their PUBACKs reaches the broker."""
    agent = site.plant.agent
    assert agent is not None
    kept: list[IncomingCommand] = []
    handle = agent.commands.handle

    def take(incoming: IncomingCommand) -> None:
        kept.append(incoming)
        handle(replace(incoming, acknowledge=lambda: None))

    agent.commands.handle = take  # type: ignore[method-assign]
    return kept


@pytest.mark.behaviour("opening-13")
def test_a_restart_before_the_lock_moved(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        kept_by_the_broker(site)
        agent = site.plant.agent
        assert agent is not None
        asking = asyncio.create_task(site.call("dropoff", "res_1"))
        await site.until(lambda: agent.store.request("dropoff-res_1") is not None)
        assert site.pulses() == 0
        await site.plant.kill()
        site.plant.start()  # the broker delivers it again
        assert (await asking)["error"]["code"] == 14
        await site.plant.kill()
        site.plant.start()  # and once more
        await asyncio.sleep(8)
        assert site.pulses() == 0
        assert "result" in await site.call("dropoff", "res_1")  # the same request, retried
        assert site.pulses() == 1

    at_site(tmp_path, test)


@pytest.mark.behaviour("opening-13")
def test_a_journal_that_could_not_be_written(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve()
        agent = site.plant.agent
        assert agent is not None
        kept = kept_by_the_broker(site)
        site.plant.lifeline.disk_full = True
        assert (await site.call("dropoff", "res_1"))["error"]["code"] == 14
        site.plant.lifeline.disk_full = False
        await asyncio.sleep(2)
        agent.commands.handle(replace(kept[-1], duplicate=True, message_expiry_s=5))
        await asyncio.sleep(5)
        assert site.pulses() == 0
        assert "result" in await site.call("dropoff", "res_1")

    at_site(tmp_path, test)


def test_a_clock_that_is_set_forgets_no_request(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        clock = site.plant.clock
        real = clock.now

        def behind() -> Instant:
            now = real()
            return now if now.synced else replace(now, wall_s=now.wall_s - 30 * 86_400)

        clock.now = behind  # type: ignore[method-assign]
        clock.synced = False
        label = (await site.reserve())["cell"]["description"]
        assert "result" in await site.call("dropoff", "res_1", "attempt-1")
        site.plant.world.close(label)
        await asyncio.sleep(2)
        clock.synced = True
        await site.reserve(2)
        assert "result" in await site.call("dropoff", "res_1", "attempt-1")
        await asyncio.sleep(3)
        assert site.pulses() == 1

    at_site(tmp_path, test)
