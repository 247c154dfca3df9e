"""The bus owner over TCP against the simulator's ports: Modbus TCP, and RTU bytes behind a serial server."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest

from edge_agent.config import BusSection
from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.modbus import RtuCodec, TcpCodec
from edge_agent.drivers.profiles import BusNeeds
from edge_agent.drivers.requests import Read, Write
from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.drivers.tcp import TcpTransport
from edge_agent.errors import BusTimeout, DeviceFault, PortLost
from tests.support.bus_listener import RecordingListener
from tools.bench.ports import free_port
from tools.bus_simulator.bus import SimulatedBus, open_bus

MS = 1_000_000
HASTY, PATIENT = BusNeeds(turnaround_ms=20, drain_ms=1), BusNeeds(turnaround_ms=2000, drain_ms=1)


class Register:
    """A device whose every register holds its own address; function 05 is refused."""

    def __init__(self, address: int) -> None:
        self.address = address

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        if frame[0] != self.address:
            return None
        if frame[1] == 5:
            return with_crc(bytes([self.address, 0x85, 2]))
        return with_crc(bytes([self.address, 3, 2]) + frame[2:4])


@asynccontextmanager
async def network(
    link: str, listener: RecordingListener | None = None
) -> AsyncIterator[tuple[BusOwner, SimulatedBus]]:
    """A bus owner connected to the devices 1 and 2 of a simulated bus."""
    port = free_port()
    baud = {"baud": 115_200} if link == "rtu+tcp" else {}
    section = BusSection.model_validate({"port": f"{link}://127.0.0.1:{port}"} | baud)
    simulated = open_bus(section, [Register(1), Register(2)], Random(0))
    codec = TcpCodec() if link == "tcp" else RtuCodec()
    bus = BusOwner(
        "net",
        TcpTransport(*section.place),
        baud=section.baud or 0,
        bits_per_character=10,
        codec=codec,
        latency_s=0.1,
        redials=True,
    )
    task = asyncio.create_task(bus.run(listener))
    try:
        assert await bus.wait_open(5)
        yield bus, simulated
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        simulated.unplug()


async def ask(bus: BusOwner, register: int, device: int = 1, needs: BusNeeds = PATIENT) -> list[int]:
    return await bus.transact(device, Read(3, register, 1), needs, Priority.COMMAND)


async def until(found: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not found():
            await asyncio.sleep(0.005)


LINKS = pytest.mark.parametrize("link", ["tcp", "rtu+tcp"])


@LINKS
async def test_readings_and_a_refusal(link: str) -> None:
    async with network(link) as (bus, simulated):
        for number in range(20):
            assert await ask(bus, number, 1 + number % 2) == [number]
        with pytest.raises(DeviceFault, match="exception 2"):
            await bus.transact(1, Write(5, 0, 0xFF00), PATIENT, Priority.COMMAND)
        figures = simulated.figures()
        assert (figures.requests, figures.replies, figures.damaged, figures.early_requests) == (21, 21, 0, 0)


@LINKS
async def test_a_late_reply_is_never_matched_to_another_request(link: str) -> None:
    async with network(link) as (bus, simulated):
        for number in range(5):
            # The answer to the first comes while the second is waited for.
            end = simulated.trouble.latenesses_ns[1].begin(250 * MS)
            with pytest.raises(BusTimeout):
                await ask(bus, 100 + number, needs=HASTY)
            assert await ask(bus, 200 + number) == [200 + number]
            end()
            assert await ask(bus, 300 + number) == [300 + number]
            assert await ask(bus, 400 + number, 2) == [400 + number]
        assert bus.counters.timeouts == 5
        assert bus.counters.late_replies + bus.counters.stray_bytes > 0
        assert bus.counters.bad_replies == 0


async def test_a_reply_with_an_old_transaction_number_is_dropped() -> None:
    async with network("tcp") as (bus, simulated):
        assert await ask(bus, 7, 2) == [7]
        simulated.trouble.ghosts[2].begin(1.0)
        simulated.trouble.delays_ns.begin(60 * MS)  # the ghost is quicker than the reply
        assert [await ask(bus, number) for number in range(10, 15)] == [[number] for number in range(10, 15)]
        assert bus.counters.stray_bytes >= 5 * 11
        assert bus.counters.bad_replies == 0


@LINKS
async def test_silence_noise_and_a_port_that_goes_and_comes(link: str) -> None:
    listener = RecordingListener()
    async with network(link, listener) as (bus, simulated):
        end = simulated.trouble.silences[1].begin(None)
        with pytest.raises(BusTimeout):
            await ask(bus, 1, needs=HASTY)
        end()
        end = simulated.trouble.noises.begin(1.0)
        with pytest.raises(BusTimeout):
            await ask(bus, 2, 2, needs=HASTY)
        end()
        assert simulated.figures().damaged == 1
        simulated.unplug()
        await until(lambda: listener.ports == [True, False])
        with pytest.raises(PortLost):
            await ask(bus, 3)
        simulated.plug()
        simulated.plug()
        await until(lambda: listener.ports == [True, False, True])
        assert await ask(bus, 4, 2) == [4]


async def test_a_stream_that_is_not_modbus_is_disconnected() -> None:
    async with network("tcp") as (bus, simulated):
        port = bus._transport._port  # type: ignore[attr-defined]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = struct.pack(">HHHBBHH", 9, 0, 6, 1, 3, 70, 1)
        writer.write(request[:5])
        await writer.drain()
        writer.write(request[5:] + request[:3])
        assert await reader.readexactly(11) == struct.pack(">HHHBBBH", 9, 0, 5, 1, 3, 2, 70)
        writer.write(request[3:])
        assert (await reader.readexactly(11))[-1] == 70
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        assert await ask(bus, 5) == [5]
        assert simulated.figures().requests == 3


async def test_only_loopback_is_listened_on() -> None:
    for link in ("tcp", "rtu+tcp"):
        section = BusSection.model_validate({"port": f"{link}://192.0.2.1:{free_port()}", "baud": 9600})
        with pytest.raises(OSError, match="loopback only"):
            open_bus(section, [], Random(0))


async def test_a_port_that_is_taken_is_named() -> None:
    section = BusSection.model_validate({"port": f"tcp://127.0.0.1:{free_port()}"})
    first = open_bus(section, [], Random(0))
    with pytest.raises(OSError, match="in use") as caught:
        open_bus(section, [], Random(0))
    assert caught.value.filename == "{}:{}".format(*section.place)
    first.unplug()


async def test_a_peer_that_is_gone_while_it_is_asked_is_noticed_as_soon() -> None:
    """With unacknowledged bytes under way Linux sends no keepalive probes: only the user timeout counts."""
    async with network("tcp") as (bus, _):
        connection = bus._transport._connection  # type: ignore[attr-defined]
        line = connection.get_extra_info("socket")
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 11_000


async def test_w20_a_peer_that_closes_after_each_reply_is_not_a_lost_port() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            frame = await reader.readexactly(12)
            writer.write(frame[:4] + struct.pack(">HBBB", 5, frame[6], 3, 2) + frame[8:10])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bus = BusOwner(
        "net",
        TcpTransport("127.0.0.1", port),
        baud=0,
        bits_per_character=10,
        codec=TcpCodec(),
        latency_s=0.1,
        redials=True,
    )
    listener = RecordingListener()
    ups = listener.ports
    task = asyncio.create_task(bus.run(listener))
    assert await bus.wait_open(5)
    got = 0
    for register in range(30):
        with suppress(PortLost, BusTimeout):
            assert await ask(bus, register) == [register]
            got += 1
    assert got >= 15, "served, if slowly"
    assert ups == [True]
    server.close()
    await server.wait_closed()
    await until(lambda: ups == [True, False])
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
