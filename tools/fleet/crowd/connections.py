"""Connections of many machines to one broker that do nothing but stay: MQTT 5 packets written out.

A client library needs some 60 kB and a thread for each connection; these need a socket. The packets are those
of a machine's link: CONNECT with a retained will, SUBSCRIBE to its commands, PINGREQ.
"""

from __future__ import annotations

import asyncio
import socket
from multiprocessing.connection import Connection

from edge_agent.protocol.topics import Topics
from tools.bench.ports import HOST

AT_ONCE = 200
"""Connections that are being established at the same time."""
PORTS = range(20_000, 60_000)
"""Source ports used of each loopback address: 100,000 connections to one port need several addresses."""
FIRST_ADDRESS = 10
"""127.0.0.10, 127.0.0.11 and so on are the machines' addresses."""
SESSION_S = 7 * 24 * 3600
CONNACK, SUBACK = 0x20, 0x90
PINGREQ = b"\xc0\x00"
FLAGS = 0x2C
"""A will with QoS 1, retained; the session is resumed (MQTT 5, 3.1.2.3)."""


def run(orders: Connection, port: int, count: int, keepalive_s: int) -> None:
    """Process: connects on the order "connect", answers with the number of connections, and stays."""
    asyncio.run(_Crowd(port, count, keepalive_s).work(orders))


def text(value: str) -> bytes:
    """A UTF-8 string of MQTT (MQTT 5, 1.5.4)."""
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def packet(first: int, body: bytes) -> bytes:
    """A control packet with its length (MQTT 5, 2.1)."""
    left, length = len(body), bytearray()
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes((first, *length)) + body


def connect_packet(machine_id: str, keepalive_s: int) -> bytes:
    """CONNECT of a machine (MQTT 5, 3.1)."""
    topics = Topics(machine_id)
    head = text("MQTT") + bytes((5, FLAGS)) + keepalive_s.to_bytes(2, "big")
    properties = b"\x11" + SESSION_S.to_bytes(4, "big")
    will = b"\x00" + text(topics.online) + text('{"online":false,"boot_id":"b","agent_version":"1","at":""}')
    return packet(0x10, head + bytes((len(properties),)) + properties + text(machine_id) + will)


def subscribe_packet(machine_id: str) -> bytes:
    """SUBSCRIBE to a machine's commands with QoS 1 (MQTT 5, 3.8)."""
    return packet(0x82, b"\x00\x01\x00" + text(Topics(machine_id).commands) + b"\x01")


class _Machine(asyncio.Protocol):
    """One connection."""

    def __init__(self, crowd: _Crowd, number: int) -> None:
        self._crowd = crowd
        self._number = number
        self.transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(connect_packet(machine_id(self._number), self._crowd.keepalive_s))

    def data_received(self, data: bytes) -> None:
        """The broker's packets are short, and it sends each at once: the first octet distinguishes them."""
        if data[0] == CONNACK:
            if data[3] != 0:
                self.ready.set_exception(ConnectionError(f"CONNACK with reason code {data[3]:#x}"))
            elif self.transport is not None:
                self.transport.write(subscribe_packet(machine_id(self._number)))
        elif data[0] == SUBACK and not self.ready.done():
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._crowd.open.get(self._number) is self:
            del self._crowd.open[self._number]
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("closed by the broker"))


class _Crowd:
    """The connections of one process."""

    def __init__(self, port: int, count: int, keepalive_s: int) -> None:
        self._port = port
        self._count = count
        self.keepalive_s = keepalive_s
        self.open: dict[int, _Machine] = {}

    async def work(self, orders: Connection) -> None:
        """Obeys the orders "connect", "open" (how many are) and "end" until the last one."""
        loop = asyncio.get_running_loop()
        pinging = loop.create_task(self._ping())
        while (order := await loop.run_in_executor(None, orders.recv)) != "end":
            if order == "connect":
                await self._connect_all()
            orders.send(len(self.open))
        pinging.cancel()

    async def _connect_all(self) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with room:
                await self._connect(number)

        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                if number not in self.open:
                    group.create_task(one(number))

    async def _connect(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        address, port = divmod(number, len(PORTS))
        endpoint = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        endpoint.setblocking(False)
        endpoint.bind((f"127.0.0.{FIRST_ADDRESS + address}", PORTS[port]))
        await loop.sock_connect(endpoint, (HOST, self._port))
        _, machine = await loop.create_connection(lambda: _Machine(self, number), sock=endpoint)
        self.open[number] = machine
        await machine.ready

    async def _ping(self) -> None:
        """Pings each connection once in the keep-alive, evenly spread."""
        slices, turn = self.keepalive_s * 10, 0
        while True:
            await asyncio.sleep(0.1)
            turn = (turn + 1) % slices
            for number in range(turn, self._count, slices):
                machine = self.open.get(number)
                if machine is not None and machine.transport is not None and machine.ready.done():
                    machine.transport.write(PINGREQ)


def machine_id(number: int) -> str:
    """The id of a machine of the crowd."""
    return f"crowd_{number:06d}"
