"""Carries out what the core asks for, after it is journaled, and brings back what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from edge_agent.drivers.bus import Priority
from edge_agent.drivers.interfaces import Lock
from edge_agent.errors import BusFault, DeviceFault, NotSent
from edge_agent.model import Door
from edge_agent.runtime.climate_outputs import ClimateOutputs
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.doors import Doors
from edge_agent.runtime.weighing import Weighing
from edge_agent.statemachine.inputs import DoorRead, Input, PulseDone
from edge_agent.statemachine.outputs import Effect, PulseLock, ReadDoor, SetClimate, Weigh

log = structlog.get_logger()

PULSE_PATIENCE_S = 5.0
"""How long a pulse may wait for the wire."""
ROOM_LOOK_S = 0.01
"""How often a pulse that has to wait looks whether there is room for it."""
AFTER_FAULT_S = 0.02
"""Pause before the next look when one failed, so that a lost port is not asked in a busy loop."""


class Executor:
    """Carries out one effect with each call; the caller makes tasks of them."""

    def __init__(
        self,
        locks: Mapping[str, Lock],
        doors: Doors,
        submit: Callable[[Input], None],
        clock: Clock,
        weighing: Weighing,
        climate: ClimateOutputs,
        *,
        watch_s: float,
        pulse_s: float,
        at_once: int,
    ) -> None:
        self._weighing = weighing
        self._climate = climate
        self._clock = clock
        self._locks = locks
        self._doors = doors
        self._submit = submit
        self._watch_s = watch_s
        self._pulse_s = pulse_s
        self._at_once = at_once
        self._ends_s: dict[str, float] = {}
        """When each solenoid that is on goes off, on the loop's clock."""

    async def carry_out(self, effect: Effect) -> None:
        """One effect, to its end."""
        match effect:
            case ReadDoor():
                door = await self._doors.look_closely(effect.cell, Priority.COMMAND)
                self._submit(DoorRead(effect.unlock_id, door))
            case PulseLock():
                await self._pulse(effect)
            case Weigh():
                self._weighing.anew(effect.cell)
            case SetClimate():
                self._climate.set(effect)

    async def _pulse(self, effect: PulseLock) -> None:
        """Pulses once and watches the door. A lost acknowledgement changes nothing: the door tells.

        Disk or bus may have taken their time since the wish was judged: a pulse that is late is not given.
        """
        await self._room(effect.cell)
        patience_s = PULSE_PATIENCE_S
        if effect.expires_ns is not None:
            left_s = (effect.expires_ns - self._clock.now().boottime_ns) / 1e9
            patience_s = min(patience_s, left_s)
        try:
            await self._locks[effect.cell].pulse(asyncio.get_running_loop().time() + patience_s)
        except NotSent as fault:
            log.warning("pulse not given", cell=effect.cell, fault=str(fault))
            self._ends_s.pop(effect.cell, None)
            self._submit(PulseDone(effect.unlock_id, effect.attempt, Door.CLOSED, given=False))
            return
        except (BusFault, DeviceFault) as fault:
            log.warning("pulse not acknowledged", cell=effect.cell, fault=str(fault))
        self._ends_s[effect.cell] = asyncio.get_running_loop().time() + self._pulse_s
        self._doors.expect(self._doors.board_of(effect.cell))
        door = await self._watch(effect.cell)
        log.info(
            "pulse", unlock_id=effect.unlock_id, cell=effect.cell, attempt=effect.attempt, door=str(door)
        )
        self._submit(PulseDone(effect.unlock_id, effect.attempt, door))
        if door is Door.UNKNOWN:
            self._doors.forget(effect.cell)  # so that the next reading is told, and decides

    async def _room(self, cell: str) -> None:
        """Waits until this solenoid is off and fewer than allowed are on.

        An unlock is over when its door is seen open; its solenoid stays on until its pulse ends.
        """
        loop = asyncio.get_running_loop()
        while True:
            now_s = loop.time()
            self._ends_s = {other: end_s for other, end_s in self._ends_s.items() if end_s > now_s}
            if cell not in self._ends_s and len(self._ends_s) < self._at_once:
                # Taken before the pulse is sent, so that two cannot take the same place.
                self._ends_s[cell] = now_s + PULSE_PATIENCE_S + self._pulse_s
                return
            await asyncio.sleep(ROOM_LOOK_S)

    async def _watch(self, cell: str) -> Door:
        """Reads the door as fast as the wire allows until it is believed open or the time is up."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._watch_s
        board = self._doors.board_of(cell)
        while loop.time() < end_s:
            try:
                seen = await self._doors.look(board, Priority.WATCH)
            except (BusFault, DeviceFault):
                await asyncio.sleep(AFTER_FAULT_S)
                continue
            if seen[cell] is Door.OPEN and self._doors.believed(cell) is Door.OPEN:
                return Door.OPEN
        return await self._doors.look_closely(cell, Priority.WATCH)
