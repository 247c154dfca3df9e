"""A TCP proxy that reads MQTT packets as they pass and cuts, stalls, doubles or swaps them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PUBLISH, PUBACK, SUBACK = 3, 4, 9
SWAP_S = 0.05
"""A packet held back to be overtaken goes on after this, if nothing overtakes it."""


@dataclass(slots=True)
class Faults:
    """What happens to packets; may be changed at any time, from any thread.

    `cut_after`: each connection is cut at its so manieth packet after the subscription's acknowledgement,
    `cut_before`: with that packet lost, else just behind it. `doubled`: the share of PUBLISH and
    PUBACK packets that pass twice, `swapped`: that of PUBLISH packets that pass behind the next one of their
    direction. `stalled`: nothing passes.
    """

    cut_after: int | None = None
    cut_before: bool = False
    doubled: float = 0.0
    swapped: float = 0.0
    stalled: bool = False


@dataclass(slots=True)
class _Way:
    """One direction of one connection."""

    writer: asyncio.StreamWriter
    held: list[bytes] = field(default_factory=list)


class Proxy:
    """Listens on a port of its own and passes everything on to a broker on loopback."""

    def __init__(self, broker_port: int, seed: int = 0) -> None:
        self.faults = Faults()
        self.connections = 0
        self.cuts = 0
        self.passed = 0
        self.doubled = 0
        self.doubled_receipts = 0
        self.swapped = 0
        self.on_cut: Callable[[], None] = lambda: None
        self.port = 0
        self._broker_port = broker_port
        self._rng = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt proxy")

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """Ends it and every connection."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, machine: asyncio.StreamReader, to_machine: asyncio.StreamWriter) -> None:
        try:
            broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        except OSError:
            to_machine.transport.abort()
            return
        self.connections += 1
        connection = _Connection(self, (_Way(to_broker), _Way(to_machine)))
        try:
            await connection.live(machine, broker)
        finally:
            for writer in (to_broker, to_machine):
                writer.transport.abort()

    def chance(self, share: float) -> bool:
        """Drawn from the seed."""
        return self._rng.random() < share


class _Connection:
    """Two directions that end together."""

    def __init__(self, proxy: Proxy, ways: tuple[_Way, _Way]) -> None:
        self._proxy = proxy
        self._ways = ways
        self._count: int | None = None

    async def live(self, machine: asyncio.StreamReader, broker: asyncio.StreamReader) -> None:
        """Until either side ends, or the packet comes at which it is cut."""
        pumps = [
            asyncio.create_task(self._pump(reader, way))
            for reader, way in zip((machine, broker), self._ways, strict=True)
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, way: _Way) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                packet = await _packet(reader)
                while self._proxy.faults.stalled:
                    await asyncio.sleep(0.01)
                if not await self._pass(packet, way):
                    return

    async def _pass(self, packet: bytes, way: _Way) -> bool:
        """One packet; False when the connection is to be cut."""
        proxy, faults = self._proxy, self._proxy.faults
        due = self._due(packet[0] >> 4)
        if due and faults.cut_before:
            return False
        publish = packet[0] >> 4 == PUBLISH
        if publish and not way.held and proxy.chance(faults.swapped):
            proxy.swapped += 1
            way.held.append(packet)
            asyncio.get_running_loop().call_later(SWAP_S, _release, way)
        else:
            way.writer.write(packet)
            if publish and proxy.chance(faults.doubled):
                proxy.doubled += 1
                way.writer.write(packet)
            elif packet[0] >> 4 == PUBACK and proxy.chance(faults.doubled):
                proxy.doubled_receipts += 1
                way.writer.write(packet)
            if publish:
                _release(way)
        proxy.passed += 1
        await way.writer.drain()
        if due:
            await asyncio.sleep(0.001)  # what was written shall arrive
        return not due

    def _due(self, kind: int) -> bool:
        if self._count is None:
            self._count = 0 if kind == SUBACK else None
            return False
        self._count += 1
        if self._proxy.faults.cut_after is None or self._count < self._proxy.faults.cut_after:
            return False
        self._proxy.cuts += 1
        self._proxy.on_cut()
        return True


def _release(way: _Way) -> None:
    while way.held:
        way.writer.write(way.held.pop())


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """One whole packet: type, remaining length (MQTT 5, 1.5.5), the rest."""
    head = await reader.readexactly(2)
    length, shift = head[1] & 0x7F, 7
    while head[-1] & 0x80:
        head += await reader.readexactly(1)
        length |= (head[-1] & 0x7F) << shift
        shift += 7
    return head + await reader.readexactly(length)


@contextmanager
def proxy_to(broker_port: int, seed: int = 0) -> Iterator[Proxy]:
    """A proxy for the length of a `with`."""
    proxy = Proxy(broker_port, seed)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
