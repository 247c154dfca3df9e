"""Looks on serial ports for boards: which speed, which protocol, who answers, and what it is.

Everything that is sent is a read; no lock and no relay moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.cli.text.language import _
from edge_agent.config import BusSection
from edge_agent.config.wiring import ADDRESSES, LAST_SCANNED
from edge_agent.drivers.bus import BusOwner
from edge_agent.drivers.health import ObservedFrame
from edge_agent.drivers.profiles import Profile
from edge_agent.drivers.profiles import Protocol as Spoken
from edge_agent.drivers.transport import Transport
from edge_agent.errors import PortLost
from edge_agent.service.bus_scan import Heard, ask, slowest
from edge_agent.service.bus_service import BusPlace
from edge_agent.service.recognition import contacts, likeliest, openings, recognise, speakers

FIRST_LOOK: dict[Spoken, int] = {
    "modbus": 32,
    "8a": 32,
    "kerong-cu12": 15,
    "kerong-cu16": 15,
    "kerong-cu48": 15,
    "wkly": 15,
}
"""The last address that is asked at each speed; later ones are asked only if a board has answered."""
USUAL_BAUD: dict[Spoken, int] = {
    "8a": 9600,
    "kerong-cu12": 19200,
    "kerong-cu16": 19200,
    "kerong-cu48": 19200,
    "wkly": 9600,
}
"""What lock boards with a protocol of their own are set to; another speed is tried last."""
FACTORY: dict[Spoken, tuple[int, ...]] = {"modbus": (255,)}
"""Addresses beyond what is usually scanned that boards have from the factory."""
PORT_S = 2.0
ECHOES = 3
"""If the first requests, this many, are all heard back, the adapter echoes what is sent."""


class PortBusy(Exception):
    """A port cannot be taken. Says why."""


class Progress(Protocol):
    """Gets the progress of the search."""

    def begin(self, doing: str, steps: int) -> None:
        """So many addresses come now."""

    def step(self) -> None:
        """One of them is done."""


ClaimPage = Callable[[int, str], AbstractContextManager[Callable[[str | None], None]]]
"""Serves the page on a port, in a language; what it gives shows a code, or takes it away (None). Raises
`OSError` if the port cannot be had."""


@dataclass(frozen=True, slots=True)
class Wires:
    """Makes connections to buses, their event loop, and the kiosk's page of a claim code (port, language).
    Comes from `__main__`: they are made in `edge_agent.app` and `edge_agent.console`, which this package may
    not import."""

    line: Callable[[str, BusSection], tuple[BusOwner, Transport]]
    loop: Callable[[], asyncio.AbstractEventLoop]
    claim_page: ClaimPage | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is tried. `thorough`: all addresses at each speed; `last`: none beyond it."""

    protocols: tuple[Spoken, ...]
    bauds: tuple[int, ...]
    parities: tuple[str, ...]
    last: int | None = None
    thorough: bool = False


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """Who answers at an address: the likeliest profiles, and what door contacts read under each of them."""

    address: int
    profiles: tuple[str, ...]
    contacts: Mapping[str, tuple[int, ...]]


@dataclass(slots=True)
class FoundBus:
    """A port with boards on it. `garbled`: addresses whose replies came damaged."""

    name: str
    section: BusSection
    devices: list[FoundDevice]
    garbled: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NothingFound:
    """A port without a recognised device. `garbled`: there were damaged replies at one of the speeds."""

    port: str
    garbled: bool


async def search(
    wires: Wires, name: str, port: str, wanted: Wanted, profiles: Mapping[str, Profile], progress: Progress
) -> FoundBus | NothingFound:
    """Tries one speed and protocol after the other until a board is recognised; where none is, the first
    setting counts with which somebody was understood.

    Raises `PortBusy` where the port cannot be taken.
    """
    garbled = echo = False
    strangers: FoundBus | None = None
    for plain in attempts(port, wanted):
        spoken = speakers(profiles, plain.protocol)
        if not spoken:
            continue
        found, echoes = await _tried(wires, name, plain, echo, wanted, spoken, progress)
        if echoes and not echo:
            echo = True  # it is the adapter's, at any speed
            found, echoes = await _tried(wires, name, plain, echo, wanted, spoken, progress)
        if any(device.profiles for device in found.devices):
            return found
        if found.devices and strangers is None:
            strangers = found
        garbled = garbled or bool(found.garbled)
    return NothingFound(port, garbled and not echo) if strangers is None else strangers


async def _tried(
    wires: Wires,
    name: str,
    plain: BusSection,
    echo: bool,
    wanted: Wanted,
    spoken: Mapping[str, Profile],
    progress: Progress,
) -> tuple[FoundBus, bool]:
    """Who is there under one setting of the port, and whether nothing was heard but our own questions."""
    section = plain.model_copy(update={"local_echo": echo})
    try:
        async with _opened(wires, name, section) as place:
            return await _on(name, section, place, wanted, spoken, progress)
    except PortLost as fault:
        raise PortBusy(str(fault)) from None


def attempts(port: str, wanted: Wanted) -> Iterator[BusSection]:
    """How a port may be set up, in the order of trying; over a network there is no speed to find."""
    if port.startswith("tcp://"):
        yield BusSection.model_validate({"port": port})
        return
    bauds = wanted.bauds[:1] if port.startswith("rtu+tcp://") else wanted.bauds
    lines = [
        (spoken, baud, parity) for spoken in wanted.protocols for baud in bauds for parity in wanted.parities
    ]
    for spoken, baud, parity in sorted(lines, key=lambda line: USUAL_BAUD.get(line[0], line[1]) != line[1]):
        line = {"port": port, "baud": baud, "parity": parity, "protocol": spoken}
        yield BusSection.model_validate(line)


@asynccontextmanager
async def _opened(wires: Wires, name: str, section: BusSection) -> AsyncIterator[BusPlace]:
    bus, transport = wires.line(name, section)
    await transport.dial()
    transport.open(
        lambda data: None, lambda reason: None
    )  # says why it cannot be taken, as its owner does not
    transport.close()
    task = asyncio.get_running_loop().create_task(bus.run(), name=f"look at {name}")
    try:
        if not await bus.wait_open(PORT_S):
            raise PortLost(f"{section.port}: cannot be taken")
        first, last = ADDRESSES[section.protocol]
        bounds = (first, last, LAST_SCANNED.get(section.protocol, last))
        wire = "modbus-tcp" if section.link == "tcp" else section.protocol
        yield BusPlace(bus, section.port, wire, section.baud or 0, bounds, (), section.bits_per_character)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _on(
    name: str,
    section: BusSection,
    place: BusPlace,
    wanted: Wanted,
    spoken: Mapping[str, Profile],
    progress: Progress,
) -> tuple[FoundBus, bool]:
    look = Sweep(place, spoken, progress)
    first, rest = addresses(section.protocol, wanted)
    speed = "" if section.baud is None else f" {section.baud} baud {section.parity}"
    doing = f"{section.port}: {section.protocol}{speed}"
    await look.over(first, doing)
    if look.clean:
        await look.over(rest, _("{bus}: the other addresses", bus=doing))
        # Replies can be lost on any bus, and a board that is missed has no cells in the configuration.
        silent = [address for address in (*first, *rest) if address not in look.clean]
        await look.over(silent, _("{bus}: once more those that did not answer", bus=doing))
    found = FoundBus(name, section, [], sorted(set(look.garbled) - set(look.clean)))
    for address in sorted(look.clean):
        found.devices.append(await _device(place, address, spoken))
    if section.protocol != "modbus" and not any(device.profiles for device in found.devices):
        found.devices.clear()  # a checksum of one byte proves little
    return found, look.echoes


def addresses(protocol: Spoken, wanted: Wanted) -> tuple[list[int], list[int]]:
    """Which addresses are asked first, and which once somebody has answered."""
    least, most = ADDRESSES[protocol]
    end = min(LAST_SCANNED.get(protocol, most), most if wanted.last is None else wanted.last)
    look = end if wanted.thorough else min(end, FIRST_LOOK[protocol])
    factory = [] if wanted.last is not None else list(FACTORY.get(protocol, ()))
    return [*range(least, look + 1), *factory], list(range(look + 1, end + 1))


async def _device(place: BusPlace, address: int, spoken: Mapping[str, Profile]) -> FoundDevice:
    likely = likeliest(await recognise(place, address, spoken))
    levels = {name: tuple(await contacts(place, address, spoken[name])) for name in likely}
    return FoundDevice(address, tuple(likely), levels)


class Sweep:
    """Asks addresses one after the other and records which answer, and which replies are damaged."""

    def __init__(self, place: BusPlace, spoken: Mapping[str, Profile], progress: Progress) -> None:
        self.clean: list[int] = []
        self.garbled: list[int] = []
        self.asked = 0
        self._echoed = 0
        self._sent = self._heard = b""
        place.bus.frame_observers.append(self._tap)
        self._place = place
        self._openings = openings(spoken)
        self._needs = slowest([profile.bus for profile in spoken.values()])
        self._progress = progress

    @property
    def echoes(self) -> bool:
        """Whether each request was heard back: the adapter echoes."""
        return self._echoed == self.asked >= ECHOES

    async def over(self, addresses: Iterable[int], doing: str) -> None:
        """Asks each of them; gives up where only our own echo is heard. Raises `PortLost`."""
        chosen = list(addresses)
        self._progress.begin(doing, len(chosen))
        for address in chosen:
            stray = self._place.bus.counters.stray_bytes
            heard = await self._ask(address)
            self.asked += 1
            stray = self._place.bus.counters.stray_bytes - stray
            self._echoed += self._was_echoed(heard, stray)
            if heard in ("answers", "exception"):
                self.clean.append(address)
            elif heard == "garbled":
                self.garbled.append(address)
            self._progress.step()
            if self.echoes:
                return

    def _was_echoed(self, heard: str, stray: int) -> bool:
        """Whether the last question was heard: in front of its reply, or instead of one."""
        if heard in ("answers", "exception"):
            return stray == len(self._sent)
        return self._heard.startswith(self._sent)

    def _tap(self, passed: ObservedFrame) -> None:
        if passed.direction == "sent":
            self._sent, self._heard = passed.data, b""
        else:
            self._heard += passed.data

    async def _ask(self, address: int) -> str:
        heard: Heard | None = None
        for request in self._openings:
            heard = await ask(self._place, address, request, self._needs, 1)
            if heard.outcome != "silent":
                break
        return "silent" if heard is None else heard.outcome
