"""The only place that reads a clock of the system."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Protocol

from edge_agent.model import Instant

_TIME_ERROR = 5
"""Return value of adjtimex(2): the clock is not synchronised."""
TIMESYNC_MARK = Path("/run/systemd/timesync/synchronized")
"""Touched by systemd-timesyncd(8) with every synchronisation."""
MARK_COUNTS_S = 32_000
"""The kernel's own patience: with a drift of 500 ppm a clock is 16 s wrong then, and counts as such."""


class Clock(Protocol):
    """Tells the time of one boot."""

    def now(self) -> Instant:
        """This moment on CLOCK_BOOTTIME and the wall clock."""


class SystemClock:
    """The kernel's clocks; `trusted` (config `clock = "rtc"`): the wall clock counts as synchronised.

    Where adjtimex(2) is forbidden, as it is to a hardened service, `mark` tells whether it is synchronised.
    """

    def __init__(self, *, trusted: bool = False, mark: Path = TIMESYNC_MARK) -> None:
        self._trusted = trusted
        self._mark = mark
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        self._libc = ctypes.CDLL(None)
        # struct timex begins with `modes`; 0 asks only. 512 bytes are more than it has on any platform.
        self._timex = ctypes.create_string_buffer(512)

    def now(self) -> Instant:
        """See `Clock.now`."""
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return Instant(self._boot_id, boottime_ns, time.time(), self._trusted or self._synchronised())

    def _synchronised(self) -> bool:
        state: int = self._libc.adjtimex(self._timex)
        if state >= 0:
            return state < _TIME_ERROR
        try:
            age_s = time.time() - self._mark.stat().st_mtime
        except OSError:
            return False
        return age_s < MARK_COUNTS_S
