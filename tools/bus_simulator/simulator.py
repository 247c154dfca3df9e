"""The assembled simulator: a world, its buses on pseudo-terminals or TCP ports, and the control API."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import structlog
import uvicorn

from edge_agent.config import Settings
from edge_agent.drivers.entry.scanner import Delimiter
from edge_agent.drivers.simulated.cable import LoopTimers
from edge_agent.drivers.simulated.line import LineDevice, TextLine, WireFigures
from edge_agent.drivers.simulated.world import World
from edge_agent.errors import Code, Refusal
from tools.bus_simulator.api import Api, Supervisor
from tools.bus_simulator.bus import SimulatedBus, open_bus
from tools.bus_simulator.faults import Faults
from tools.bus_simulator.memory import StateFile
from tools.bus_simulator.terminal import PseudoTerminal

SAVE_EVERY_S = 0.5
TAILS: dict[Delimiter, bytes] = {
    "any": b"\r",
    "cr": b"\r",
    "lf": b"\n",
    "tab": b"\t",
    "etx": b"\x03",
    "hash": b"#",
    "none": b"",
}
"""What a scanner with this setting sends after a text."""
log = structlog.get_logger()


class Simulator:
    """Runs a world on its ports. Use it as a context on a running loop; raises `OSError`."""

    def __init__(
        self,
        settings: Settings,
        world: World,
        devices: dict[str, list[LineDevice]],
        state: StateFile | None,
        seed: int = 0,
    ) -> None:
        self.world = world
        self.faults: Faults
        self._settings = settings
        self._devices = devices
        self._state = state
        self._seed = seed
        self._buses: dict[str, SimulatedBus] = {}
        self._scanner_port: PseudoTerminal | None = None
        self._scanner: TextLine | None = None
        self._saving: asyncio.TimerHandle | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Opens the ports, and removes them at the end."""
        try:
            for name, bus in self._settings.buses.items():
                random = Random(f"{self._seed}/{name}")
                self._buses[name] = open_bus(bus, self._devices[name], random)
            self.faults = Faults(self.world, self._buses, self._devices)
            self._open_scanner()
            self._keep_saving()
            yield
        finally:
            if self._saving is not None:
                self._saving.cancel()
            for port in (*self._buses.values(), self._scanner_port):
                if port is not None:
                    port.unplug()
            self.changed()

    def figures(self) -> dict[str, WireFigures]:
        """The counters of every bus, by name."""
        return {name: bus.figures() for name, bus in self._buses.items()}

    def scan(self, text: str) -> None:
        """The scanner reads a text and sends it. Raises `Refusal` if the machine has no scanner."""
        if self._scanner is None:
            raise Refusal(Code.NOT_FOUND, "this machine has no scanner")
        self._scanner.send(text)

    def changed(self) -> None:
        """Saves doors and grams if a state file is configured."""
        if self._state is not None:
            self._state.save()

    def _open_scanner(self) -> None:
        section = self._settings.scanner
        if section is None:
            return
        loop = asyncio.get_running_loop()
        timers = LoopTimers(loop)
        # A real scanner of this kind also accepts commands; the simulated one ignores them.
        self._scanner_port = PseudoTerminal(loop, Path(section.port), lambda _: None)
        self._scanner = TextLine(
            baud=section.baud,
            clock_ns=timers.clock_ns,
            call_at_ns=timers.call_at_ns,
            deliver=self._scanner_port.write,
            tail=TAILS[section.delimiter],
        )

    def _keep_saving(self) -> None:
        """Locks open doors too, so the state is saved periodically."""
        if self._state is not None:
            self._state.save()
            self._saving = asyncio.get_running_loop().call_later(SAVE_EVERY_S, self._keep_saving)


class _Server(uvicorn.Server):
    """uvicorn without signal handling."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing: the loop's own handlers stay."""
        yield


async def serve(
    simulator: Simulator,
    listener: socket.socket,
    supervisor_socket: Path | None,
    page_origin: str | None = None,
) -> None:
    """Runs until SIGTERM or SIGINT. Raises `OSError` if a port cannot be made."""
    loop = asyncio.get_running_loop()
    supervisor = Supervisor(supervisor_socket)
    config = uvicorn.Config(
        Api(simulator, supervisor, page_origin).application(),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)

    def stop() -> None:
        server.should_exit = server.force_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        with simulator.running():
            log.info("bus simulator started", url=f"http://127.0.0.1:{listener.getsockname()[1]}")
            await server.serve(sockets=[listener])
    finally:
        await supervisor.close()
    log.info("bus simulator ended")
