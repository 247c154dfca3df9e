"""The service's watchdog: systemd is fed only while every loop of the daemon proves that it turns.

The event loop itself checks the loops and feeds the watchdog, so that a hanging event loop feeds nothing; a
thread that does nothing else then logs where it hangs (docs/decisions/0017-watchdog.md).
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable

import structlog

from edge_agent.runtime.loop_watch import LoopWatch, MonitoredLoop
from edge_agent.supervisor import Supervisor

log = structlog.get_logger()

CHECK_S = 5.0
"""The longest time between two checks of the loops; a third of the watchdog's time if that is shorter."""
START_CHECK_S = 0.05
"""Time between two checks until every loop has made its first turn."""
CALLS = 4
STILL_CHECKS = 3
"""The event loop hangs if the witness checks this often without a check of the event loop in between."""


class Watchdog:
    """Watches the loops until cancelled. `status` gives the machine's state in words."""

    def __init__(self, supervisor: Supervisor, loops: list[MonitoredLoop], status: Callable[[], str]) -> None:
        self._supervisor = supervisor
        self._loops = loops
        self._status = status
        self.checks = 0
        """How often the event loop has checked."""

    @property
    def check_s(self) -> float:
        """The time between two checks, in seconds."""
        watchdog_s = self._supervisor.watchdog_s
        return CHECK_S if watchdog_s is None else min(CHECK_S, watchdog_s / 3)

    async def run(self, on_ready: Callable[[], None]) -> None:
        """`on_ready` is called when every loop has turned once: the start is done."""
        witness = Witness(self, threading.get_ident())
        witness.start()
        try:
            await self._until_all_turn()
            on_ready()
            await self._watch()
        finally:
            witness.stop()

    async def _until_all_turn(self) -> None:
        """Waits until all turn; systemd limits the time (`TimeoutStartSec`)."""
        loop_watch = LoopWatch(self._loops, self.check_s)
        sent: list[str] = []
        while not_started := loop_watch.not_started:
            if not_started != sent:
                sent = not_started
                self._supervisor.status(f"starting: {', '.join(not_started)}")
            await asyncio.sleep(START_CHECK_S)
            self.checks += 1

    async def _watch(self) -> None:
        loop_watch = LoopWatch(self._loops, self.check_s)
        before: list[str] = []
        sent, ready = "", False
        while True:
            ready = ready or self._supervisor.ready(self._status())
            silent = loop_watch.check()
            self.checks += 1
            for name in silent:
                if name not in before:
                    log.error("a loop is silent, the watchdog is not fed", loop=name)
            for name in before:
                if name not in silent:
                    log.warning("a loop responds again", loop=name)
            before = silent
            if not silent:
                self._supervisor.feed()
            status = f"silent: {', '.join(silent)}" if silent else self._status()
            if status != sent and self._supervisor.status(status):
                sent = status
            await asyncio.sleep(self.check_s)


class Witness:
    """A thread that notices that the event loop hangs, and logs where, before the service is killed."""

    def __init__(self, watchdog: Watchdog, thread_id: int) -> None:
        """`thread_id`: the thread of the event loop."""
        self._watchdog = watchdog
        self._thread_id = thread_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def start(self) -> None:
        """Starts watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stops watching."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        seen, still = self._watchdog.checks, 0
        while not self._over.wait(self._watchdog.check_s):
            checks = self._watchdog.checks
            still = still + 1 if checks == seen else 0
            seen = checks
            if still == STILL_CHECKS:
                log.error("a loop is silent, the watchdog is not fed", loop="event loop", at=self._where())

    def _where(self) -> str:
        """The innermost calls of the event loop's thread: files, lines and names, never values."""
        stack = traceback.extract_stack(sys._current_frames()[self._thread_id])
        return ", ".join(f"{call.filename}:{call.lineno} {call.name}" for call in stack[: -CALLS - 1 : -1])
