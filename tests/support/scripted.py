"""A broker that says what Mosquitto never does, or keeps silent where Mosquitto answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.support.secure import LOCALHOST

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 8, 12, 14


@dataclass
class Script:
    """What it answers. `reason` and `connack`: reason code and properties of the CONNACK; `suback`: the
    reason of the SUBACK, None for no SUBACK at all; `pubacks`: whether publications get their PUBACK."""

    reason: int = 0
    connack: bytes = b""
    suback: int | None = 1
    pubacks: bool = True
    pongs: bool = True
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    """It answers only while this is set."""
    port: int = 0
    heard: list[bytes] = field(default_factory=list)
    """Every packet that came, on whatever connection."""

    def of(self, kind: int) -> list[bytes]:
        """The packets of a kind."""
        return [packet for packet in self.heard if packet[0] >> 4 == kind]

    def answer(self, packet: bytes, body: int) -> bytes:
        """What it says to a packet whose variable header begins at `body`."""
        kind = packet[0] >> 4
        if kind == CONNECT:
            return bytes((0x20, 3 + len(self.connack), 0, self.reason, len(self.connack))) + self.connack
        if kind == SUBSCRIBE and self.suback is not None:
            return bytes((0x90, 4)) + packet[body : body + 2] + bytes((0, self.suback))
        if kind == PUBLISH and self.pubacks and packet[0] & 0b110:
            after_topic = body + 2 + int.from_bytes(packet[body : body + 2], "big")
            return bytes((0x40, 2)) + packet[after_topic : after_topic + 2]
        return bytes((0xD0, 0)) if kind == PINGREQ and self.pongs else b""


async def _packet(reader: asyncio.StreamReader) -> tuple[bytes, int]:
    """One packet, and where its variable header begins (MQTT 5, 2.1)."""
    head = await reader.readexactly(2)
    length, shift = head[1] & 0x7F, 7
    while head[-1] & 0x80:
        head += await reader.readexactly(1)
        length, shift = length | (head[-1] & 0x7F) << shift, shift + 7
    return head + await reader.readexactly(length), len(head)


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Script]:
    """Runs it for the length of a `with`, on a port of its own."""
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        try:
            while True:
                packet, body = await _packet(reader)
                script.heard.append(packet)
                await script.awake.wait()
                writer.write(script.answer(packet, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    script.awake.set()
    server = await asyncio.start_server(serve, LOCALHOST, 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        if serving:
            await asyncio.wait([task for task in serving if task is not None], timeout=10)
