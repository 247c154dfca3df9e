"""`python -m tools.bus_simulator --config MACHINE.toml`: the hardware of a locker as a process.

Exit codes: 0 ended by a signal, 1 a port is taken or cannot be made, 2 bad usage or configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import time
from pathlib import Path

import structlog

from edge_agent.config import load_settings
from edge_agent.errors import ConfigError
from edge_agent.process.event_loop import precise_loop
from tools.bus_simulator.memory import Contents, StateFile, load_contents
from tools.bus_simulator.plant import build_devices, build_world
from tools.bus_simulator.simulator import Simulator, serve


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line, builds the hardware, runs it; returns the exit code."""
    options = _parser().parse_args(arguments)
    _configure_logging()
    try:
        settings = load_settings(options.config)
        world = build_world(
            settings,
            clock_ns=time.monotonic_ns,
            wall_s=time.time,
            seed=options.seed,
            saved=_saved(options.state),
        )
        devices = build_devices(settings, world)
    except ConfigError as error:
        for finding in error.findings:
            print(finding, file=sys.stderr)
        return 2
    try:
        listener = socket.create_server(("127.0.0.1", options.http_port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        print(f"port {options.http_port} cannot be used: {reason}", file=sys.stderr)
        return 1
    state = None if options.state is None else StateFile(options.state, world)
    try:
        with listener, asyncio.Runner(loop_factory=precise_loop) as runner:
            simulator = Simulator(settings, world, devices, state, options.seed)
            runner.run(serve(simulator, listener, options.supervisor, options.page_origin))
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bus_simulator", description="The hardware of a locker, simulated.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="machine configuration")
    parser.add_argument("--http-port", type=int, default=8081, metavar="N", help="control API on 127.0.0.1")
    parser.add_argument("--supervisor", type=Path, metavar="SOCKET", help="the bench's supervisor")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the locks' opening times and of noise"
    )
    parser.add_argument("--page-origin", metavar="URL", help="the origin of a page that may use the API")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keeps doors and grams over a restart")
    return parser


def _saved(path: Path | None) -> Contents:
    if path is None:
        return {}
    try:
        return load_contents(path)
    except (OSError, ValueError) as error:
        structlog.get_logger().warning("kept state cannot be used, cells start empty", reason=str(error))
        return {}


def _configure_logging() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
