"""How fast events that waited offline reach the broker, beside paho-mqtt alone; and how that delays codes
typed at the kiosk meanwhile."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.mqtt.settings import WINDOW
from edge_agent.protocol.topics import Topics
from tools.bench.settings import REPOSITORY
from tools.measure.cloud import BareClient, Cloud
from tools.measure.figures import Figure, p50_p99
from tools.measure.lives import PARCEL, is_online, wait_closed
from tools.measure.rig import MeasureFault, Rig, Run, rig_of
from tools.measure.tap import Tap

CELLS = 8
"""How many codes are used in turn: no lock works too often."""
PAUSE_S = 0.12
BUSY_PAUSE_S = 2.0
"""Between two codes while it drains: 1,800 an hour are more than any kiosk sees. Events pause meanwhile."""


@dataclass(slots=True)
class _Drain:
    rate: float
    codes_s: list[float]
    peak_mb: float


def backlog(run: Run) -> list[Figure]:
    """The daemon with a backlog in its journal, and paho alone with the same bodies, in turn."""
    many, few = run.pick(100_000, 20_000), run.pick(10_000, 2_000)
    with rig_of(run) as rig:
        rig.start_broker()
        rig.start_simulator()
        codes = _prepare(rig)
        idle_s = _codes(rig, codes, run.pick(60, 8))
        rig.stop("agent")
        small = _drain(rig, codes, few)
        runs = [
            (_drain(rig, codes, many), _bare(rig, many, "thread"), _bare(rig, many, "callback"))
            for _ in range(run.pick(5, 1))
        ]
    drains = [drain for drain, _, _ in runs]
    codes_s = [code_s for drain in drains for code_s in drain.codes_s]
    if not codes_s:
        raise MeasureFault("it drained before a code could be typed")
    return [
        _against(
            f"backlog of {many} events, {WINDOW} in flight",
            [(drain.rate, bare) for drain, bare, _ in runs],
            "paho-mqtt alone, publishing from a thread of its own; same window, broker and bodies",
            ">= 0.8 of it",
            "daemon with its bus fully polled, a code typed every 2 s; from 5 % to the last event at a bare "
            "subscriber",
        ),
        _against(
            "the same beside paho at its fastest",
            [(drain.rate, bare) for drain, _, bare in runs],
            "paho-mqtt alone, publishing from the library's own callback, with nothing else in the process",
            ">= 0.8 of it",
        ),
        *p50_p99(
            "code at the kiosk -> coil, while it drains",
            codes_s,
            idle_s,
            peer_is="the same with nothing to drain",
            targets=("unchanged", "unchanged"),
            note="local API to energised solenoid: fresh reading and journaled intent inside",
        ),
        Figure(
            f"resident at most, backlog of {many}",
            max(drain.peak_mb for drain in drains),
            "MB",
            len(drains),
            peer=small.peak_mb,
            peer_is=f"the same with a backlog of {few}",
            target="flat",
        ),
    ]


def _against(
    name: str, pairs: list[tuple[float, float]], peer_is: str, target: str = "", note: str = ""
) -> Figure:
    """A rate beside another one from the same round."""
    return Figure(
        name,
        statistics.median(ours for ours, _ in pairs),
        "1/s",
        len(pairs),
        peer=statistics.median(bare for _, bare in pairs),
        peer_is=peer_is,
        target=target,
        note=note,
        paired_ratio=statistics.median(ours / bare for ours, bare in pairs),
    )


def _prepare(rig: Rig) -> list[str]:
    """Makes reservations whose drop-off codes open again and again; returns the codes. The daemon runs
    then."""
    topics = Topics(rig.machine_id)
    with (
        BareClient(rig.mqtt_port, "measure", topics.online, topics.reply("measure")) as client,
        BareClient(rig.mqtt_port, "observer", topics.commands) as observer,
    ):
        began_s = rig.start_agent()
        client.first(lambda heard: is_online(heard, topics), began_s, "the daemon's birth")
        wait_closed(rig)
        cloud, codes = Cloud(client, observer, topics), []
        for number in range(CELLS):
            _, _, reply = cloud.command(
                "reserve",
                reservation_id=f"res_backlog{number}",
                platform="bench",
                machine_id=rig.machine_id,
                platform_order_id="measured",
                packaging=PARCEL,
                grace_period_dropoff_in_seconds=86_400,
            )
            codes.append(str(json.loads(reply.payload)["result"]["reservation"]["drop_off_code"]))
        return codes


def _codes(rig: Rig, codes: list[str], count: int, tap: Tap | None = None) -> list[float]:
    """Types codes in turn, a number of times or (with a tap) until it has received all; returns seconds from
    code to coil."""
    found: list[float] = []
    known = len(rig.sim.call("GET", "/actuations"))
    with closing(http.client.HTTPConnection("agent", timeout=20)) as agent:
        agent.sock = socket.socket(socket.AF_UNIX)
        agent.sock.connect(str(rig.settings.path(rig.settings.paths.socket)))
        while (len(found) < count) if tap is None else not tap.complete:
            time.sleep(PAUSE_S if tap is None else BUSY_PAUSE_S * (0.2 if not found else 1.0))
            sent_s = time.monotonic()
            agent.request("POST", "/v1/code", json.dumps({"text": codes[len(found) % CELLS]}))
            answer = agent.getresponse()
            said: dict[str, Any] = json.loads(answer.read())
            if answer.status != 200:
                raise MeasureFault(f"a code did not open: {said}")
            (pulse,) = rig.sim.call("GET", f"/actuations?since={known}")
            known += 1
            found.append(float(pulse["monotonic"]) - sent_s)
            rig.sim.call("POST", f"/cells/{pulse['label']}/close")
    return found


def _drain(rig: Rig, codes: list[str], count: int) -> _Drain:
    """Puts a number of events into the journal and makes the daemon send them."""
    with closing(sqlite3.connect(rig.journal)) as journal:
        rows = _events(journal, count)
        with journal:
            journal.executemany("INSERT INTO outbox (sequence, body) VALUES (?, ?)", rows)
            journal.execute("UPDATE sent SET through = ?", (rows[0][0] - 1,))
    with Tap(rig.mqtt_port, Topics(rig.machine_id).events, count) as tap:
        rig.start_agent()
        rig.wait(lambda: tap.heard > 0, "agent")
        codes_s = _codes(rig, codes, 0, tap)
        peak_mb = _peak_mb(rig.pid("agent"))
        rig.stop("agent")
        return _Drain(tap.rate(), codes_s, peak_mb)


def _bare(rig: Rig, count: int, how: str) -> float:
    """The rate of paho alone with the same bodies, in events a second; `how`: see `bare_publisher`."""
    file = rig.folder / "bodies"
    with closing(sqlite3.connect(rig.journal)) as journal:
        file.write_text("\n".join(body for _, body in _events(journal, count)), encoding="utf-8")
    topic = Topics(rig.machine_id).events
    with Tap(rig.mqtt_port, topic, count) as tap:
        command = [sys.executable, "-m", "tools.measure.bare_publisher", str(rig.mqtt_port), topic]
        subprocess.run([*command, str(file), str(WINDOW), how], check=True, cwd=REPOSITORY, timeout=300)
        rig.wait(lambda: tap.complete, "broker")
        return tap.rate()


def _events(journal: sqlite3.Connection, count: int) -> list[tuple[int, str]]:
    """Copies of the machine's last event under new numbers: sequence and body."""
    (text,) = journal.execute("SELECT body FROM outbox ORDER BY sequence DESC LIMIT 1").fetchone()
    (last,) = journal.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    like = json.loads(text)
    return [
        (n, json.dumps(like | {"sequence": n, "idempotency_key": f"idem_{n:032x}"}, separators=(",", ":")))
        for n in range(last + 1, last + count + 1)
    ]


def _peak_mb(pid: int) -> float:
    """The peak resident memory of a process, in MB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6
