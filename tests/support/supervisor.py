"""A supervisor in systemd's place: a datagram socket, and what a service tells it."""

from __future__ import annotations

import socket
from pathlib import Path

from edge_agent.runtime.supervisor import Supervisor


class FakeSupervisor:
    """Binds the socket; `environment` is what systemd would hand to the service."""

    def __init__(self, folder: Path, watchdog_s: float | None = 30.0, address: str = "") -> None:
        self.address = address or str(folder / "notify")
        self._watchdog_s = watchdog_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.address.replace("@", "\0", 1))
        self.told: list[str] = []
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

    def hear(self) -> list[str]:
        """The lines told since the last call."""
        new = []
        while True:
            try:
                new += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                self.told += new
                return new

    def close(self) -> None:
        """Hears no more."""
        self._socket.close()
