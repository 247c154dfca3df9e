"""Replies that come late, by any amount: no value is ever taken from another device or register."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.health import DEAD_AFTER
from edge_agent.drivers.lock_protocols import Cu16Codec
from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.requests import LockStatus, Read, Unlock
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.drivers.simulated.line import FrameSeen
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.errors import BusFault, BusTimeout, NotSent, PortLost
from tests.drivers.test_bus import Register, on_bus
from tools.simulate.virtual_loop import VirtualLoop

NEEDS = BusNeeds(turnaround_ms=50, drain_ms=150)
DELAYS_MS = [*range(150, 1501, 75), 30, 48, 52, 55, 60, 70, 100]


class Numbered(Register):
    """A device whose register r holds 256 × its address + r, so that a value says whence it is."""

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        if frame[0] != self.address:
            return None
        first, count = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
        registers = range(first, first + count)
        data = b"".join((self.address << 8 | register).to_bytes(2, "big") for register in registers)
        return with_crc(bytes([self.address, frame[1], len(data)]) + data)


@pytest.mark.parametrize("delay_ms", DELAYS_MS)
def test_a_late_reply_is_matched_to_no_other_request(delay_ms: int) -> None:
    rng = Random(delay_ms)

    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        good = bad = 0

        async def ask(device: int, register: int, function: int, count: int, priority: Priority) -> None:
            nonlocal good, bad
            try:
                values = await bus.transact(device, Read(function, register, count), NEEDS, priority)
            except NotSent:
                await asyncio.sleep(0.02)
            except BusFault:
                bad += 1
            else:
                assert values == [device << 8 | r for r in range(register, register + count)]
                good += 1

        async def somebody(device: int, priority: Priority) -> None:
            for _ in range(60):
                await ask(device, rng.randrange(40), rng.choice((3, 4)), rng.choice((1, 1, 2)), priority)
                await asyncio.sleep(rng.random() * 0.05)

        async def trouble() -> None:
            """Every reply of device 1 is late; those of the others sometimes."""
            cable.trouble.latenesses_ns[1].begin(delay_ms * 1_000_000)
            while True:
                await asyncio.sleep(rng.random())
                late_ms = min(1500, delay_ms * rng.uniform(0.3, 1.3))
                end = cable.trouble.latenesses_ns[rng.choice((2, 3))].begin(round(late_ms * 1e6))
                await asyncio.sleep(rng.random() * 0.3)
                end()

        spoiling = asyncio.create_task(trouble())
        async with asyncio.TaskGroup() as group:
            for device in (1, 2, 3):
                group.create_task(somebody(device, Priority.WATCH))
                group.create_task(somebody(device, Priority.POLL))
        spoiling.cancel()
        assert good > 60
        assert bad > 3 or delay_ms < 60

    on_bus(test, kind=Numbered)


def test_a_request_equal_to_one_with_an_owed_reply_waits_for_it() -> None:
    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        loop = asyncio.get_running_loop()
        end = cable.trouble.latenesses_ns[1].begin(900_000_000)
        with pytest.raises(BusTimeout):
            await bus.transact(1, Read(3, 10, 1), NEEDS, Priority.WATCH)
        end()
        begun_s = loop.time()
        assert await bus.transact(1, Read(4, 20, 1), NEEDS, Priority.WATCH) == [0x114]  # cannot be mistaken
        assert loop.time() - begun_s < 0.3
        assert await bus.transact(1, Read(3, 30, 1), NEEDS, Priority.WATCH) == [0x11E]
        assert 0.7 < loop.time() - begun_s < 1.0, "asked as soon as the late one had come"
        assert bus.counters.late_replies == 1
        assert bus.readings_needed(1) == 2

    on_bus(test, kind=Numbered)


def test_the_same_question_again_needs_one_more_reading_than_replies_are_owed() -> None:
    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        assert bus.readings_needed(1) == 1
        end = cable.trouble.silences[1].begin(None)
        for owed in (1, 2):
            with pytest.raises(BusTimeout):
                await bus.transact(1, Read(3, 10, 1), NEEDS, Priority.WATCH)
            assert bus.readings_needed(1) == 1 + owed
        end()
        assert await bus.transact(1, Read(3, 10, 1), NEEDS, Priority.WATCH) == [0x10A]
        assert bus.readings_needed(1) == 3, "that may have been the answer to the first"
        assert bus.readings_needed(2) == 1
        await asyncio.sleep(2.5)
        assert bus.readings_needed(1) == 1

    on_bus(test, kind=Numbered)


def test_a_command_does_not_wait_for_a_silent_device() -> None:
    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        loop = asyncio.get_running_loop()
        cable.trouble.silences[1].begin(None)
        for _failure in range(DEAD_AFTER):
            with pytest.raises(BusTimeout):
                await bus.transact(1, Read(3, 10, 1), NEEDS, Priority.WATCH)
        await asyncio.sleep(1)
        probing = asyncio.create_task(bus.transact(1, Read(3, 10, 1), NEEDS, Priority.POLL))
        await asyncio.sleep(0.02)  # its request has passed, and it is waited for
        begun_s = loop.time()
        assert await bus.transact(2, Read(3, 10, 1), NEEDS, Priority.COMMAND) == [0x20A]
        assert loop.time() - begun_s < 0.02, "a transaction's own time, no more"
        with pytest.raises(BusTimeout):
            await probing
        assert cable.figures().early_requests == 0

    on_bus(test, kind=Numbered)


def test_polls_get_their_turn_between_watching_reads() -> None:
    async def test(bus: BusOwner, _: MemoryCable, __: list[Register], ___: list[FrameSeen]) -> None:
        order: list[str] = []

        async def watch() -> None:
            for _ in range(12):
                await bus.transact(1, Read(3, 10, 1), NEEDS, Priority.WATCH)
                order.append("watch")

        async def poll() -> None:
            for _ in range(3):
                await bus.transact(2, Read(3, 10, 1), NEEDS, Priority.POLL)
                order.append("poll")

        async with asyncio.TaskGroup() as group:
            for _two in range(2):  # always one that waits
                group.create_task(watch())
            group.create_task(poll())
        assert order.index("poll") <= 4
        assert order[:16].count("poll") == 3

    on_bus(test, kind=Numbered)


def test_a_request_whose_time_runs_out_during_the_backoff_of_its_device_fails_in_time() -> None:
    """At the very instant of its deadline: a bus that only checked again then would loop without end."""

    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        loop = asyncio.get_running_loop()
        end = cable.trouble.silences[1].begin(None)
        with pytest.raises(BusTimeout):
            await bus.transact(1, Read(3, 10, 1), NEEDS, Priority.COMMAND)
        end()
        looked = 0
        choose = bus._queue.choose

        def counting(now_s: float) -> Any:
            nonlocal looked
            looked += 1
            assert looked < 100, "it turns round and round"
            return choose(now_s)

        bus._queue.choose = counting  # type: ignore[method-assign]
        deadline_s = loop.time() + 0.03
        with pytest.raises(NotSent):
            await bus.transact(1, Read(3, 10, 1), NEEDS, Priority.COMMAND, deadline_s)
        assert loop.time() - deadline_s < 0.001

    on_bus(test, kind=Numbered)


def test_a_poll_that_waits_for_its_turn_is_let_go_when_its_device_comes_to_rest() -> None:
    """A poller asks one device after another: it must not stand still with one that owes a reply."""

    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        loop = asyncio.get_running_loop()
        end = cable.trouble.silences[1].begin(None)
        watching = asyncio.create_task(bus.transact(1, Read(3, 10, 1), NEEDS, Priority.WATCH))
        await asyncio.sleep(0.001)
        polling = asyncio.create_task(bus.transact(1, Read(3, 30, 1), NEEDS, Priority.POLL))
        with pytest.raises(BusTimeout):
            await watching
        end()
        begun_s = loop.time()
        with pytest.raises(NotSent):
            await polling
        assert loop.time() - begun_s < 0.02

    on_bus(test, kind=Numbered)


def test_a_reply_awaited_when_the_port_was_lost_is_owed() -> None:
    """A serial server delivers what it receives to the client that is connected by then."""

    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        asking = asyncio.create_task(bus.transact(1, Read(3, 10, 1), NEEDS, Priority.WATCH))
        await asyncio.sleep(0.002)
        cable.unplug()
        with pytest.raises(PortLost):
            await asking
        cable.plug()
        assert await bus.wait_open(2)
        assert bus.readings_needed(1) == 2
        with pytest.raises(NotSent):  # its answer could be that to the one before
            await bus.transact(1, Read(3, 30, 1), NEEDS, Priority.POLL)

    on_bus(test, kind=Numbered)


def test_an_unacknowledged_unlock_proves_nothing_about_its_board() -> None:
    async def run() -> None:
        cable = MemoryCable(asyncio.get_running_loop(), [])
        bus = BusOwner("main", cable, baud=19200, bits_per_character=10, codec=Cu16Codec())
        task = asyncio.create_task(bus.run())
        await bus.wait_open(1)
        for _failure in range(DEAD_AFTER):
            with pytest.raises(BusTimeout):
                await bus.transact(0, LockStatus(16), NEEDS, Priority.WATCH)
        await bus.transact(0, Unlock(1, acknowledged=False), NEEDS, Priority.COMMAND)
        assert bus.record(0).dead
        assert (bus.record(0).replies, bus.counters.replies) == (0, 0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_a_reply_that_arrives_too_early_is_dropped() -> None:
    async def test(bus: BusOwner, cable: MemoryCable, _: list[Register], __: list[FrameSeen]) -> None:
        stale = with_crc(bytes([1, 3, 2, 0x0B, 0xAD]))
        asked = asyncio.create_task(bus.transact(1, Read(3, 10, 1), NEEDS, Priority.WATCH))
        await asyncio.sleep(0.006)  # the question has just passed, its answer cannot have
        cable._arrive(stale)
        assert await asked == [0x10A]
        assert bus.record(1).unasked == 1
        assert bus.readings_needed(1) == 2

    on_bus(test, kind=Numbered)
