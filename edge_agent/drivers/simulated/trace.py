"""The devices of a recording: they answer each request as in the recording.

So the bus owner can run against a captured trace, in virtual time or not, with any protocol.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from edge_agent.drivers.trace import TraceFrame, exchanges
from edge_agent.errors import PortLost


class TraceCable:
    """A `Transport` with a recording of one bus on its other end.

    The n-th sending of a request gets what was heard after its n-th sending in the recording, with the same
    delays (including late replies to an earlier one, and noise). A request that was not sent, or not as
    often, in the recording gets nothing; `unknown` counts those.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, frames: Iterable[TraceFrame]) -> None:
        self._loop = loop
        self._answers: defaultdict[bytes, deque[list[tuple[float, bytes]]]] = defaultdict(deque)
        for sent, heard in exchanges(frames):
            answer = [(max(0.0, frame.at_s - sent.at_s), frame.data) for frame in heard]
            self._answers[sent.data].append(answer)
        self._on_bytes: Callable[[bytes], None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self.unknown = 0

    @property
    def left(self) -> int:
        """How many recorded requests have not been sent yet."""
        return sum(len(answers) for answers in self._answers.values())

    async def dial(self) -> None:
        """See `Transport.dial`: there is nothing to dial."""

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """See `Transport.open`; a recording is never lost. Raises `PortLost` if it is already open."""
        if self._on_bytes is not None:
            raise PortLost("the recording is already open")
        self._on_bytes = on_bytes

    def write(self, frame: bytes) -> None:
        """See `Transport.write`. Raises `PortLost` if it is not open."""
        if self._on_bytes is None:
            raise PortLost("the recording is not open")
        answers = self._answers[frame]
        if not answers:
            self.unknown += 1
            return
        now_s = self._loop.time()
        self._timers = [timer for timer in self._timers if timer.when() > now_s]
        for delay_s, data in answers.popleft():
            self._timers.append(self._loop.call_later(delay_s, self._arrive, data))

    def close(self) -> None:
        """See `Transport.close`; discards what has not arrived yet."""
        self._on_bytes = None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _arrive(self, data: bytes) -> None:
        if self._on_bytes is not None:
            self._on_bytes(data)
