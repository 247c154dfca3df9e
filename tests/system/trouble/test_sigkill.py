"""A hundred SIGKILLs at random moments while people use the locker: real processes, wire, disk, broker."""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from time import sleep
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.bench import SMALL, Bench, Webhooks, receiving, running_bench, wait_for

KILLS = 100
PEOPLE = 3
LIFE = [
    "EVENT_TYPE_RESERVATION_CREATED",
    "EVENT_TYPE_DROPOFF",
    "EVENT_TYPE_PICKUP",
    "EVENT_TYPE_RESERVATION_COMPLETED",
]


class Ear:
    """Receives every event with a persistent session of its own."""

    def __init__(self, port: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="ear", protocol=mqtt.MQTTv5)
        self._client.on_message = lambda _c, _u, m: self.events.append(json.loads(m.payload))
        self._client.on_connect = lambda client, *_: client.subscribe("locker/v1/machine_123/evt", qos=1)
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=session)
        self._client.loop_start()

    def of(self, reservation_id: str) -> list[str]:
        """Types of one reservation's events, each sequence once, in order."""
        once = {e["sequence"]: e for e in tuple(self.events) if e.get("reservation_id") == reservation_id}
        return [once[n]["event_type"] for n in sorted(once)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()


class Keypad:
    """The kiosk's own program, on the daemon's socket; a dead daemon is no answer."""

    def __init__(self, socket_path: Path) -> None:
        self._path = str(socket_path)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer, or None if there was none."""
        with closing(http.client.HTTPConnection("agent", timeout=15)) as connection:
            try:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(15)
                connection.sock.connect(self._path)
                connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
                return json.loads(connection.getresponse().read())
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                return None


class Person(threading.Thread):
    """Lives reservation after reservation until stopped; knows nothing of the kills."""

    def __init__(self, bench: Bench, ear: Ear, number: int, stop: threading.Event, hook: str) -> None:
        super().__init__(name=f"person {number}")
        self._bench = bench
        self._ear = ear
        self._rng = random.Random(f"person {number}")
        self._stop_asked = stop
        self._hook = hook
        self._keypad = Keypad(bench.folder / "agent.sock")
        self.lives: list[str] = []
        self.fault: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                self.lives.append(self._live())
        except BaseException as fault:
            self.fault = fault
            raise

    def _live(self) -> str:
        fields = {"grace_period_pickup_in_seconds": 1, "webhook_url": self._hook}
        made = self._until_granted(fields)
        rid = str(made["reservation_id"])
        label = self._bench.reservation(rid)["cell"]["description"]
        by_code = self._rng.random() < 0.5
        self._open("dropoffs", rid, label, made["drop_off_code"] if by_code else None)
        self._bench.person(label, "place", "close")
        wait_for(lambda: "EVENT_TYPE_DROPOFF" in self._ear.of(rid), 60, f"drop-off {rid}")
        self._open("pickups", rid, label, made["pickup_code"] if by_code else None)
        self._bench.person(label, "take", "close")
        wait_for(lambda: self._ear.of(rid)[-1:] == LIFE[-1:], 60, f"end of {rid}: {self._ear.of(rid)}")
        return rid

    def _until_granted(self, fields: dict[str, Any]) -> dict[str, Any]:
        body = {"machine_id": "machine_123", "platform_order_id": "o", "packaging": SMALL} | fields
        while True:
            answer = self._bench.api.post("/reservations", json=body)
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                return found
            assert answer.json()["code"] in (4, 8, 14), answer.text
            sleep(0.2)

    def _open(self, act: str, rid: str, label: str, code: str | None) -> None:
        """Asks until the door stands open; then gives the machine a moment to know it."""

        def opened() -> bool:
            if self._bench.cell(label)["door"] == "open":
                return True
            if code is None:
                self._bench.api.post(f"/reservations/{rid}/{act}")
            else:
                self._keypad.call("POST", "/v1/code", {"text": code})
            sleep(0.1)
            return False

        wait_for(opened, 90, f"{act} {rid}")
        # A door closed before any reading of it was journaled leaves the outcome UNKNOWN, rightly; here
        # people are as slow as people.
        wait_for(lambda: self._known_open(label), 90, f"{label} known open")

    def _known_open(self, label: str) -> bool:
        cells = self._keypad.call("GET", "/v1/cells")
        return cells is not None and next(c for c in cells if c["label"] == label)["door"] == "open"


def clear_all(bench: Bench) -> None:
    """A technician looks into the cells that wait for it."""
    machine = bench.api.get("/machines/machine_123").json()["machine"]
    for cell in machine["all_cells"]:
        if cell["status"] == "AWAITING_INSPECTION":
            bench.command("clear", cell["description"])


def _answers(bench: Bench) -> bool:
    """Whether the agent serves its local API."""
    return Keypad(bench.folder / "agent.sock").call("GET", "/v1/cells") is not None


def storm(bench: Bench, webhooks: Webhooks) -> tuple[Ear, list[Person]]:
    """A hundred kills while people live."""
    rng = random.Random("kills")
    stop = threading.Event()
    ear = Ear(bench.ports["BENCH_MQTT_PORT"])
    people = [Person(bench, ear, n, stop, webhooks.url) for n in range(PEOPLE)]
    for person in people:
        person.start()
    try:
        for number in range(KILLS):
            sleep(rng.uniform(0.2, 2.0))
            bench.act("agent", "kill")
            wait_for(lambda: "agent" in bench.pids())
            if number % 3:  # every third kill may meet a daemon that still starts
                wait_for(lambda: _answers(bench), 60)
            if number % 10 == 9:
                clear_all(bench)
            assert not any(person.fault for person in people), [person.fault for person in people]
    finally:
        stop.set()
        for person in people:
            person.join(timeout=120)
    return ear, people


@pytest.mark.long
def test_a_hundred_kills_no_pulse_without_reason_no_event_lost(tmp_path: Path) -> None:
    with running_bench(tmp_path) as bench, receiving() as webhooks:
        ear, people = storm(bench, webhooks)
        try:
            assert not any(person.fault for person in people)
            lives = [rid for person in people for rid in person.lives]
            assert len(lives) >= 20
            check_events(ear, lives)
            check_pulses(bench)
            for rid in lives:
                wait_for(lambda rid=rid: len(webhooks.types(rid)) >= 2, 30)  # type: ignore[misc]
                types = [kind for kind in webhooks.types(rid) if kind != "EVENT_TYPE_PICKUP_FAILED"]
                assert types == ["EVENT_TYPE_DROPOFF", "EVENT_TYPE_PICKUP"]
        finally:
            ear.close()


def check_events(ear: Ear, lives: list[str]) -> None:
    """From the first event on, every sequence is there once; each life has all its events."""
    by_sequence: dict[int, set[str]] = defaultdict(set)
    for event in ear.events:
        by_sequence[event["sequence"]].add(event["idempotency_key"])
    first = min(by_sequence)
    assert sorted(by_sequence) == list(range(first, first + len(by_sequence)))
    assert all(len(keys) == 1 for keys in by_sequence.values())
    for rid in lives:
        assert [kind for kind in ear.of(rid) if kind != "EVENT_TYPE_PICKUP_FAILED"] == LIFE


def check_pulses(bench: Bench) -> None:
    """No cell was pulsed more often than it was meant to be, and no intent was journaled twice."""
    intents = [(cell, uid, attempt) for cell, _, uid, attempt, outcome in bench.ledger() if outcome is None]
    assert len(set(intents)) == len(intents)
    meant = Counter(cell for cell, _, _ in intents)
    given = Counter(a["label"] for a in bench.actuations())
    assert not given - meant
    assert sum(given.values()) >= 40
