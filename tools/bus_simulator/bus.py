"""One bus of the simulator: its wire, and the port on the master's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Protocol

from edge_agent.config import BusSection
from edge_agent.drivers.simulated.cable import LoopTimers
from edge_agent.drivers.simulated.devices import framing_of
from edge_agent.drivers.simulated.line import LineDevice, WireFigures, WireLine
from edge_agent.drivers.simulated.trouble import LineTrouble
from tools.bus_simulator.network import ListeningPort, ModbusTcpBus
from tools.bus_simulator.plant import line_baud
from tools.bus_simulator.terminal import PseudoTerminal


class SimulatedBus(Protocol):
    """A bus of any kind."""

    trouble: LineTrouble

    def unplug(self) -> None:
        """The port vanishes; data in flight is lost."""

    def plug(self) -> None:
        """The port returns. Raises `OSError`."""

    def figures(self) -> WireFigures:
        """The counters since the start."""


class TerminalBus:
    """A bus on a pseudo-terminal, or behind a serial server that forwards its bytes over TCP.

    Must be created on a running loop. Raises `OSError` if no port can be made.
    """

    def __init__(self, section: BusSection, devices: Sequence[LineDevice], random: Random) -> None:
        loop = asyncio.get_running_loop()
        timers = LoopTimers(loop)
        self.trouble = LineTrouble(random)
        self._port = _port(loop, section, lambda data: self._line.feed(data))
        self._line = WireLine(
            devices,
            baud=line_baud(section),
            clock_ns=timers.clock_ns,
            call_at_ns=timers.call_at_ns,
            deliver=self._port.write,
            bits_per_character=section.bits_per_character,
            framing=framing_of(section.protocol),
            trouble=self.trouble,
        )

    def unplug(self) -> None:
        """The port vanishes; data in flight is lost."""
        self._port.unplug()
        self._line.stop()

    def plug(self) -> None:
        """A new port appears under the same name. Raises `OSError`."""
        self._port.plug()

    def figures(self) -> WireFigures:
        """The counters since the start."""
        return self._line.figures()


def open_bus(section: BusSection, devices: Sequence[LineDevice], random: Random) -> SimulatedBus:
    """The bus that a configuration names, on a running loop. Raises `OSError` if no port can be made."""
    if section.link == "tcp":
        return ModbusTcpBus(section, devices, random)
    return TerminalBus(section, devices, random)


def _port(
    loop: asyncio.AbstractEventLoop, section: BusSection, on_bytes: Callable[[bytes], None]
) -> PseudoTerminal | ListeningPort:
    if section.link == "serial":
        return PseudoTerminal(loop, Path(section.port), on_bytes)
    return ListeningPort(loop, section.place, lambda _, data: on_bytes(data))
