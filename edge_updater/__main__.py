"""`edge-agent-updater`: runs beside the daemon, as a service of its own."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path

from edge_updater.host import Places, SystemHost
from edge_updater.logic import PROVES_GOOD_S, Updater
from edge_updater.packages import Packages

STEP_S = 1.0
SOURCES = Path("/etc/edge-agent/updates.list")


def main(arguments: list[str] | None = None) -> int:
    """Runs until it is ended; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="edge-agent-updater", description="Updates the daemon, and takes a version back that proves bad."
    )
    parser.add_argument("--sources", type=Path, default=SOURCES, help="apt's source list of the repository")
    parser.add_argument("--systemctl", default="systemctl", help="the program that stands for systemd")
    parser.add_argument(
        "--proves-good-s", type=float, default=PROVES_GOOD_S, help="how long a version must be well"
    )
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    places = Places()
    host = SystemHost(places, Packages(options.sources, places.data / "apt"), options.systemctl)
    updater = Updater(host, options.proves_good_s)
    while not stop.wait(STEP_S):
        try:
            line = updater.step(time.monotonic())
        except OSError as error:  # a full or broken disk: the daemon serves on, and the step is repeated
            line = f"a step failed, and is repeated: {error}"
        if line:
            print(line, file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
