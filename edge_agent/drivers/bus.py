"""The owner of one bus, serial or over a network: carries out every transaction on it, one at a time.

Commands overtake polls. Between frames the line is silent for 3.5 characters (Modbus over serial line 1.02,
2.5.1.1: fixed 1.75 ms above 19200 baud) or longer if a device needs it. A device that did not reply in time
is not asked for a moment (the owner backs off), and the owner records the reply that it owes: a late reply is
never taken for the reply to another request (docs/decisions/0012-owed-replies.md). The owner does not wait
for a dead device when there is other work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from edge_agent.drivers.health import Counters, DeviceRecord, ObservedFrame
from edge_agent.drivers.jobs import LONGEST_DRAIN_S, Job, JobQueue, RequestInProgress
from edge_agent.drivers.jobs import Priority as Priority
from edge_agent.drivers.modbus import RtuCodec
from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.requests import AddressedRequest, Codec, Request, repeatable
from edge_agent.drivers.transport import BusListener, Transport
from edge_agent.errors import BadReply, BusFault, BusTimeout, DeviceFault, NotSent, OtherDevice, PortLost

REOPEN_S = 0.5
"""Pause between attempts to open a lost port again."""
REDIAL_S = 0.02
"""Pause before a connection that the other side closed after a reply is dialled again."""
COMMAND_FOLLOWS_S = 0.006
"""How long polls wait after a reading at command priority: the pulse that depends on it is being journaled,
and a poll in between would delay it by a whole transaction."""
QUIET_S = 0.01
"""After a damaged reply: how long the line must be quiet."""
SOONEST = 0.95
"""A frame that arrives before this share of its time on the wire cannot be the reply to our request."""
LONGEST_UNFRAMED = 1024
"""More received bytes than this without a frame are discarded when no reply is awaited."""


class BusOwner:
    """Serialises transactions on one transport; `run` must be running for `transact` to work.

    `baud` 0: a network, where no silence is kept. `latency_s` is added to every time limit. `local_echo`: the
    adapter returns to us what we send. `paced` returns whether the line takes the time that its baud rate
    says (a board on USB itself does not); called at each opening, because a port may change its adapter.
    `redials`: the line is a connection; one that the other side closes after a reply is not a lost port, but
    is dialled again without a report.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        *,
        baud: int,
        bits_per_character: int,
        codec: Codec | None = None,
        latency_s: float = 0.0,
        local_echo: bool = False,
        redials: bool = False,
        paced: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self.counters = Counters()
        self.devices: dict[int, DeviceRecord] = {}
        self._listener: BusListener | None = None
        self.frame_observers: list[Callable[[ObservedFrame], None]] = []
        """Called with every frame."""
        self._transport = transport
        self._codec = codec or RtuCodec()
        self._latency_s = latency_s + 0.005
        # Over a network (serial server) the real speed of the bus is unknown.
        self._byte_s = 0.0 if latency_s or not baud else SOONEST * bits_per_character / baud
        self._soonest_s: float | None = None
        """The least time of a byte of a reply; None on a line without a pace."""
        self._paced = paced
        self._local_echo = local_echo
        self._redials = redials
        self._replied = False
        """Whether a device has replied on the present connection."""
        self._character_s = bits_per_character / baud if baud else 0.0
        self._silence_s = (3.5 * self._character_s if baud <= 19200 else 0.00175) if baud else 0.0
        self._queue = JobQueue(name, self.devices)
        self._numbers = 0
        self._wake = asyncio.Event()
        self.turns = 0
        """How often the loop in `run` has turned, for the watchdog."""
        self.nudge: Callable[[], None] = self._wake.set
        """Makes that loop turn when it waits for a job."""
        self._line_free_s = 0.0
        self._buffer = bytearray()
        self._in_progress: RequestInProgress | None = None
        self._answered: DeviceRecord | None = None
        """The device that replied last, if nothing but its reply was received since: further bytes count as
        its stray bytes."""
        self._heard_s = float("-inf")
        """When bytes were last received."""
        self._open = False
        self._opened = asyncio.Event()
        self._reported: bool | None = None
        self._began_s: float | None = None

    @property
    def _redialling(self) -> bool:
        """Whether the other side has closed a connection on which it had replied."""
        return self._redials and self._replied and not self._open

    @property
    def up(self) -> bool:
        """Whether the port is open."""
        return self._open

    def utilisation(self) -> float | None:
        """The share of the time since the start in which bits passed; None over a network."""
        if not self._character_s or self._began_s is None:
            return None
        elapsed_s = asyncio.get_running_loop().time() - self._began_s
        return min(1.0, self.counters.bytes_passed * self._character_s / elapsed_s) if elapsed_s else 0.0

    async def wait_open(self, timeout_s: float) -> bool:
        """Waits until the port is open; False if that takes longer than `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._opened.wait()
        except TimeoutError:
            return False
        return True

    def record(self, address: int) -> DeviceRecord:
        """The record of a device."""
        return self.devices.setdefault(address, DeviceRecord(address))

    def readings_needed(self, address: int) -> int:
        """See `DeviceRecord.readings_needed`."""
        needed = self.record(address).readings_needed(asyncio.get_running_loop().time())
        return max(needed, self.least_readings)

    @property
    def least_readings(self) -> int:
        """How many readings must agree at least, because of a weak checksum; 1 with a strong one."""
        return self._codec.least_readings

    async def transact(
        self,
        address: int,
        request: Request,
        needs: BusNeeds,
        priority: Priority,
        deadline_s: float = float("inf"),
    ) -> list[int]:
        """Sends a request and returns the bits or registers of its reply; never a reply to an earlier
        request.

        After `deadline_s` (loop time) the request is not sent any more. A poll of a device that timed out
        just now fails at once (`NotSent`); requests of a higher priority wait until the device may be asked.
        Raises `BusTimeout`, `BadReply`, `NotSent`, `PortLost` (`BusFault`s) or `DeviceFault`.
        """
        if not (self._open or self._redialling):
            raise PortLost(f"bus {self.name}: the port is not open")
        now_s = asyncio.get_running_loop().time()
        if priority is Priority.POLL and not self._queue.may_ask(AddressedRequest(address, request), now_s):
            raise NotSent(f"bus {self.name}: device {address} is not asked again yet, after a timeout")
        done: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._numbers += 1
        job = Job(priority, self._numbers, AddressedRequest(address, request), needs, done, deadline_s)
        self._queue.jobs.append(job)
        self._wake.set()
        self._preempt(job)
        return await done

    def _preempt(self, job: Job) -> None:
        """Stops waiting for a dead device when a more urgent job for another one arrives."""
        in_progress = self._in_progress
        if in_progress is None or in_progress.patient or self._buffer:
            return
        other = job.question.address != in_progress.job.question.address
        if other and job.priority < in_progress.job.priority:
            in_progress.gave_way = True
            if not in_progress.echo:  # else the echo is awaited: it would be taken for the next reply
                in_progress.complete.set()

    async def run(self, listener: BusListener | None = None) -> None:
        """Opens the port, carries out jobs in order, and opens the port again after a loss; reports to
        `listener`."""
        self._listener = listener
        self._began_s = asyncio.get_running_loop().time()
        try:
            while True:
                self.turns += 1
                try:
                    await self._transport.dial()
                    self._transport.open(self._received, self._lost)
                except PortLost:
                    self.counters.port_losses += 1
                    self._replied = False
                    self._report(False)
                    self._fail_all()
                    await asyncio.sleep(REOPEN_S)
                    continue
                self._replied = False
                self._soonest_s = self._byte_s if self._paced() else None
                self._open = True
                self._opened.set()
                self._report(True)
                self._line_free_s = asyncio.get_running_loop().time() + self._silence_s
                await self._work()
                self._opened.clear()
                self._transport.close()
                if not self._redialling:
                    self._fail_all()
                await asyncio.sleep(REDIAL_S if self._redialling else REOPEN_S)
        finally:
            self._open = False
            self._transport.close()
            self._fail_all()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._open:
            self.turns += 1
            if not self._queue.jobs:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._until(self._line_free_s)
            if not self._open:
                return
            # Chosen only now, so that a command that arrived during the silence overtakes.
            job, when_s = self._queue.choose(loop.time())
            if job is None:
                self._wake.clear()
                await self._woken_within(when_s - loop.time())
                continue
            self._queue.jobs.remove(job)
            try:
                await self._carry_out(job)
            finally:
                job.fail(PortLost(f"bus {self.name}: stopped"))  # only if `_carry_out` was cancelled

    async def _woken_within(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _carry_out(self, job: Job) -> None:
        loop = asyncio.get_running_loop()
        record = self.record(job.question.address)
        reply: bytes | None = None
        await self._until(self._line_free_s + max(0.0, job.needs.gap_ms / 1000 - self._silence_s))
        try:
            reply = await self._exchange(job, record)
            values = [] if reply is None else self._codec.parse(job.question, reply)
        except DeviceFault as fault:
            record.refused()
            self.counters.exceptions += 1
            job.fail(fault)
        except PortLost as fault:
            self._open = False
            self._owe(job, record)  # a serial server may still deliver the reply, on the next connection
            job.fail(fault)
        except BusFault as fault:
            await self._failed(job, record, fault)
        else:
            if reply is not None:
                record.replied()
                self._replied = True
                self.counters.replies += 1
            if job.priority is Priority.COMMAND and repeatable(job.question.request):
                self._queue.held_until_s = loop.time() + COMMAND_FOLLOWS_S
            if not job.done.done():
                job.done.set_result(values)

    async def _failed(self, job: Job, record: DeviceRecord, fault: BusFault) -> None:
        """No usable reply came. A missing reply may still arrive and is recorded as owed; a damaged one is
        not."""
        now_s = asyncio.get_running_loop().time()
        if isinstance(fault, BusTimeout):
            record.timed_out(now_s)
            self.counters.timeouts += 1
            self._owe(job, record)
            job.fail(fault)
            return
        record.replied_damaged(now_s, other_address=isinstance(fault, OtherDevice))
        self.counters.bad_replies += 1
        job.fail(fault)
        self._answered = None
        await self._drain()

    def _owe(self, job: Job, record: DeviceRecord) -> None:
        if not self._codec.replies_identify_requests:
            now_s = asyncio.get_running_loop().time()
            late_s, drain_s = job.needs.late_ms / 1000, job.needs.drain_ms / 1000
            record.add_owed(job.question, now_s + late_s, now_s + drain_s)

    async def _exchange(self, job: Job, record: DeviceRecord) -> bytes | None:
        """The bytes of the reply; None if the request has none."""
        loop = asyncio.get_running_loop()
        frame = self._codec.encode(job.question)
        self._discard_buffer()
        self._answered = None
        usual = self._codec.reply_bytes(job.question.request)
        asked_s = loop.time() + len(frame) * self._character_s
        in_progress = RequestInProgress(job, not record.dead, frame if self._local_echo else b"", asked_s)
        self._in_progress = in_progress if usual or in_progress.echo else None
        self.counters.requests += 1
        record.requests += 1
        try:
            self._transport.write(frame)
            self.counters.bytes_passed += len(frame)
            self._report_frame("sent", frame)
            sent_s = loop.time() + len(frame) * self._character_s
            self._line_free_s = sent_s + self._silence_s
            if self._in_progress is None:
                return None
            answer_s = usual * self._character_s + job.needs.turnaround_ms / 1000 if usual else 0.0
            await self._wait_complete(sent_s + answer_s + self._silence_s + self._latency_s, in_progress)
        finally:
            self._in_progress = None
            if in_progress.quiet_timer is not None:
                in_progress.quiet_timer.cancel()
        if not self._open:
            raise PortLost(f"bus {self.name}: the port went away")
        if in_progress.reply is not None:
            record.latency.note(max(0.0, loop.time() - sent_s))
            return in_progress.reply
        if in_progress.echo and (self._buffer or not usual):
            raise BadReply("the adapter did not echo what was sent")
        if not usual:
            return None
        if not self._buffer or in_progress.gave_way:
            raise BusTimeout(f"bus {self.name}: device {record.address} did not answer")
        # Too short or garbled: parsed as a reply, so that the fault describes it.
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._report_frame("heard", rest, "damaged")
        return rest

    @staticmethod
    async def _wait_complete(when_s: float, in_progress: RequestInProgress) -> None:
        try:
            async with asyncio.timeout_at(when_s):
                await in_progress.complete.wait()
        except TimeoutError:
            pass

    async def _drain(self) -> None:
        """Waits until nothing has arrived for a moment; discards what arrives.

        A line that never falls silent is used again after a while: then requests fail, and their devices are
        reported silent, instead of hanging.
        """
        loop = asyncio.get_running_loop()
        quiet_since_s = self._heard_s
        end_s = loop.time() + LONGEST_DRAIN_S
        while self._open and loop.time() < min(end_s, quiet_since_s + QUIET_S):
            if self._buffer:
                self._discard_buffer()
                quiet_since_s = loop.time()
            await asyncio.sleep(max(0.001, quiet_since_s + QUIET_S - loop.time()))

    async def _until(self, when_s: float) -> None:
        left_s = when_s - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)

    def _received(self, data: bytes) -> None:
        self._buffer += data
        self.counters.bytes_passed += len(data)
        self._heard_s = asyncio.get_running_loop().time()
        self._line_free_s = self._heard_s + self._silence_s
        in_progress = self._in_progress
        if in_progress is not None and in_progress.echo and not self._take_echo(in_progress):
            return
        while in_progress is None or in_progress.reply is None:
            if not self._take_frame(in_progress):
                break
        if in_progress is None and len(self._buffer) > LONGEST_UNFRAMED:
            self._discard_buffer()
        elif in_progress is not None and in_progress.reply is None:
            self._await_silence(in_progress)

    def _await_silence(self, in_progress: RequestInProgress) -> None:
        """There is no frame in the bytes, and they are as many as the reply has: if the line falls silent
        now, the reply is damaged."""
        if in_progress.quiet_timer is not None:
            in_progress.quiet_timer.cancel()
            in_progress.quiet_timer = None
        if not in_progress.echo and self._codec.is_long_enough(
            in_progress.job.question.request, bytes(self._buffer)
        ):
            loop, quiet_s = asyncio.get_running_loop(), QUIET_S + self._latency_s
            in_progress.quiet_timer = loop.call_later(quiet_s, in_progress.complete.set)

    def _take_echo(self, in_progress: RequestInProgress) -> bool:
        """Removes the echo of our own sending; returns whether all of it has arrived."""
        size = len(in_progress.echo)
        if len(self._buffer) < size:
            return False
        if bytes(self._buffer[:size]) == in_progress.echo:
            del self._buffer[:size]
            self.counters.bytes_passed -= size
            in_progress.echo = b""
            if in_progress.gave_way or not self._codec.reply_bytes(in_progress.job.question.request):
                in_progress.complete.set()
            return True
        in_progress.complete.set()  # another device sent at the same time
        return False

    def _take_frame(self, in_progress: RequestInProgress | None) -> bool:
        """Takes the first frame out of the received bytes; False if there is none yet."""
        now_s = asyncio.get_running_loop().time()
        entries = [entry for record in self.devices.values() for entry in record.owed]
        owed = [question for question, latest_s in entries if latest_s > now_s]
        wanted = None if in_progress is None else in_progress.job.question
        frame = self._codec.first_frame(bytes(self._buffer), wanted, owed) if self._buffer else None
        if frame is None:
            return False
        skipped = bytes(self._buffer[: frame.skipped])
        data = bytes(self._buffer[frame.skipped : frame.skipped + frame.length])
        del self._buffer[: frame.skipped + frame.length]
        if skipped:
            self.counters.stray_bytes += frame.skipped
            self._report_frame("heard", skipped, "rubbish")
        pace_s = self._soonest_s
        if (
            in_progress is not None
            and pace_s is not None
            and now_s < in_progress.asked_s + pace_s * len(data)
        ):
            if wanted is not None and frame.question == wanted:
                self.record(wanted.address).replied_early()
            frame = replace(frame, question=None, address=wanted.address if wanted else None)
        if in_progress is not None and frame.question == wanted:
            self._report_frame("heard", data)
            record = self.record(in_progress.job.question.address)
            self._answered = None if frame.skipped else record
            if frame.skipped:
                record.replied_padded()
                self.counters.glitches += bool(self._character_s) and skipped[:1] in (b"\x00", b"\xff")
            in_progress.reply = data
            in_progress.complete.set()
        elif frame.question is not None:
            self._report_frame("heard", data, "late")
            self.counters.late_replies += 1
            self.record(frame.question.address).late_reply_came(frame.question)
            self._wake.set()
        else:
            self._report_frame("heard", data, "unasked")
            self.counters.stray_bytes += len(data)
            if frame.address is not None:
                record = self.record(frame.address)
                record.spoke_unasked(now_s, foreign=frame.foreign)
                if self._listener is not None:
                    self._listener.spoke_unasked(frame.address)
        return True

    def _discard_buffer(self) -> None:
        if self._buffer:
            self._report_frame("heard", bytes(self._buffer), "rubbish")
            if self._answered is not None:
                self._answered.replied_padded()
            self.counters.stray_bytes += len(self._buffer)
            self._buffer.clear()

    def _report_frame(self, direction: Literal["sent", "heard"], data: bytes, note: str = "") -> None:
        if self.frame_observers:
            frame = ObservedFrame(asyncio.get_running_loop().time(), direction, data, note)
            for observer in self.frame_observers:
                observer(frame)

    def _report(self, up: bool) -> None:
        if self._reported is not up:
            self._reported = up
            if self._listener is not None:
                self._listener.port_changed(up)

    def _lost(self, reason: str) -> None:
        self._open = False
        if not self._redialling:
            self._report(False)
        self.counters.port_losses += 1
        if self._in_progress is not None:
            self._in_progress.complete.set()
        self._wake.set()

    def _fail_all(self) -> None:
        for job in self._queue.take_all():
            job.fail(PortLost(f"bus {self.name}: the port went away"))
