"""A TCP connection as a `Transport`: Modbus TCP, or a serial server that passes RTU bytes on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from edge_agent.errors import PortLost

CONNECT_S = 3.0
"""The longest time for making a connection."""
KEEPALIVE = (
    ("TCP_KEEPIDLE", 5),
    ("TCP_KEEPINTVL", 2),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 11_000),
)
"""A peer that disappears without notice is detected within 11 s, even when nothing is sent. While data is
unsent, Linux sends no probes but repeats the data, for a quarter of an hour unless there is a user
timeout."""


class _Peer(asyncio.Protocol):
    """Gets the event loop's callbacks for one connection."""

    def __init__(self, owner: TcpTransport) -> None:
        self._owner = owner

    def data_received(self, data: bytes) -> None:
        self._owner.peer_received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.gone(self, str(exc or "closed by the other side"))


class TcpTransport:
    """`Transport` over a TCP connection, without delay and with keepalive."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._name = f"{host}:{port}"
        self._peer: _Peer | None = None
        self._connection: asyncio.WriteTransport | None = None
        self._on_bytes: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[str], None] | None = None

    async def dial(self) -> None:
        """See `Transport.dial`."""
        self.close()
        peer = _Peer(self)
        try:
            async with asyncio.timeout(CONNECT_S):
                loop = asyncio.get_running_loop()
                connection, _ = await loop.create_connection(lambda: peer, self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise PortLost(f"{self._name}: {error or 'no answer'}") from None
        self._peer, self._connection = peer, connection
        line: socket.socket = connection.get_extra_info("socket")
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """See `Transport.open`."""
        if self._connection is None:
            raise PortLost(f"{self._name}: not connected")
        self._on_bytes, self._on_lost = on_bytes, on_lost

    def write(self, frame: bytes) -> None:
        """See `Transport.write`."""
        if self._connection is None:
            raise PortLost(f"{self._name}: not connected")
        self._connection.write(frame)

    def close(self) -> None:
        """See `Transport.close`."""
        connection, self._connection, self._peer = self._connection, None, None
        self._on_bytes = self._on_lost = None
        if connection is not None:
            connection.abort()

    def peer_received(self, peer: _Peer, data: bytes) -> None:
        """Takes bytes of a connection, which may be an earlier one."""
        if peer is self._peer and self._on_bytes is not None:
            self._on_bytes(data)

    def gone(self, peer: _Peer, reason: str) -> None:
        """A connection has ended."""
        if peer is not self._peer:
            return
        self._connection = self._peer = None
        if self._on_lost is not None:
            self._on_lost(f"{self._name}: {reason}")
