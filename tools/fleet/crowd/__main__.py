"""`python -m tools.fleet.crowd`: the traffic of 100,000 machines against one Mosquitto and one gateway.

The broker gets every connection, and the gateway every state, event and reply; only the machines themselves
are left out (`machines.py`). Each phase prints its figures when it ends. Exit codes: 0 done, 1 a part
failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from tools.bench.ports import HOST, free_port
from tools.fleet.crowd import connections, machines
from tools.fleet.crowd.connections import machine_id
from tools.fleet.files import as_in_production
from tools.fleet.load import People, Tally
from tools.fleet.processes import cpu_s, pin, resident_mb
from tools.measure.figures import Figure, p50_p99, render
from tools.measure.rig import MeasureFault, Rig, Run, rig_of

CORES = sorted(os.sched_getaffinity(0))
PATIENCE_S = 3600.0
KEEPALIVE_S = 60
STEPS_PER_S = 5.0, 10.0, 15.0, 20.0, 30.0
"""Lives a second that are tried one after the other."""
TOO_SLOW_S = 2.0
"""The steps end when the slowest hundredth of the commands takes longer than this."""
TELEMETRY_EVERY_S = 60
SPARE_DESCRIPTORS = 1000
PHASES = ("connections", "states", "compare", "idle", "lives", "intake", "outage")
"""The states are published in any case."""


class Crowd:
    """Broker, gateway and the process that simulates the machines."""

    def __init__(self, rig: Rig, count: int, orders: Connection, metrics_port: int) -> None:
        """`orders`: the pipe to the machines' process."""
        self._rig = rig
        self._count = count
        self._orders = orders
        self._metrics_port = metrics_port
        self._started_s = 0.0
        """When the gateway was started."""

    def order(self, *order: Any) -> float:
        """Gives the machines' process an order; returns its answer."""
        self._orders.send(order)
        answer: float = self._orders.recv()
        return answer

    def start_gateway(self) -> None:
        """Starts it on a core of its own."""
        self._rig.start_gateway()
        pin(self._rig.pid("gateway"), {CORES[0]})

    def stop_gateway(self) -> None:
        """SIGTERM, and its end."""
        self._rig.stop("gateway")

    def figure(self, name: str) -> float:
        """A figure of the gateway without labels."""
        connection = HTTPConnection(HOST, self._metrics_port, timeout=60)
        with closing(connection):
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        values = [line.split()[-1] for line in lines if line.startswith(f"edge_gateway_{name} ")]
        return float(values[0]) if values else 0.0

    def cpu_s(self, name: str = "gateway") -> float:
        """CPU seconds of a process since its start."""
        return cpu_s(self._rig.pid(name))

    def resident_mb(self, name: str) -> float:
        """The resident memory of a process in MB."""
        return resident_mb(self._rig.pid(name))

    def events(self) -> int:
        """How many events are in the gateway's database."""
        return self._rows("events")

    def machines(self) -> int:
        """How many machines' states are in the gateway's database."""
        return self._rows("machines")

    def _rows(self, table: str) -> int:
        with closing(sqlite3.connect(f"file:{self._rig.folder / 'gateway.sqlite'}?mode=ro", uri=True)) as db:
            return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def start_all(self) -> list[Figure]:
        """Publishes every state, then starts the gateway: what a restart of it costs."""
        began_s = time.monotonic()
        self.order("states")
        published_s = time.monotonic() - began_s
        broker_mb = self.resident_mb("broker")
        self.start_gateway()
        began_s = time.monotonic()
        until(lambda: self.figure("machines_online") >= self._count, "the gateway knows every machine")
        self._started_s, online_s, count = began_s, time.monotonic() - began_s, self._count
        until(lambda: self.machines() >= count, "the gateway has every state")
        stored_s, stored_cpu_s = time.monotonic() - began_s, self.cpu_s()
        return [
            Figure("states published", published_s, "s", 3 * count),
            Figure("broker resident with every state", broker_mb, "MB", count),
            Figure("gateway: every machine online after its start", online_s, "s", count),
            Figure("gateway: every state stored after its start", stored_s, "s", count),
            Figure("gateway: CPU of that, each machine", stored_cpu_s / count * 1000, "ms", count),
            Figure("gateway resident with every state", self.resident_mb("gateway"), "MB", count),
        ]

    def compare(self) -> list[Figure]:
        """Waits until the gateway has asked each machine for its history, which has one event."""
        before_s = self.cpu_s()
        until(lambda: self.events() >= self._count, "every history is compared")
        compared_s = time.monotonic() - self._started_s
        return [
            Figure("gateway: every history compared after its start", compared_s, "s", self._count),
            Figure("gateway: CPU since every state", self.cpu_s() - before_s, "s", self._count),
            Figure("gateway resident", self.resident_mb("gateway"), "MB", self._count),
        ]

    def idle(self, seconds: float) -> list[Figure]:
        """CPU of the gateway while nothing happens, then with everybody's telemetry."""
        settled_s = 15.0
        time.sleep(settled_s)
        nothing = self._cpu_share(seconds)
        rate = self._count / TELEMETRY_EVERY_S
        self.order("telemetry", rate)
        telemetry = self._cpu_share(seconds)
        self.order("telemetry", 0.0)
        return [
            Figure("idle: core of the gateway", nothing * 100, "%", 1),
            Figure(
                "telemetry: core of the gateway",
                telemetry * 100,
                "%",
                1,
                note=f"{rate:.0f} messages a second wanted",
            ),
        ]

    def _cpu_share(self, seconds: float) -> float:
        before_s, began_s = self.cpu_s(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_s() - before_s) / (time.monotonic() - began_s)

    def lives(self, seconds: float) -> list[Figure]:
        """Lives at rising rates until commands take too long."""
        figures: list[Figure] = []
        for rate in STEPS_PER_S:
            before_s = self.cpu_s()
            tally = asyncio.run(self._live(rate, seconds))
            cpu_ms = (self.cpu_s() - before_s) / max(1, tally.lives) * 1000
            say(f"{rate} lives a second: {tally.lives} lives, refused {dict(tally.refused)}")
            name = f"{rate:.0f} lives/s"
            taken = tally.commands_s()
            if not taken:
                raise MeasureFault(f"no command was answered at {rate} lives a second")
            figures += [
                Figure(f"{name}: ended", tally.lives / tally.seconds, "1/s", tally.lives),
                Figure(f"{name}: CPU of the gateway a life", cpu_ms, "ms", tally.lives),
                *p50_p99(f"{name}: command", taken),
            ]
            if sorted(taken)[int(len(taken) * 0.99)] > TOO_SLOW_S:
                break
        return figures

    async def _live(self, rate: float, seconds: float) -> Tally:
        people = People(f"http://{HOST}:{self._rig.files.api_port}", self._count, int(rate), machine_id)
        try:
            return await people.at_a_rate(rate, seconds)
        finally:
            await people.close()

    def intake(self, each: int) -> list[Figure]:
        """Events of every machine, as fast as the broker delivers them."""
        before, before_s, began_s = self.events(), self.cpu_s(), time.monotonic()
        wanted = each * self._count
        self._orders.send(("events", each))
        until(lambda: self.events() >= before + wanted, "the gateway has every event")
        taken_s = time.monotonic() - began_s
        self._orders.recv()
        return [
            Figure("events taken in from the broker", wanted / taken_s, "1/s", wanted),
            Figure("the same: CPU an event", (self.cpu_s() - before_s) / wanted * 1000, "ms", wanted),
        ]

    def outage(self, each: int, away_s: float) -> list[Figure]:
        """Events of every machine while the gateway is down. If it is away for longer than the broker keeps
        its session (60 s), every event comes by `sync` afterwards."""
        before = self.events()
        self.stop_gateway()
        self.order("events", each)
        time.sleep(away_s)
        self.order("states")  # each machine's digest states what it holds
        wanted = before + (each + 1) * self._count
        self.start_gateway()
        began_s = time.monotonic()
        until(lambda: self.events() >= wanted, "the gateway has every event")
        taken_s = time.monotonic() - began_s
        count = wanted - before
        return [
            Figure("after an outage: events taken in", count / taken_s, "1/s", count),
            Figure("after an outage: CPU an event", self.cpu_s() / count * 1000, "ms", count),
        ]


def measure_connections(rig: Rig, count: int, seconds: float) -> list[Figure]:
    """Connections only: the broker's time, memory and CPU, and their return after its end."""
    with child(connections.run, rig.mqtt_port, count, KEEPALIVE_S) as orders:

        def ask(order: str) -> int:
            orders.send(order)
            return int(orders.recv())

        def connect() -> float:
            began_s = time.monotonic()
            if ask("connect") != count:
                raise MeasureFault("not every machine is connected")
            return time.monotonic() - began_s

        connected_s = connect()
        resident, before_s = resident_mb(rig.pid("broker")), cpu_s(rig.pid("broker"))
        time.sleep(seconds)
        share = (cpu_s(rig.pid("broker")) - before_s) / seconds
        os.kill(rig.pid("broker"), signal.SIGKILL)
        rig.stop("broker")
        until(lambda: ask("open") == 0, "every machine has lost its connection")
        rig.start_broker()
        pin(rig.pid("broker"), set(CORES[1:]) or set(CORES))
        again_s = connect()
        orders.send("end")
    return [
        Figure("connected and subscribed", connected_s, "s", count),
        Figure("broker resident, a connection", resident * 1000 / count, "kB", count),
        Figure("broker: core for pings", share * 100, "%", count, note=f"one in {KEEPALIVE_S} s each"),
        Figure("connected again after a killed broker", again_s, "s", count),
    ]


@contextmanager
def child(work: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """A process that gets orders over a pipe; ended with the block."""
    context = get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=work, args=(its, *arguments), daemon=True)
    process.start()
    try:
        yield mine
    finally:
        process.terminate()
        process.join(10)


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition. Raises `MeasureFault` after `PATIENCE_S`."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(OSError, sqlite3.OperationalError):
            if condition():
                return
        if time.monotonic() > end_s:
            raise MeasureFault(f"not in {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.5)


def say(what: str) -> None:
    """Progress, for the person who waits."""
    print(f"crowd: {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Runs every phase and prints its figures."""
    parser = argparse.ArgumentParser(prog="crowd", description="The traffic of very many machines.")
    parser.add_argument("--machines", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measured phase (default 30)")
    parser.add_argument(
        "--events", type=int, default=10, help="of each machine during the outage (default 10)"
    )
    parser.add_argument("--away-s", type=float, default=65.0, help="how long the outage lasts (default 65)")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES, help="which (default all)")
    options = parser.parse_args()
    try:
        os.sched_setaffinity(0, set(CORES[1:]) or set(CORES))
        run_phases(options)
    except (MeasureFault, EOFError, OSError) as fault:
        print(f"crowd: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run_phases(options: argparse.Namespace) -> None:
    """Runs the chosen phases, one after the other. Raises `MeasureFault`."""
    count, seconds = options.machines, options.seconds
    if "connections" in options.phases:
        connected = connections_possible(count)
        with rig_of(Run()) as rig:
            rig.start_broker()
            print(render(measure_connections(rig, connected, seconds)), flush=True)
    with rig_of(Run()) as rig:
        as_in_production(rig.files, metrics={"listen_port": (metrics_port := free_port())})
        rig.start_broker()
        with child(machines.run, rig.mqtt_port, count) as orders:
            crowd = Crowd(rig, count, orders, metrics_port)
            phases: dict[str, Callable[[], list[Figure]]] = {
                "states": crowd.start_all,
                "compare": crowd.compare,
                "idle": lambda: crowd.idle(seconds),
                "lives": lambda: crowd.lives(seconds),
                "intake": lambda: crowd.intake(options.events),
                "outage": lambda: crowd.outage(options.events, options.away_s),
            }
            for name, phase in phases.items():
                if name in options.phases or name == "states":
                    print(render(phase()), flush=True)
            orders.send(("end",))


def connections_possible(wanted: int) -> int:
    """Raises the descriptor limit of this process and its children, the broker among them, as far as that is
    allowed; returns how many machines can be connected, at most `wanted`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # only root may go beyond the hard limit
        limit = max(hard, wanted + SPARE_DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    possible = min(wanted, hard - SPARE_DESCRIPTORS)
    if possible < wanted:
        say(f"a process may have {hard} descriptors here: {possible} machines are connected")
    return possible


if __name__ == "__main__":
    sys.exit(main())
