"""Sockets under an MQTT client: closed when their handshake fails, and without delay.

Imports no MQTT library; shared by machine and gateway. Facts about the library: paho-mqtt 2.2,
`Client._create_socket`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any


class ClosesSockets:
    """A base class before paho's `Client`: closes a socket whose TLS or websocket handshake failed, which the
    library leaves to the garbage collector."""

    _opened: socket.socket | None = None

    def _create_socket_connection(self) -> socket.socket:
        made: socket.socket = super()._create_socket_connection()  # type: ignore[misc]
        self._opened = made
        return made

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> Any:
        client: Any = self
        made = client._ssl_context.wrap_socket(
            tcp_sock, server_hostname=client._host, do_handshake_on_connect=False
        )
        self._opened = made
        made.settimeout(client._connect_timeout)
        made.do_handshake()
        return made

    def _create_socket(self) -> Any:
        try:
            return super()._create_socket()  # type: ignore[misc]
        except BaseException:
            if self._opened is not None:
                self._opened.close()
            raise
        finally:
            self._opened = None


def send_at_once(sock: Any) -> None:
    """Sends small packets without waiting for the acknowledgement of earlier ones (Nagle), which costs 40 ms
    a hop.

    `sock`: the library's socket; under websockets it holds the real one.
    """
    with contextlib.suppress(OSError):  # the socket is closing; the link notices by itself
        getattr(sock, "_socket", sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def shut(sock: Any) -> None:
    """Ends a connection at once, from any thread; its reader notices. `sock`: as above, or None."""
    if sock is not None:
        with contextlib.suppress(OSError):
            getattr(sock, "_socket", sock).shutdown(socket.SHUT_RDWR)


THREAD_END_S = 1.0


async def end_thread(client: Any) -> None:
    """Ends the client's thread without blocking the loop. A thread that is stuck in connecting is left
    alone: it closes what it opens, and ends."""
    client._thread_terminate = True
    end_s = asyncio.get_running_loop().time() + THREAD_END_S
    while client._thread is not None:
        if asyncio.get_running_loop().time() > end_s:
            return
        await asyncio.sleep(0.01)
    client._reset_sockets()  # otherwise its wake-up sockets stay open until the object dies
