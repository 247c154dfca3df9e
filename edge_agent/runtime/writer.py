"""Commits off the event loop: one thread, one commit at a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from edge_agent.journal.store import Batch, JournalStore


class Writer(Protocol):
    """Brings batches to the disk, in the order given."""

    async def commit(self, batch: Batch) -> None:
        """Returns when the batch is on the disk. Raises `StorageFault` if it is not."""


class ThreadWriter:
    """The production writer: a slow SD card never stalls the event loop."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    async def commit(self, batch: Batch) -> None:
        """See `Writer.commit`."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._store.commit, batch)

    def close(self) -> None:
        """Ends the thread after its last commit."""
        self._pool.shutdown(wait=True)
