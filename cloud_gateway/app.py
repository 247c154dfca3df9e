"""Composition root: the only place that assembles the gateway's parts."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI

from cloud_gateway.api import enrolment, errors, public, reference_page, reservations
from cloud_gateway.api import machines as machine_routes
from cloud_gateway.api.common import GatewayParts
from cloud_gateway.api.idempotency import Idempotency
from cloud_gateway.api.images import QrImages
from cloud_gateway.api.middleware import RequestMiddleware
from cloud_gateway.api.openapi import describe
from cloud_gateway.api_keys import KeyRing
from cloud_gateway.db.prune import Pruner
from cloud_gateway.db.store import Store
from cloud_gateway.enrolment.files import make_enrolment
from cloud_gateway.events.given_up import GivenUpCanceller
from cloud_gateway.events.intake import Intake, subscriptions
from cloud_gateway.events.reconcile import Reconciler
from cloud_gateway.events.restore_sender import RestoreSender
from cloud_gateway.events.twins import Twins
from cloud_gateway.figures import Figures
from cloud_gateway.logs import WINDOW_S, error_fields, log, log_suppressed_counts
from cloud_gateway.machines.commands import MachineCommands
from cloud_gateway.machines.message_validation import MachineAccounts
from cloud_gateway.machines.mqtt_link import MqttLink
from cloud_gateway.machines.observations import TELEMETRY, Observations
from cloud_gateway.machines.sealed_ids import Seals
from cloud_gateway.metrics.page import MetricsParts
from cloud_gateway.operations import api as fleet_api
from cloud_gateway.operations import enrolment_api, fleet_page, privacy_api, releases_api, remote_api
from cloud_gateway.operations import routes as operations
from cloud_gateway.operations.fleet import Fleet
from cloud_gateway.rate_limits import RateLimits
from cloud_gateway.remote.work import RemoteWork
from cloud_gateway.settings import Settings, Timing
from cloud_gateway.stopping import Stopping
from cloud_gateway.users import Users
from cloud_gateway.wall import routes as wall
from cloud_gateway.wall.feed import WallFeed
from cloud_gateway.webhooks.deliverer import DELIVERIES_MAX, Deliverer
from edge_agent.mqtt.messages import Received

WEBHOOKS = "webhooks"


def create_app(
    settings: Settings,
    *,
    timing: Timing | None = None,
    clock: Callable[[], float] = time.time,
    on_fatal: Callable[[], None] = lambda: None,
    webhooks_max: int = DELIVERIES_MAX,
) -> FastAPI:
    """The gateway as an ASGI application; its lifespan owns the broker link, the database and the webhooks.

    `clock` gives Unix seconds. `on_fatal` is called when one of its parts has died: the process should end.
    At most `webhooks_max` are delivered at once.
    """
    timing, figures = timing or Timing(), Figures()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _running(app, settings, timing, clock, on_fatal, webhooks_max, figures):
            yield

    app = FastAPI(
        title="Delivery locker API",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": settings.public_url}],
    )
    app.state.stopping = Stopping(timing.stop_s)
    app.add_middleware(RequestMiddleware, on_ended=figures.request_ended)
    errors.install(app)
    routers = [
        machine_routes.router,
        reservations.router,
        public.router,
        enrolment.router,
        _front(settings),
    ]
    if settings.has_operators:
        routers += [operations.router, fleet_api.router, remote_api.router, releases_api.router]
        routers += [enrolment_api.router, privacy_api.router, fleet_page.router]
    for router in routers:
        app.include_router(router)
    app.state.routes = [route for router in routers for route in router.routes]
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    app.state.reference_page = cache(lambda: reference_page.render(describe(app)))
    return app


def _front(settings: Settings) -> APIRouter:
    """What is served at `/`: the wall of a bench, else the fleet page if anybody may see it."""
    if settings.wall is not None:
        return wall.router
    return fleet_page.at_root if settings.has_operators else public.no_wall


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 means any. Raises `OSError` if it cannot be opened.

    The protocol is named because asyncio sets TCP_NODELAY on the accepted connections only then
    (`base_events._set_nodelay`); otherwise a response waits 40 ms for a delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


@asynccontextmanager
async def _running(
    app: FastAPI,
    settings: Settings,
    timing: Timing,
    clock: Callable[[], float],
    on_fatal: Callable[[], None],
    webhooks_max: int,
    figures: Figures,
) -> AsyncIterator[None]:
    stopping: Stopping = app.state.stopping
    parts, background = _build(settings, timing, clock, webhooks_max, figures)
    tasks: list[asyncio.Task[None]] = []
    try:
        await parts.store.open()
        await background.twins.load()
        app.state.parts, app.state.reconciler = parts, background.reconciler
        app.state.wall_feed = background.wall_feed
        app.state.fleet = Fleet(parts.store, parts.machines, parts.accounts, parts.observations, clock)
        app.state.metrics_parts = MetricsParts(figures, parts.store, parts.machines, clock)
        tasks = [start_part(name, work(), on_fatal) for name, work in background.tasks.items()]
        delivering = tasks[list(background.tasks).index(WEBHOOKS)]
        stopping.on_begin(background.deliverer.stop)
        if background.wall_feed is not None:
            stopping.on_begin(background.wall_feed.close_pages)
        yield
        await stopping.wait_for(delivering)
    finally:
        await parts.idempotency.close()
        for task in reversed(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await parts.store.close()
        parts.qr_images.close()
        parts.users.close()


_Works = dict[str, Callable[[], Coroutine[Any, Any, None]]]


@dataclass(frozen=True, slots=True)
class _Background:
    """The background parts, by name."""

    twins: Twins
    reconciler: Reconciler
    deliverer: Deliverer
    wall_feed: WallFeed | None
    tasks: _Works


@dataclass(frozen=True, slots=True)
class LinkForwarder:
    """Passes on what the link to the broker reports (`GatewayLinkListener`)."""

    intake: Intake
    machines: MachineCommands
    observations: Observations
    wall_feed: WallFeed | None = None

    def take_message(self, message: Received) -> None:
        """See `GatewayLinkListener`. Telemetry is only for the pages."""
        self.observations.take_message(message)
        if self.wall_feed is not None:
            self.wall_feed.take_message(message)
        if not message.topic.endswith("/telemetry"):
            self.intake.put(message)

    def link_down(self) -> None:
        """See `GatewayLinkListener`."""
        self.machines.link_down()
        if self.wall_feed is not None:
            self.wall_feed.link_changed()

    def refused_by_broker(self, correlation: bytes, reason: str) -> None:
        """See `GatewayLinkListener`."""
        self.machines.refused_by_broker(correlation, reason)


def _build(
    settings: Settings, timing: Timing, clock: Callable[[], float], webhooks_max: int, figures: Figures
) -> tuple[GatewayParts, _Background]:
    """Assembles everything; nothing runs yet."""
    store, gateway_id = Store(settings.database_url), settings.mqtt.client_id
    link = _make_link(settings)
    twins = Twins(store, clock)
    machines = MachineCommands(gateway_id, timing, clock, link, twins.has_unresolved, figures)
    accounts, seals = MachineAccounts(on_rejected=figures.message_rejected), Seals(settings.platforms)
    observations = Observations(clock, accounts.count_rejected)
    feed = None if settings.wall is None else WallFeed(store, lambda: machines.connected)
    deliverer, wake = _make_deliverer(store, settings, timing, clock, webhooks_max, feed, figures)
    reconciler = Reconciler(store, machines, timing, clock, wake, gateway_id, accounts=accounts, seals=seals)
    restore_sender = RestoreSender(store, machines)
    remote = RemoteWork(store, machines, clock, signed=settings.mqtt.service_key_file is not None)
    intake = Intake(
        store,
        machines,
        timing,
        clock,
        wake,
        reconciler.check_machine,
        twins=twins,
        restore_sender=restore_sender,
        accounts=accounts,
        seals=seals,
        figures=figures,
        remote=remote,
        observations=observations,
    )
    parts = GatewayParts(
        settings=settings,
        store=store,
        machines=machines,
        idempotency=Idempotency(store, clock),
        limits=RateLimits(settings.platforms, settings.limits),
        wake_webhooks=wake,
        clock=clock,
        twins=twins,
        check_machine=lambda machine_id: reconciler.check_machine(machine_id, None, retained=True),
        timing=timing,
        accounts=accounts,
        seals=seals,
        qr_images=QrImages(),
        keys=KeyRing(_path(settings.keys_file), [one.name for one in settings.platforms], clock),
        users=Users(_path(settings.users_file)),
        remote=remote,
        enrolment=make_enrolment(settings, store, clock),
        observations=observations,
    )
    tasks: _Works = {
        "intake": lambda: intake.run(link),
        WEBHOOKS: deliverer.run,
        "reconciler": reconciler.run,
        "restore sender": restore_sender.run,
        "link": lambda: link.run(LinkForwarder(intake, machines, observations, feed)),
        **({} if feed is None else {"wall": feed.run}),
        **_housekeeping(parts, figures, remote),
    }
    return parts, _Background(twins, reconciler, deliverer, feed, tasks)


def _make_link(settings: Settings) -> MqttLink:
    topics = subscriptions(settings.mqtt.client_id, settings.share_group)
    with_pages = settings.wall is not None or settings.has_operators
    return MqttLink(settings.mqtt, topics, [TELEMETRY] if with_pages else [])


def _housekeeping(parts: GatewayParts, figures: Figures, remote: RemoteWork) -> _Works:
    """The parts that no platform notices."""
    store, timing, clock = parts.store, parts.timing, parts.clock
    return {
        "canceller of given-up reservations": GivenUpCanceller(store, parts.machines, timing, clock).run,
        "pruner of old rows": Pruner(store, parts.settings.keep, timing, clock, figures.rows_deleted).run,
        "remote work": remote.run,
        "suppressed log lines": _log_suppressed_lines,
        "keys file": parts.keys.file.run,
        "users file": parts.users.file.run,
    }


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _make_deliverer(
    store: Store,
    settings: Settings,
    timing: Timing,
    clock: Callable[[], float],
    webhooks_max: int,
    feed: WallFeed | None,
    figures: Figures,
) -> tuple[Deliverer, Callable[[], None]]:
    """The deliverer of webhooks, and what is called after each change of the projection."""
    if feed is None:
        deliverer = Deliverer(store, settings, timing, clock, webhooks_max, figures.webhook_attempted)
        return deliverer, deliverer.wake

    def on_attempt(entry: dict[str, Any]) -> None:
        figures.webhook_attempted(entry)
        feed.webhook_attempted(entry)

    deliverer = Deliverer(store, settings, timing, clock, webhooks_max, on_attempt)

    def wake() -> None:
        deliverer.wake()
        feed.reservations_changed()

    return deliverer, wake


async def _log_suppressed_lines() -> None:
    """Logs periodically how many log lines were suppressed."""
    while True:
        await asyncio.sleep(WINDOW_S)
        log_suppressed_counts()


def start_part(
    name: str, work: Coroutine[Any, Any, None], on_fatal: Callable[[], None]
) -> asyncio.Task[None]:
    """Starts a part that works until it is cancelled; if it dies, the process should end and restart."""

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log().critical("part_died", part=name, **error_fields(error))
            on_fatal()

    task = asyncio.create_task(work, name=f"gateway {name}")
    task.add_done_callback(ended)
    return task
