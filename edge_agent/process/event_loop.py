"""The event loop of a process whose timers need a precision below a millisecond."""

from __future__ import annotations

import asyncio
import ctypes
import selectors

_PR_SET_TIMERSLACK = 29
"""prctl(2): how late the kernel may wake this thread, in nanoseconds; 50 µs by default."""


def precise_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are accurate to some tens of microseconds.

    asyncio's usual selector rounds every wait up to whole milliseconds, which would add up to 1 ms to each
    silence on the bus; select(2) takes microseconds, and such a process has few descriptors (below 1,024).
    """
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
