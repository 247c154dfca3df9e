"""Every simulated board that there is a profile for is known by harmless reads."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from edge_agent.app.transports import owner_of
from edge_agent.config import BusSection
from edge_agent.config.wiring import ADDRESSES
from edge_agent.drivers.profiles import load_profile
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.drivers.simulated.devices import Wiring, build_device, framing_of
from edge_agent.drivers.simulated.world import CellBuild, World
from edge_agent.service.bus_service import BusPlace
from edge_agent.service.recognition import Candidate, contacts, likeliest, openings, recognise, speakers
from tools.bench.settings import REPOSITORY
from tools.simulate.virtual_loop import VirtualLoop

PROFILES = {
    path.stem: load_profile(path) for path in sorted((REPOSITORY / "config" / "devices").glob("*.toml"))
}


def known_as(name: str) -> tuple[list[str], list[int]]:
    """What a simulated board of this profile is taken for, and what its door contacts read."""
    profile = PROFILES[name]
    labels = [f"A{n:02d}" for n in range(1, 65)]

    async def run() -> tuple[list[str], list[int]]:
        loop = asyncio.get_running_loop()
        world = World(
            [CellBuild(label) for label in labels],
            clock_ns=lambda: round(loop.time() * 1e9),
            wall_s=loop.time,
        )
        wiring = Wiring(weigh=world.platform("A01"))
        for channel, label in enumerate(labels, 1):
            wiring.inputs[channel] = world.contact(label, 1)
            wiring.probes[channel] = world.probe(label)
        spoken = profile.bus.protocol
        address = ADDRESSES[spoken][0] + 2
        device = build_device("it", name, address, wiring, profile)
        section = BusSection(port="/dev/x", protocol=spoken, baud=19200)
        bus = owner_of("main", section, MemoryCable(loop, [device], framing=framing_of(spoken)))
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        place = BusPlace(bus, "/dev/x", spoken, 19200, (*ADDRESSES[spoken], 247), ())
        found = likeliest(await recognise(place, address, speakers(PROFILES, spoken)))
        levels = await contacts(place, address, profile)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return found, levels

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


@pytest.mark.parametrize("name", PROFILES)
def test_a_board_is_known(name: str) -> None:
    found, levels = known_as(name)
    assert found == [name]
    assert levels == [1] * PROFILES[name].channels("doors")


def test_the_more_holds_the_likelier() -> None:
    candidates = [Candidate("a", 1, 8), Candidate("b", 2, 3), Candidate("c", 2, 4)]
    assert likeliest(candidates) == ["c"]
    assert likeliest([*candidates, Candidate("d", 2, 4)]) == ["c", "d"]
    assert likeliest([]) == []


def test_each_dialect_of_a_lock_board_is_asked_for() -> None:
    assert len(openings(speakers(PROFILES, "8a"))) == 2
    assert len(openings(speakers(PROFILES, "modbus"))) == 1
