"""What a running machine does now and then: takes the disk reserve again, renews its commissioning mark,
checks the settings of its devices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from edge_agent.app.startup import write_this_mark
from edge_agent.config import Settings
from edge_agent.journal.store import JournalStore
from edge_agent.model import Alarm
from edge_agent.runtime.loop import LockerLoop
from edge_agent.service.bus_checks import Checks
from edge_agent.statemachine.history import FROZEN
from edge_agent.statemachine.inputs import Condition

log = structlog.get_logger()

RunBlocking = Callable[[Callable[[], list[str]]], Awaitable[list[str]]]
"""Runs blocking calls where they hold up nothing."""
DISK_CHECK_S = 10.0
MARK_S = 30.0
"""The commissioning mark is at most this much older than the journal."""


async def watch_disk(loop: LockerLoop, store: JournalStore) -> None:
    """After a full disk: takes the reserve again as soon as there is space, and clears the alarm."""
    while True:
        await asyncio.sleep(DISK_CHECK_S)
        stands = any(a.alarm is Alarm.STORAGE_FAULT for a in loop.state.alarms.values())
        if stands and store.keep_spare_space():
            loop.submit(Condition(Alarm.STORAGE_FAULT, "", False))


async def keep_mark(
    settings: Settings, loop: LockerLoop, store: JournalStore, run_blocking: RunBlocking
) -> None:
    """Records the journal's last event in the commissioning mark, so that an older copy of the journal is
    found without a link too. A journal that is itself in doubt is not recorded."""
    noted: int | None = None

    def note() -> list[str]:
        write_this_mark(settings, store.journal_id, last)
        return []

    while True:
        await asyncio.sleep(MARK_S)
        last = loop.last_sequence
        if last != noted and FROZEN not in loop.state.history:
            await run_blocking(note)
            noted = last


async def check_devices(checks: Checks) -> None:
    """Logs each board whose settings differ from its profile."""
    for row in await checks.registers():
        if not row["ok"]:
            named = {key: row[key] for key in ("device", "check", "detail", "why")}
            log.warning("a device is not set as its profile requires", **named)
