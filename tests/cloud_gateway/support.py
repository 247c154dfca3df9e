"""What the gateway's tests stand on: a scripted machine over real MQTT, the gateway on a real port, and a
real HTTP receiver for webhooks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any

import httpx
import structlog
import uvicorn

from cloud_gateway.app import create_app, listen
from cloud_gateway.settings import Settings, Timing
from tests.cloud_gateway.peer import DEADLINE_S as DEADLINE_S
from tests.cloud_gateway.peer import MACHINE as MACHINE
from tests.cloud_gateway.peer import Peer as Peer
from tests.cloud_gateway.peer import Received as Received
from tests.cloud_gateway.peer import Script as Script
from tests.cloud_gateway.peer import cell as cell
from tests.cloud_gateway.peer import machine_document as machine_document

API = "/api/delivery/external/v1"
KEY = "key-of-acme"
OTHER_KEY = "key-of-other"
OPERATIONS_KEY = "key of operations: ü"

QUICK = Timing(
    wait_s=2.0,
    life_s=1.5,
    webhook_timeout_s=0.5,
    retry_first_s=0.05,
    retry_max_s=0.4,
    storage_pause_s=0.1,
    webhook_poll_s=0.2,
    completion_s=0.2,
    check_pause_s=0.05,
    missing_after_s=0.3,
    ask_again_s=0.1,
    sync_lease_s=3.0,
    replica_lost_s=1.0,
    session_s=3.0,
)

PARCEL = {"width": 300, "height": 200, "depth": 400, "weight": 1500, "cooling_required": True}
RESERVE = {"machine_id": MACHINE, "platform_order_id": "order_456", "packaging": PARCEL}


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """The lines that are logged in its `with`, each with its `event`."""
    lines: list[dict[str, Any]] = []

    def take(_logger: Any, _name: str, line: Any) -> Any:
        lines.append(dict(line))
        raise structlog.DropEvent

    before = structlog.get_config()
    wrapper = structlog.make_filtering_bound_logger(logging.DEBUG)
    structlog.configure(processors=[take], wrapper_class=wrapper)
    try:
        yield lines
    finally:
        structlog.configure(**before)


async def eventually(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of a condition; fails the test when none came in time."""
    end = monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)


def error(code: int, message: str = "no") -> Script:
    """A script that refuses."""
    return lambda _: {"error": {"code": code, "message": message, "details": []}}


def silent(_: dict[str, Any]) -> None:
    """A script that does not answer."""


@dataclass
class Gateway:
    """A running gateway and a client of the platform `acme`."""

    http: httpx.AsyncClient
    app: Any

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """POST below the API's prefix; header names with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(API + path, json=body, headers=named)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """GET below the API's prefix."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(API + path, headers=named)

    async def reserve(self, **changes: Any) -> dict[str, Any]:
        """A new reservation."""
        response = await self.post("/reservations", {**RESERVE, **changes})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    @property
    def machines(self) -> Any:
        """The command side."""
        return self.app.state.parts.machines

    async def sees(self, machine_id: str = MACHINE) -> None:
        """Waits until the machine is online and known, and its history is compared: commands reach it."""
        await eventually(lambda: self.machines.is_online(machine_id))
        await eventually(lambda: self.machines.history(machine_id) != "asking")
        async with asyncio.timeout(DEADLINE_S):
            while (await self.get(f"/machines/{machine_id}")).status_code != 200:
                await asyncio.sleep(0.01)

    async def knows(self, machine_id: str, cells: list[dict[str, Any]]) -> None:
        """Waits until the machine is online and known with these cells."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                response = await self.get(f"/machines/{machine_id}")
                machine = response.json().get("machine", {}) if response.status_code == 200 else {}
                if machine.get("online") and machine["all_cells"] == cells:
                    return
                await asyncio.sleep(0.01)

    async def until(self, reservation_id: str, status: str) -> dict[str, Any]:
        """The reservation once it has a status (its last word)."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                response = await self.get(f"/reservations/{reservation_id}")
                if response.status_code == 200 and response.json()["status"].endswith(f"_{status}"):
                    answer: dict[str, Any] = response.json()
                    return answer
                await asyncio.sleep(0.01)


def settings(
    folder: Path, broker_port: int, webhook_url: str = "", webhook_secrets: Sequence[str] = ()
) -> Settings:
    """Settings with two platforms and a database file in `folder`."""
    return Settings.model_validate(
        {
            "listen_port": 1,
            "public_url": "https://api.delivery.example",
            "database_url": f"sqlite:///{folder}/gateway.db",
            "operations_key": OPERATIONS_KEY,
            "webhooks": {"allow_networks": ["127.0.0.0/8", "::1/128"]},
            "mqtt": {"host": "127.0.0.1", "port": broker_port, "client_id": "gateway-test"},
            "platforms": [
                {
                    "name": "acme",
                    "api_key": KEY,
                    "webhook_url": webhook_url,
                    "webhook_secrets": webhook_secrets,
                },
                {"name": "other", "api_key": OTHER_KEY},
            ],
        }
    )


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None: ...


@asynccontextmanager
async def running_gateway(
    given: Settings, *, timing: Timing = QUICK, connected: bool = True, clock: Callable[[], float] = time
) -> AsyncIterator[Gateway]:
    """The gateway on a real port, in this test's event loop."""
    app = create_app(given, timing=timing, clock=clock)
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1
        )
        server = _Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        try:
            await eventually(lambda: server.started or serving.done())
            base = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx.AsyncClient(
                base_url=base, headers={"X-API-Key": KEY}, trust_env=False, timeout=15
            ) as http:
                gateway = Gateway(http, app)
                if connected:
                    await eventually(lambda: gateway.machines.connected)
                yield gateway
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def bench(
    folder: Path,
    broker_port: int,
    *,
    timing: Timing = QUICK,
    webhook_url: str = "",
    webhook_secrets: Sequence[str] = (),
    users_file: Path | None = None,
) -> AsyncIterator[tuple[Gateway, Peer]]:
    """A gateway that sees one machine."""
    peer = Peer(broker_port)
    await asyncio.to_thread(peer.start)
    try:
        given = settings(folder, broker_port, webhook_url, webhook_secrets)
        if users_file is not None:
            given = given.model_copy(update={"users_file": str(users_file)})
        async with running_gateway(given, timing=timing) as gateway:
            await gateway.sees()
            yield gateway, peer
    finally:
        await asyncio.to_thread(peer.stop)
