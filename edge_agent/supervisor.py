"""Notifies systemd about this service: datagrams on the socket that systemd names (sd_notify(3)).

Without `NOTIFY_SOCKET` nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

import structlog

log = structlog.get_logger()

EXTEND_S = 120
"""How much more time a start or stop that makes progress asks for."""


class Supervisor:
    """Notifies systemd of the service's state. Nothing here waits: a socket that takes nothing is logged
    once."""

    def __init__(self, address: str, watchdog_s: float | None) -> None:
        """`address`: a path, or `@name` for an abstract socket. `watchdog_s`: systemd kills the service if it
        is not fed for this long; None: never."""
        self.watchdog_s = watchdog_s
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._failed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> Supervisor | None:
        """The supervisor that the environment of this process names, if any."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            return None
        watchdog_s = None
        if environment.get("WATCHDOG_PID", str(pid)) == str(pid):
            with contextlib.suppress(ValueError):
                watchdog_s = int(environment.get("WATCHDOG_USEC", "")) / 1e6 or None
        return cls(address, watchdog_s)

    def ready(self, status: str) -> bool:
        """The service works from now on; False if the notification failed."""
        return self._send(f"READY=1\nSTATUS={status}")

    def feed(self) -> None:
        """Feeds the watchdog: all is well."""
        self._send("WATCHDOG=1")

    def status(self, status: str) -> bool:
        """Sends the status in words; False if that failed."""
        return self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """The service has begun to stop."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def extend(self, status: str) -> None:
        """The start or stop takes longer: asks for `EXTEND_S` more from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1_000_000}\nSTATUS={status}")

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def _send(self, text: str) -> bool:
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            if not self._failed:
                log.error("systemd accepts no notification", reason=os.strerror(error.errno or 0))
            self._failed = True
            return False
        self._failed = False
        return True
