"""What the wall's pages are sent: the machines' own messages, the ongoing reservations, the webhooks.

Everything comes from messages over MQTT and from the projection. Nothing of it is stored; a page that
connects gets what was last seen, then every change. No message holds a code.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from sqlalchemy import Connection, select

from cloud_gateway.db.store import Store
from cloud_gateway.db.tables import reservations
from cloud_gateway.logs import error_fields, log
from edge_agent.errors import Code, Refusal
from edge_agent.mqtt.messages import Received
from edge_agent.protocol.topics import Topics, machine_of

PAGES_MAX = 16
"""Pages that may be connected at the same time."""
WAITING_MAX = 2_000
"""Messages that may wait for one page. A page that does not take them is closed, and connects again."""
LINES_KEPT = 200
"""Events and webhooks that a page gets when it connects."""
PAYLOAD_MAX = 1_000_000
MACHINES_MAX = 1_000
READ_AGAIN_S = 1.0
"""The pause after the projection could not be read."""
BEAT_S = 15.0
"""An idle stream carries a comment this often, so that both sides notice a broken connection."""

Kind = Literal["machine", "online", "telemetry", "event", "webhook", "reservations", "link"]

LISTED = (
    reservations.c.reservation_id,
    reservations.c.machine_id,
    reservations.c.platform,
    reservations.c.platform_order_id,
    reservations.c.cell_label,
    reservations.c.status,
    reservations.c.created_s,
    reservations.c.grace_from_s,
    reservations.c.grace_pickup_s,
)


class WallFeed:
    """Takes what happens, and passes it to every connected page. Used on the event loop only."""

    def __init__(self, store: Store, connected: Callable[[], bool]) -> None:
        """`connected` states whether the broker is connected."""
        self._store = store
        self._connected = connected
        self._pages: set[asyncio.Queue[str | None]] = set()
        self._machines: dict[str, dict[str, Any]] = {}
        """The last state of each machine: `machine`, `online`, and the figures of its cells by label."""
        self._recent: deque[tuple[Kind, dict[str, Any]]] = deque(maxlen=LINES_KEPT)
        self._was_connected = False
        self._changed = asyncio.Event()

    def take_message(self, message: Received) -> None:
        """Takes a message of a machine, as it arrived."""
        if not self._was_connected:
            self.link_changed()
        machine_id = machine_of(message.topic)
        if machine_id is None or len(message.payload) > PAYLOAD_MAX:
            return
        topics = Topics(machine_id)
        kinds: dict[str, Kind] = {
            topics.machine: "machine",
            topics.online: "online",
            topics.telemetry: "telemetry",
            topics.events: "event",
        }
        kind = kinds.get(message.topic)
        if kind is None:
            return
        try:
            body = json.loads(message.payload) if message.payload else {}
        except ValueError:
            return  # the intake records it
        if isinstance(body, dict):
            self._take(kind, machine_id, body)

    def link_changed(self) -> None:
        """The connection to the broker came up or was lost."""
        self._was_connected = self._connected()
        self._publish("link", connected=self._was_connected)

    def reservations_changed(self) -> None:
        """The projection may have changed; `run` reads it."""
        self._changed.set()

    def webhook_attempted(self, entry: dict[str, Any]) -> None:
        """A webhook was delivered, has failed, or is no longer retried."""
        self._publish("webhook", **entry)
        self._recent.append(("webhook", entry))

    def close_pages(self) -> None:
        """Ends every page's stream: the gateway stops."""
        for queue in tuple(self._pages):
            self._end(queue)

    async def run(self) -> None:
        """Publishes the ongoing reservations when they change, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._pages:
                continue
            try:
                rows = await self._store.read(_ongoing)
            except Exception as error:
                log().error("wall_failed", **error_fields(error))
                await asyncio.sleep(READ_AGAIN_S)
                self._changed.set()
                continue
            self._publish("reservations", rows=rows)

    async def stream(self) -> AsyncIterator[str]:
        """One page's stream, as server-sent events. Raises `Refusal` if too many are connected."""
        if len(self._pages) >= PAGES_MAX:
            raise Refusal(Code.NO_CELL, f"{PAGES_MAX} pages of the wall are open already")
        queue: asyncio.Queue[str | None] = asyncio.Queue(WAITING_MAX)
        self._pages.add(queue)
        try:
            for line in await self._snapshot():
                yield line
            while (following := await _next(queue)) is not None:
                yield following
        finally:
            self._pages.discard(queue)

    async def _snapshot(self) -> list[str]:
        lines = [_line("link", connected=self._connected())]
        for machine_id, known in self._machines.items():
            for kind in ("machine", "online"):
                if kind in known:
                    lines.append(_line(kind, machine_id=machine_id, body=known[kind]))
            figures = {"cells": list(known["cells"].values()), "buses": known.get("buses")}
            lines.append(_line("telemetry", machine_id=machine_id, body=figures))
        lines.append(_line("reservations", rows=await self._store.read(_ongoing)))
        return [*lines, *(_line(kind, **fields) for kind, fields in self._recent)]

    def _take(self, kind: Kind, machine_id: str, body: dict[str, Any]) -> None:
        if machine_id not in self._machines and len(self._machines) >= MACHINES_MAX:
            return
        known = self._machines.setdefault(machine_id, {"cells": {}})
        if kind in ("machine", "online"):
            known[kind] = body
        elif kind == "telemetry":
            cells = body.get("cells")
            for cell in cells if isinstance(cells, list) else []:
                if isinstance(cell, dict) and isinstance(cell.get("label"), str):
                    known["cells"][cell["label"]] = cell
            known["buses"] = body.get("buses") or known.get("buses")
        self._publish(kind, machine_id=machine_id, body=body)
        if kind == "event":
            self._recent.append((kind, {"machine_id": machine_id, "body": body}))

    def _publish(self, kind: Kind, **fields: Any) -> None:
        if not self._pages:
            return  # to render a machine with many cells takes a while
        line = _line(kind, **fields)
        for queue in tuple(self._pages):
            try:
                queue.put_nowait(line)
            except asyncio.QueueFull:
                self._end(queue)

    def _end(self, queue: asyncio.Queue[str | None]) -> None:
        self._pages.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


async def _next(queue: asyncio.Queue[str | None]) -> str | None:
    try:
        async with asyncio.timeout(BEAT_S):
            return await queue.get()
    except TimeoutError:
        return ": beat\n\n"


def _line(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(fields, separators=(',', ':'))}\n\n"


def _ongoing(db: Connection) -> list[dict[str, Any]]:
    """The reservations that hold a cell, or held it last, oldest first; without their codes."""
    query = select(*LISTED).where(reservations.c.completed.is_(False), reservations.c.ended_s.is_(None))
    return [dict(row._mapping) for row in db.execute(query.order_by(reservations.c.position))]
