"""A fake systemd: a datagram socket that records what a service sends to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from edge_agent.supervisor import Supervisor

Entries = list[MutableMapping[str, Any]]


@contextmanager
def logged() -> Iterator[Entries]:
    """Log entries of level info and above."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))
    try:
        with structlog.testing.capture_logs() as entries:
            yield entries
    finally:
        structlog.configure(**before)


def silent(entries: Entries) -> list[str]:
    """The loops that the watchdog has named."""
    return [e["loop"] for e in entries if "is silent" in e["event"]]


class FakeSupervisor:
    """Binds the socket; `environment` is what systemd would hand to the service."""

    def __init__(self, folder: Path, watchdog_s: float | None = 30.0, address: str = "") -> None:
        self.address = address or str(folder / "notify")
        self._watchdog_s = watchdog_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.address.replace("@", "\0", 1))
        self.received: list[str] = []
        """Every line, in order."""

    @property
    def environment(self) -> dict[str, str]:
        """What the service finds."""
        given = {"NOTIFY_SOCKET": self.address}
        if self._watchdog_s is not None:
            given["WATCHDOG_USEC"] = str(round(self._watchdog_s * 1e6))
        return given

    def service(self) -> Supervisor:
        """The service's end."""
        made = Supervisor.of(self.environment, 1)
        assert made is not None
        return made

    def receive(self) -> list[str]:
        """The lines received since the last call."""
        new = []
        while True:
            try:
                new += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                self.received += new
                return new

    def close(self) -> None:
        """Receives nothing more."""
        self._socket.close()
