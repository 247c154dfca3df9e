"""`python -m tools.fleet.replicas DATABASE_URL`: what the intake of events costs with several gateways.

Each gateway is a process with the production's store and intake, without broker and REST. As a shared
subscription does, events are dealt out to them one by one, so that the events of one machine meet in the
database. Give it an empty PostgreSQL database; with SQLite there is one gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from threading import Event as Signal
from threading import Thread
from typing import Any

from sqlalchemy import create_engine, text

from cloud_gateway.db.store import Store
from cloud_gateway.events.intake import Intake
from cloud_gateway.machines.commands import MachineCommands
from cloud_gateway.settings import Timing
from edge_agent.model import Source
from edge_agent.mqtt.messages import Received
from edge_agent.protocol.events import DETAIL_KEY, EventType
from tools.fleet.worker import machine_id
from tools.measure.figures import Figure, render

LIFE = (
    EventType.RESERVATION_CREATED,
    EventType.DROPOFF,
    EventType.PICKUP,
    EventType.RESERVATION_COMPLETED,
)
FIRST_TIME_S = 1_790_000_000
UNDER_WAY = 1000
"""How many events of a gateway are not acknowledged at a time; its link has the same bound."""
SAMPLE_S = 0.02
WAITING = text(
    "SELECT count(*) FILTER (WHERE wait_event_type = 'Lock'), count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()"
)


class Link:
    """What the intake needs of a link; `on_acknowledged` is called after each acknowledgement."""

    connected = True
    on_acknowledged: Callable[[], None] = staticmethod(lambda: None)

    def acknowledge(self, _message: Received) -> None:
        """See `MqttLink`."""
        self.on_acknowledged()

    def is_current(self, _message: Received) -> bool:
        """See `MqttLink`."""
        return True

    async def publish(self, _command: Any, _make_payload: Any) -> None:
        """See `MqttLink`: nothing is sent."""


def event_of(round_id: str, machine: int, sequence: int) -> Received:
    """An event of a machine's lives; four events are one life."""
    name, kind, life = f"{round_id}_{machine_id(machine)}", LIFE[(sequence - 1) % 4], (sequence - 1) // 4
    place = {"machine_id": name, "name": "Locker", "location": "Main street 1"}
    body = {
        "event_id": f"evt_{name}_{sequence}",
        "idempotency_key": f"{name}:{sequence:012d}",
        "event_time_unix_timestamp": FIRST_TIME_S + sequence,
        "event_time_timestamp": "2026-09-21T14:13:20Z",
        "event_type": kind,
        "machine_id": name,
        "sequence": sequence,
        "journal_id": f"journal_{name}",
        "boot_id": "boot",
        "clock_synced": True,
        "uptime_ms": 1000 * sequence,
        "platform_order_id": "order",
        "reservation_id": f"res_{name}_{life}",
        DETAIL_KEY[kind]: {"source_type": Source.API, "machine": place, "cell": {"description": "C07"}},
    }
    return Received(f"locker/v1/{name}/evt", json.dumps(body).encode(), None, 1, sequence % 65536, 1)


def share_of(round_id: str, machines: int, each: int, gateways: int, number: int) -> list[Received]:
    """One gateway's part of all events, in the order in which the broker gets them."""
    rng = random.Random(1)
    dealt = [(n, m, rng.randrange(gateways)) for n in range(1, each + 1) for m in range(machines)]
    return [event_of(round_id, m, n) for n, m, to in dealt if to == number]


def run_gateway(url: str, number: int, options: tuple[str, int, int, int], begin: Any, results: Any) -> None:
    """One gateway's process: takes its share in, and reports its CPU seconds."""

    async def work() -> None:
        store = Store(url)
        await store.open()
        link: Any = Link()
        intake = Intake(
            store, MachineCommands(f"g{number}", Timing(), time.time, link), Timing(), time.time, lambda: None
        )
        messages = share_of(*options, number)
        given = acknowledged = 0
        done = asyncio.Event()

        def feed() -> None:
            nonlocal given
            while given < len(messages) and given - acknowledged < UNDER_WAY:
                intake.put(messages[given])
                given += 1

        def count() -> None:
            nonlocal acknowledged
            acknowledged += 1
            feed()
            if acknowledged == len(messages):
                done.set()

        link.on_acknowledged = count
        begin.wait()
        cpu_s, began_s = time.process_time(), time.monotonic()
        working = asyncio.create_task(intake.run(link))
        feed()
        await done.wait()
        results.put((time.process_time() - cpu_s, time.monotonic() - began_s))
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        await store.close()

    asyncio.run(work())


def measure(url: str, gateways: int, machines: int, each: int) -> list[Figure]:
    """The figures with a number of gateways. The machines are new ones each time."""
    round_id, total = f"r{time.time_ns()}", machines * each
    processes = multiprocessing.get_context("spawn")
    begin, results = processes.Barrier(gateways + 1), processes.Queue()
    options = (round_id, machines, each, gateways)
    children = [
        processes.Process(target=run_gateway, args=(url, n, options, begin, results), daemon=True)
        for n in range(gateways)
    ]
    for child in children:
        child.start()
    begin.wait()
    over, samples = Signal(), [0, 0]
    sampler = Thread(target=_sample, args=(url, over, samples))
    sampler.start()
    taken = [results.get() for _ in children]
    over.set()
    sampler.join()
    for child in children:
        child.join()
    name = f"{gateways} gateway{'s' if gateways > 1 else ''}"
    return [
        Figure(f"{name}: taken in", total / max(wall for _, wall in taken), "events/s", total),
        Figure(
            f"{name}: CPU of the gateways", sum(cpu for cpu, _ in taken) / total * 1000, "ms/event", total
        ),
        Figure(
            f"{name}: transactions that wait for a lock",
            100 * samples[0] / max(1, samples[1]),
            "%",
            samples[1],
        ),
    ]


def _sample(url: str, over: Signal, samples: list[int]) -> None:
    """Counts the database's sessions that wait for a lock, and all that work."""
    if url.startswith("sqlite"):
        return
    engine = create_engine(url)
    with engine.connect() as db:
        while not over.wait(SAMPLE_S):
            waiting, working = db.execute(WAITING).one()
            samples[0] += waiting
            samples[1] += working
            db.rollback()
    engine.dispose()


def main() -> int:
    """Runs it with each number of gateways, and prints the figures."""
    parser = argparse.ArgumentParser(prog="replicas", description="The intake with several gateways.")
    parser.add_argument("database_url")
    parser.add_argument("--gateways", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--machines", type=int, default=500)
    parser.add_argument("--each", type=int, default=40, help="events of each machine (default 40)")
    options = parser.parse_args()
    counts = [1] if options.database_url.startswith("sqlite") else options.gateways
    figures = [
        one
        for count in counts
        for one in measure(options.database_url, count, options.machines, options.each)
    ]
    print(render(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
