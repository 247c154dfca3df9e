"""A machine that is not configured yet: its true wiring in virtual time, and `edge-agent init` at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from typer.testing import CliRunner, Result

from edge_agent.app.transports import owner_of
from edge_agent.cli.commands import app
from edge_agent.cli.init.search import ClaimPage, Wires
from edge_agent.config import BusSection, Settings
from edge_agent.drivers.bus import BusOwner
from edge_agent.drivers.health import ObservedFrame
from edge_agent.drivers.simulated.cable import MemoryCable
from edge_agent.drivers.simulated.devices import framing_of
from edge_agent.drivers.transport import Transport
from edge_agent.errors import PortLost
from tools.bench.settings import REPOSITORY
from tools.bus_simulator.plant import build_devices, build_world, line_baud
from tools.simulate.virtual_loop import VirtualLoop

PROFILES = REPOSITORY / "config" / "devices"
ANSWERS = {
    "machine-id": "machine_123",
    "latitude": "52.4",
    "longitude": "4.9",
    "broker": "127.0.0.1",
    "closed-level": "1",
}


class Taken:
    """A port that somebody else has."""

    def __init__(self, port: str) -> None:
        self.port = port

    async def dial(self) -> None:
        """See `Transport.dial`."""

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """See `Transport.open`."""
        raise PortLost(f"{self.port}: Resource temporarily unavailable")

    def write(self, frame: bytes) -> None:
        """See `Transport.write`."""
        raise AssertionError

    def close(self) -> None:
        """See `Transport.close`."""


class NewMachine:
    """`truth`: how it is really wired. `sent`: all that was sent on its wires."""

    def __init__(self, truth: Settings) -> None:
        self.truth = truth
        self.sent: list[bytes] = []
        self.taken: set[str] = set()
        self.cables: dict[str, MemoryCable] = {}
        self.on_cable: Callable[[MemoryCable], None] = lambda cable: None
        self.on_line: Callable[[], None] = lambda: None
        self.claim_page: ClaimPage | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def ports(self) -> str:
        """The ports of its buses, as an option."""
        return ",".join(bus.port for bus in self.truth.buses.values())

    def line(self, name: str, section: BusSection) -> tuple[BusOwner, Transport]:
        """See `Wires.line`."""
        self.on_line()
        transport: Transport = Taken(section.port)
        if section.port not in self.taken:
            transport = self._cable(section.port)
        bus = owner_of(name, section, transport)
        bus.frame_observers.append(self._tap)
        return bus, transport

    def _cable(self, port: str) -> MemoryCable:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            world = build_world(
                self.truth, clock_ns=lambda: round(loop.time() * 1e9), wall_s=lambda: 1.75e9 + loop.time()
            )
            devices = build_devices(self.truth, world)
            self.cables = {}
            for name, bus in self.truth.buses.items():
                self.cables[bus.port] = MemoryCable(
                    loop,
                    devices[name],
                    baud=line_baud(bus),
                    bits_per_character=bus.bits_per_character,
                    framing=framing_of(bus.protocol),
                )
                self.on_cable(self.cables[bus.port])
            self.cables["/dev/nobody"] = MemoryCable(loop, [])
        return self.cables[port]

    def _tap(self, passed: ObservedFrame) -> None:
        if passed.direction == "sent":
            self.sent.append(passed.data)

    def init(self, *arguments: str, typed: Sequence[str] | None = None) -> Result:
        """The command at this machine; `typed`: lines at the terminal."""
        wires = Wires(self.line, VirtualLoop, self.claim_page)
        lines = None if typed is None else "".join(f"{line}\n" for line in typed)
        return CliRunner().invoke(app, ["init", *arguments], obj=wires, input=lines)


def options(output: Path, ports: str, **more: str) -> list[str]:
    """A whole command line without a question left."""
    answers = ANSWERS | {"ports": ports} | {key.replace("_", "-"): value for key, value in more.items()}
    said = [word for key, value in answers.items() for word in (f"--{key}", value)]
    return ["--output", str(output), "--profiles", str(PROFILES), *said]
