"""A gateway without a broker, for machines that send whatever they like: every message goes in at the intake,
and every page and list is asked for afterwards.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import sleep
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import insert, select

from cloud_gateway.api.common import GatewayParts
from cloud_gateway.api.idempotency import Idempotency
from cloud_gateway.app import create_app
from cloud_gateway.db.store import READERS, Store
from cloud_gateway.db.tables import reservations
from cloud_gateway.events.intake import Intake
from cloud_gateway.events.twins import Twins
from cloud_gateway.machines.commands import MachineCommands, SentCommand
from cloud_gateway.machines.message_validation import MachineAccounts
from cloud_gateway.machines.mqtt_link import OutgoingCommand
from cloud_gateway.machines.sealed_ids import SealedRequest, Seals
from cloud_gateway.rate_limits import RateLimits
from edge_agent.errors import LinkFault
from edge_agent.mqtt.messages import Received
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.topics import Topics
from tests.cloud_gateway.peer import MACHINE, machine_document
from tests.cloud_gateway.support import API, KEY, OPERATIONS_KEY, QUICK, RESERVE, settings

HOSTILE = "machine_666"
NOW_S = 1_800_000_000.0
PAGES = (
    "/operations",
    "/operations.json",
    f"{API}/reservations",
    f"{API}/reservations?page_size=1",
    f"{API}/machines/{MACHINE}",
    f"{API}/machines/{HOSTILE}",
)
SEARCH = {"latitude": 0.0, "longitude": 0.0, "radius": 30_000_000.0}


class NoLink:
    """A link that connects nothing, and whose messages are always of the present connection."""

    connected = False

    async def publish(self, _command: OutgoingCommand, _make_payload: Any) -> None:
        """Nothing goes out."""
        raise LinkFault("not connected")

    def is_current(self, _message: Received) -> bool:
        """Yes."""
        return True

    def acknowledge(self, _message: Received) -> None:
        """Nothing to do."""


class Hostile:
    """A gateway, and a machine that sends what a test likes."""

    def __init__(self, store: Store, app: FastAPI, http: httpx.AsyncClient, parts: GatewayParts) -> None:
        self.store, self.app, self.http, self.parts = store, app, http, parts
        self.accounts, self.machines, self.seals = parts.accounts, parts.machines, parts.seals
        self.link: Any = NoLink()
        self.intake = Intake(
            store,
            parts.machines,
            QUICK,
            lambda: NOW_S,
            lambda: None,
            accounts=parts.accounts,
            seals=parts.seals,
        )
        self._mid = 0

    async def send(
        self, part: str, payload: bytes | dict[str, Any], correlation: bytes | None = None
    ) -> None:
        """A message on a topic of the hostile machine."""
        await self.say(HOSTILE, part, payload, correlation)

    async def say(
        self, machine_id: str, part: str, payload: bytes | dict[str, Any], correlation: bytes | None = None
    ) -> None:
        """A message on a topic of a machine."""
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._mid += 1
        topic = f"{Topics(machine_id).root}/{part}"
        await self.intake._take([Received(topic, raw, correlation, 1, self._mid, 1)], self.link)

    def asks(self, name: str, machine_id: str = HOSTILE, **fields: Any) -> tuple[bytes, SentCommand]:
        """A command that waits for its reply."""
        correlation = f"c{self._mid}-{name}".encode()
        pending = SentCommand(name, machine_id, asyncio.get_running_loop().create_future(), fields)
        self.machines._awaited[correlation] = pending
        return correlation, pending

    def request(self, machine_id: str = HOSTILE, **changes: Any) -> SealedRequest:
        """What a platform asks for."""
        given = {"platform": "acme", "platform_order_id": "order_1", "notes": "", "webhook_url": ""}
        return SealedRequest(machine_id, **(given | changes))

    def view(self, request: SealedRequest, **changes: Any) -> dict[str, Any]:
        """A reservation as a machine would report it, with a seal."""
        return {
            "reservation_id": self.seals.new_id(request),
            "machine_id": request.machine_id,
            "platform": request.platform,
            "platform_order_id": request.platform_order_id,
            "notes": request.notes,
            "webhook_url": request.webhook_url,
            "status": "RESERVATION_STATUS_PENDING",
            "created_at": rfc3339(NOW_S),
            "cell": {"description": "A03", "cell_id": "cell_a03"},
            "drop_off_code": "1234",
            "pickup_code": "5678",
            "packaging": RESERVE["packaging"],
            "grace_period_pickup_in_seconds": 120,
            "grace_period_dropoff_in_seconds": 120,
            **changes,
        }

    async def rows(self) -> dict[str, str]:
        """The reservations whose details are known, by id, with their platforms."""
        query = select(reservations.c.reservation_id, reservations.c.platform)
        query = query.where(reservations.c.details_known.is_(True))
        found = await self.store.read(lambda db: db.execute(query).all())
        return {row.reservation_id: row.platform for row in found}

    async def look(self) -> None:
        """Asks for every page and list; none may fail."""
        for path in PAGES:
            response = await self.http.get(path)
            assert response.status_code < 500, (path, response.text)
        response = await self.http.post(f"{API}/machines/search", json=SEARCH)
        assert response.status_code == 200, response.text
        assert MACHINE in [one["machine"]["machine_id"] for one in response.json()["machines"]]


@asynccontextmanager
async def hostile(folder: Path) -> AsyncIterator[Hostile]:
    """A gateway that knows one honest machine, and no broker."""
    given = settings(folder, 1)
    store = Store(given.database_url)
    await store.open()
    machines = MachineCommands("test", QUICK, lambda: NOW_S, NoLink())
    accounts, seals = MachineAccounts(), Seals(given.platforms)
    parts = GatewayParts(
        settings=given,
        store=store,
        machines=machines,
        idempotency=Idempotency(store, lambda: NOW_S),
        limits=RateLimits(given.platforms, given.limits),
        wake_webhooks=lambda: None,
        clock=lambda: NOW_S,
        twins=Twins(store, lambda: NOW_S),
        timing=QUICK,
        accounts=accounts,
        seals=seals,
    )
    app = create_app(given)
    app.state.parts = parts
    password = b64encode(f"x:{OPERATIONS_KEY}".encode()).decode()
    headers = {"X-API-Key": KEY, "Authorization": f"Basic {password}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as http:
        made = Hostile(store, app, http, parts)
        honest = json.dumps(machine_document()).encode()
        topic = Topics(MACHINE).machine
        await made.intake._take([Received(topic, honest, None, 1, 0, 1)], made.link)
        # All its threads are there before a test looks for strays.
        await asyncio.gather(*(store.read(lambda _: sleep(0.05)) for _ in range(READERS)))
        try:
            yield made
        finally:
            parts.qr_images.close()
            await store.close()


async def plant(store: Store, **changes: Any) -> None:
    """A row as an earlier version took it."""
    row = {
        "reservation_id": "res_planted",
        "details_known": True,
        "machine_id": MACHINE,
        "platform": "acme",
        "platform_order_id": "o",
        "notes": "note",
        "webhook_url": "",
        "status": "RESERVATION_STATUS_PENDING",
        "created_s": int(NOW_S),
        "drop_off_code": "1",
        "pickup_code": "2",
        "grace_pickup_s": 0,
        "completed": False,
        "learned_s": NOW_S,
        **changes,
    }
    await store.write(lambda db: db.execute(insert(reservations).values(row)))
