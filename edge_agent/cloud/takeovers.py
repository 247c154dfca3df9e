"""How long a machine waits before it tries the broker again, also while another client takes its session."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from edge_agent.errors import LinkFault, LinkRefused, SessionTaken
from edge_agent.mqtt.backoff import Backoff
from edge_agent.mqtt.settings import NewCredentials

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
        self._may_return = False

    def note(self, *, announced: bool = False) -> None:
        """Records one takeover. One that the broker has announced is counted once, although it is
        detected again later (`Link.taken_over`)."""
        self._may_return = True
        if self._announced and not announced:
            self._announced = False
            return
        self._announced = announced
        now_s = self._clock()
        self._at_s = [at_s for at_s in self._at_s if now_s - at_s < WITHIN_S] + [now_s]

    def end(self) -> None:
        """A connection of ours has been steady."""
        self._may_return = False

    @property
    def may_return(self) -> bool:
        """Whether the other client must be expected to return: no connection of ours has been steady since
        the last takeover."""
        return self._may_return

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
        """The pause in seconds; `steady`: the connection had been up for `STEADY_S` or longer. There is none
        after a change of the credential files."""
        if isinstance(fault, NewCredentials):
            return 0.0
        if isinstance(fault, SessionTaken):
            self.takeovers.note(announced=True)
        if steady:
            self.unreachable.reset()
            self._refused.reset()
        if self.takeovers.may_return:
            return (self._taken if self.takeovers.often else self._refused).pause_s()
        return (self._refused if isinstance(fault, LinkRefused) else self.unreachable).pause_s()
