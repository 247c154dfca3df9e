"""The only place that reads a clock of the system."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Protocol

from edge_agent.model import Instant

_TIME_ERROR = 5
"""Return value of adjtimex(2): the clock is not synchronised."""


class Clock(Protocol):
    """Tells the time of one boot."""

    def now(self) -> Instant:
        """This moment on CLOCK_BOOTTIME and the wall clock."""


class SystemClock:
    """The kernel's clocks; `trusted` (config `clock = "rtc"`): the wall clock counts as synchronised."""

    def __init__(self, *, trusted: bool = False) -> None:
        self._trusted = trusted
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
        return 0 <= state < _TIME_ERROR
