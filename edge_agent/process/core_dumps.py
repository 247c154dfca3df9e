"""What the daemon asks of the kernel for its own process."""

from __future__ import annotations

import ctypes
import faulthandler
import resource
import sys

_PR_SET_DUMPABLE = 4


def keep_out_of_dumps() -> None:
    """No core dump of this process is ever written: codes and keys are in its memory.

    When it is killed for a fatal error, or by the watchdog, it tells on stderr where its threads are.
    """
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):  # the service has it so, and may not set it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A dump that is piped to a program asks no limit (core(5)).
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    faulthandler.enable(sys.stderr)
