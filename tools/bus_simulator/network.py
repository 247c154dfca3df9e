"""Network buses: a TCP port on loopback, and Modbus TCP behind it.

Modbus TCP is written from "Messaging on TCP/IP 1.0b", independently, so that a mistake in the daemon's codec
is not repeated here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random

from edge_agent.config import BusSection
from edge_agent.drivers.simulated.cable import LoopTimers
from edge_agent.drivers.simulated.line import TURNAROUND_NS, LineDevice, WireFigures
from edge_agent.drivers.simulated.slave import intact, with_crc
from edge_agent.drivers.simulated.trouble import LineTrouble

LOOPBACK = ("127.0.0.1", "localhost", "::1")
READ_BYTES = 65_536


class Connection:
    """One peer of a port; `heard` holds its received bytes that are not processed yet."""

    def __init__(self, peer: socket.socket) -> None:
        self.socket = peer
        self.heard = bytearray()

    def write(self, data: bytes) -> None:
        """Sends without waiting; what a full buffer does not take is lost, as is everything after the end."""
        with suppress(OSError):
            self.socket.send(data)


class ListeningPort:
    """A TCP port on loopback, like a `PseudoTerminal`: every connected peer receives everything that is
    written.

    Raises `OSError` if it cannot be opened, also for a host that is not this one.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        place: tuple[str, int],
        on_bytes: Callable[[Connection, bytes], None],
    ) -> None:
        self._loop = loop
        self._place = place
        self._on_bytes = on_bytes
        self._listener: socket.socket | None = None
        self._connections: list[Connection] = []
        self.plug()

    def plug(self) -> None:
        """Listens; without effect while it does. Raises `OSError`."""
        if self._listener is not None:
            return
        host, number = self._place
        name = f"{host}:{number}"
        if host not in LOOPBACK:
            raise OSError(errno.EADDRNOTAVAIL, "the simulator listens on loopback only", name)
        family = socket.AF_INET6 if host == "::1" else socket.AF_INET
        try:
            self._listener = socket.create_server((host, number), family=family)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), name) from None
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._somebody_calls, self._listener)

    def unplug(self) -> None:
        """Refuses new connections and ends the present ones."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for connection in tuple(self._connections):
            self.cut(connection)

    def cut(self, connection: Connection) -> None:
        """Ends one connection; harmless if it has ended."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._loop.remove_reader(connection.socket)
            connection.socket.close()

    def write(self, data: bytes) -> None:
        """Sends to all connected peers."""
        for connection in self._connections:
            connection.write(data)

    def _somebody_calls(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            peer, _ = listener.accept()
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(peer)
            self._connections.append(connection)
            self._loop.add_reader(peer, self._readable, connection)

    def _readable(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_bytes(connection, data)
        else:
            self.cut(connection)


class ModbusTcpBus:
    """Devices behind Modbus TCP; must be created on a running loop. Raises `OSError` if no port can be made.

    A request is identified by its header: transaction, protocol 0, length, unit. A unit that is absent or
    silent is not answered, and neither is a request or reply that noise has damaged, as on wires behind a
    gateway. An echo is not a fault of a network, and does nothing.
    """

    HEADER = struct.Struct(">HHHB")

    def __init__(self, section: BusSection, devices: Sequence[LineDevice], random: Random) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock_ns = LoopTimers(self._loop).clock_ns
        self._devices = list(devices)
        self.trouble = LineTrouble(random)
        self._start_ns = self._clock_ns()
        self._counts = dict.fromkeys(("requests", "replies", "damaged", "bytes"), 0)
        self._said: dict[int, tuple[Connection, bytes]] = {}
        self._sending: set[asyncio.TimerHandle] = set()
        self._port = ListeningPort(self._loop, section.place, self._heard)

    def unplug(self) -> None:
        """The network is gone; data in flight is lost."""
        self._port.unplug()
        for timer in self._sending:
            timer.cancel()
        self._sending.clear()
        self._said.clear()

    def plug(self) -> None:
        """The network returns. Raises `OSError`."""
        self._port.plug()

    def figures(self) -> WireFigures:
        """The counters since the start; there is no bit time on a network."""
        counts, elapsed_ns = self._counts, max(1, self._clock_ns() - self._start_ns)
        return WireFigures(
            requests=counts["requests"],
            replies=counts["replies"],
            damaged=counts["damaged"],
            bytes=counts["bytes"],
            seconds=elapsed_ns / 1e9,
            utilisation=0.0,
            early_requests=0,
            collisions=0,
        )

    def _heard(self, connection: Connection, data: bytes) -> None:
        """Takes complete requests out of the received bytes. A peer that has lost the framing is
        disconnected."""
        heard = connection.heard
        heard += data
        while len(heard) >= self.HEADER.size:
            transaction, protocol, length, unit = self.HEADER.unpack_from(heard)
            if protocol != 0 or not 2 <= length <= 254:
                self._port.cut(connection)
                return
            if len(heard) < 6 + length:
                return
            body = bytes(heard[self.HEADER.size : 6 + length])
            del heard[: 6 + length]
            self._counts["requests"] += 1
            self._counts["bytes"] += 6 + length
            self._carry_out(connection, transaction, unit, body)

    def _carry_out(self, connection: Connection, transaction: int, unit: int, body: bytes) -> None:
        frame = self._passed(with_crc(bytes([unit]) + body))
        if frame is None:
            return
        for device in self._devices:
            if device.address != unit or self.trouble.silent(unit):
                continue
            answer = device.answer(frame, self._clock_ns())
            reply = None if answer is None else self._passed(answer)
            if reply is not None:
                data = self.HEADER.pack(transaction, 0, len(reply) - 2, unit) + reply[1:-2]
                self._said[unit] = (connection, data)
                self._send(connection, data, self.trouble.lateness_ns(unit))
        for address, (listener, said) in self._said.items():
            after_ns = None if address == unit else self.trouble.ghost_ns(address)
            if after_ns is not None:
                self._send(listener, said, after_ns)

    def _passed(self, frame: bytes) -> bytes | None:
        """A frame after the noise; None if it was damaged."""
        passed = self.trouble.spoil(frame)
        if intact(passed):
            return passed
        self._counts["damaged"] += 1
        return None

    def _send(self, connection: Connection, data: bytes, late_ns: int) -> None:
        self._counts["replies"] += 1
        self._counts["bytes"] += len(data)

        def send() -> None:
            self._sending.discard(timer)
            connection.write(data)

        timer = self._loop.call_later((TURNAROUND_NS + late_ns) / 1e9, send)
        self._sending.add(timer)
