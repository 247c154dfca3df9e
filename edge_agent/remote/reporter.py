"""Reports the state of service commands on the topic `service`; keeps results until the broker has them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from edge_agent.errors import StorageFault
from edge_agent.journal.service_commands import ServiceRow, reported, unfinished
from edge_agent.journal.store import Batch, JournalStore
from edge_agent.mqtt.messages import Message, OnAcknowledged
from edge_agent.process.whole_file import write_whole
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.service_commands import PART_BYTES, ServiceReport
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.loop import LockerLoop
from edge_agent.runtime.writer import Writer

log = structlog.get_logger()

ACKNOWLEDGED_S = 30.0
"""How long the broker may take to acknowledge one message; then it is sent again."""
REFUSED_S = 30.0
"""Pause after a message that the broker refuses."""
MOST_REFUSED = 3
"""After this many refusals of one message its command counts as reported: it cannot be."""

Publish = Callable[[Message, OnAcknowledged | None], None]


class ServiceReporter:
    """Publishes the outcomes of service commands in the order of the commands, each at least once."""

    def __init__(
        self,
        loop: LockerLoop,
        store: JournalStore,
        writer: Writer,
        topics: Topics,
        publish: Publish,
    ) -> None:
        """`publish` sends on the present connection; without one the message is dropped."""
        self._loop = loop
        self._store = store
        self._writer = writer
        self._topics = topics
        self._publish = publish
        self._folder = results_folder(store.path)
        self._wake = asyncio.Event()
        self._link_up = asyncio.Event()

    def running(self, row: ServiceRow) -> None:
        """Reports that the work of a command has begun; nothing depends on this message."""
        body = self._report(row).model_dump_json(exclude_none=True)
        self._publish(Message(self._topics.service, body), None)

    def wake(self) -> None:
        """There is a new outcome."""
        self._wake.set()

    def link_is_up(self) -> None:
        """A connection was made; what was not acknowledged is sent again."""
        self._link_up.set()
        self._wake.set()

    def keep(self, request_id: str, content: bytes) -> None:
        """Keeps a result until it is reported. Raises `StorageFault`."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(self._file(request_id), content)
        except OSError as error:
            raise StorageFault(f"the result cannot be written: {error.strerror}") from None

    async def run(self) -> None:
        """Reports until cancelled."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                for row in unfinished(self._store):
                    if row.state != "RUNNING":
                        await self._send(row)
            except StorageFault as fault:
                log.error("service commands cannot be reported", error=str(fault))
                await asyncio.sleep(ACKNOWLEDGED_S)
                self._wake.set()

    async def _send(self, row: ServiceRow) -> None:
        """Sends every part of an outcome, and then records that the broker has it."""
        for body in self._parts(row):
            await self._send_until_acknowledged(Message(self._topics.service, body), row)
        state = self._loop.state
        await self._writer.commit(Batch(state, state, statements=reported(row.request_id)))
        self._file(row.request_id).unlink(missing_ok=True)

    async def _send_until_acknowledged(self, message: Message, row: ServiceRow) -> None:
        refused = 0
        while refused < MOST_REFUSED:
            self._link_up.clear()
            answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

            def acknowledged(accepted: bool, answered: asyncio.Future[bool] = answered) -> None:
                if not answered.done():
                    answered.set_result(accepted)

            self._publish(message, acknowledged)
            up = asyncio.create_task(self._link_up.wait(), name="next connection")
            try:
                waited: set[asyncio.Future[Any]] = {answered, up}
                await asyncio.wait(waited, timeout=ACKNOWLEDGED_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()
            if not answered.done():
                continue
            if answered.result():
                return
            refused += 1
            await asyncio.sleep(REFUSED_S)
        log.error("the broker refuses the outcome of a service command", request_id=row.request_id)

    def _parts(self, row: ServiceRow) -> list[str]:
        """The messages of one outcome: one without a result, otherwise one for each part of it."""
        report = self._report(row)
        if row.sha256 is None:
            return [report.model_dump_json(exclude_none=True)]
        try:
            content = self._file(row.request_id).read_bytes()
        except OSError as error:
            raise StorageFault(f"a result cannot be read: {error.strerror}") from None
        parts = max(1, math.ceil(len(content) / PART_BYTES))
        bodies = []
        for number in range(parts):
            data = base64.b64encode(content[number * PART_BYTES : (number + 1) * PART_BYTES]).decode()
            part = report.model_copy(update={"part": number + 1, "parts": parts, "data": data})
            bodies.append(part.model_dump_json(exclude_none=True))
        return bodies

    def _report(self, row: ServiceRow) -> ServiceReport:
        return ServiceReport.model_validate(
            {
                "machine_id": self._topics.machine_id,
                "request_id": row.request_id,
                "command": row.command,
                "by": row.actor,
                "key": row.key,
                "received_at": rfc3339(row.received_s),
                "state": row.state,
                "ended_at": None if row.ended_s is None else rfc3339(row.ended_s),
                "error": row.error,
                "content_type": row.content_type,
                "bytes": row.bytes,
                "sha256": row.sha256,
            }
        )

    def _file(self, request_id: str) -> Path:
        return self._folder / hashlib.sha256(request_id.encode()).hexdigest()


def results_folder(journal: Path) -> Path:
    """The folder beside the journal that keeps the results."""
    return journal.with_name(f"{journal.name}.results")
