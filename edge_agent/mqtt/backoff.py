"""How long to wait before the broker is retried. Shared by machine and gateway."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from edge_agent.errors import LinkFault, LinkRefused, SessionTaken


class Backoff:
    """Pauses that double up to a bound, each shortened at random ("full jitter"), so that a thousand machines
    do not reconnect in one moment after their broker was away."""

    def __init__(self, first_s: float, longest_s: float, jitter: random.Random) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._next_s = first_s

    def pause_s(self) -> float:
        """The next pause in seconds: at least a quarter of the first, never more than the bound."""
        most_s = self._next_s
        self._next_s = min(self._longest_s, most_s * 2)
        return self._jitter.uniform(self._first_s / 4, most_s)

    def reset(self) -> None:
        """Starts again with the first pause: the broker was there."""
        self._next_s = self._first_s


LONGEST_TAKEN_S = 600.0
"""The longest pause between attempts while another client repeatedly takes our session."""
OFTEN, WITHIN_S = 3, 600.0
"""This many takeovers within this time are no accident."""


class Takeovers:
    """Records when another client took over our session; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at_s: list[float] = []
        self._announced = False
        self.go_on = False
        """Whether the other client must be expected to return: no connection of ours has been steady since
        the last takeover."""

    def note(self, *, announced: bool = False) -> None:
        """Records one takeover. One that the broker has announced counts once, though its traces are found
        later."""
        self.go_on = True
        if self._announced and not announced:
            self._announced = False
            return
        self._announced = announced
        now_s = self._clock()
        self._at_s = [at_s for at_s in self._at_s if now_s - at_s < WITHIN_S] + [now_s]

    @property
    def often(self) -> bool:
        """Whether there were three within ten minutes."""
        now_s = self._clock()
        return sum(now_s - at_s < WITHIN_S for at_s in self._at_s) >= OFTEN


class Pauses:
    """The pause after each way in which a connection can end: first and longest pause of each, in seconds.
    Belongs to the event loop."""

    def __init__(
        self,
        unreachable: tuple[float, float],
        refused: tuple[float, float],
        taken: tuple[float, float],
        jitter: random.Random,
    ) -> None:
        self.unreachable = Backoff(*unreachable, jitter)
        self._refused = Backoff(*refused, jitter)
        self._taken = Backoff(*taken, jitter)
        self.takeovers = Takeovers(lambda: asyncio.get_running_loop().time())

    def after(self, fault: LinkFault, *, steady: bool) -> float:
        """The pause in seconds; `steady`: the connection had been up for `STEADY_S` or longer."""
        if isinstance(fault, SessionTaken):
            self.takeovers.note(announced=True)
        if steady:
            self.unreachable.reset()
            self._refused.reset()
        if self.takeovers.go_on:
            return (self._taken if self.takeovers.often else self._refused).pause_s()
        return (self._refused if isinstance(fault, LinkRefused) else self.unreachable).pause_s()


async def pause(pause_s: float, look_s: float, over: Callable[[], bool]) -> None:
    """Waits for `pause_s`, or until `over` returns true; checks it every `look_s`."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + pause_s
    while (left_s := end_s - loop.time()) > 0:
        await asyncio.sleep(min(left_s, look_s))
        if over():
            return
