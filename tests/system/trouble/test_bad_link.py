"""A link that is cut at every point of a life, stalls, doubles and swaps: nothing is lost, nothing acts twice
or late. Real processes, and a proxy between the agent and the broker."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import threading
import tomllib
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import httpx
import pytest
import tomli_w

from cloud_gateway.db.tables import COMMAND_PREFIX
from tests.support.bench import SMALL, Bench, Webhooks, receiving, running_bench, wait_for
from tests.support.mqtt_proxy import Proxy, proxy_to
from tests.system.trouble.test_sigkill import Ear, Keypad

PEOPLE = 4
PLATFORM = "bench"
POINTS = int(os.environ.get("LINK_EFFORT", "40"))
"""A life has some forty packets on this link; it is cut at each, once lost and once just delivered."""
LIFE = ["EVENT_TYPE_DROPOFF", "EVENT_TYPE_PICKUP"]
AGAIN_S = 0.5
"""Between a call without a decision and the next one of the same request: far longer than the slack."""
SLACK_S = 0.1
"""Between a moment in the journal and the caller's clock around it."""


@dataclass(frozen=True)
class Asked:
    """A call that could open a door, from its beginning to its answer (Unix seconds). `request_id`: the one
    under which the machine knows the request, and all calls of it."""

    request_id: str
    began_s: float
    answered_s: float
    code: int


def machines_id_of(path: str, x_request_id: str) -> str:
    """How the gateway names a request to the machine (`cloud_gateway.api.idempotency`)."""
    source = "\0".join((PLATFORM, "POST", path, x_request_id))
    return COMMAND_PREFIX + hashlib.sha256(source.encode()).hexdigest()


class Person(threading.Thread):
    """Lives one reservation after the other; what is not answered is asked again under the same id."""

    def __init__(self, bench: Bench, number: int, stop: threading.Event, hook: str) -> None:
        super().__init__(name=f"person {number}")
        self._bench = bench
        self._name = f"p{number}"
        self._rng = random.Random(number)
        self._stop_asked = stop
        self._hook = hook
        self._keypad = Keypad(bench.folder / "agent.sock")
        self._api = httpx.Client(base_url=bench.api.base_url, headers=bench.api.headers, timeout=30)
        self._numbers = 0
        self.lives: list[str] = []
        self.asked: list[Asked] = []
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                self.lives.append(self._live())
        except BaseException as fault:
            self.fault = fault
            raise
        finally:
            self._api.close()

    def _live(self) -> str:
        body = {
            "machine_id": "machine_123",
            "platform_order_id": self._name,
            "packaging": SMALL,
            "webhook_url": self._hook,
            "grace_period_pickup_in_seconds": 1,
        }
        made = self._insist("/reservations", body)
        rid = str(made["reservation_id"])
        label = self._bench.reservation(rid)["cell"]["description"]
        by_code = self._rng.random() < 0.3
        self._open("dropoffs", rid, label, made["drop_off_code"] if by_code else None)
        self._bench.person(label, "place", "close")
        wait_for(lambda: self._status(rid) == "DROPPED_OFF", 90, f"drop-off of {rid}")
        self._open("pickups", rid, label, made["pickup_code"] if by_code else None)
        self._bench.person(label, "take", "close")
        wait_for(lambda: self._status(rid) == "PICKED_UP", 90, f"pick-up of {rid}")
        return rid

    def _status(self, rid: str) -> str:
        found = self._api.get(f"/reservations/{rid}").raise_for_status().json()
        return str(found["status"]).removeprefix("RESERVATION_STATUS_")

    def _insist(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Asks until the machine has decided; the same request keeps its id."""
        self._numbers += 1
        request_id = f"{self._name}-{self._numbers}"
        while True:
            began_s = time()
            answer = self._api.post(path, json=body, headers={"X-Request-ID": request_id})
            found: dict[str, Any] = answer.json()
            code = 0 if answer.status_code == 200 else int(found["code"])
            if path.endswith(("dropoffs", "pickups")):
                self.asked.append(Asked(machines_id_of(answer.url.path, request_id), began_s, time(), code))
            if code == 0:
                return found
            assert code in (4, 8, 14), answer.text
            if code == 8:
                request_id += "'"  # that was a decision
            sleep(AGAIN_S)

    def _open(self, act: str, rid: str, label: str, code: str | None) -> None:
        if code is None:
            assert self._insist(f"/reservations/{rid}/{act}", {})["cell"]["description"] == label
        else:
            assert self._keypad.call("POST", "/v1/code", {"text": code})["cell"]["description"] == label
        assert self._bench.cell(label)["door"] == "open"


def behind(bench: Bench, proxy_port: int) -> None:
    """Puts the agent behind the proxy. Its wall clock is trusted, so that it knows what was late on the way;
    its locks need no rest, as these people are quicker than any."""
    # A link this bad would be given pauses of seconds.
    bench.act("agent", "stop")
    file = bench.folder / "machine.toml"
    machine = tomllib.loads(file.read_text(encoding="utf-8"))
    machine["mqtt"] |= {"port": proxy_port, "keepalive_s": 5, "reconnect_max_s": 0.5}
    machine["machine"]["clock"] = "rtc"
    machine.setdefault("unlock", {})["duty_pulses"] = 100
    file.write_text(tomli_w.dumps(machine), encoding="utf-8")
    bench.act("agent", "start")


def cut_everywhere(proxy: Proxy, faulty: Any) -> None:
    """The first packet, the second, and so on; each once lost and once just passed."""
    for point in range(1, POINTS + 1):
        for before in (True, False):
            cuts = proxy.cuts
            proxy.faults.cut_before = before
            proxy.faults.cut_after = point
            wait_for(lambda cuts=cuts: proxy.cuts > cuts or faulty(), 60, f"cut {point}")  # type: ignore[misc]
            proxy.faults.cut_after = None
            connections = proxy.connections
            wait_for(lambda c=connections: proxy.connections > c or faulty(), 30, "reconnect")  # type: ignore[misc]
            sleep(0.3)  # lives go on for a while, so that the next cut meets them elsewhere


def stall_and_muddle(proxy: Proxy, people: list[Person], faulty: Any) -> None:
    """Short stalls, one that outlasts every command, and packets doubled and swapped."""
    proxy.faults.doubled, proxy.faults.swapped = 0.3, 0.3
    for stall_s in (0.3, 0.5, 1.0, 2.0, 11.0):
        begin_s, connections = monotonic(), proxy.connections
        proxy.faults.stalled = True
        wait_for(lambda b=begin_s, s=stall_s: monotonic() > b + s, 60)  # type: ignore[misc]
        proxy.faults.stalled = False
        if stall_s > 10:
            wait_for(lambda c=connections: proxy.connections > c or faulty(), 30, "a dead link noticed")  # type: ignore[misc]
        lives = sum(len(person.lives) for person in people)
        wait_for(
            lambda n=lives: sum(len(p.lives) for p in people) >= n + 2 or faulty(),  # type: ignore[misc]
            60,
            "lives go on",
        )
    proxy.faults.doubled = proxy.faults.swapped = 0.0


def storm(bench: Bench, proxy: Proxy, webhooks: Webhooks, ear: Ear) -> list[Person]:
    stop = threading.Event()
    people = [Person(bench, number, stop, webhooks.url) for number in range(PEOPLE)]
    for person in people:
        person.start()

    def faulty() -> bool:
        return any(person.fault for person in people)

    try:
        cut_everywhere(proxy, faulty)
        check_order(ear)
        stall_and_muddle(proxy, people, faulty)
    finally:
        stop.set()
        for person in people:
            person.join(timeout=120)
    assert not faulty(), [person.fault for person in people]
    return people


@pytest.mark.behaviour("time-18", "opening-13")
@pytest.mark.long
def test_a_bad_link_loses_nothing_and_nothing_acts_twice_or_late(tmp_path: Path) -> None:
    with (
        running_bench(tmp_path) as bench,
        receiving() as webhooks,
        proxy_to(bench.ports["BENCH_MQTT_PORT"]) as proxy,
    ):
        behind(bench, proxy.port)
        ear = Ear(bench.ports["BENCH_MQTT_PORT"])
        try:
            people = storm(bench, proxy, webhooks, ear)
            lives = [rid for person in people for rid in person.lives]
            assert proxy.cuts >= 2 * POINTS
            assert min(proxy.doubled, proxy.doubled_receipts, proxy.swapped) > 10
            assert len(lives) >= POINTS
            check_events(bench, ear, lives)
            for rid in lives:
                wait_for(lambda rid=rid: webhooks.types(rid) == LIFE, 30, rid)  # type: ignore[misc]
        finally:
            ear.close()
        check_doors(bench, [asked for person in people for asked in person.asked], set(lives))
        bench.act("agent", "stop")  # it says good-bye through the proxy


def check_order(ear: Ear) -> None:
    """While nothing was swapped on the way, new events come in order, whatever is repeated."""
    last = 0
    came = [event["sequence"] for event in tuple(ear.events)]
    for place, sequence in enumerate(came):
        assert sequence <= last or sequence == last + 1 or place == 0, came[max(0, place - 20) : place + 5]
        last = max(last, sequence)
    assert last > POINTS


def check_events(bench: Bench, ear: Ear, lives: list[str]) -> None:
    """Every event of the journal reached the broker, with one key, and the gateway has them in order."""
    with closing(sqlite3.connect(f"file:{bench.folder / 'journal.sqlite'}?mode=ro", uri=True)) as journal:
        (last,) = journal.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    wait_for(lambda: max((e["sequence"] for e in bench.events()), default=0) >= last, 30, "the last event")
    by_sequence: dict[int, set[str]] = defaultdict(set)
    for event in ear.events:
        by_sequence[event["sequence"]].add(event["idempotency_key"])
    first = min(by_sequence)
    assert sorted(by_sequence) == list(range(first, max(by_sequence) + 1))
    assert all(len(keys) == 1 for keys in by_sequence.values())
    sequences = [event["sequence"] for event in bench.events()]
    assert sorted(sequences) == list(range(1, len(sequences) + 1))
    for rid in lives:
        once = {e["sequence"]: e["event_type"] for e in bench.events() if e.get("reservation_id") == rid}
        assert [once[n] for n in sorted(once) if once[n] in LIFE] == LIFE


def check_doors(bench: Bench, asked: list[Asked], lives: set[str]) -> None:
    """Each request opened once, and while its caller waited for the answer."""
    with closing(sqlite3.connect(f"file:{bench.folder / 'journal.sqlite'}?mode=ro", uri=True)) as journal:
        query = "SELECT reservation_id, request_id, unlock_id, wall_s, outcome FROM unlock"
        rows = journal.execute(query + " WHERE source = 'SOURCE_TYPE_API' ORDER BY n").fetchall()
    calls: dict[str, list[Asked]] = defaultdict(list)
    for call in asked:
        calls[call.request_id].append(call)
    unlocks: dict[str, set[str]] = defaultdict(set)
    for rid, request_id, unlock_id, wall_s, outcome in rows:
        unlocks[request_id].add(unlock_id)
        if outcome is None:
            assert any(c.began_s - SLACK_S <= wall_s <= c.answered_s + SLACK_S for c in calls[request_id]), (
                f"{rid}: a lock was meant to move at {wall_s}, outside of {calls[request_id]}"
            )
    assert all(len(ids) == 1 for ids in unlocks.values()), "a request acted twice"
    intents = [(r[0], r[2]) for r in rows if r[4] is None and r[0] in lives]
    assert len(set(intents)) >= len(lives)
