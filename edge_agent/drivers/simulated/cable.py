"""A serial line in memory: the bus owner on one end, simulated devices on the other.

Bytes pass with the timing of a wire. It runs on an event loop's own timers, so on a loop with virtual time it
is deterministic and takes no real time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from edge_agent.drivers.simulated.framing import Framing
from edge_agent.drivers.simulated.line import (
    TURNAROUND_NS,
    Cancellable,
    FrameSeen,
    LineDevice,
    WireFigures,
    WireLine,
)
from edge_agent.drivers.simulated.trouble import LineTrouble, flip_a_bit
from edge_agent.errors import PortLost


class LoopTimers:
    """The clock and the timers of an event loop, in nanoseconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def clock_ns(self) -> int:
        """The loop's time."""
        return round(self._loop.time() * 1e9)

    def call_at_ns(self, when_ns: int, callback: Callable[[], None]) -> Cancellable:
        """Calls back at an instant of the loop's time, or as soon as possible after it."""
        return self._loop.call_at(when_ns / 1e9, callback)


class BadMedium:
    """A wire that loses or damages frames: each with its own probability, from a given generator."""

    def __init__(self, random: Random, *, loss: float = 0.0, damage: float = 0.0) -> None:
        self.random = random
        self.loss = loss
        self.damage = damage

    def __call__(self, frame: bytes) -> bytes:
        """The frame as it arrives: empty if lost, with one bit inverted if damaged."""
        if self.random.random() < self.loss:
            return b""
        if frame and self.random.random() < self.damage:
            return flip_a_bit(self.random, frame)
        return frame


class MemoryCable:
    """A `Transport` with a simulated bus on its other end.

    `split`: replies arrive in pieces of this many bytes. `medium`: see `BadMedium`. `trouble`: the faults
    that may begin and end while it runs. The line, its counters and its devices outlive `close` and a new
    `open`. Closing cancels everything in progress, also a request that has not wholly passed; a test of a
    crash calls `let_go` instead: then the request still acts.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        devices: Sequence[LineDevice],
        *,
        baud: int = 19_200,
        bits_per_character: int = 10,
        turnaround_ns: int = TURNAROUND_NS,
        split: int | None = None,
        medium: BadMedium | None = None,
        framing: Framing | None = None,
        trouble: LineTrouble | None = None,
        on_frame: Callable[[FrameSeen], None] | None = None,
    ) -> None:
        timers = LoopTimers(loop)
        self.trouble = trouble or LineTrouble(Random(0))
        self._line = WireLine(
            devices,
            baud=baud,
            clock_ns=timers.clock_ns,
            call_at_ns=timers.call_at_ns,
            deliver=self._arrive,
            bits_per_character=bits_per_character,
            turnaround_ns=turnaround_ns,
            chunk_bytes=split,
            medium=medium or BadMedium(Random(0)),
            framing=framing,
            trouble=self.trouble,
            on_frame=on_frame,
        )
        self._plugged = True
        self._on_bytes: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[str], None] | None = None

    async def dial(self) -> None:
        """See `Transport.dial`: there is nothing to dial."""

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """Opens the line. Raises `PortLost` if it is unplugged or already open."""
        if not self._plugged:
            raise PortLost("the cable is unplugged")
        if self._on_bytes is not None:
            raise PortLost("the line is already open")
        self._on_bytes, self._on_lost = on_bytes, on_lost

    def write(self, frame: bytes) -> None:
        """Sends bytes. Raises `PortLost` if the line is not open or was unplugged."""
        if self._on_bytes is None:
            raise PortLost("the line is not open" if self._plugged else "the cable is unplugged")
        self._line.feed(frame)

    def close(self) -> None:
        """Closes the line and cancels every pending timer; harmless when it is not open."""
        self._on_bytes = self._on_lost = None
        self._line.stop()

    def let_go(self) -> None:
        """The process that held the line was killed: what it had sent is still on the wire and acts."""
        self._on_bytes = self._on_lost = None

    def unplug(self) -> None:
        """Pulls the cable: the bus owner is notified once; everything in progress is lost."""
        on_lost, self._plugged = self._on_lost, False
        self.close()
        if on_lost is not None:
            on_lost("the cable was unplugged")

    def plug(self) -> None:
        """Puts the cable back; the line has to be opened again."""
        self._plugged = True

    def figures(self) -> WireFigures:
        """The counters of the line since it was made."""
        return self._line.figures()

    def _arrive(self, data: bytes) -> None:
        if self._on_bytes is not None:
            self._on_bytes(data)
