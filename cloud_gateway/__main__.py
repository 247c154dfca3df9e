"""`edge-gateway --config GATEWAY.toml`, the same as `python -m cloud_gateway --config GATEWAY.toml`.

`edge-gateway api-keys`, `users` and `signing-key` maintain the files around it; see `TOOLS`.

SIGTERM and SIGINT end it: requests and webhooks under way may finish within `Timing.stop_s`; a second signal
ends that time. Exit codes: 0 ended by a signal, 1 a port is busy or the gateway could not run, 2 bad usage or
configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from cloud_gateway import api_keys, keys, logs, users
from cloud_gateway.api.http_server import Connections, Descriptors, Server, config_of
from cloud_gateway.api_keys import read_keys
from cloud_gateway.app import create_app, listen, start_part
from cloud_gateway.enrolment import authority
from cloud_gateway.metrics.page import metrics_app
from cloud_gateway.service_status import keep_notified
from cloud_gateway.settings import Settings, Timing, load
from cloud_gateway.stopping import Stopping
from cloud_gateway.users import read_users
from edge_agent.errors import ConfigError
from edge_agent.supervisor import Supervisor

TOOLS: dict[str, Callable[[list[str]], int]] = {
    "api-keys": api_keys.main,
    "users": users.main,
    "signing-key": keys.main,
    "machines-ca": authority.main,
}
"""Commands that maintain a file; without one of them the gateway serves."""
METRICS_CONNECTIONS = 16

GC_THRESHOLDS = (20_000, 20, 20)
"""Python's collector looks for cycles after this many new objects; a tenth less CPU an event than with its
own 700."""


def main(arguments: list[str] | None = None) -> int:
    """Reads the arguments and the configuration, then serves until a signal comes."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in TOOLS:
        return TOOLS[given[0]](given[1:])
    parser = argparse.ArgumentParser(
        prog="edge-gateway",
        description="REST to MQTT 5 gateway for parcel lockers",
        epilog=f"Other commands, each with --help: {', '.join(TOOLS)}",
    )
    parser.add_argument("--config", type=Path, required=True, help="the configuration (TOML)")
    parser.add_argument("--check", action="store_true", help="check the configuration, and end")
    options = parser.parse_args(given)
    try:
        settings = _load(options.config)
    except ConfigError as error:
        for finding in error.findings:
            print(f"gateway: {options.config}: {finding}", file=sys.stderr)
        return 2
    if options.check:
        print(f"{options.config}: good")
        return 0
    with ExitStack() as sockets:
        try:
            listeners = [sockets.enter_context(_listen(*place)) for place in _places(settings)]
        except OSError as error:
            print(f"gateway: {error}", file=sys.stderr)
            return 1
        os.umask(0o077)  # the database holds codes
        logs.configure()
        _collect_less_often()
        try:
            return asyncio.run(serve(settings, *listeners))
        except SystemExit:  # of uvicorn: the start failed, which is logged
            return 1


def _collect_less_often() -> None:
    """Modules, tables and models stay: the collector need not look at them, nor at each burst of messages."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _load(path: Path) -> Settings:
    """The settings, with the files of keys and users read once. Raises `ConfigError`."""
    settings = load(path)
    if settings.keys_file is not None:
        read_keys(Path(settings.keys_file), [platform.name for platform in settings.platforms])
    if settings.users_file is not None:
        read_users(Path(settings.users_file))
    return settings


def _places(settings: Settings) -> list[tuple[str, int]]:
    """The addresses to listen at: that of the API, and that of the metrics if there is one."""
    metrics = settings.metrics
    own = [] if metrics is None else [(metrics.listen_host, metrics.listen_port)]
    return [(settings.listen_host, settings.listen_port), *own]


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


async def serve(settings: Settings, listener: socket.socket, metrics: socket.socket | None = None) -> int:
    """Serves on the listening sockets until SIGTERM or SIGINT; returns the exit code."""
    failed = False
    trusted = [str(network) for network in settings.trusted_proxies]

    def on_fatal() -> None:
        nonlocal failed
        failed = True
        server.should_exit = True

    descriptors, timing = Descriptors.of_process(), Timing()
    app = create_app(settings, timing=timing, on_fatal=on_fatal, webhooks_max=descriptors.webhooks)
    limits = settings.limits
    connections = Connections(
        descriptors.connections, limits.connections_per_address, settings.trusted_proxies
    )
    server = Server(config_of(app, trusted, stop_s=timing.stop_s), connections)
    supervisor = Supervisor.of(os.environ, os.getpid())
    _stop_at_signals(server, app.state.stopping, supervisor)
    works = {} if metrics is None else {"metrics": _serve_metrics(settings, app, metrics, server)}
    if supervisor is not None:

        def is_connected() -> bool:
            return bool(app.state.parts.machines.connected)

        works["service status"] = keep_notified(supervisor, lambda: server.started, is_connected)
    async with _beside(works, on_fatal):
        await server.serve(sockets=[listener])
    return 1 if failed or not server.started else 0


def _stop_at_signals(server: Server, stopping: Stopping, supervisor: Supervisor | None) -> None:
    """The first signal begins the stop, the second one ends the time for work under way."""

    def stop() -> None:
        if stopping.begun:
            stopping.cut_short()
            server.cut_short()
            return
        if supervisor is not None:
            supervisor.stopping()
        server.should_exit = True
        stopping.begin()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


async def _serve_metrics(settings: Settings, app: Any, listener: socket.socket, main_server: Server) -> None:
    """Serves `/metrics` from the moment at which the gateway runs."""
    while not main_server.started:
        await asyncio.sleep(0.05)
    token = None if settings.metrics is None else settings.metrics.token
    page = metrics_app(lambda: app.state.metrics_parts, None if token is None else token.get_secret_value())
    server = Server(config_of(page, (), "off"), Connections(METRICS_CONNECTIONS, METRICS_CONNECTIONS))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def _beside(
    works: dict[str, Coroutine[Any, Any, None]], on_fatal: Callable[[], None]
) -> AsyncIterator[None]:
    """Runs what goes on beside the server for the length of a `with`."""
    tasks = [start_part(name, work, on_fatal) for name, work in works.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


if __name__ == "__main__":
    sys.exit(main())
