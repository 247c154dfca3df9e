"""`GET /metrics`: the gateway's figures as Prometheus text, version 0.0.4, as an application of its own.

It has a listener of its own, so that no proxy in front of the API shows it by mistake. With `metrics.token`
a request needs that token (RFC 6750); without one the listener is on loopback (`MetricsSettings`).
"""

from __future__ import annotations

import hmac
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import time
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cloud_gateway.db.store import Store
from cloud_gateway.figures import NAMESPACE, Figures
from cloud_gateway.machines.commands import MachineCommands
from cloud_gateway.metrics.database import Contents, DatabaseFigures
from edge_agent import __version__


@dataclass(slots=True)
class MetricsParts:
    """What the page reads; `store` and `machines` are those of the running gateway."""

    figures: Figures
    store: Store
    machines: MachineCommands
    clock: Callable[[], float] = time


class _Gauges:
    """The figures that are read when somebody asks for them (`prometheus_client.registry.Collector`)."""

    def __init__(self, parts: MetricsParts) -> None:
        self._parts = parts
        self.contents: Contents | None = None

    def collect(self) -> Iterator[Any]:
        """See `prometheus_client.registry.Collector`."""
        machines, store = self._parts.machines, self._parts.store
        about = (__version__, platform.python_version())
        yield _gauge("build", "The version of gateway and Python.", [(*about, 1)], ("version", "python"))
        yield _gauge("broker_connected", "Whether the broker is connected.", [(machines.connected,)])
        yield _gauge("machines_online", "Machines that are online.", [(len(machines.online()),)])
        waiting = [("write", store.writes_waiting), ("read", store.reads_waiting)]
        yield _gauge("store_waiting", "Transactions that wait for a thread.", waiting, ("kind",))
        yield _gauge("database_up", "Whether the database answers.", [(self.contents is not None,)])
        if self.contents is not None:
            yield from _database(self.contents, self._parts.clock())


def _database(contents: Contents, now_s: float) -> Iterator[Any]:
    oldest_s = contents.oldest_webhook_s
    age_s = 0.0 if oldest_s is None else max(0.0, now_s - oldest_s)
    yield _gauge("machines_known", "Machines that ever published their state.", [(contents.machines,)])
    yield _gauge("webhooks", "Undelivered webhooks by state.", contents.webhooks.items(), ("state",))
    yield _gauge("webhook_oldest_seconds", "Age of the webhook that waits for longest.", [(age_s,)])
    yield _gauge("events_held", "Events that wait for an earlier one.", [(contents.events_held,)])
    yield _gauge("tickets_open", "Open maintenance tickets.", [(contents.tickets_open,)])
    if contents.certificate_ends_s is not None:
        about = "Time until the first certificate of an enrolled machine ends."
        yield _gauge("certificate_ends_seconds", about, [(contents.certificate_ends_s - now_s,)])
    yield _gauge("twins", "Machine ids that two machines use.", [(contents.twins,)])


def _gauge(name: str, about: str, rows: Any, labels: tuple[str, ...] = ()) -> Any:
    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", about, labels=labels)
    for *values, figure in rows:
        family.add_metric([str(value) for value in values], float(figure))
    return family


def metrics_app(parts_of: Callable[[], MetricsParts], token: str | None) -> Starlette:
    """The application. `parts_of` is called with the first request, when the gateway runs."""
    gauges: _Gauges | None = None
    database: DatabaseFigures | None = None

    async def metrics(request: Request) -> Response:
        nonlocal gauges, database
        if token is not None and not _has_token(request, token):
            return PlainTextResponse("a token is needed\n", 401, {"WWW-Authenticate": "Bearer"})
        parts = parts_of()
        if gauges is None or database is None:
            gauges, database = _Gauges(parts), DatabaseFigures(parts.store, parts.clock)
            parts.figures.registry.register(gauges)
            ProcessCollector(registry=parts.figures.registry)
        gauges.contents = await database.contents()
        text = generate_latest(parts.figures.registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return Starlette(routes=[Route("/metrics", metrics)])


def _has_token(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    return scheme.lower() == "bearer" and right
