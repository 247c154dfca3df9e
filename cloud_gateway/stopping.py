"""The end of a gateway: begun by a signal, bounded by `Timing.stop_s`.

From its beginning no connection is accepted and no further webhook is claimed; requests and deliveries under
way go on until the deadline. Messages are taken in until the requests have ended, because replies of machines
are among them. An event that is not stored by then is not acknowledged: the broker delivers it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloud_gateway.logs import log


class Stopping:
    """Whether the gateway stops, and until when its parts may finish. Used on the event loop only."""

    def __init__(self, stop_s: float) -> None:
        """`stop_s`: for how long work under way may go on."""
        self._stop_s = stop_s
        self._deadline_s: float | None = None
        self._calls: list[Callable[[], None]] = []

    @property
    def begun(self) -> bool:
        """Whether the gateway stops."""
        return self._deadline_s is not None

    def on_begin(self, call: Callable[[], None]) -> None:
        """`call` is called when the stop begins, or now if it has begun."""
        self._calls.append(call)
        if self.begun:
            call()

    def begin(self) -> None:
        """Begins the stop; nothing happens the second time."""
        if self.begun:
            return
        self._deadline_s = asyncio.get_running_loop().time() + self._stop_s
        log().info("stopping", within_s=self._stop_s)
        for call in self._calls:
            call()

    async def wait_for(self, task: asyncio.Task[None]) -> None:
        """Waits until the task has ended or the deadline is over."""
        self.begin()
        assert self._deadline_s is not None
        left_s = self._deadline_s - asyncio.get_running_loop().time()
        await asyncio.wait({task}, timeout=max(0.0, left_s))

    def cut_short(self) -> None:
        """Moves the deadline to now."""
        self._deadline_s = asyncio.get_running_loop().time()
