"""Kernel settings of the daemon's own process."""

from __future__ import annotations

import ctypes
import faulthandler
import resource
import sys

_PR_SET_DUMPABLE = 4


def keep_out_of_dumps() -> None:
    """Prevents core dumps of this process: codes and keys are in its memory.

    When it is killed for a fatal error, or by the watchdog, it writes where its threads are to stderr.
    """
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):  # the service has this limit, and may not set it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A dump that is piped to a program ignores the limit (core(5)).
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    faulthandler.enable(sys.stderr)
