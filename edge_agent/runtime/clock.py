"""The only module that reads a system clock."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from edge_agent.model import Instant

_TIME_ERROR = 5
"""Return value of adjtimex(2): the clock is not synchronised."""
TIMESYNC_MARK = Path("/run/systemd/timesync/synchronized")
"""systemd-timesyncd(8) touches this file at every synchronisation."""
MARK_COUNTS_S = 32_000
"""The kernel's own limit: at a drift of 500 ppm a clock is then 16 s wrong and counts as unsynchronised."""


def monotonic_s() -> float:
    """CLOCK_MONOTONIC in seconds; for measuring rates only."""
    return time.monotonic()


class Clock(Protocol):
    """Gives the time within one boot."""

    def now(self) -> Instant:
        """The current moment on CLOCK_BOOTTIME and on the wall clock."""


IN_A_ROW = 5
"""After this many fresh commands in a row that disagree with it, a trusted clock counts as contradicted;
after as many that agree, no longer."""
OFF_S = 300.0
"""A clock that differs by more than this from a command's time of issue disagrees with its sender."""


@runtime_checkable
class ComparedClock(Protocol):
    """A clock that is compared with the times at which senders issued their commands."""

    difference_s: float | None
    """How far the wall clock is ahead of the sender of the last fresh command; None if there was none."""
    contradicted: bool
    """The wall clock is trusted, the kernel does not confirm it, and the senders' times show that it is
    wrong."""

    def compare(self, issued_s: float) -> None:
        """Takes the time of issue of a fresh command, in Unix time."""


class SystemClock:
    """The kernel's clocks.

    `trusted` (config `clock = "rtc"`): the wall clock counts as synchronised until commands contradict it
    (docs/decisions/0030-witnesses.md). Where adjtimex(2) is forbidden, as in a hardened service, the age of
    `mark` shows whether the clock is synchronised.
    """

    def __init__(self, *, trusted: bool = False, mark: Path = TIMESYNC_MARK) -> None:
        self._trusted = trusted
        self.difference_s: float | None = None
        self.contradicted = False
        self._disagreeing = 0
        """How many commands in a row disagreed with `contradicted`."""
        self._mark = mark
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        self._libc = ctypes.CDLL(None)
        # struct timex begins with `modes`; 0 only reads. 512 bytes are more than it has on any platform.
        self._timex = ctypes.create_string_buffer(512)

    def now(self) -> Instant:
        """See `Clock.now`."""
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        synced = self._synchronised()
        if synced:
            self.contradicted, self._disagreeing = False, 0
        return Instant(
            self._boot_id, boottime_ns, time.time(), synced or (self._trusted and not self.contradicted)
        )

    def compare(self, issued_s: float) -> None:
        """See `ComparedClock.compare`."""
        self.difference_s = time.time() - issued_s
        if not self._trusted or self._synchronised():
            return
        wrong = abs(self.difference_s) > OFF_S
        self._disagreeing = self._disagreeing + 1 if wrong is not self.contradicted else 0
        if self._disagreeing >= IN_A_ROW:
            self.contradicted, self._disagreeing = wrong, 0

    def _synchronised(self) -> bool:
        state: int = self._libc.adjtimex(self._timex)
        if state >= 0:
            return state < _TIME_ERROR
        try:
            age_s = time.time() - self._mark.stat().st_mtime
        except OSError:
            return False
        return age_s < MARK_COUNTS_S
