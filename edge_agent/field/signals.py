"""Lights and buzzers at the doors: on while a door stands open for a person, and to show which door is meant.

A signal is a convenience. Its writes have the priority of polls, a write that fails is only logged, and a
board that does not answer is asked more and more seldom. A cell's signal goes off when its door is closed, or
after a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from math import inf

import structlog

from edge_agent.drivers.interfaces import SignalOutput
from edge_agent.errors import BusFault, Code, DeviceFault, Refusal
from edge_agent.model import Door

log = structlog.get_logger()

SIGNALS_CHECK_S = 0.1
"""How often doors and times are compared while a signal is on."""
BLINK_S = 0.5
"""How long a blinking signal is on, and then off."""
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
"""Pause before a board that failed is asked again; it doubles."""


@dataclass(slots=True)
class Signal:
    """One output: the cells that it serves, and how long it is on at most for one opening, in seconds."""

    name: str
    labels: frozenset[str]
    output: SignalOutput
    longest_s: float
    is_on: bool = False
    """The last write that its board accepted was to be on."""
    may_be_on: bool = False
    again_s: float = 0.0
    """When it has to be held on again, on the loop's clock."""


@dataclass(slots=True)
class _Opening:
    """A cell whose lock was pulsed at `since_s`; `opened`: its door was then read open."""

    since_s: float
    opened: bool = False


@dataclass(slots=True)
class _Backoff:
    """A board that failed: until when it is not asked, and for how long after the next failure."""

    until_s: float
    next_pause_s: float


class Signals:
    """All signals of a machine; `run` must be running. `reported` gives the last reported state of a cell's
    door."""

    def __init__(self, signals: Iterable[Signal], reported: Callable[[str], Door]) -> None:
        self._signals = list(signals)
        self._reported = reported
        self._openings: dict[str, _Opening] = {}
        self._blinking: dict[str, tuple[float, float]] = {}
        """Begin and end of each cell's blinking, on the loop's clock."""
        self._backoffs: dict[str, _Backoff] = {}
        self._one_write = asyncio.Lock()
        self._wake = asyncio.Event()

    def pulsed(self, label: str) -> None:
        """The lock of a cell was pulsed for a person."""
        if any(label in signal.labels for signal in self._signals):
            self._openings[label] = _Opening(asyncio.get_running_loop().time())
            self._wake.set()

    def watched(self, label: str, door: Door) -> None:
        """The watch after a pulse has ended; a door that stayed closed is not the one to go to."""
        opening = self._openings.get(label)
        if opening is not None and door is Door.OPEN:
            opening.opened = True
        elif door is Door.CLOSED:
            self._openings.pop(label, None)
        self._wake.set()

    def read_open(self, label: str) -> None:
        """A person is sent to a door that reads open: its signal comes on again if this machine opened it."""
        opening = self._openings.get(label)
        if opening is not None and opening.opened:
            opening.since_s = asyncio.get_running_loop().time()
            self._wake.set()

    async def blink(self, label: str, seconds: float) -> list[str]:
        """Makes the signals of a cell blink; returns their names once the first of them is on.

        Raises `Refusal`: `NOT_FOUND` if the cell has no signal, `OFFLINE` if no board of them answers.
        """
        mine = [signal for signal in self._signals if label in signal.labels]
        if not mine:
            raise Refusal(Code.NOT_FOUND, f"cell {label} has no signal in the configuration")
        shown = [signal.name for signal in mine if await self._switch_on(signal)]
        if not shown:
            boards = ", ".join(sorted({signal.output.board for signal in mine}))
            raise Refusal(Code.OFFLINE, f"the signal of cell {label} does not answer (device {boards})")
        now_s = asyncio.get_running_loop().time()
        self._blinking[label] = now_s, now_s + seconds
        self._wake.set()
        return shown

    async def run(self) -> None:
        """Switches the signals until cancelled."""
        while True:
            self._wake.clear()
            self._end_what_is_over()
            for signal in self._signals:
                await self._tend(signal)
            busy = self._openings or self._blinking or any(signal.may_be_on for signal in self._signals)
            try:
                async with asyncio.timeout(SIGNALS_CHECK_S if busy else None):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _end_what_is_over(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for label, opening in list(self._openings.items()):
            door = self._reported(label)
            opening.opened = opening.opened or door is Door.OPEN
            if opening.opened and door is Door.CLOSED:
                del self._openings[label]
        self._blinking = {label: span for label, span in self._blinking.items() if now_s < span[1]}

    def _wanted(self, signal: Signal) -> bool:
        now_s = asyncio.get_running_loop().time()
        spans = [span for label, span in self._blinking.items() if label in signal.labels]
        if spans:
            return int((now_s - min(spans)[0]) / BLINK_S) % 2 == 0
        openings = (self._openings.get(label) for label in signal.labels)
        return any(o is not None and now_s < o.since_s + signal.longest_s for o in openings)

    async def _tend(self, signal: Signal) -> None:
        now_s = asyncio.get_running_loop().time()
        backoff = self._backoffs.get(signal.output.board)
        if backoff is not None and now_s < backoff.until_s:
            return
        if self._wanted(signal):
            if not signal.is_on or signal.again_s <= now_s:
                await self._switch_on(signal)
        elif signal.may_be_on:
            async with self._one_write:
                signal.is_on = False
                signal.may_be_on = not await self._sent(signal, signal.output.off())

    async def _switch_on(self, signal: Signal) -> bool:
        """Returns whether the board accepted it."""
        async with self._one_write:
            signal.may_be_on = True
            signal.is_on = await self._sent(signal, signal.output.hold())
            signal.again_s = asyncio.get_running_loop().time() + signal.output.hold_s / 2
            return signal.is_on

    async def _sent(self, signal: Signal, sending: Awaitable[None]) -> bool:
        """Returns whether the board accepted the write; a board that failed is not asked for a
        while."""
        board = signal.output.board
        try:
            await sending
        except (BusFault, DeviceFault) as fault:
            backoff = self._backoffs.get(board, _Backoff(-inf, FIRST_BACKOFF_S))
            if board not in self._backoffs:
                log.warning("signal not switched", signal=signal.name, device=board, fault=str(fault))
            until_s = asyncio.get_running_loop().time() + backoff.next_pause_s
            self._backoffs[board] = _Backoff(until_s, min(2 * backoff.next_pause_s, LONGEST_BACKOFF_S))
            return False
        self._backoffs.pop(board, None)
        return True
