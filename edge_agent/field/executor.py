"""Carries out the core's effects after they are journaled, and reports their outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from edge_agent.drivers.bus import Priority
from edge_agent.drivers.interfaces import Lock
from edge_agent.errors import BusFault, DeviceFault, NotSent
from edge_agent.field.climate_outputs import ClimateOutputs
from edge_agent.field.doors import LONGEST_READING_S, LONGEST_RETRY_S, RETRY_S, Doors
from edge_agent.field.signals import Signals
from edge_agent.field.weighing import Weighing
from edge_agent.model import Door
from edge_agent.runtime.clock import Clock
from edge_agent.statemachine.inputs import DoorRead, Input, PulseDone
from edge_agent.statemachine.outputs import Effect, PulseLock, ReadDoor, SetClimate, Weigh

log = structlog.get_logger()

LONGEST_BUS_WAIT_S = 5.0
"""How long a pulse may wait for the bus."""
SOLENOID_CHECK_S = 0.01
"""How often a waiting pulse checks whether it may start."""
TIME_TO_ANSWER_S = 0.5
"""A watch ends this long before its command expires, so that the caller gets an answer in time."""
UNACKNOWLEDGED_S = 0.2
"""A pulse whose acknowledgement is lost was most likely not given: its door is watched until the solenoid is
off and for this time afterwards; then the next pulse may follow."""


class Executor:
    """Carries out one effect per call; the caller starts each call as a task.

    After each pulse the door is watched for `watch_s`; a pulse energises its solenoid for `pulse_s`; at most
    `most_energised` solenoids are on at once.
    """

    def __init__(
        self,
        locks: Mapping[str, Lock],
        doors: Doors,
        submit: Callable[[Input], None],
        clock: Clock,
        weighing: Weighing,
        climate: ClimateOutputs,
        signals: Signals,
        *,
        watch_s: float,
        pulse_s: float,
        most_energised: int,
    ) -> None:
        self._weighing = weighing
        self._climate = climate
        self._signals = signals
        self._clock = clock
        self._locks = locks
        self._doors = doors
        self._submit = submit
        self._watch_s = watch_s
        self._pulse_s = pulse_s
        self._most_energised = most_energised
        self._off_at_s: dict[str, float] = {}
        """When each energised solenoid goes off, on the loop's clock."""

    async def carry_out(self, effect: Effect) -> None:
        """Carries out one effect to its end."""
        match effect:
            case ReadDoor():
                until_s = self._until_s(effect.expires_ns)
                door = await self._doors.read_fresh(effect.cell, Priority.COMMAND, until_s)
                if door is Door.OPEN:
                    self._signals.read_open(effect.cell)
                self._submit(DoorRead(effect.unlock_id, door))
            case PulseLock():
                await self._pulse(effect)
            case Weigh():
                self._weighing.weigh_again(effect.cell)
            case SetClimate():
                self._climate.set(effect)

    async def _pulse(self, effect: PulseLock) -> None:
        """Pulses once and watches the door; the pulse is never sent again. A lost acknowledgement is
        reported, and the readings of the door decide the outcome.

        The commit and the bus may have taken long since the command was judged: after its expiry the pulse is
        not sent.
        """
        await self._wait_for_free_solenoid(effect.cell)
        longest_wait_s = LONGEST_BUS_WAIT_S
        if effect.expires_ns is not None:
            left_s = (effect.expires_ns - self._clock.now().boottime_ns) / 1e9
            longest_wait_s = min(longest_wait_s, left_s)
        board, acknowledged = self._doors.board_of(effect.cell), True
        self._doors.expect_pulse(board, self._pulse_s)
        try:
            await self._locks[effect.cell].pulse(asyncio.get_running_loop().time() + longest_wait_s)
        except NotSent as fault:
            log.warning("pulse not given", cell=effect.cell, fault=str(fault))
            self._off_at_s.pop(effect.cell, None)
            # The door was not read; the core ignores `door` of a pulse that was not sent.
            self._submit(PulseDone(effect.unlock_id, effect.pulse_number, Door.CLOSED, sent=False))
            return
        except (BusFault, DeviceFault) as fault:
            log.warning("pulse answered with a fault, or not answered", cell=effect.cell, fault=str(fault))
            acknowledged = isinstance(fault, DeviceFault) and (fault.accepted or not fault.busy)
        self._off_at_s[effect.cell] = asyncio.get_running_loop().time() + self._pulse_s
        self._doors.expect_pulse(board, self._pulse_s)
        self._signals.pulsed(effect.cell)  # only now, so that its write is behind the pulse
        watch_s = self._watch_s
        if not acknowledged:
            watch_s = min(watch_s, self._pulse_s + UNACKNOWLEDGED_S)
        door = await self._watch(effect.cell, watch_s, self._until_s(effect.expires_ns))
        self._signals.watched(effect.cell, door)
        log.info(
            "pulse",
            unlock_id=effect.unlock_id,
            cell=effect.cell,
            attempt=effect.pulse_number,
            door=str(door),
            acknowledged=acknowledged,
        )
        self._submit(PulseDone(effect.unlock_id, effect.pulse_number, door, acknowledged=acknowledged))
        if door is Door.UNKNOWN:
            self._doors.report_again(effect.cell)  # so that the next reading is reported, and decides

    async def _wait_for_free_solenoid(self, cell: str) -> None:
        """Waits until this solenoid is off and fewer than the allowed number are on.

        An unlock attempt ends when its door is read open; its solenoid stays on until the pulse ends.
        """
        loop = asyncio.get_running_loop()
        while True:
            now_s = loop.time()
            self._off_at_s = {other: end_s for other, end_s in self._off_at_s.items() if end_s > now_s}
            if cell not in self._off_at_s and len(self._off_at_s) < self._most_energised:
                # Reserved before the pulse is sent, so that two pulses cannot take the same place.
                self._off_at_s[cell] = now_s + LONGEST_BUS_WAIT_S + self._pulse_s
                return
            await asyncio.sleep(SOLENOID_CHECK_S)

    def _until_s(self, expires_ns: int | None) -> float:
        """Until when (loop time) a door is read or watched for a command that expires at `expires_ns`."""
        now_s = asyncio.get_running_loop().time()
        if expires_ns is None:
            return now_s + LONGEST_READING_S
        left_s = (expires_ns - self._clock.now().boottime_ns) / 1e9
        return now_s + max(0.0, left_s - min(TIME_TO_ANSWER_S, left_s / 2))

    async def _watch(self, cell: str, watch_s: float, until_s: float) -> Door:
        """Reads the door as fast as the bus allows until it is reported open, or confirmed closed after
        `watch_s`. If the door cannot be read, retries until `until_s`; only then returns UNKNOWN."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + watch_s
        board = self._doors.board_of(cell)
        closed, pause_s = 0, RETRY_S  # closed readings in a row, each from a request after the pulse
        try:
            async with asyncio.timeout_at(max(until_s, end_s)):
                while True:
                    try:
                        seen = (await self._doors.read_board(board, Priority.WATCH))[cell]
                    except (BusFault, DeviceFault):
                        await asyncio.sleep(pause_s)
                        pause_s = min(2 * pause_s, LONGEST_RETRY_S)
                        continue
                    pause_s = RETRY_S
                    reported = self._doors.reported(cell)
                    if seen is Door.OPEN and reported is Door.OPEN:
                        return Door.OPEN
                    closed = closed + 1 if seen is Door.CLOSED else 0
                    enough = closed >= self._doors.readings_needed(cell)
                    if loop.time() >= end_s and enough and reported is not Door.OPEN:
                        return Door.CLOSED
        except TimeoutError:
            return Door.UNKNOWN
