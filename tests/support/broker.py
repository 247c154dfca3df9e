"""A real Mosquitto for tests: its own port, its own folder, ended with the test."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from tools.bench.ports import free_port

CONNECT_TIMEOUT_S = 10.0


def wait_for_port(port: int) -> None:
    """Returns when somebody accepts connections on a loopback port."""
    end = monotonic() + CONNECT_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if monotonic() > end:
                raise


class Broker:
    """One Mosquitto that can be stopped and started again; queued messages survive a clean stop."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        folder = self._folder
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "mosquitto.conf"
        config.write_text("\n".join([*self.listener(), *self.common()]) + "\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with (folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
        wait_for_port(self.port)

    def listener(self) -> list[str]:
        """Lines of the configuration: who is let in, and how."""
        return [f"listener {self.port} 127.0.0.1", "allow_anonymous true"]

    def common(self) -> list[str]:
        """Lines of the configuration: persistence, and no delays."""
        place = f"persistence_location {self._folder}/"
        return ["persistence true", "set_tcp_nodelay true", place, "autosave_interval 1", "user root"]

    def log(self) -> str:
        """What it has logged so far."""
        return (self._folder / "mosquitto.log").read_text(encoding="utf-8", errors="replace")

    def stop(self, *, kill: bool = False) -> None:
        """Ends it, cleanly or not; harmless when it is not running."""
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(timeout=10)
        self._process = None


@contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    """A broker for the length of a `with`."""
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
