"""The whole bench as a child process, on ports and in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import httpx

from tools.bench.ports import free_port
from tools.bench.settings import REPOSITORY

T = TypeVar("T")
LOOK_AGAIN_S = 0.01
PARCEL = {"width": 300, "height": 200, "depth": 400, "weight": 1500, "cooling_required": True}
SMALL = {"width": 200, "height": 100, "depth": 300, "weight": 900}


def wait_for(found: Callable[[], T], limit_s: float = 60, what: str = "") -> T:
    """The first true value of `found`; fails when there is none in time."""
    end = monotonic() + limit_s
    while True:
        value = found()
        if value:
            return value
        assert monotonic() < end, f"nothing came of it in {limit_s} s {what}"
        sleep(LOOK_AGAIN_S)


class Webhooks:
    """A receiver of webhooks that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str | None, dict[str, Any]]] = []
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append((self.headers.get("X-Platform-Order-Id"), json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def types(self, reservation_id: str) -> list[str]:
        """The types of the webhooks of one reservation, in order, each idempotency key once."""
        mine = [body for _, body in tuple(self.got) if body["reservation_id"] == reservation_id]
        return list({body["idempotency_key"]: body["event_type"] for body in mine}.values())

    def close(self) -> None:
        """Ends the receiver."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Bench:
    """A running bench and hands on it: REST, the simulator's control API, the command line, the journal."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.ports = {f"BENCH_{name}_PORT": free_port() for name in ("API", "SIM", "MQTT", "SCREEN")}
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("BENCH_", "EDGE_AGENT_"))},
            **{name: str(port) for name, port in self.ports.items()},
            "BENCH_DIR": str(folder),
            **environment,
        }
        api = f"http://127.0.0.1:{self.ports['BENCH_API_PORT']}"
        self.gateway = httpx.Client(base_url=api, timeout=60)
        self.api = httpx.Client(
            base_url=f"{api}/api/delivery/external/v1", headers={"X-API-Key": "bench-key"}, timeout=20
        )
        self.sim = httpx.Client(base_url=f"http://127.0.0.1:{self.ports['BENCH_SIM_PORT']}", timeout=60)
        self.process: subprocess.Popen[str] | None = None
        self.greeting = ""

    def start(self, limit_s: float = 30) -> None:
        """Starts it and returns at `bench ready`."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.bench"],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()
        assert self.greeting.startswith("bench ready"), self.greeting + self.process.stdout.read()

    def refuses_to_start(self) -> tuple[int, str]:
        """Exit code and words of a bench that must not start."""
        done = subprocess.run(
            [sys.executable, "-m", "tools.bench"],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.close()
        return done.returncode, done.stdout + done.stderr

    def stop(self) -> int:
        """One Ctrl-C; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def close(self) -> None:
        """Ends whatever still runs."""
        if self.process is not None:
            self.stop()
        for client in (self.api, self.sim, self.gateway):
            client.close()

    def pids(self) -> dict[str, int]:
        """The processes of the bench that run now."""
        return {f.stem: int(f.read_text()) for f in (self.folder / "pids").glob("*.pid")}

    def act(self, name: str, act: str) -> None:
        """Kills, stops or starts a process of the bench."""
        self.sim.post(f"/processes/{name}/{act}").raise_for_status()

    def reserve(self, packaging: dict[str, Any] = PARCEL, **fields: Any) -> dict[str, Any]:
        """A reservation's answer."""
        body = {"machine_id": "machine_123", "platform_order_id": "order 1/ü", "packaging": packaging}
        response = self.api.post("/reservations", json=body | fields)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def reservation(self, reservation_id: str) -> dict[str, Any]:
        """GET of a reservation."""
        found: dict[str, Any] = self.api.get(f"/reservations/{reservation_id}").raise_for_status().json()
        return found

    def status(self, reservation_id: str) -> str:
        """The bare word of a reservation's status."""
        return str(self.reservation(reservation_id)["status"]).removeprefix("RESERVATION_STATUS_")

    def ongoing(self) -> list[str]:
        """Ids of the ongoing reservations."""
        return [r["reservation_id"] for r in self.api.get("/reservations").json()["reservations"]]

    def cell(self, label: str) -> dict[str, Any]:
        """A cell as physically true."""
        return next(cell for cell in self.sim.get("/cells").json() if cell["label"] == label)

    def cell_status(self, label: str) -> str:
        """A cell's status as the machine reports it."""
        machine = self.api.get("/machines/machine_123").json()["machine"]
        return str(next(c["status"] for c in machine["all_cells"] if c["description"] == label))

    def person(self, label: str, *acts: str) -> None:
        """What somebody does at a cell: place, take, close."""
        for act in acts:
            body = {"grams": 1500} if act == "place" else None
            self.sim.post(f"/cells/{label}/{act}", json=body).raise_for_status()

    def actuations(self, since: int = 0) -> list[dict[str, Any]]:
        """The solenoid pulses after number `since`."""
        found: list[dict[str, Any]] = self.sim.get(f"/actuations?since={since}").json()
        return found

    def events(self) -> list[dict[str, Any]]:
        """All events as they reached the gateway, in their order."""
        with closing(sqlite3.connect(f"file:{self.folder / 'gateway.sqlite'}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT payload FROM events ORDER BY position").fetchall()
        return [json.loads(payload) for (payload,) in rows]

    def scan(self, text: str) -> None:
        """Shows something to the scanner."""
        self.sim.post("/scanner", json={"text": text}).raise_for_status()

    def command(self, *arguments: str, limit_s: float = 60) -> subprocess.CompletedProcess[str]:
        """An `edge-agent` command against this bench's daemon."""
        return subprocess.run(
            [Path(sys.executable).with_name("edge-agent"), *arguments],
            env=self._environment_of_commands,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def start_command(self, *arguments: str) -> subprocess.Popen[str]:
        """The same without waiting for its end; what it prints is in its `stdout`."""
        command = [str(Path(sys.executable).with_name("edge-agent")), *arguments]
        return subprocess.Popen(command, env=self._environment_of_commands, stdout=subprocess.PIPE, text=True)

    @property
    def _environment_of_commands(self) -> dict[str, str]:
        return self.environment | {"EDGE_AGENT_SOCKET": str(self.folder / "agent.sock"), "COLUMNS": "160"}

    def ledger(self) -> list[tuple[str, str, str, int, str | None]]:
        """The ledger of unlocks: cell, reservation, unlock id, attempt, outcome."""
        with closing(sqlite3.connect(f"file:{self.folder / 'journal.sqlite'}?mode=ro", uri=True)) as journal:
            query = "SELECT cell, reservation_id, unlock_id, attempt, outcome FROM unlock ORDER BY n"
            return list(journal.execute(query))

    def logs(self) -> str:
        """Everything that the processes logged."""
        return "".join(path.read_text(errors="replace") for path in (self.folder / "logs").glob("*.log"))


@contextmanager
def running_bench(folder: Path, **environment: str) -> Iterator[Bench]:
    """A bench for the length of a `with`."""
    bench = Bench(folder, **environment)
    try:
        bench.start()
        yield bench
    finally:
        bench.close()


@contextmanager
def receiving() -> Iterator[Webhooks]:
    """A webhook receiver for the length of a `with`."""
    webhooks = Webhooks()
    try:
        yield webhooks
    finally:
        webhooks.close()
