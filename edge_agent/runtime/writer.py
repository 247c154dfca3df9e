"""Commits off the event loop: one thread, one commit at a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from edge_agent.journal.store import Batch, JournalStore
from edge_agent.runtime.loop_watch import MonitoredLoop

LONGEST_COMMIT_S = 45.0
"""A commit that takes longer counts as lost; a worn memory card has been seen to take many seconds."""


class Writer(Protocol):
    """Writes batches to the disk, in the order given."""

    async def commit(self, batch: Batch) -> None:
        """Returns when the batch is on the disk. Raises `StorageFault` if it is not."""

    def close(self) -> None:
        """Ends after the last commit."""


class ThreadWriter:
    """The production writer: a slow memory card never stalls the event loop."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._submitted = self._turns = 1

    async def commit(self, batch: Batch) -> None:
        """See `Writer.commit`."""
        self._submitted += 1
        await asyncio.get_running_loop().run_in_executor(self._pool, self._work, batch)

    def monitored_loops(self) -> list[MonitoredLoop]:
        """See `HasLoops`."""
        return [MonitoredLoop("journal writer", lambda: self._turns, LONGEST_COMMIT_S, self._nudge)]

    def _nudge(self) -> None:
        if self._submitted == self._turns:  # otherwise it has work to do, and that is its proof
            self._submitted += 1
            self._pool.submit(self._work, None)

    def _work(self, batch: Batch | None) -> None:
        """Runs on the thread; without a batch it only proves that the thread is alive."""
        try:
            if batch is not None:
                self._store.commit(batch)
        finally:
            self._turns += 1

    def close(self) -> None:
        """Ends the thread after its last commit."""
        self._pool.shutdown(wait=True)
