"""`python -m tools.fleet`: many machines against one Mosquitto and one gateway, and what that costs.

Exit codes: 0 done, 1 a part failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass

from tools.bench.ports import HOST
from tools.fleet.files import as_in_production
from tools.fleet.load import People, Tally
from tools.fleet.processes import cpu_s, pin, resident_mb
from tools.fleet.worker import CHATTER
from tools.measure.figures import Figure, p50_p99, render
from tools.measure.rig import MeasureFault, Rig, Run, rig_of

EACH = 50
"""Machines in one process: paho waits with select(2), which takes descriptors below 1,024."""
PATIENCE_S = 600.0
CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORES, OTHER_CORES = ({CORES[0]}, set(CORES[1:])) if len(CORES) > 1 else (None, set(CORES))
"""The gateway has a core of its own, so that its figures do not depend on the machines that are simulated."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How the gateway took in a backlog: events a second, and CPU milliseconds for each event."""

    events_per_s: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """The results of a phase with load: users, events a second, and CPU milliseconds of the gateway a
    life."""

    tally: Tally
    events_per_s: float
    cpu_ms: float


class Fleet:
    """Broker, gateway and machines, and what is visible of them from outside."""

    def __init__(self, rig: Rig, machines: int) -> None:
        self._rig = rig
        self._machines = machines
        self._workers = [f"machines {first}" for first in range(0, machines, EACH)]
        self.url = f"http://{HOST}:{rig.files.api_port}"

    def start(self) -> float:
        """Starts everything; returns the seconds until the gateway knows every machine to be online."""
        as_in_production(self._rig.files)
        self._rig.start_broker()
        self._start_gateway()
        began_s = time.monotonic()
        journals = self._rig.folder / "journals"
        journals.mkdir()
        for first, name in zip(range(0, self._machines, EACH), self._workers, strict=True):
            count = min(EACH, self._machines - first)
            command = [sys.executable, "-m", "tools.fleet.worker", str(journals), str(self._rig.mqtt_port)]
            self._rig.spawn(name, [*command, str(first), str(count)])
        return self.all_online(began_s)

    def all_online(self, began_s: float) -> float:
        """Waits for every machine; returns the seconds that took."""
        self._until(lambda: self._online() == self._machines, "every machine online")
        return time.monotonic() - began_s

    def restart_broker(self) -> float:
        """SIGKILL and a new one; returns the seconds from then until every machine is online again."""
        os.kill(self._rig.pid("broker"), signal.SIGKILL)
        self._rig.stop("broker")
        self._until(lambda: not self._rig.api.answers(), "the gateway notices")
        self._rig.start_broker()
        return self.all_online(time.monotonic())

    def backlog(self) -> Backlog:
        """Events of every machine while the gateway is down, then up: how it takes them in."""
        before = self.events()
        self._rig.stop("gateway")
        for name in self._workers:
            os.kill(self._rig.pid(name), signal.SIGUSR1)
        wanted = before + 2 * CHATTER * self._machines
        self._until(lambda: self._published() >= wanted, "the machines have published everything")
        self._start_gateway()
        at, at_s, cpu_before_s = self.events(), time.monotonic(), self.gateway_cpu_s()
        self._until(lambda: self.events() >= wanted, "the gateway has everything")
        taken_in = wanted - at
        return Backlog(
            taken_in / (time.monotonic() - at_s), (self.gateway_cpu_s() - cpu_before_s) / taken_in * 1000
        )

    def events(self) -> int:
        """How many events the gateway has."""
        database = self._rig.folder / "gateway.sqlite"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
            (count,) = db.execute("SELECT count(*) FROM events").fetchone()
            return int(count)

    def gateway_cpu_s(self) -> float:
        """The CPU time of the gateway's process since its start, in seconds."""
        return cpu_s(self._rig.pid("gateway"))

    def resident_mb(self, name: str) -> float:
        """The resident memory of a process in MB; the mean of several."""
        names = self._workers if name == "machines" else [name]
        return sum(resident_mb(self._rig.pid(one)) for one in names) / len(names)

    def _start_gateway(self) -> None:
        """Starts the gateway on a core of its own; everything else shares the other cores."""
        self._rig.start_gateway()
        if GATEWAY_CORES is not None:
            pin(self._rig.pid("gateway"), GATEWAY_CORES)

    def _published(self) -> int:
        """How many events the broker has taken from the machines, by their journals."""
        count = 0
        for journal in (self._rig.folder / "journals").glob("*.sqlite"):
            with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
                count += db.execute("SELECT through FROM sent").fetchone()[0]
        return count

    def _online(self) -> int:
        seen = self._rig.operations()
        return sum(machine["online"] for machine in seen["machines"])

    def _until(self, condition: object, what: str) -> None:
        assert callable(condition)
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end_s:
                raise MeasureFault(f"not in {PATIENCE_S:.0f} s: {what}")
            time.sleep(0.1)


def main() -> int:
    """Runs it and prints the figures."""
    parser = argparse.ArgumentParser(prog="fleet", description="A fleet against one broker and one gateway.")
    parser.add_argument("--machines", type=int, default=500)
    parser.add_argument("--lives-per-s", type=float, default=10.0, help="of the whole fleet (default 10)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase with load (default 60)")
    options = parser.parse_args()
    if shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        print(
            "fleet: the Mosquitto broker is missing; install it with: apt install mosquitto", file=sys.stderr
        )
        return 1
    os.sched_setaffinity(0, OTHER_CORES)
    try:
        with rig_of(Run()) as rig:
            print(render(measure(Fleet(rig, options.machines), options)))
    except MeasureFault as fault:
        print(f"fleet: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def measure(fleet: Fleet, options: argparse.Namespace) -> list[Figure]:
    """Runs every phase after the other."""
    machines, seconds = options.machines, options.seconds
    online_s = fleet.start()
    _say(f"{machines} machines online after {online_s:.1f} s")
    idle_mb = fleet.resident_mb("gateway")
    usual_load = _load(fleet, lambda p: p.at_a_rate(options.lives_per_s, seconds), machines)
    usual_mb = fleet.resident_mb("gateway")
    most_load = _load(fleet, lambda p: p.as_fast_as_it_goes(64, seconds / 2), machines)
    usual, most = usual_load.tally, most_load.tally
    _say("backlog")
    drained = fleet.backlog()
    drained_mb = fleet.resident_mb("gateway")
    again_s = fleet.restart_broker()
    return [
        Figure("machines online after a start", online_s, "s", machines),
        Figure(
            "usual: lives", usual.lives / usual.seconds, "1/s", usual.lives, target=f"{options.lives_per_s}"
        ),
        Figure("usual: events", usual_load.events_per_s, "1/s", usual.lives),
        Figure("usual: CPU of the gateway a life", usual_load.cpu_ms, "ms", usual.lives),
        *p50_p99(
            "usual: command",
            usual.commands_s(),
            note="REST call to answer; of an opening 110 ms are "
            "the door's: two readings of 12 ms and more, 60 ms until it springs open",
        ),
        Figure("most: lives", most.lives / most.seconds, "1/s", most.lives, note="64 people without a pause"),
        Figure("most: events", most_load.events_per_s, "1/s", most.lives),
        Figure("most: CPU of the gateway a life", most_load.cpu_ms, "ms", most.lives),
        *p50_p99("most: command", most.commands_s()),
        Figure(
            "gateway's backlog",
            drained.events_per_s,
            "events/s",
            2 * CHATTER * machines,
            note="events of every machine that waited at the broker while the gateway was down",
        ),
        Figure("gateway's backlog: CPU an event", drained.cpu_ms, "ms", 2 * CHATTER * machines),
        Figure("gateway resident, idle", idle_mb, "MB", 1),
        Figure("gateway resident, usual load", usual_mb, "MB", 1),
        Figure("gateway resident, after the backlog", drained_mb, "MB", 1),
        Figure("broker resident", fleet.resident_mb("broker"), "MB", 1),
        Figure(
            "a light machine resident",
            fleet.resident_mb("machines") / min(EACH, machines),
            "MB",
            machines,
            note="its share of a process of 50",
        ),
        Figure("machines online after a killed broker", again_s, "s", machines),
    ]


def _load(fleet: Fleet, work: object, machines: int) -> Load:
    """Simulates users."""
    assert callable(work)

    async def run() -> Tally:
        people = People(fleet.url, machines, 1)
        try:
            tally: Tally = await work(people)
            return tally
        finally:
            await people.close()

    before, began_s, cpu_before_s = fleet.events(), time.monotonic(), fleet.gateway_cpu_s()
    tally = asyncio.run(run())
    rate = (fleet.events() - before) / (time.monotonic() - began_s)
    _say(f"{tally.lives} lives, refused {dict(tally.refused)}")
    if not tally.lives:
        raise MeasureFault("nobody lived")
    return Load(tally, rate, (fleet.gateway_cpu_s() - cpu_before_s) / tally.lives * 1000)


def _say(what: str) -> None:
    print(f"fleet: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
