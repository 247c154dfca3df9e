"""Makes the transport to a bus from the configuration; names the concrete transports and codecs."""

from __future__ import annotations

import asyncio
import os

from edge_agent.config import BusSection
from edge_agent.drivers.bus import BusOwner
from edge_agent.drivers.lock_protocols import codec_of
from edge_agent.drivers.modbus import TcpCodec
from edge_agent.drivers.requests import Codec
from edge_agent.drivers.tcp import TcpTransport
from edge_agent.drivers.transport import Transport
from edge_agent.drivers.tty import TtyTransport


def transport_to(bus: BusSection) -> Transport:
    """The transport to a bus: a tty, or a connection over a network."""
    if bus.link != "serial":
        return TcpTransport(*bus.place)
    assert bus.baud is not None  # checked by the configuration
    return TtyTransport(bus.port, bus.baud, bus.parity, bus.stop_bits)


def owner_of(name: str, bus: BusSection, transport: Transport) -> BusOwner:
    """The owner that serialises all requests on a bus."""
    codec: Codec = codec_of(bus.protocol)
    if bus.link == "tcp":
        codec = TcpCodec(checks_transactions=bus.check_transaction)
    return BusOwner(
        name,
        transport,
        baud=0 if bus.link == "tcp" else bus.baud or 0,
        bits_per_character=bus.bits_per_character,
        codec=codec,
        latency_s=0.0 if bus.link == "serial" else bus.latency_ms / 1000,
        local_echo=bus.local_echo,
        redials=bus.link != "serial",
        paced=lambda: keeps_pace(bus),
    )


def keeps_pace(bus: BusSection) -> bool:
    """Whether the line takes the time that its baud rate says: as configured, else all but boards that are on
    USB themselves (CDC-ACM), for which a baud rate means nothing."""
    if bus.pace is not None:
        return bus.pace
    return not os.path.basename(os.path.realpath(bus.port)).startswith("ttyACM")


def bus_with_transport(name: str, bus: BusSection) -> tuple[BusOwner, Transport]:
    """The owner of a bus, and its transport."""
    transport = transport_to(bus)
    return owner_of(name, bus, transport), transport


async def fails_with(buses: list[asyncio.Task[None]]) -> None:
    """Waits until the task of a bus ends, and raises its error, which ends the daemon: it restarts, instead
    of running on without that bus."""
    if buses:
        ended, _ = await asyncio.wait(buses, return_when=asyncio.FIRST_COMPLETED)
        for bus in ended:
            bus.result()
