"""A subscriber with minimal costs: counts events as bytes pass, and records when."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType

from tools.bench.ports import HOST
from tools.measure.rig import MeasureFault

MARK = b'"sequence":'
CHUNK = 1 << 16
EARLY = 0.05
"""This share of the events is not timed: a slow start is not measured."""


class Tap:
    """Receives `count` events on a topic (QoS 0, MQTT 3.1.1 section 3); use it as a context."""

    def __init__(self, port: int, topic: str, count: int) -> None:
        self.heard = 0
        self._count = count
        self._begin: tuple[int, float] | None = None
        self._end_s = 0.0
        self._socket = socket.create_connection((HOST, port), timeout=60)
        self._socket.sendall(_packet(0x10, b"\0\4MQTT\4\2\0\0" + _text("tap")))
        self._socket.sendall(_packet(0x82, b"\0\1" + _text(topic) + b"\0"))
        if len(self._exactly(4 + 5)) != 9:
            raise MeasureFault("the broker does not answer")
        self._thread = threading.Thread(target=self._listen, name="tap")

    @property
    def complete(self) -> bool:
        """Whether every event was received."""
        return self.heard >= self._count

    def rate(self) -> float:
        """Events a second, without the first few."""
        if self._begin is None or not self.complete:
            raise MeasureFault(f"{self.heard} of {self._count} events were heard")
        heard, at_s = self._begin
        return (self.heard - heard) / (self._end_s - at_s)

    def __enter__(self) -> Tap:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (more := self._socket.recv(size - len(found))):
            found += more
        return found

    def _listen(self) -> None:
        rest = b""
        while not self.complete:
            try:
                chunk = self._socket.recv(CHUNK)
            except OSError:
                return
            if not chunk:
                return
            seen = rest + chunk
            self.heard += seen.count(MARK)
            self._end_s = time.monotonic()
            if self._begin is None and self.heard >= EARLY * self._count:
                self._begin = self.heard, self._end_s
            rest = seen[-len(MARK) + 1 :]


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128  # one byte of length
    return bytes((kind, len(body))) + body
