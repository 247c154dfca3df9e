"""A process that stood still knows that what it finds in its socket is older than it looks."""

from __future__ import annotations

import asyncio

from edge_agent.cloud.command_message import StallWatch
from tools.simulate.virtual_loop import VirtualLoop


def test_a_stall_is_reported_while_it_lasts_and_shortly_after() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        watch = StallWatch()
        watch.start()
        await asyncio.sleep(60)
        assert watch.stalled_s() == 0.0
        loop.stand_still(10.3)
        assert 10.0 <= watch.stalled_s() <= 10.6  # before any timer ran
        await asyncio.sleep(0.01)
        assert 10.0 <= watch.stalled_s() <= 10.6  # a slow thread hands its message over after the beat
        await asyncio.sleep(1.0)
        assert watch.stalled_s() == 0.0
        watch.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
