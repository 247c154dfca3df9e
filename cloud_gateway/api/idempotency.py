"""`X-Request-ID`: a repeated request acts once and gets the same response, also after a restart.

An id is unique within a platform, method and path. Only the machine's decisions are stored. After any other
response the request may be retried. It then reaches the machine with the same ids, and the machine acts once.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from cloud_gateway.db.store import Store, canonical, insert_once
from cloud_gateway.db.tables import COMMAND_PREFIX, requests
from edge_agent.errors import Code, FieldViolation, Refusal


@dataclass(frozen=True, slots=True)
class RequestScope:
    """An X-Request-ID and what it is unique in. `sent_x_request_id`: as the caller sent it, or None;
    `x_request_id`: the same, or the one that the gateway generated."""

    platform: str
    method: str
    path: str
    sent_x_request_id: str | None
    x_request_id: str


@dataclass(frozen=True, slots=True)
class CommandIds:
    """The ids under which a request reaches the machine. `command_id`: the field `request_id` of its
    command."""

    command_id: str
    reservation_id: str


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A machine's decision as the caller gets it: HTTP status and JSON text."""

    status: int
    body: str


CarryOut = Callable[[CommandIds], Awaitable[StoredResponse]]


@dataclass(frozen=True, slots=True)
class _Running:
    body_digest: str
    task: asyncio.Task[StoredResponse]


class Idempotency:
    """Runs each request once; every request is a task of its own, so that a disconnecting caller does not
    interrupt it."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[str, _Running] = {}

    async def run_once(
        self,
        scope: RequestScope,
        body: Any,
        carry_out: CarryOut,
        new_id: Callable[[], str] = lambda: new_reservation_id(),
    ) -> StoredResponse:
        """Returns the stored response, that of the same request if it is still running, or that of
        `carry_out`; `new_id` makes the reservation id of a reserve.

        Raises `Refusal` INVALID_ARGUMENT for the same id with another body, and whatever `carry_out` raises.
        """
        digest = _digest(canonical(body))
        if scope.sent_x_request_id is None:
            key = uuid.uuid4().hex
            # The command gets the same id that the caller gets.
            work = carry_out(CommandIds(scope.x_request_id, new_id()))
        else:
            key = _digest("\0".join((scope.platform, scope.method, scope.path, scope.sent_x_request_id)))
            running = self._running.get(key)
            if running is not None:
                _require_same_body(running.body_digest, digest)
                return await asyncio.shield(running.task)
            work = self._run_stored(key, digest, scope.x_request_id, carry_out, new_id)
        task: asyncio.Task[StoredResponse] = asyncio.ensure_future(work)
        self._running[key] = _Running(digest, task)
        task.add_done_callback(lambda _: self._ended(key, task))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancels the requests under way."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run_stored(
        self, key: str, digest: str, x_request_id: str, carry_out: CarryOut, new_id: Callable[[], str]
    ) -> StoredResponse:
        now_s = self._clock()

        def begin(db: Connection) -> StoredResponse | str:
            """Returns the stored response, or the reservation id to use, which is stored before acting."""
            row_values = {
                "key": key,
                "body_digest": digest,
                "reservation_id": new_id(),  # used by a reserve only
                "created_s": now_s,
                "x_request_id": x_request_id,
            }
            if insert_once(db, requests, row_values):  # another gateway may do the same just now
                return str(row_values["reservation_id"])
            row = db.execute(select(requests).where(requests.c.key == key)).one()
            _require_same_body(row.body_digest, digest)
            reservation_id: str = row.reservation_id
            return reservation_id if row.answer is None else StoredResponse(row.status, row.answer)

        begun = await self._store.write(begin)
        if isinstance(begun, StoredResponse):
            return begun
        response = await carry_out(CommandIds(f"{COMMAND_PREFIX}{key}", begun))

        def store_first(db: Connection) -> StoredResponse:
            """Stores the first response, also if another gateway sent the same request at the same time."""
            mine = requests.c.key == key
            change = update(requests).where(mine, requests.c.answer.is_(None))
            if db.execute(change.values(status=response.status, answer=response.body)).rowcount == 1:
                return response
            row = db.execute(select(requests).where(mine)).one_or_none()
            return response if row is None or row.answer is None else StoredResponse(row.status, row.answer)

        return await self._store.write(store_first)

    def _ended(self, key: str, task: asyncio.Task[StoredResponse]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # retrieved: after a disconnect nobody awaits the task, and asyncio would log it


def new_reservation_id() -> str:
    """An unguessable reservation id without dashes (in a QR text, dashes surround it)."""
    return f"res_{secrets.token_hex(12)}"


def _require_same_body(stored_digest: str, digest: str) -> None:
    if stored_digest != digest:
        problem = "was used before with another body"
        violation = FieldViolation("X-Request-ID", problem)
        raise Refusal(Code.INVALID_ARGUMENT, f"{violation.field} {problem}", (violation,))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
