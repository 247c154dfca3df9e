"""Metrics for operators, as OpenMetrics text: on the local API at `/metrics`, and on a port of the loopback
interface if configured. The only file that imports prometheus-client, on the first request.

The metrics contain no reservation, order or code; a cell is identified by its label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_agent.console.admission import Counts
from edge_agent.console.loopback import serve_on_loopback
from edge_agent.errors import Code, Refusal
from edge_agent.service.bus_service import BusService
from edge_agent.service.report import Report

COUNTS = ("requests", "replies", "timeouts", "damaged", "exceptions", "late")
"""Counters of a bus and of a device, see `BusService.stats`."""
NAMESPACE = "edge_agent"


class Numbers:
    """Collects the figures for every scrape."""

    def __init__(self, report: Report, buses: BusService | None, connections: Counts | None = None) -> None:
        self._report = report
        self._buses = buses
        self._connections = connections
        self._text: Callable[[], bytes] | None = None
        self._content_type = ""

    def text(self) -> tuple[bytes, str]:
        """The exposition and its content type. Raises `Refusal` (`NOT_BUILT`) if the library is missing."""
        if self._text is None:
            self._prepare()
        assert self._text is not None
        return self._text(), self._content_type

    def _prepare(self) -> None:
        if find_spec("prometheus_client") is None:
            raise Refusal(Code.NOT_BUILT, "metrics need the extra 'metrics' of the package")
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(self)
        self._content_type = CONTENT_TYPE_LATEST
        self._text = lambda: generate_latest(registry)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Any]:
        """See `prometheus_client.registry.Collector`."""
        status = self._report.status()
        cells = self._report.cells()
        yield from _machine(status)
        yield from _cells(cells)
        yield from _alarms(status["alarms"])
        if self._buses is not None:
            yield from _buses(self._buses.stats())
        if self._connections is not None:
            about = "Connections to the local API since the daemon's start, by what became of them."
            yield _counter("api_connections", about, asdict(self._connections).items(), ("outcome",))


def _gauge(name: str, about: str, rows: Any, labels: tuple[str, ...] = ()) -> Any:
    """A family of gauges; rows of label values and the figure. Rows without a figure are left out."""
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", about, labels=labels)
    for *values, figure in rows:
        if figure is not None:
            family.add_metric([str(value) for value in values], float(figure))
    return family


def _counter(name: str, about: str, rows: Any, labels: tuple[str, ...]) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"{NAMESPACE}_{name}", about, labels=labels)
    for *values, figure in rows:
        family.add_metric([str(value) for value in values], float(figure))
    return family


def _machine(status: dict[str, Any]) -> Iterator[Any]:
    names = ("machine_id", "version", "boot_id")
    info = (status["machine_id"], status["agent_version"], status["boot_id"], 1)
    yield _gauge("build", "The machine's id and version.", [info], names)
    flags = {
        "broker_connected": ("Whether the broker is connected.", status["broker"] == "connected"),
        "clock_synced": ("Whether the wall clock is synchronised.", status["clock_synced"]),
        "journal_writable": ("Whether the journal can be written.", status["storage_fault"] is None),
    }
    for name, (about, flag) in flags.items():
        yield _gauge(name, about, [(flag,)])
    counts = {
        "reservations": ("Reservations that hold a cell.", "live_reservations"),
        "unlocks_at_work": ("Unlock attempts under way.", "unlocks_at_work"),
        "unlocks_waiting": ("Unlock attempts that wait for their turn.", "unlocks_waiting"),
        "events_waiting": ("Events that the broker does not have yet.", "events_waiting"),
        "last_sequence": ("Sequence of the newest event.", "last_sequence"),
    }
    for name, (about, key) in counts.items():
        yield _gauge(name, about, [(status[key],)])


def _cells(cells: list[dict[str, Any]]) -> Iterator[Any]:
    use = Counter(cell["status"] for cell in cells)
    yield _gauge("cells", "Cells by status.", use.items(), ("status",))
    flags = {
        "cells_blocked": ("Cells that are blocked.", lambda cell: cell["blocked"]),
        "cells_faulty": ("Cells that are faulty.", lambda cell: cell["faulty"]),
        "cells_worn": ("Cells whose lock opens ever more slowly.", lambda cell: cell["worn"]),
        "doors_open": ("Doors that read open.", lambda cell: cell["door"] == "open"),
        "doors_unknown": ("Doors that cannot be read.", lambda cell: cell["door"] == "unknown"),
    }
    for name, (about, is_so) in flags.items():
        yield _gauge(name, about, [(sum(map(is_so, cells)),)])
    figures = {
        "cell_mass_grams": ("What the scale reads, less the tare.", "mass_g"),
        "cell_temperature_celsius": ("What the probe reads.", "temperature_c"),
    }
    for name, (about, key) in figures.items():
        yield _gauge(name, about, [(cell["label"], cell[key]) for cell in cells], ("cell",))
    fitted = [cell for cell in cells if cell["heating"] or cell["cooling"]]
    running = [(cell["label"], cell["climate"] != "off") for cell in fitted]
    yield _gauge("cell_climate_running", "Whether heater or cooler is on.", running, ("cell",))
    pulled = [(cell["label"], cell["unlocks"]) for cell in cells]
    yield _counter("cell_unlocks", "How often the lock was opened in its life.", pulled, ("cell",))


def _alarms(alarms: list[dict[str, Any]]) -> Iterator[Any]:
    standing = Counter(alarm["alarm"] for alarm in alarms)
    yield _gauge("alarms", "Standing alarms by their kind.", standing.items(), ("alarm",))


def _buses(buses: list[dict[str, Any]]) -> Iterator[Any]:
    yield _gauge("bus_up", "Whether the port is there.", [(bus["bus"], bus["up"]) for bus in buses], ("bus",))
    shares = [(bus["bus"], bus["utilisation"]) for bus in buses]
    yield _gauge("bus_utilisation_ratio", "Share of the time in which bits pass.", shares, ("bus",))
    for key in COUNTS:
        passed = [(bus["bus"], bus[key]) for bus in buses]
        yield _counter(f"bus_{key}", f"Since the daemon's start: {key}.", passed, ("bus",))
    devices = [(bus["bus"], device["device"], device) for bus in buses for device in bus["devices"]]
    names = ("bus", "device")
    answering = [(bus, name, device["state"] == "answering") for bus, name, device in devices]
    yield _gauge("device_answering", "Whether the device answers as it should.", answering, names)
    for key in ("requests", "timeouts", "damaged", "late"):
        rows = [(bus, name, device[key]) for bus, name, device in devices]
        yield _counter(f"device_{key}", f"Since the daemon's start: {key}.", rows, names)
    slow = [(bus, name, _seconds(device["latency_ms"]["p99"])) for bus, name, device in devices]
    about = "99 of 100 replies come within this time."
    yield _gauge("device_latency_p99_seconds", about, slow, names)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


def metrics_route(numbers: Numbers) -> Route:
    """`GET /metrics`."""

    async def metrics(_: Request) -> Response:
        content, content_type = numbers.text()
        return Response(content, media_type=content_type)

    return Route("/metrics", metrics)


async def serve_metrics(numbers: Numbers, address: tuple[str, int], serve: Callable[..., Any]) -> None:
    """Serves the metrics on a TCP port until cancelled; while the port is taken, that is logged and retried.

    `serve(app, listener)` does the serving, see `edge_agent.console.unix_server`.
    """
    app = Starlette(routes=[metrics_route(numbers)])
    await serve_on_loopback(app, address, serve, "metrics are")
