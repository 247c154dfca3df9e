"""`python -m cloud_gateway --config GATEWAY.toml`.

Exit codes: 0 ended by a signal, 1 the port is busy or the gateway could not run, 2 bad usage or
configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from cloud_gateway import logs
from cloud_gateway.api.http_server import Connections, Descriptors, Server, config_of
from cloud_gateway.api_keys import read_keys
from cloud_gateway.app import create_app, listen
from cloud_gateway.settings import Settings, load
from cloud_gateway.users import read_users
from edge_agent.errors import ConfigError


def main() -> int:
    """Reads the arguments and the configuration, then serves until a signal comes."""
    parser = argparse.ArgumentParser(prog="gateway", description="REST to MQTT 5 gateway for parcel lockers")
    parser.add_argument("--config", type=Path, required=True, help="the configuration (TOML)")
    arguments = parser.parse_args()
    try:
        settings = load(arguments.config)
        if settings.keys_file is not None:
            read_keys(Path(settings.keys_file), [platform.name for platform in settings.platforms])
        if settings.users_file is not None:
            read_users(Path(settings.users_file))
    except ConfigError as error:
        for finding in error.findings:
            print(f"gateway: {arguments.config}: {finding}", file=sys.stderr)
        return 2
    try:
        listener = listen(settings.listen_host, settings.listen_port)
    except OSError as error:
        place = f"{settings.listen_host}:{settings.listen_port}"
        print(f"gateway: cannot listen on {place}: {error.strerror or error}", file=sys.stderr)
        return 1
    os.umask(0o077)  # the database holds codes
    logs.configure()
    with listener:
        return asyncio.run(serve(settings, listener))


async def serve(settings: Settings, listener: socket.socket) -> int:
    """Serves on the listening socket until SIGTERM or SIGINT; returns the exit code."""
    failed = False
    trusted = [str(network) for network in settings.trusted_proxies]

    def on_fatal() -> None:
        nonlocal failed
        failed = True
        server.should_exit = True

    descriptors = Descriptors.of_process()
    app = create_app(settings, on_fatal=on_fatal, webhooks_max=descriptors.webhooks)
    limits = settings.limits
    connections = Connections(
        descriptors.connections, limits.connections_per_address, settings.trusted_proxies
    )
    server = Server(config_of(app, trusted), connections)

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await server.serve(sockets=[listener])
    return 1 if failed or not server.started else 0


if __name__ == "__main__":
    sys.exit(main())
