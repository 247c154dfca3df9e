"""The daemon's costs: memory, start, CPU when idle, and the disk."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from edge_agent.protocol.topics import Topics
from tools.bench.settings import REPOSITORY
from tools.measure.cloud import BareClient
from tools.measure.figures import Figure
from tools.measure.lives import is_online, person_at, wait_closed
from tools.measure.rig import Rig, Run, rig_of

NOT_THE_DAEMON = ("cli", "simulated")
TICKS = os.sysconf("SC_CLK_TCK")


def memory(run: Run) -> list[Figure]:
    """Resident memory of the daemon after some lives on the 24-cell demo locker."""
    lives = run.pick(10, 2)
    with rig_of(run) as rig, person_at(rig, gateway=False) as person:
        for _ in range(lives):
            person.live()
        resident = _resident_mb(rig.pid("agent"))
    bare = [_bare_imports()["resident_mb"] for _ in range(3)]
    return [
        Figure(
            "daemon resident",
            resident,
            "MB",
            1,
            median(bare),
            "bare Python with the daemon's third-party and standard imports",
            "<= 50",
            f"VmRSS (2^20 bytes) after {lives + 1} lives",
        )
    ]


def start(run: Run) -> list[Figure]:
    """From just before the process starts to its first frame, its first answered door reading, its birth
    message; a journal exists (the first start, which makes it, is not counted)."""
    first: list[float] = []
    polled: list[float] = []
    online: list[float] = []
    with _quiet_rig(run) as rig:
        topics = Topics(rig.machine_id)
        with BareClient(rig.mqtt_port, "measure", topics.online) as client:
            for n in range(run.pick(10, 2) + 1):
                client.forget()
                begun_s, first_s, polled_s = _one_start(rig)
                birth = client.first(lambda heard: is_online(heard, topics), begun_s, "birth")
                if n:
                    first.append(first_s - begun_s)
                    polled.append(polled_s - begun_s)
                    online.append(birth.at_s - begun_s)
                rig.stop("agent")
    bare = median(_bare_imports()["seconds"] for _ in range(3))
    what = "bare Python with the same imports, to its end"
    return [
        Figure("start -> first frame", median(first), "s", len(first), bare, what, "", "all outputs off"),
        Figure("start -> first door reading", median(polled), "s", len(polled), bare, "", "<= 0.8"),
        Figure("start -> online", median(online), "s", len(online), bare, "", "<= 1.2"),
    ]


def _one_start(rig: Rig) -> tuple[float, float, float]:
    """When the process was started, its first bytes were seen on the wire, and its first door board answered.

    The simulator is polled every 3 ms, so that the latter two are at most some 4 ms late.
    """
    before = rig.wire()
    boards = sum(
        (profile := rig.settings.profile_of(name)).lock is not None or profile.relays is not None
        for name in rig.settings.devices
    )
    begun_s = rig.start_agent()
    rig.wait(lambda: rig.wire()["bytes"] > before["bytes"], "agent", 0.003)
    first_s = time.monotonic()
    rig.wait(lambda: rig.wire()["replies"] > before["replies"] + boards, "agent", 0.003)
    return begun_s, first_s, time.monotonic()


def idle(run: Run) -> list[Figure]:
    """CPU and disk writes of the daemon without customers while the bus is fully polled."""
    shares, per_transaction, rates, written = [], [], [], []
    with _quiet_rig(run) as rig:
        topics = Topics(rig.machine_id)
        with BareClient(rig.mqtt_port, "measure", topics.online) as client:
            begun_s = rig.start_agent()
            client.first(lambda heard: is_online(heard, topics), begun_s, "birth")
        wait_closed(rig)
        time.sleep(1)
        for _ in range(run.pick(3, 2)):
            pid, wire, bytes_ = rig.pid("agent"), rig.wire(), written_bytes(rig.pid("agent"))
            cpu_s, since_s = _cpu_s(pid), time.monotonic()
            time.sleep(run.pick(10, 2))
            used_s, took_s = _cpu_s(pid) - cpu_s, time.monotonic() - since_s
            replies = rig.wire()["replies"] - wire["replies"]
            shares.append(100 * used_s / took_s)
            rates.append(replies / took_s)
            per_transaction.append(1e6 * used_s / replies)
            written.append((written_bytes(pid) - bytes_) / took_s * 3600 / 1024)
    n = len(shares)
    return [
        Figure("CPU idle", median(shares), "%", n, note="of one core, bus fully polled at 19200, 24 cells"),
        Figure("CPU per transaction, idle daemon", median(per_transaction), "us", n, target="<= 350"),
        Figure("transactions, idle daemon", median(rates), "1/s", n, note="3 door readings to 1 other"),
        Figure("written per idle hour", median(written), "KiB", n, target="<= 100", note="extrapolated"),
    ]


@contextmanager
def _quiet_rig(run: Run) -> Iterator[Rig]:
    """A broker and a simulator, the daemon not yet started."""
    with rig_of(run) as rig:
        rig.start_broker()
        rig.start_simulator()
        yield rig


def _bare_imports() -> dict[str, float]:
    """Resident memory and time of a Python that only does the daemon's imports of others' modules."""
    lines = "\n".join(sorted(_imports()))
    program = (
        f"{lines}\nimport json, re\nstatus = open('/proc/self/status').read()\n"
        "print(json.dumps(int(re.search(r'VmRSS:\\s+(\\d+)', status)[1]) / 1024))"
    )
    begun_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {"seconds": time.monotonic() - begun_s, "resident_mb": json.loads(done.stdout)}


def _imports() -> set[str]:
    """Import statements of the daemon's sources, without those of its own modules."""
    found: set[str] = set()
    for source in (REPOSITORY / "edge_agent").rglob("*.py"):
        if any(part in NOT_THE_DAEMON for part in source.parts):
            continue
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found.update(f"import {name.name}" for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module not in (None, "__future__"):
                found.add(f"import {node.module}")
    return {line for line in found if not line.startswith("import edge_agent")}


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def _cpu_s(pid: int) -> float:
    """User and system time of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def written_bytes(pid: int) -> int:
    """Bytes that a process has made the kernel write to a disk since its start."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))
