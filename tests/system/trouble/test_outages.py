"""Broker, gateways and database are killed in turn while people use the locker: no event, no webhook is lost.

Real processes: Mosquitto, PostgreSQL, two gateways, the daemon on its simulated bus.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path
from time import sleep
from typing import Any

import httpx
import psycopg
import pytest
import tomli_w

from tests.support.bench import SMALL, Webhooks, receiving, wait_for
from tests.support.postgres import Postgres, running_postgres
from tools.bench.ports import HOST, free_port
from tools.measure.rig import API, API_KEY, Rig, Run, rig_of

PEOPLE = 3
ROUNDS = int(os.environ.get("OUTAGE_ROUNDS", "3"))
"""So often each of the four is killed."""
GATEWAYS = ("gateway 1", "gateway 2")
TOLD = ["EVENT_TYPE_DROPOFF", "EVENT_TYPE_PICKUP"]
NO_DECISION = (4, 13, 14)
"""Also 13: a gateway without its database, or stopped in the middle."""


class Site:
    """Everything that runs, and hands that kill it."""

    def __init__(self, rig: Rig, postgres: Postgres, hook: str) -> None:
        self.rig = rig
        self.postgres = postgres
        self.url = postgres.database()
        self.ports = {name: free_port() for name in GATEWAYS}
        for name, port in self.ports.items():
            self._file(name).write_text(tomli_w.dumps(self._settings(name, port, hook)), encoding="utf-8")

    def start(self) -> None:
        """Starts all of it."""
        self.rig.start_broker()
        self.rig.start_simulator()
        for name in GATEWAYS:
            self._start_gateway(name)
        self.rig.start_agent()
        for name in GATEWAYS:
            wait_for(lambda name=name: self._sees(name), 60, f"{name} sees the machine")  # type: ignore[misc]

    def kill(self, name: str) -> None:
        """SIGKILL, a moment without it, and it is started again."""
        if name == "database":
            self.postgres.kill()
        else:
            os.kill(self.rig.pid(name), signal.SIGKILL)
            self.rig.stop(name)
        sleep(1)
        if name == "database":
            self.postgres.start()
        elif name == "broker":
            self.rig.start_broker()
        else:
            self._start_gateway(name)

    def rows(self, query: str) -> list[Any]:
        """Rows of the gateways' database."""
        with psycopg.connect(self.url.replace("postgresql+psycopg", "postgresql", 1)) as db:
            return db.execute(query.encode()).fetchall()

    def journal(self) -> list[tuple[int, str]]:
        """Sequence and idempotency key of every event of the machine's journal."""
        with closing(sqlite3.connect(f"file:{self.rig.journal}?mode=ro", uri=True)) as journal:
            rows = journal.execute("SELECT sequence, body FROM outbox ORDER BY sequence").fetchall()
        return [(sequence, json.loads(body)["idempotency_key"]) for sequence, body in rows]

    def _file(self, name: str) -> Path:
        return self.rig.folder / f"{name.replace(' ', '-')}.toml"

    def _settings(self, name: str, port: int, hook: str) -> dict[str, Any]:
        return {
            "listen_host": HOST,
            "listen_port": port,
            "public_url": f"http://{HOST}:{port}",
            "database_url": self.url,
            "webhooks": {"allow_networks": ["127.0.0.0/8"]},
            "mqtt": {"host": HOST, "port": self.rig.mqtt_port, "client_id": name.replace(" ", "-")},
            "platforms": [{"name": "bench", "api_key": API_KEY, "webhook_url": hook}],
        }

    def _start_gateway(self, name: str) -> None:
        self.rig.spawn(name, [sys.executable, "-m", "cloud_gateway", "--config", str(self._file(name))])

    def _sees(self, name: str) -> bool:
        path = f"{API}/machines/{self.rig.machine_id}"
        try:
            answer = httpx.get(
                f"http://{HOST}:{self.ports[name]}{path}", headers={"X-API-Key": API_KEY}, trust_env=False
            )
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and bool(answer.json()["machine"]["online"])


class Person(threading.Thread):
    """Lives one reservation after the other, by either gateway; what is not answered is asked again under the
    same id, at the other one."""

    def __init__(self, site: Site, number: int, stop: threading.Event) -> None:
        super().__init__(name=f"person {number}")
        self._site = site
        self._rng = random.Random(number)
        self._stop_asked = stop
        self._requests = 0
        self.lives: list[str] = []
        self.fault: BaseException | None = None

    def run(self) -> None:
        ports = list(self._site.ports.values())
        try:
            with httpx.Client(headers={"X-API-Key": API_KEY}, timeout=20, trust_env=False) as self._http:
                while not self._stop_asked.is_set():
                    self._rng.shuffle(ports)
                    self._bases = [f"http://{HOST}:{port}{API}" for port in ports]
                    self.lives.append(self._live())
        except BaseException as fault:
            self.fault = fault
            raise

    def _live(self) -> str:
        body = {"machine_id": self._site.rig.machine_id, "platform_order_id": self.name, "packaging": SMALL}
        made = self._insist("POST", "/reservations", body | {"grace_period_pickup_in_seconds": 1})
        path = f"/reservations/{made['reservation_id']}"
        self._insist("POST", f"{path}/dropoffs", {})
        self._at_the_door(path, "place", {"grams": 900})
        self._until(path, "DROPPED_OFF")
        self._insist("POST", f"{path}/pickups", {})
        self._at_the_door(path, "take", {})
        self._until(path, "PICKED_UP")
        return str(made["reservation_id"])

    def _at_the_door(self, path: str, act: str, body: dict[str, Any]) -> None:
        label = self._insist("GET", path)["cell"]["description"]
        with httpx.Client(trust_env=False) as sim:
            for what, sent in ((act, body), ("close", {})):
                url = f"http://{HOST}:{self._site.rig.files.sim_port}/cells/{label}/{what}"
                sim.post(url, json=sent).raise_for_status()

    def _until(self, path: str, status: str) -> None:
        def reached() -> bool:
            sleep(0.05)
            return bool(self._insist("GET", path)["status"].endswith(f"_{status}"))

        wait_for(reached, 120, f"{path} {status}")

    def _insist(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Asks until there is a decision."""
        self._requests += 1
        request_id = f"{self.name} {self._requests}"
        while True:
            self._bases.reverse()
            headers = {"X-Request-ID": request_id} if method == "POST" else {}
            try:
                answer = self._http.request(method, self._bases[0] + path, json=body, headers=headers)
            except httpx.TransportError:
                sleep(0.1)
                continue
            found: dict[str, Any] = answer.json()
            if answer.status_code == 200:
                return found
            assert found["code"] in (*NO_DECISION, 8), (path, answer.text)
            if found["code"] == 8:
                request_id += "'"  # that was a decision
            sleep(0.1)


@pytest.mark.long
def test_no_event_and_no_webhook_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    with (
        running_postgres() as postgres,
        receiving() as webhooks,
        rig_of(Run(folder=tmp_path), baud=115_200) as rig,
    ):
        site = Site(rig, postgres, webhooks.url)
        site.start()
        lives = storm(site)
        assert len(lives) >= 2 * ROUNDS, lives
        wait_for(lambda: site.journal() == applied(site), 90, "every event is applied")
        check_webhooks(site, webhooks, lives)
        assert site.rows("SELECT * FROM rejected") == []
        assert site.rows("SELECT * FROM reservations WHERE unknown_s IS NOT NULL") == []
        words = "".join(path.read_text(errors="replace") for path in rig.folder.glob("gateway ?.log"))
        assert "events_lost" not in words
        assert "part_died" not in words


def storm(site: Site) -> list[str]:
    """Kills while people live; gives their whole lives."""
    stop = threading.Event()
    people = [Person(site, number, stop) for number in range(PEOPLE)]
    for person in people:
        person.start()
    rng = random.Random("outages")
    try:
        for _ in range(ROUNDS):
            for name in ("broker", *GATEWAYS, "database"):
                sleep(rng.uniform(1.0, 3.0))
                site.kill(name)
                assert not any(person.fault for person in people), [person.fault for person in people]
    finally:
        stop.set()
        for person in people:
            person.join(timeout=180)
    assert not any(person.fault or person.is_alive() for person in people)
    return [rid for person in people for rid in person.lives]


def applied(site: Site) -> list[tuple[int, str]]:
    """Sequence and idempotency key of every applied event."""
    query = "SELECT sequence, idempotency_key FROM events WHERE state = 'applied' ORDER BY sequence"
    return [tuple(row) for row in site.rows(query)]


def check_webhooks(site: Site, webhooks: Webhooks, lives: list[str]) -> None:
    """Each was queued in the order of its event and arrived, those of a reservation in order."""
    queued = [json.loads(row[0]) for row in site.rows("SELECT body FROM webhooks ORDER BY position")]
    number = {key: sequence for sequence, key in site.journal()}
    order = [number[body["idempotency_key"]] for body in queued]
    assert order == sorted(order)
    keys = {body["idempotency_key"] for body in queued}
    wait_for(lambda: {body["idempotency_key"] for _, body in tuple(webhooks.got)} == keys, 60, "webhooks")
    for rid in lives:
        assert webhooks.types(rid) == TOLD
