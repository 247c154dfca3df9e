"""`/metrics`: what it shows after real work, who may read it, and that nobody's names are in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from cloud_gateway.db.store import Store
from cloud_gateway.figures import Figures
from cloud_gateway.machines.commands import MachineCommands
from cloud_gateway.metrics.database import DatabaseFigures
from cloud_gateway.metrics.page import MetricsParts, metrics_app
from cloud_gateway.settings import load
from edge_agent import __version__
from edge_agent.errors import ConfigError
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.receiver import receiver
from tests.cloud_gateway.support import KEY, QUICK, Gateway, Peer, bench, error, eventually
from tests.cloud_gateway.test_process import process, write_config
from tests.cloud_gateway.test_settings import GOOD
from tests.support.broker import Broker
from tools.bench.ports import free_port

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
TOKEN = "token-of-prometheus"


def page_of(app: Any, token: str | None = None) -> httpx.AsyncClient:
    """A client of the page of a running gateway."""
    return client_of(metrics_app(lambda: app.state.metrics_parts, token))


def client_of(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://metrics")


async def samples(http: httpx.AsyncClient) -> Samples:
    """What is shown now, as Prometheus reads it."""
    response = await http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: Samples = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def figure(found: Samples, name: str, **labels: str) -> float:
    return found[(f"edge_gateway_{name}", tuple(sorted(labels.items())))]


async def work(gateway: Gateway, peer: Peer) -> None:
    """Reserves twice, once in vain; the parcel is dropped off; and some requests that fail."""
    made = await gateway.reserve()
    await asyncio.to_thread(peer.event, EventType.DROPOFF, peer.reservations[made["reservation_id"]])
    await gateway.until(made["reservation_id"], "DROPPED_OFF")
    peer.scripts["reserve"] = error(8)
    body = {"machine_id": peer.machine_id, "platform_order_id": "o2", "packaging": {}}
    packaging = {"width": 1, "height": 1, "depth": 1}
    assert (await gateway.post("/reservations", {**body, "packaging": packaging})).status_code == 429
    await gateway.http.get("/nowhere/DLV-1234")
    await gateway.http.request("BREW", "/healthz")
    peer.publish(peer.topics.events, b"{}")


async def test_what_the_gateway_did_is_counted(tmp_path: Path, broker: Broker) -> None:
    async with receiver() as target, bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer):
        target.status = lambda _: 500 if len(target.got) == 1 else 204
        await work(gateway, peer)
        await eventually(lambda: len(target.got) == 2)
        async with page_of(gateway.app) as http:
            await until(http, "webhook_attempts_total", 1, result="delivered")
            await until(http, "messages_rejected_total", 1, kind="event")
            await until(http, "webhooks", 0, state="waiting")  # what was counted is used for some seconds
            found = await samples(http)
    assert figure(found, "commands_total", command="reserve", code="OK") == 1
    assert figure(found, "commands_total", command="reserve", code="NO_CELL") == 1
    assert figure(found, "command_seconds_count", command="reserve") == 2
    assert figure(found, "command_seconds_bucket", command="reserve", le="+Inf") == 2
    assert figure(found, "requests_total", method="other", route="/healthz", status="405") == 1
    assert figure(found, "requests_total", method="GET", route="unmatched", status="404") == 1
    assert figure(found, "webhook_attempts_total", result="failed") == 1
    assert figure(found, "webhook_seconds_count") == 2
    assert figure(found, "events_total") == 2
    assert figure(found, "machines_online") == figure(found, "machines_known") == 1
    assert figure(found, "webhooks", state="waiting") == figure(found, "webhook_oldest_seconds") == 0
    assert figure(found, "broker_connected") == figure(found, "database_up") == 1
    assert figure(found, "store_waiting", kind="write") == 0
    assert next(labels for name, labels in found if name == "edge_gateway_build")[1] == (
        "version",
        __version__,
    )
    assert found[("process_resident_memory_bytes", ())] > 1_000_000
    assert found[("process_cpu_seconds_total", ())] > 0


async def until(http: httpx.AsyncClient, name: str, value: float, **labels: str) -> None:
    key = (f"edge_gateway_{name}", tuple(sorted(labels.items())))
    async with asyncio.timeout(20):
        while (await samples(http)).get(key) != value:
            await asyncio.sleep(0.01)


async def test_no_label_is_a_name_that_somebody_else_chose(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, peer):
        await work(gateway, peer)
        async with page_of(gateway.app) as http:
            text = (await http.get("/metrics")).text
    made = next(iter(peer.reservations.values()))
    names = [made["reservation_id"], made["platform_order_id"], made["drop_off_code"], made["pickup_code"]]
    for name in [*names, peer.machine_id, "acme", KEY, "o2", "DLV", "BREW", "nowhere"]:
        assert not re.search(rf'"[^"\n]*{re.escape(name)}[^"\n]*"', text), name


async def test_an_old_webhook_shows_its_age(tmp_path: Path, broker: Broker) -> None:
    async with receiver() as target, bench(tmp_path, broker.port, webhook_url=target.url) as (gateway, peer):
        target.status = lambda _: 500
        made = await gateway.reserve()
        await asyncio.to_thread(peer.event, EventType.DROPOFF, peer.reservations[made["reservation_id"]])
        await eventually(lambda: target.got)
        parts: MetricsParts = gateway.app.state.metrics_parts
        parts.clock = lambda clock=parts.clock: clock() + 1000  # type: ignore[misc]
        async with page_of(gateway.app) as http:
            found = await samples(http)
    assert figure(found, "webhooks", state="waiting") == 1
    assert 1000 <= figure(found, "webhook_oldest_seconds") < 1100


class SlowStore(Store):
    """A database that answers when it is allowed to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"sqlite:///{folder}/gateway.db")
        self.may_answer = asyncio.Event()
        self.asked = 0

    async def read(self, work: Any) -> Any:
        """See `Store`."""
        self.asked += 1
        await self.may_answer.wait()
        return await super().read(work)


@asynccontextmanager
async def slow_store(folder: Path) -> AsyncIterator[SlowStore]:
    store = SlowStore(folder)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_a_database_that_does_not_answer_is_shown_as_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_gateway.metrics.database.ANSWER_S", 0.05)
    async with slow_store(tmp_path) as store:
        machines = MachineCommands("gateway", QUICK, lambda: 0.0, NoLink())
        parts = MetricsParts(Figures(), store, machines, lambda: 0.0)
        async with client_of(metrics_app(lambda: parts, None)) as http:
            for _ in range(3):
                found = await samples(http)
                assert figure(found, "database_up") == 0
                assert ("edge_gateway_machines_known", ()) not in found
            assert store.asked == 1  # they wait for one and the same
            store.may_answer.set()
            await until(http, "database_up", 1)


class NoLink:
    """A link that is down."""

    connected = False

    async def publish(self, command: Any, make_payload: Any) -> None:
        """See `CommandLink`."""
        raise AssertionError


async def test_the_database_is_counted_once_in_a_while(tmp_path: Path) -> None:
    now_s = 1000.0
    async with slow_store(tmp_path) as store:
        store.may_answer.set()
        figures = DatabaseFigures(store, lambda: now_s)
        for _ in range(5):
            assert await figures.contents() is not None
        assert store.asked == 1
        now_s += 11
        await figures.contents()
        assert store.asked == 2
        now_s = 5.0  # the clock was set back
        await figures.contents()
        assert store.asked == 3


async def test_a_page_with_a_token_is_for_who_has_it(tmp_path: Path, broker: Broker) -> None:
    async with bench(tmp_path, broker.port) as (gateway, _), page_of(gateway.app, TOKEN) as http:
        for given in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"}):
            refused = await http.get("/metrics", headers=given)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert "edge_gateway" not in refused.text
        right = await http.get("/metrics", headers={"Authorization": f"bearer {TOKEN}"})
        assert right.status_code == 200
        assert (await http.get("/", headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 404


async def test_the_process_serves_them_on_their_own_port_only(tmp_path: Path, broker: Broker) -> None:
    port, metrics_port = free_port(), free_port()
    config = write_config(tmp_path, port, broker.port)
    config.write_text(config.read_text() + f'[metrics]\nlisten_port = {metrics_port}\ntoken = "{TOKEN}"\n')
    async with process(config, port, tmp_path / "log") as running, httpx.AsyncClient(trust_env=False) as http:
        there = f"http://127.0.0.1:{metrics_port}/metrics"
        assert (await http.get(there)).status_code == 401
        answer = await http.get(there, headers={"Authorization": f"Bearer {TOKEN}"})
        assert "edge_gateway_broker_connected 1.0" in answer.text
        assert (await http.get(f"http://127.0.0.1:{port}/metrics")).status_code == 404
        assert (await http.get(f"http://127.0.0.1:{metrics_port}/healthz")).status_code == 404
        running.terminate()
        assert await asyncio.to_thread(running.wait, 10) == 0
    assert TOKEN not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("lines", "finding"),
    [
        ('listen_host = "0.0.0.0"\nlisten_port = 9464', "metrics"),
        ('listen_host = "metrics.example.org"\nlisten_port = 9464', "metrics"),
        ('listen_port = 9464\ntoken = "short"', "metrics.token"),
        ("", "metrics.listen_port"),
        ("listen_port = 9464\nport = 1", "metrics.port"),
    ],
)
def test_a_wrong_section_is_refused_with_its_key_path(tmp_path: Path, lines: str, finding: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f"{GOOD}\n[metrics]\n{lines}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [found.path for found in caught.value.findings] == [finding]
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.0.1"])
def test_on_loopback_no_token_is_needed(tmp_path: Path, host: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f'{GOOD}\n[metrics]\nlisten_port = 9464\nlisten_host = "{host}"\n')
    metrics = load(path).metrics
    assert metrics is not None
    assert metrics.token is None
