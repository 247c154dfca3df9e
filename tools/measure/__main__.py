"""`python -m tools.measure`: every benchmark, one table.

Exit codes: 0 done, 1 a measurement failed, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tools.measure.attacks import attacks
from tools.measure.backlog import backlog
from tools.measure.bus_rate import bus
from tools.measure.core import core
from tools.measure.daemon import idle, memory, start
from tools.measure.disk import disk
from tools.measure.figures import Figure, as_json, render
from tools.measure.fleet_page.times import fleet_page
from tools.measure.latency import commands, rest
from tools.measure.noise import noise
from tools.measure.rig import MeasureFault, Run
from tools.measure.screens import screens
from tools.measure.silence import silence

BENCHMARKS: dict[str, Callable[[Run], list[Figure]]] = {
    "core": core,
    "bus": bus,
    "commands": commands,
    "rest": rest,
    "silence": silence,
    "noise": noise,
    "memory": memory,
    "start": start,
    "idle": idle,
    "disk": disk,
    "backlog": backlog,
    "attacks": attacks,
    "screens": screens,
    "fleet-page": fleet_page,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the selected benchmarks; returns the exit code."""
    options = _parser().parse_args(arguments)
    before = signal.signal(signal.SIGTERM, _interrupt)
    run = Run(options.quick, options.folder)
    figures: list[Figure] = []
    code = 0
    try:
        for name in options.only or BENCHMARKS:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            try:
                figures += BENCHMARKS[name](run)
            except MeasureFault as fault:
                print(f"measure: {name}: {fault}", file=sys.stderr)
                code = 1
    except KeyboardInterrupt:
        code = 130
    finally:
        signal.signal(signal.SIGTERM, before)
    if figures:
        print(render(figures))
    if options.json is not None:
        options.json.write_text(as_json(figures) + "\n", encoding="utf-8")
    return code


def _interrupt(*_: object) -> None:
    """SIGTERM ends a run as Ctrl-C does: children first."""
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="measure", description="Benchmarks, each beside its limit.")
    parser.add_argument(
        "--only", action="append", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--quick", action="store_true", help="few samples: does it work at all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures for scripts too")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="whose disk is measured; default: the system's"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
