"""Heaters and coolers: on while the core wants them and still gets observations.

An output is held on by timed pulses that are renewed long before they end, so that it goes off by itself when
the daemon dies. The two outputs of one cell are never on together: the second is switched on only when the
first is known to be off, from its board's answer or because its last pulse has ended. While the journal
cannot be written, observations do not reach the core, so nothing controls the climate and every output goes
off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import inf

import structlog

from edge_agent.drivers.interfaces import HeldOutput
from edge_agent.errors import BusFault, DeviceFault
from edge_agent.runtime.loop_watch import MonitoredLoop
from edge_agent.statemachine.outputs import SetClimate

log = structlog.get_logger()

HOLD_MS = 20_000
"""How long an output stays on after the daemon's last request."""
RENEWED_EVERY_S = 8.0
"""How often the request to stay on is renewed; one lost request does no harm."""
BOARD_RETRY_S = 1.0
"""Pause before a board that did not answer is asked again."""
PULSE_MARGIN_S = 2.0
"""How much longer than its time a pulse may last: the board's clock may differ and the request may wait for
the bus."""
CLIMATE_HANGS_AFTER_S = 60.0
"""A round that takes longer hangs: a board answers or times out within a second once the bus is free."""
STEERED_CHECK_S = 1.0
"""How often `steered` is checked."""


@dataclass(slots=True)
class _Output:
    place: str
    driver: HeldOutput
    wanted: bool = False
    again_s: float = 0.0
    """When the request to stay on is due again, on the loop's clock."""
    on_until_s: float = 0.0
    """The output may be on until then."""
    other: _Output | None = None


class ClimateOutputs:
    """The outputs of one machine by the label of their cell; `run` must be running.

    `steered`: whether observations of the field still reach the core.
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
        self._retry_at_s: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._turns = 0

    def monitored_loops(self) -> list[MonitoredLoop]:
        """See `HasLoops`."""
        return [MonitoredLoop("climate", lambda: self._turns, CLIMATE_HANGS_AFTER_S, self._wake.set)]

    def set(self, given: SetClimate) -> None:
        """Sets the wanted outputs of a cell from now on."""
        for outputs, wanted in ((self._heaters, given.heating), (self._coolers, given.cooling)):
            output = outputs.get(given.cell)
            if output is not None and output.wanted is not wanted:
                output.wanted, output.again_s = wanted, 0.0
                self._wake.set()

    def heater_may_be_on(self, label: str) -> bool:
        """Whether a cell's heater was switched on and its board has not confirmed yet that it is off."""
        output = self._heaters.get(label)
        return output is not None and self._may_be_on(output)

    async def run(self) -> None:
        """Switches the outputs until cancelled."""
        while True:
            self._turns += 1
            self._wake.clear()
            for output in self._all:
                await self._tend(output)
            busy = any(output.wanted or self._may_be_on(output) for output in self._all)
            try:
                async with asyncio.timeout(STEERED_CHECK_S if busy else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _tend(self, output: _Output) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._retry_at_s.get(output.driver.board, 0.0) > now_s:
            return
        if not (output.wanted and self._steered()):
            if self._may_be_on(output):
                await self._switch_off(output)
            return
        blocked = output.other is not None and self._may_be_on(output.other)
        if not blocked and output.again_s <= now_s:
            await self._hold(output)

    async def _hold(self, output: _Output) -> None:
        output.on_until_s = inf  # unknown until the board has answered
        done = await self._send(output, output.driver.hold(HOLD_MS))
        now_s = asyncio.get_running_loop().time()
        output.on_until_s = now_s + HOLD_MS / 1000 + PULSE_MARGIN_S if output.driver.timed else inf
        output.again_s = now_s + (RENEWED_EVERY_S if done else BOARD_RETRY_S)

    async def _switch_off(self, output: _Output) -> None:
        if await self._send(output, output.driver.off()):
            output.on_until_s = output.again_s = 0.0

    async def _send(self, output: _Output, sending: Awaitable[None]) -> bool:
        """Returns whether the board accepted the request. A board that failed is not asked for a while, with
        all its outputs, so that it costs the bus at most one time-out a second."""
        board = output.driver.board
        try:
            await sending
        except (BusFault, DeviceFault) as fault:
            if board not in self._retry_at_s:
                log.warning("output not switched", output=output.place, fault=str(fault))
            self._retry_at_s[board] = asyncio.get_running_loop().time() + BOARD_RETRY_S
            return False
        self._retry_at_s.pop(board, None)
        return True

    @staticmethod
    def _may_be_on(output: _Output) -> bool:
        return asyncio.get_running_loop().time() < output.on_until_s
