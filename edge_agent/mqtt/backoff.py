"""How long to wait before the broker is retried. Shared by machine and gateway."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable


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


async def pause(pause_s: float, check_s: float, over: Callable[[], bool]) -> None:
    """Waits for `pause_s`, or until `over` returns true; checks it every `check_s`."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + pause_s
    while (left_s := end_s - loop.time()) > 0:
        await asyncio.sleep(min(left_s, check_s))
        if over():
            return
