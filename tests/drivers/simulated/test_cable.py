"""The cable in memory: a transport like any other, on the loop's own time."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from edge_agent.drivers.simulated.cable import BadMedium, MemoryCable
from edge_agent.drivers.simulated.waveshare import IoBoard
from edge_agent.drivers.transport import Transport
from edge_agent.errors import PortLost

READ = bytes.fromhex("01020000000879CC")
DOORS = bytes.fromhex("01020100A188")


class Ear:
    """What a bus owner receives."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.lost: list[str] = []
        self.arrived = asyncio.Event()

    def on_bytes(self, data: bytes) -> None:
        self.pieces.append(data)
        if b"".join(self.pieces).endswith(DOORS):
            self.arrived.set()


def make_cable(*, split: int | None = None) -> MemoryCable:
    return MemoryCable(asyncio.get_running_loop(), [IoBoard(1, {}, {})], baud=115_200, split=split)


async def test_a_transaction() -> None:
    ear, cable = Ear(), make_cable(split=2)
    line: Transport = cable
    line.open(ear.on_bytes, ear.lost.append)
    line.write(READ)
    await asyncio.wait_for(ear.arrived.wait(), 5)
    assert b"".join(ear.pieces) == DOORS
    assert all(len(piece) == 2 for piece in ear.pieces)
    assert cable.figures().replies == 1
    line.close()


async def test_opening_twice_and_writing_when_closed() -> None:
    ear, cable = Ear(), make_cable()
    with pytest.raises(PortLost):
        cable.write(READ)
    cable.open(ear.on_bytes, ear.lost.append)
    with pytest.raises(PortLost):
        cable.open(ear.on_bytes, ear.lost.append)
    cable.close()
    cable.close()
    cable.open(ear.on_bytes, ear.lost.append)
    cable.close()
    assert ear.lost == []


async def test_unplugging_is_reported_once_and_loses_what_is_under_way() -> None:
    ear, cable = Ear(), make_cable()
    cable.open(ear.on_bytes, ear.lost.append)
    cable.write(READ)
    cable.unplug()
    cable.unplug()
    assert ear.lost == ["the cable was unplugged"]
    with pytest.raises(PortLost):
        cable.write(READ)
    with pytest.raises(PortLost):
        cable.open(ear.on_bytes, ear.lost.append)
    cable.plug()
    # The silence that every request needs, also after the cut.
    await asyncio.sleep(0.00175)
    cable.open(ear.on_bytes, ear.lost.append)
    cable.write(READ)
    await asyncio.wait_for(ear.arrived.wait(), 5)
    # Only the second request reached the board.
    assert cable.figures().requests == 1
    cable.close()


def test_damage_on_the_medium_is_drawn_from_its_generator() -> None:
    def pass_through(seed: int) -> list[bytes]:
        medium = BadMedium(Random(seed), loss=0.3, damage=0.3)
        return [medium(READ) for _ in range(200)]

    frames = pass_through(7)
    assert frames == pass_through(7)
    lost = frames.count(b"")
    damaged = [frame for frame in frames if frame not in (b"", READ)]
    assert 30 < lost < 90
    assert 20 < len(damaged) < 70
    changed_bits = [(int.from_bytes(frame) ^ int.from_bytes(READ)).bit_count() for frame in damaged]
    assert set(changed_bits) == {1}


async def test_a_cable_that_drops_everything_delivers_nothing() -> None:
    ear, seen = Ear(), asyncio.Event()
    medium = BadMedium(Random(0), loss=1.0)
    loop = asyncio.get_running_loop()
    cable = MemoryCable(loop, [IoBoard(1, {}, {})], medium=medium, on_frame=lambda _: seen.set())
    cable.open(ear.on_bytes, ear.lost.append)
    cable.write(READ)
    await asyncio.wait_for(seen.wait(), 5)
    assert (ear.pieces, cable.figures().replies, cable.figures().damaged) == ([], 0, 1)
    cable.close()
