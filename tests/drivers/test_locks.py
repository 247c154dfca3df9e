"""A solenoid that its board cannot switch off: timed here, and off whatever becomes of the switching on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import cast

import pytest

from edge_agent.drivers.boards import Device, SwitchedLock, blocks, lock_at, outputs_of
from edge_agent.drivers.bus import BusOwner
from edge_agent.drivers.profiles import Profile, load_profile
from edge_agent.drivers.requests import Read, Write
from edge_agent.drivers.simulated.cable import BadMedium, MemoryCable
from edge_agent.drivers.simulated.devices import Wiring, build_device
from edge_agent.errors import BusFault, NotSent
from tools.simulate.virtual_loop import VirtualLoop

PROFILE = Path(__file__).resolve().parents[2] / "config" / "devices" / "cheap-4-relay.toml"
PULSE_MS = 300


class Solenoid:
    """Takes down since when it is on, and the longest time that it was."""

    def __init__(self) -> None:
        self.on_ns: int | None = None
        self.spans_ms: list[float] = []

    def load(self, at_ns: int, until_ns: int | None) -> None:
        on = until_ns is None or until_ns > at_ns
        if on and self.on_ns is None:
            self.on_ns = at_ns
        elif not on and self.on_ns is not None:
            self.spans_ms.append((at_ns - self.on_ns) / 1e6)
            self.on_ns = None


def with_lock(
    test: Callable[[SwitchedLock, Solenoid, MemoryCable], Awaitable[None]],
    described: Profile | None = None,
    medium: BadMedium | None = None,
) -> None:
    """`described`: another profile than the usual; its board does what it says."""

    async def run() -> None:
        solenoid, profile = Solenoid(), described or load_profile(PROFILE)
        name = "another" if described else "cheap-4-relay"
        board = build_device("relays", name, 1, Wiring(loads={2: solenoid.load}), profile)
        cable = MemoryCable(asyncio.get_running_loop(), [board], baud=9600, medium=medium)
        bus = BusOwner("main", cable, baud=9600, bits_per_character=10)
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        assert profile.lock is not None
        lock = lock_at(Device("relays", bus, 1, profile.bus), profile.lock, 2, PULSE_MS)
        assert isinstance(lock, SwitchedLock)
        await test(lock, solenoid, cable)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def later_s() -> float:
    return asyncio.get_running_loop().time() + 5


def test_it_is_on_for_its_time() -> None:
    async def test(lock: SwitchedLock, solenoid: Solenoid, _: MemoryCable) -> None:
        await lock.pulse(later_s())
        assert solenoid.on_ns is not None
        await asyncio.sleep(1)
        (span_ms,) = solenoid.spans_ms
        assert PULSE_MS <= span_ms < PULSE_MS + 60

    with_lock(test)


def test_an_acknowledgement_that_is_lost_switches_it_off_at_once() -> None:
    async def test(lock: SwitchedLock, solenoid: Solenoid, cable: MemoryCable) -> None:
        end = cable.trouble.latenesses_ns[1].begin(400_000_000)  # acted on, answered too late
        with pytest.raises(BusFault):
            await lock.pulse(later_s())
        assert solenoid.on_ns is not None
        end()
        await asyncio.sleep(1)
        assert solenoid.on_ns is None

    with_lock(test)


SEVERAL = {
    15: ({"function": 15, "address": 0, "value": 1}, {"function": 15, "address": 0, "value": 0}),
    16: ({"function": 16, "address": 0, "values": (1,)}, {"function": 16, "address": 0, "values": (0,)}),
}
"""Writes whose replies do not repeat their values: the reply to "on" looks like the one to "off"."""


class LosesOff(BadMedium):
    """Loses the first "off"."""

    def __init__(self) -> None:
        super().__init__(Random(0))
        self.lost = 0

    def __call__(self, frame: bytes) -> bytes:
        off = frame[1] in (15, 16) and len(frame) > 8 and not any(frame[7:-2])
        if off and not self.lost:
            self.lost += 1
            return b""
        return frame


@pytest.mark.parametrize("function", SEVERAL)
@pytest.mark.parametrize("late_ms", [1, *range(100, 460, 30)])
def test_a_late_reply_to_on_is_not_believed_to_be_the_one_to_off(function: int, late_ms: int) -> None:
    on, off = SEVERAL[function]
    document = load_profile(PROFILE).model_dump()
    lock_part = {"channels": 4, "pulse": {"kind": "switched", "on": on, "off": off}, "off": off}
    profile, medium = Profile.model_validate(document | {"lock": lock_part, "relays": None}), LosesOff()

    async def test(lock: SwitchedLock, solenoid: Solenoid, cable: MemoryCable) -> None:
        end = cable.trouble.latenesses_ns[1].begin(late_ms * 1_000_000)
        with suppress(BusFault):
            await lock.pulse(later_s())
        end()
        assert solenoid.on_ns is not None
        await asyncio.sleep(4)
        assert medium.lost == 1
        assert solenoid.on_ns is None

    with_lock(test, profile, medium)


def test_switching_off_is_retried_until_it_is_acknowledged() -> None:
    async def test(lock: SwitchedLock, solenoid: Solenoid, cable: MemoryCable) -> None:
        await lock.pulse(later_s())
        end = cable.trouble.silences[1].begin(None)
        await asyncio.sleep(3)
        assert solenoid.on_ns is not None
        end()
        await asyncio.sleep(1.5)
        assert solenoid.on_ns is None

    with_lock(test)


def test_a_pulse_that_was_not_sent_switches_nothing() -> None:
    async def test(lock: SwitchedLock, solenoid: Solenoid, cable: MemoryCable) -> None:
        with pytest.raises(NotSent):
            await lock.pulse(asyncio.get_running_loop().time() - 1)
        await asyncio.sleep(1)
        assert (solenoid.on_ns, solenoid.spans_ms, cable.figures().requests) == (None, [], 0)

    with_lock(test)


@pytest.mark.parametrize("pulse_ms", [99, 2001])
def test_a_time_that_the_profile_does_not_allow_is_refused(pulse_ms: int) -> None:
    profile = load_profile(PROFILE)
    assert profile.lock is not None
    with pytest.raises(ValueError, match="can do 100 to 2000 ms"):
        lock_at(Device("relays", cast("BusOwner", None), 1, profile.bus), profile.lock, 1, pulse_ms)


def test_points_are_read_in_as_few_blocks_as_the_board_allows() -> None:
    assert blocks(2, 0, 16, None) == [Read(2, 0, 16)]
    assert blocks(2, 0, 16, 8) == [Read(2, 0, 8), Read(2, 8, 8)]
    assert blocks(3, 100, 10, 4) == [Read(3, 100, 4), Read(3, 104, 4), Read(3, 108, 2)]


def test_all_off_is_never_nothing_where_pulses_are_ended_from_here() -> None:
    """A daemon that was killed within a pulse has left the solenoid on: its next start switches it off."""
    profile = load_profile(PROFILE)
    assert profile.lock is not None
    bare = profile.model_copy(
        update={"lock": profile.lock.model_copy(update={"off": None, "all_off": None}), "relays": None}
    )
    device = Device("relays", cast("BusOwner", None), 1, profile.bus)
    outputs = outputs_of(device, bare)
    assert outputs is not None
    assert outputs._requests == tuple(Write(5, channel, 0) for channel in range(1, 5))
