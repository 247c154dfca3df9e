"""The owner of one RS-485 pair: every transaction goes through here, one at a time.

Commands overtake polls. Between frames the line is silent for 3.5 characters (Modbus over serial line 1.02,
2.5.1.1: fixed 1.75 ms above 19200 baud) or longer where a device needs it. After a timeout the line is
drained until it has been quiet for longer than the device's worst lateness, so that a late reply is never
taken for the answer to the next question.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from edge_agent.drivers.modbus import Read, Request, build_frame, complete_length, parse_reply, reply_length
from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.transport import Transport
from edge_agent.errors import BusFault, BusTimeout, DeviceFault, NotSent, PortLost

REOPEN_S = 0.5
"""Pause between attempts to take a lost port again."""
COMMAND_FOLLOWS_S = 0.006
"""After a reading at command priority polls wait so long: the pulse that it decides on is being journaled,
and a poll that slipped in between would cost it a whole transaction."""


LONGEST_DRAIN_S = 0.5
"""How much longer than a device's drain time a babbling line is listened to."""


class Priority(IntEnum):
    """Who goes first; within one priority, who came first."""

    COMMAND = 0
    WATCH = 1
    POLL = 2


@dataclass(slots=True)
class Counters:
    """What has passed on the bus since the start."""

    requests: int = 0
    replies: int = 0
    timeouts: int = 0
    bad_replies: int = 0
    exceptions: int = 0
    stray_bytes: int = 0
    port_losses: int = 0


@dataclass(order=True, slots=True)
class _Job:
    priority: Priority
    number: int
    device_id: int = field(compare=False)
    request: Request = field(compare=False)
    needs: BusNeeds = field(compare=False)
    done: asyncio.Future[list[int]] = field(compare=False)
    deadline_s: float = field(compare=False, default=float("inf"))


class BusOwner:
    """Serialises transactions on one transport; `run` must be running for `transact` to get anywhere."""

    def __init__(
        self,
        name: str,
        transport: Transport,
        *,
        baud: int,
        bits_per_character: int,
    ) -> None:
        self.name = name
        self.counters = Counters()
        self.last_timeout_s = float("-inf")
        """Loop time at which a reply last failed to come or was damaged."""
        self._transport = transport
        self._character_s = bits_per_character / baud
        self._silence_s = 3.5 * self._character_s if baud <= 19200 else 0.00175
        self._jobs: list[_Job] = []
        self._numbers = 0
        self._wake = asyncio.Event()
        self._line_free_s = 0.0
        self._held_until_s = 0.0
        self._buffer = bytearray()
        self._wanted: tuple[Request, asyncio.Event] | None = None
        self._open = False
        self._opened = asyncio.Event()
        self.on_port: Callable[[bool], None] = lambda up: None
        """Told when the port was taken, and when it was lost or cannot be taken."""
        self._told: bool | None = None

    async def wait_open(self, timeout_s: float) -> bool:
        """Waits until the port is taken; False if that did not happen in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._opened.wait()
        except TimeoutError:
            return False
        return True

    async def transact(
        self,
        device_id: int,
        request: Request,
        needs: BusNeeds,
        priority: Priority,
        deadline_s: float = float("inf"),
    ) -> list[int]:
        """Sends a request that is not older than this call, and returns the bits or registers of its reply.

        After `deadline_s` (loop time) it is not sent any more. Raises `BusTimeout`, `BadReply`, `NotSent`,
        `PortLost` (`BusFault`s) or `DeviceFault`.
        """
        if not self._open:
            raise PortLost(f"bus {self.name}: the port is not open")
        done: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._numbers += 1
        heapq.heappush(self._jobs, _Job(priority, self._numbers, device_id, request, needs, done, deadline_s))
        self._wake.set()
        return await done

    async def run(self) -> None:
        """Takes the port, carries out jobs in order, and takes the port again when it was lost."""
        try:
            while True:
                try:
                    self._transport.open(self._received, self._lost)
                except PortLost:
                    self.counters.port_losses += 1
                    self._tell(False)
                    await asyncio.sleep(REOPEN_S)
                    continue
                self._open = True
                self._opened.set()
                self._tell(True)
                self._line_free_s = asyncio.get_running_loop().time() + self._silence_s
                await self._work()
                self._opened.clear()
                self._transport.close()
                self._fail_all()
                await asyncio.sleep(REOPEN_S)
        finally:
            self._open = False
            self._transport.close()
            self._fail_all()

    async def _work(self) -> None:
        while self._open:
            if not self._jobs:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._until(self._line_free_s)
            if not self._open or not self._jobs:
                continue
            # Chosen only now, so that a command that came during the silence overtakes.
            held_s = self._held_until_s - asyncio.get_running_loop().time()
            if held_s > 0 and self._jobs[0].priority is not Priority.COMMAND:
                self._wake.clear()
                await self._woken_within(held_s)
                continue
            job = heapq.heappop(self._jobs)
            if job.done.cancelled():
                continue
            if asyncio.get_running_loop().time() > job.deadline_s:
                self._give(job, NotSent(f"bus {self.name}: too late for device {job.device_id}"))
                continue
            await self._carry_out(job)

    async def _woken_within(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _carry_out(self, job: _Job) -> None:
        loop = asyncio.get_running_loop()
        await self._until(self._line_free_s + max(0.0, job.needs.gap_ms / 1000 - self._silence_s))
        try:
            reply = await self._exchange(job, loop)
            values = parse_reply(job.device_id, job.request, reply)
        except DeviceFault as fault:
            self.counters.exceptions += 1
            self._give(job, fault)
        except PortLost as fault:
            self._open = False
            self._give(job, fault)
        except BusFault as fault:
            self.last_timeout_s = loop.time()
            if isinstance(fault, BusTimeout):
                self.counters.timeouts += 1
            else:
                self.counters.bad_replies += 1
            self._give(job, fault)
            await self._drain(job.needs.drain_ms / 1000)
        else:
            self.counters.replies += 1
            if job.priority is Priority.COMMAND and isinstance(job.request, Read):
                self._held_until_s = loop.time() + COMMAND_FOLLOWS_S
            if not job.done.done():
                job.done.set_result(values)

    @staticmethod
    def _give(job: _Job, fault: Exception) -> None:
        if not job.done.done():
            job.done.set_exception(fault)

    async def _exchange(self, job: _Job, loop: asyncio.AbstractEventLoop) -> bytes:
        frame = build_frame(job.device_id, job.request)
        self.counters.stray_bytes += len(self._buffer)
        self._buffer.clear()
        complete = asyncio.Event()
        self._wanted = (job.request, complete)
        self.counters.requests += 1
        wire_s = (len(frame) + reply_length(job.request)) * self._character_s
        limit_s = wire_s + job.needs.turnaround_ms / 1000 + self._silence_s + 0.005
        self._transport.write(frame)
        self._line_free_s = loop.time() + len(frame) * self._character_s + self._silence_s
        try:
            async with asyncio.timeout(limit_s):
                await complete.wait()
        except TimeoutError:
            if self._buffer:
                # Too short or garbled: judged as a reply, so that the fault says what came.
                return bytes(self._buffer)
            raise BusTimeout(f"bus {self.name}: device {job.device_id} did not answer") from None
        finally:
            self._wanted = None
        if not self._open:
            raise PortLost(f"bus {self.name}: the port went away")
        reply = bytes(self._buffer)
        self._buffer.clear()
        return reply

    async def _drain(self, quiet_s: float) -> None:
        """Waits until nothing has arrived for `quiet_s`; what arrives is thrown away.

        A line that never falls silent is used again after a while: then requests fail, and their devices are
        told to be silent, instead of hanging.
        """
        loop = asyncio.get_running_loop()
        quiet_since_s = loop.time()
        end_s = quiet_since_s + quiet_s + LONGEST_DRAIN_S
        while self._open and loop.time() < min(end_s, quiet_since_s + quiet_s):
            if self._buffer:
                self.counters.stray_bytes += len(self._buffer)
                self._buffer.clear()
                quiet_since_s = loop.time()
            await asyncio.sleep(min(0.01, max(0.001, quiet_since_s + quiet_s - loop.time())))

    async def _until(self, when_s: float) -> None:
        left_s = when_s - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)

    def _received(self, data: bytes) -> None:
        self._buffer += data
        self._line_free_s = asyncio.get_running_loop().time() + self._silence_s
        if self._wanted is not None:
            request, complete = self._wanted
            if len(self._buffer) >= complete_length(request, bytes(self._buffer[:3])):
                complete.set()
        elif len(self._buffer) > 1024:
            self.counters.stray_bytes += len(self._buffer)
            self._buffer.clear()

    def _tell(self, up: bool) -> None:
        if self._told is not up:
            self._told = up
            self.on_port(up)

    def _lost(self, reason: str) -> None:
        self._open = False
        self._tell(False)
        self.counters.port_losses += 1
        if self._wanted is not None:
            self._wanted[1].set()
        self._wake.set()

    def _fail_all(self) -> None:
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            self._give(job, PortLost(f"bus {self.name}: the port went away"))
