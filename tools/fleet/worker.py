"""`python -m tools.fleet.worker FOLDER PORT FIRST COUNT`: several light machines in one process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import structlog

from edge_agent.config import load_settings
from tools.bench.settings import REPOSITORY
from tools.fleet.machine import LightMachine, settings_of

CHATTER = 100
"""SIGUSR1: every machine's technician blocks and unblocks a cell this many times; two events each."""
START_PAUSE_S = 0.01
"""Between two machines' starts: a thousand connections at one instant are not realistic."""


def machine_id(number: int) -> str:
    """The id of a machine of the fleet."""
    return f"fleet_{number:04d}"


async def main(folder: Path, port: int, first: int, count: int) -> None:
    """Runs the machines until the process gets a signal."""
    stop = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, stop.set)
    settings = load_settings(REPOSITORY / "config" / "demo.toml")
    machines: list[LightMachine] = []
    tasks: list[asyncio.Task[None]] = []

    def busy() -> None:
        tasks.extend(asyncio.create_task(machine.chatter(CHATTER)) for machine in machines)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, busy)
    for number in range(first, first + count):
        machine = LightMachine(settings_of(settings, machine_id(number), folder, port), number)
        machines.append(machine)
        tasks.append(asyncio.create_task(machine.run(), name=machine_id(number)))
        await asyncio.sleep(START_PAUSE_S)
    stopping = asyncio.create_task(stop.wait())
    for task in tasks:
        task.add_done_callback(lambda _: stop.set())  # none ends by itself
    await stopping
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
