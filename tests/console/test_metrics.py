"""Numbers for operators: valid OpenMetrics, true, without anybody's parcels; and where they are served."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from edge_agent.config.sections import MetricsSection
from edge_agent.console import loopback, metrics
from edge_agent.console.api import ConsolePort, create_app
from edge_agent.console.metrics import Numbers, serve_metrics
from edge_agent.console.unix_server import serve_on
from edge_agent.errors import Refusal
from tests.support.site import Site, at_site
from tools.bench.ports import free_port
from tools.bench.settings import REPOSITORY

DASHBOARD = REPOSITORY / "config" / "grafana" / "edge-agent.json"


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels; fails on anything that is no OpenMetrics."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }


async def scraped(site: Site) -> str:
    agent = site.plant.agent
    assert agent is not None
    app = create_app(ConsolePort(agent.local, agent.report, agent.buses))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://agent") as client:
        answer = (await client.get("/metrics")).raise_for_status()
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    return answer.text


def test_the_figures_are_those_of_the_machine(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        made = await site.reserve(1)
        await site.call("dropoff", "res_1")
        site.plant.cables["main"].trouble.silences[18].begin(None)
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: bool(agent.report.alarms()))
        await agent.local.block("C05", "hinge")
        await site.until(lambda: agent.store.outbox_size() == 0)
        text = await scraped(site)
        found = samples(text)
        label = made["cell"]["description"]
        one = {name: value for (name, labels), value in found.items() if not labels}
        assert one["edge_agent_reservations"] == 1
        assert one["edge_agent_broker_connected"] == 1
        assert one["edge_agent_doors_open"] == 1
        assert one["edge_agent_cells_blocked"] == 1
        assert one["edge_agent_events_waiting"] == 0
        assert one["process_resident_memory_bytes"] > 1e6
        assert found["edge_agent_cells", (("status", "RESERVED"),)] == 1
        assert found["edge_agent_cell_unlocks_total", (("cell", label),)] == 1
        assert found["edge_agent_alarms", (("alarm", "DEVICE_SILENT"),)] == 1
        assert found["edge_agent_bus_up", (("bus", "main"),)] == 1
        assert found["edge_agent_device_answering", (("bus", "main"), ("device", "scale_c04"))] == 0
        assert found["edge_agent_device_answering", (("bus", "main"), ("device", "locks_a"))] == 1
        assert ("edge_agent_cell_mass_grams", (("cell", "A01"),)) not in found  # it has no scale
        assert "res_1" not in text
        labels = {value for _, pairs in found for _, value in pairs}
        assert not labels & {made["drop_off_code"], made["pickup_code"], "o"}

    at_site(tmp_path, test)


def test_every_figure_of_the_dashboard_is_there(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.reserve(1)
        agent = site.plant.agent
        assert agent is not None
        await site.until(lambda: all(c["temperature_c"] is not None for c in agent.report.cells()[8:16]))
        names = {name for name, _ in samples(await scraped(site))}
        panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
        asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
        assert len(asked) > 10
        for expression in asked:
            wanted = re.findall(r"\b(?:edge_agent|process)_[a-z0-9_]+", expression)
            assert wanted, expression
            assert set(wanted) <= names | {"edge_agent_alarms"}, expression

    at_site(tmp_path, test)


def test_without_the_library_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)

    async def test(site: Site) -> None:
        assert site.plant.agent is not None
        with pytest.raises(Refusal, match="extra 'metrics'"):
            Numbers(site.plant.agent.report, None).text()

    at_site(tmp_path, test)


class Figures(Numbers):
    """Those of no machine."""

    def __init__(self) -> None:
        super().__init__(None, None)  # type: ignore[arg-type]

    def collect(self) -> Any:
        return iter(())


async def test_a_port_of_its_own_is_taken_as_soon_as_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "REOPEN_S", 0.01)
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        task = asyncio.create_task(serve_metrics(Figures(), ("127.0.0.1", port), serve_on))
        await asyncio.sleep(0.05)
        assert not task.done()
    async with httpx.AsyncClient() as client, asyncio.timeout(10):
        text = ""
        while not text:
            with suppress(httpx.TransportError):
                text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            await asyncio.sleep(0.01)
        assert "process_cpu_seconds_total" in text
        assert (await client.get(f"http://127.0.0.1:{port}/v1/status")).status_code == 404
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:9464", "192.168.1.2:9464", "127.0.0.1", "127.0.0.1:0", "x:9", ":1"]
)
def test_only_the_loopback_interface_will_do(listen: str) -> None:
    with pytest.raises(ValueError, match=r"loopback interface, such as 127\.0\.0\.1:9464"):
        MetricsSection(listen=listen)


def test_where_the_metrics_are_served() -> None:
    assert MetricsSection(listen="127.0.0.1:9464").place == ("127.0.0.1", 9464)
    assert MetricsSection(listen="[::1]:9464").place == ("::1", 9464)
