"""One bus of the simulator: its wire, and the pseudo-terminal on the master's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

from edge_agent.config import BusSection
from edge_agent.drivers.simulated.cable import LoopTimers
from edge_agent.drivers.simulated.devices import framing_of
from edge_agent.drivers.simulated.line import LineDevice, WireFigures, WireLine
from edge_agent.drivers.simulated.trouble import LineTrouble
from tools.bus_simulator.plant import line_baud
from tools.bus_simulator.terminal import PseudoTerminal


class TerminalBus:
    """A bus on a pseudo-terminal, to be made on a running loop. Raises `OSError` if there can be no port."""

    def __init__(self, section: BusSection, devices: Sequence[LineDevice], random: Random) -> None:
        loop = asyncio.get_running_loop()
        timers = LoopTimers(loop)
        self.trouble = LineTrouble(random)
        self._terminal = PseudoTerminal(loop, Path(section.port), lambda data: self._line.feed(data))
        self._line = WireLine(
            devices,
            baud=line_baud(section),
            clock_ns=timers.clock_ns,
            call_at_ns=timers.call_at_ns,
            deliver=self._terminal.write,
            bits_per_character=section.bits_per_character,
            framing=framing_of(section.protocol),
            trouble=self.trouble,
        )

    def unplug(self) -> None:
        """The port vanishes; what is under way is lost."""
        self._terminal.unplug()
        self._line.stop()

    def plug(self) -> None:
        """A fresh port stands under the same name. Raises `OSError`."""
        self._terminal.plug()

    def figures(self) -> WireFigures:
        """The counters since the start."""
        return self._line.figures()
