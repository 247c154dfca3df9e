"""What systemd is notified of: the start is done, the broker's state in words, signs of life, the stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge_agent.supervisor import Supervisor

START_PAUSE_S = 0.05
STATUS_PAUSE_S = 1.0
"""Pause between two looks at the state, and between two signs of life."""


async def keep_notified(
    supervisor: Supervisor, has_started: Callable[[], bool], is_connected: Callable[[], bool]
) -> None:
    """Notifies systemd until cancelled.

    The start is done when the tables are migrated and clients are accepted; the broker may come later.
    """
    while not has_started():
        await asyncio.sleep(START_PAUSE_S)
    connected = is_connected()
    supervisor.ready(_words(connected))
    while True:
        if supervisor.watchdog_s is not None:
            supervisor.feed()  # this loop turns only while the event loop turns
        if is_connected() != connected:
            connected = is_connected()
            supervisor.status(_words(connected))
        await asyncio.sleep(STATUS_PAUSE_S)


def _words(connected: bool) -> str:
    return "serving, broker connected" if connected else "serving, broker not connected"
