"""Heaters and coolers, kept on as long as the core wants them and somebody steers them.

An output is held on by timed pulses that are sent again long before they end, so that it goes off by itself
when the daemon dies. The two outputs of one cell are never on together: the second is not switched on before
the first is known to be off, from its board's answer or because its last pulse has ended. While the journal
cannot be written nothing that is seen moves the core, so nobody steers, and every output goes off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import inf

import structlog

from edge_agent.drivers.interfaces import HeldOutput
from edge_agent.errors import BusFault, DeviceFault
from edge_agent.runtime.vitality import Proof
from edge_agent.statemachine.outputs import SetClimate

log = structlog.get_logger()

HOLD_MS = 20_000
"""How long an output stays on after the last word of the daemon."""
AGAIN_S = 8.0
"""How often it is told to stay on: one word that gets lost does no harm."""
RETRY_S = 1.0
"""When a board that did not answer is told again."""
MARGIN_S = 2.0
"""How much longer than its time a pulse may last, by the board's clock, and wait for the wire."""
SILENT_S = 60.0
"""A round that takes longer hangs: a board answers, or does not, within a second, once the bus is free."""
LOOK_S = 1.0
"""How often is looked whether somebody steers."""


@dataclass(slots=True)
class _Output:
    place: str
    driver: HeldOutput
    wanted: bool = False
    again_s: float = 0.0
    """When it is told again to stay on, on the loop's clock."""
    on_until_s: float = 0.0
    """It may be on until then."""
    other: _Output | None = None


class ClimateOutputs:
    """The outputs of one machine by the label of their cell; `run` must be running.

    `steered`: whether what is seen in the field still reaches the core.
    """

    def __init__(
        self,
        heaters: Mapping[str, HeldOutput],
        coolers: Mapping[str, HeldOutput],
        steered: Callable[[], bool],
    ) -> None:
        self._heaters = {label: _Output(f"heater of {label}", driver) for label, driver in heaters.items()}
        self._coolers = {label: _Output(f"cooler of {label}", driver) for label, driver in coolers.items()}
        for label in self._heaters.keys() & self._coolers.keys():
            self._heaters[label].other = self._coolers[label]
            self._coolers[label].other = self._heaters[label]
        self._all = [*self._heaters.values(), *self._coolers.values()]
        self._steered = steered
        self._rests_until_s: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._turns = 0

    def proofs(self) -> list[Proof]:
        """See `Proven`."""
        return [Proof("climate", lambda: self._turns, SILENT_S, self._wake.set)]

    def set(self, wish: SetClimate) -> None:
        """From now on this is wanted of a cell."""
        for outputs, wanted in ((self._heaters, wish.heating), (self._coolers, wish.cooling)):
            output = outputs.get(wish.cell)
            if output is not None and output.wanted is not wanted:
                output.wanted, output.again_s = wanted, 0.0
                self._wake.set()

    async def run(self) -> None:
        """Tells the boards, for as long as it runs."""
        while True:
            self._turns += 1
            self._wake.clear()
            for output in self._all:
                await self._tend(output)
            busy = any(output.wanted or self._may_be_on(output) for output in self._all)
            try:
                async with asyncio.timeout(LOOK_S if busy else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _tend(self, output: _Output) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._rests_until_s.get(output.driver.board, 0.0) > now_s:
            return
        if not (output.wanted and self._steered()):
            if self._may_be_on(output):
                await self._switch_off(output)
            return
        blocked = output.other is not None and self._may_be_on(output.other)
        if not blocked and output.again_s <= now_s:
            await self._hold(output)

    async def _hold(self, output: _Output) -> None:
        output.on_until_s = inf  # while it is under way nobody knows
        done = await self._tell(output, output.driver.hold(HOLD_MS))
        now_s = asyncio.get_running_loop().time()
        output.on_until_s = now_s + HOLD_MS / 1000 + MARGIN_S if output.driver.timed else inf
        output.again_s = now_s + (AGAIN_S if done else RETRY_S)

    async def _switch_off(self, output: _Output) -> None:
        if await self._tell(output, output.driver.off()):
            output.on_until_s = output.again_s = 0.0

    async def _tell(self, output: _Output, telling: Awaitable[None]) -> bool:
        """Whether the board has taken it; one that did not is left alone for a while, with all its outputs,
        so that it does not cost the bus more than one time-out a second."""
        board = output.driver.board
        try:
            await telling
        except (BusFault, DeviceFault) as fault:
            if board not in self._rests_until_s:
                log.warning("output not switched", output=output.place, fault=str(fault))
            self._rests_until_s[board] = asyncio.get_running_loop().time() + RETRY_S
            return False
        self._rests_until_s.pop(board, None)
        return True

    @staticmethod
    def _may_be_on(output: _Output) -> bool:
        return asyncio.get_running_loop().time() < output.on_until_s
