"""An adapter that echoes the bus owner's own frames, while devices are silent, dead or late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.health import DEAD_AFTER
from edge_agent.drivers.requests import Read
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.errors import BusTimeout
from tests.drivers.test_bus import NEEDS, Register
from tools.simulate.virtual_loop import VirtualLoop


def on_echoing_bus(test: Callable[[BusOwner, MemoryCable], Awaitable[None]], *, echoes: bool = True) -> None:
    """Runs a test in virtual time; `echoes`: the adapter really does what it is set up for."""

    async def run() -> None:
        cable = MemoryCable(asyncio.get_running_loop(), [Register(1), Register(2)])
        if echoes:
            cable.trouble.echoes.begin(None)
        bus = BusOwner("main", cable, baud=19200, bits_per_character=10, local_echo=True)
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        await test(bus, cable)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def ask(bus: BusOwner, device: int, priority: Priority) -> Awaitable[list[int]]:
    return bus.transact(device, Read(3, 20, 1), NEEDS, priority)


@pytest.mark.parametrize("after_ms", [0, 1, 3, 4, 5, 8, 12])
def test_a_silent_device_that_gives_way_owes_its_reply_however_early(after_ms: int) -> None:
    async def test(bus: BusOwner, cable: MemoryCable) -> None:
        cable.trouble.silences[1].begin(None)
        for _failure in range(DEAD_AFTER):
            with pytest.raises(BusTimeout):
                await ask(bus, 1, Priority.WATCH)
        await asyncio.sleep(3)
        probing = asyncio.ensure_future(ask(bus, 1, Priority.POLL))
        await asyncio.sleep(0.0001 + after_ms / 1000)
        assert await ask(bus, 2, Priority.COMMAND) == [20]
        with pytest.raises(BusTimeout):
            await probing
        assert bus.readings_needed(1) == 2
        assert len(bus.record(1).owed) == 1
        assert bus.counters.bad_replies == 0

    on_echoing_bus(test)


def test_after_complete_silence_the_reply_may_still_arrive() -> None:
    async def test(bus: BusOwner, _: MemoryCable) -> None:
        with pytest.raises(BusTimeout):
            await ask(bus, 3, Priority.WATCH)
        assert len(bus.record(3).owed) == 1

    on_echoing_bus(test, echoes=False)
