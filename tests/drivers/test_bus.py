"""The bus owner on a virtual-time loop and a byte-exact cable: gaps, order, late and lost replies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.modbus import build_frame
from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.requests import Read
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.drivers.simulated.line import FrameSeen
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.errors import BadReply, BusTimeout, NotSent, PortLost
from tools.simulate.virtual_loop import VirtualLoop

NEEDS = BusNeeds(turnaround_ms=20, drain_ms=60)
READ = Read(3, 20, 1)


class Register:
    """A device whose every register holds its own address; late by `late_s`, silent for `silent` requests."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.silent = 0
        self.answers: list[bytes] = []

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        if frame[0] != self.address:
            return None
        if self.silent:
            self.silent -= 1
            return None
        if self.answers:
            return self.answers.pop(0)
        return with_crc(bytes([self.address, 3, 2]) + frame[2:4])


def on_bus(
    test: Callable[[BusOwner, MemoryCable, list[Register], list[FrameSeen]], Awaitable[None]],
    *,
    baud: int = 19200,
    kind: Callable[[int], Register] | None = None,
    **options: Any,
) -> None:
    """Runs a test in virtual time against a bus with the devices 1 to 3."""

    async def run() -> None:
        devices = [(kind or Register)(n) for n in (1, 2, 3)]
        seen: list[FrameSeen] = []
        cable = MemoryCable(asyncio.get_running_loop(), devices, baud=baud, on_frame=seen.append, **options)
        bus = BusOwner("main", cable, baud=baud, bits_per_character=10)
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        try:
            await test(bus, cable, devices, seen)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def ask(
    bus: BusOwner, device: int, register: int = 20, priority: Priority = Priority.POLL
) -> Coroutine[Any, Any, list[int]]:
    return bus.transact(device, Read(3, register, 1), NEEDS, priority)


@pytest.mark.parametrize("baud", [9600, 19200, 115200])
@pytest.mark.parametrize("split", [None, 1, 3])
def test_frames_keep_their_distance_and_nothing_is_early(baud: int, split: int | None) -> None:
    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        for number in range(30):
            assert await ask(bus, 1 + number % 3, number) == [number]
        figures = cable.figures()
        assert (figures.requests, figures.replies) == (30, 30)
        assert (figures.early_requests, figures.collisions) == (0, 0)

    on_bus(test, baud=baud, split=split)


def test_a_command_overtakes_the_polls_that_wait() -> None:
    async def test(bus: BusOwner, _: MemoryCable, __: list[Register], ___: list[FrameSeen]) -> None:
        order: list[str] = []

        async def one(name: str, priority: Priority) -> None:
            await ask(bus, 1, priority=priority)
            order.append(name)

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(one(f"poll {number}", Priority.POLL))
            await asyncio.sleep(0.005)  # the first poll is on the wire
            group.create_task(one("watch", Priority.WATCH))
            group.create_task(one("command", Priority.COMMAND))
        assert order == ["poll 0", "command", "watch", "poll 1", "poll 2"]

    on_bus(test)


def test_a_late_reply_is_never_the_answer_to_the_next_question() -> None:
    async def test(bus: BusOwner, cable: MemoryCable, devices: list[Register], _: list[FrameSeen]) -> None:
        devices[0].silent = 1
        loop = asyncio.get_running_loop()
        late = with_crc(bytes([1, 3, 2]) + (10).to_bytes(2, "big"))
        asked = asyncio.create_task(ask(bus, 1, 10))
        with pytest.raises(BusTimeout):
            await asked
        loop.call_later(0.03, cable._arrive, late)  # the straggler, while the owner backs off
        with pytest.raises(NotSent):
            await ask(bus, 1, 20)  # a poll does not wait for it
        assert await ask(bus, 1, 20, Priority.WATCH) == [20]
        assert await ask(bus, 1, 30) == [30]
        assert (bus.counters.late_replies, bus.counters.stray_bytes) == (1, 0)
        assert bus.counters.timeouts == 1

    on_bus(test)


def test_a_damaged_or_foreign_reply_is_a_fault_and_the_bus_goes_on() -> None:
    async def test(bus: BusOwner, _: MemoryCable, devices: list[Register], __: list[FrameSeen]) -> None:
        good = with_crc(bytes([1, 3, 2, 0, 20]))
        devices[0].answers = [good[:-1], b"\0" + good[:-1], with_crc(bytes([2, 3, 2, 0, 20])), good[:3]]
        for _fault in range(4):
            with pytest.raises((BadReply, BusTimeout)):
                await ask(bus, 1)
        assert await ask(bus, 1) == [20]

    on_bus(test)


def test_a_lost_port_fails_what_waits_and_comes_back_by_itself() -> None:
    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        asked = [asyncio.create_task(ask(bus, n)) for n in (1, 2, 3)]
        await asyncio.sleep(0.003)
        cable.unplug()
        for task in asked:
            with pytest.raises(PortLost):
                await task
        with pytest.raises(PortLost):
            await ask(bus, 1)
        await asyncio.sleep(5)
        cable.plug()
        assert await bus.wait_open(2)
        assert await ask(bus, 1) == [20]

    on_bus(test)


def test_a_device_that_needs_a_longer_gap_gets_it() -> None:
    async def test(bus: BusOwner, _: MemoryCable, __: list[Register], seen: list[FrameSeen]) -> None:
        slow = BusNeeds(gap_ms=50)
        for _time in range(3):
            await bus.transact(1, READ, slow, Priority.POLL)
        starts = [f.start_ns for f in seen if f.data == build_frame(1, READ)]
        ends = [f.end_ns for f in seen if f.data != build_frame(1, READ)]
        gaps_ms = [(start - end) / 1e6 for start, end in zip(starts[1:], ends, strict=False)]
        assert all(50 <= gap < 52 for gap in gaps_ms), gaps_ms

    on_bus(test)


def test_a_line_with_constant_noise_hangs_no_request() -> None:
    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        async def babble() -> None:
            while True:
                cable._arrive(b"\x55")
                await asyncio.sleep(0.004)

        babbling = asyncio.create_task(babble())
        for _time in range(3):
            async with asyncio.timeout(2):
                with suppress(BadReply, BusTimeout):
                    assert await ask(bus, 1) == [20]
        babbling.cancel()
        await asyncio.sleep(1)
        assert await ask(bus, 1) == [20]

    on_bus(test)


def test_a_request_whose_time_is_over_is_not_sent() -> None:
    async def test(bus: BusOwner, cable: MemoryCable, devices: list[Register], _: list[FrameSeen]) -> None:
        devices[0].silent = 1
        failing = asyncio.create_task(ask(bus, 1))
        await asyncio.sleep(0.005)
        deadline_s = asyncio.get_running_loop().time() + 0.02
        with pytest.raises(NotSent):
            await bus.transact(2, READ, NEEDS, Priority.COMMAND, deadline_s)
        with pytest.raises(BusTimeout):
            await failing
        assert cable.figures().requests == 1

    on_bus(test)


def test_requests_waiting_for_a_closed_bus_fail() -> None:
    async def run() -> None:
        cable = MemoryCable(asyncio.get_running_loop(), [Register(1)])
        bus = BusOwner("main", cable, baud=19200, bits_per_character=10)
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        asking = asyncio.create_task(ask(bus, 1))
        await asyncio.sleep(0.003)  # its request is on the wire
        task.cancel()
        with pytest.raises(PortLost):
            async with asyncio.timeout(1):
                await asking

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
