"""The measured processes: broker, simulator, daemon and gateway as children of this process.

They are the bench's own processes with the bench's own files, but started here one by one, so that each can
be timed and inspected. They end with this process, however it ends.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.config import Settings, load_settings
from tools.bench.ports import HOST, free_port
from tools.bench.settings import REPOSITORY, BenchSettings, write_files

READY_S = 20.0
STOP_S = 6.0
KEEP_S = 2.0
"""A connection unused for longer is opened again: servers close theirs after 5 s."""
DEMO = REPOSITORY / "config" / "demo.toml"
API = "/api/delivery/external/v1"
API_KEY = "bench-key"


class MeasureFault(Exception):
    """A measured part failed; there is no figure."""


@dataclass(frozen=True, slots=True)
class Run:
    """How a benchmark runs: shortly or not, and on which folder's disk (None: the system's)."""

    quick: bool = False
    folder: Path | None = None

    def pick(self, full: int, quick: int) -> int:
        """Returns a number of samples."""
        return quick if self.quick else full


class Http:
    """A bare HTTP connection that is kept while it is in use; one request at a time."""

    def __init__(self, port: int, **headers: str) -> None:
        self._used_s = 0.0
        self._connection = http.client.HTTPConnection(HOST, port, timeout=20)
        self._headers = {"Content-Type": "application/json", **headers}

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Returns the response's JSON. Raises `MeasureFault` unless there is one with status 200."""
        data = None if body is None else json.dumps(body)
        if time.monotonic() - self._used_s > KEEP_S:
            self._connection.close()
        try:
            self._connection.request(method, path, data, self._headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise MeasureFault(f"{method} {path}: {error}") from error
        self._used_s = time.monotonic()
        if answer.status != 200:
            raise MeasureFault(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text)

    def answers(self) -> bool:
        """Whether `/healthz` reports good health."""
        try:
            self.call("GET", "/healthz")
        except MeasureFault:
            return False
        return True

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


class Rig:
    """Processes with a folder and ports of their own."""

    def __init__(self, folder: Path, baud: int | None, config: Path, *, screen: bool = False) -> None:
        """`screen`: the daemon serves the kiosk's screen."""
        api_port, sim_port, mqtt_port = free_port(), free_port(), free_port()
        screen_port = free_port() if screen else None
        self.folder = folder
        self.files = BenchSettings(api_port, sim_port, mqtt_port, API_KEY, folder, config, baud, screen_port)
        self.wall_url = f"http://{HOST}:{api_port}/"
        self.screen_url = f"http://{HOST}:{screen_port}/"
        self.machine_id = write_files(self.files)
        self.settings: Settings = load_settings(self.files.machine_file)
        self.mqtt_port = mqtt_port
        self.sim = Http(sim_port)
        self.api = Http(api_port, **{"X-API-Key": API_KEY})
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def journal(self) -> Path:
        """The daemon's journal."""
        return self.settings.path(self.settings.paths.journal)

    def pid(self, name: str) -> int:
        """The process id of a child."""
        return self._children[name].pid

    def start_broker(self) -> None:
        """Starts Mosquitto; returns when it accepts connections."""
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise MeasureFault("the Mosquitto broker is missing; install it with: apt install mosquitto")
        self.spawn("broker", [program, "-c", str(self.files.broker_file)])

        def listens() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection((HOST, self.mqtt_port), timeout=1).close()
                return True
            return False

        self.wait(listens, "broker")

    def start_simulator(self) -> None:
        """Starts the locker's hardware; returns when its control API answers. Seed 0."""
        machine, port = str(self.files.machine_file), str(self.files.sim_port)
        self.spawn(
            "simulator",
            [sys.executable, "-m", "tools.bus_simulator", "--config", machine, "--http-port", port],
        )
        self.wait(self.sim.answers, "simulator")

    def start_gateway(self) -> None:
        """Starts the REST API; returns when it is connected to its broker."""
        gateway = [sys.executable, "-m", "cloud_gateway", "--config", str(self.files.gateway_file)]
        self.spawn("gateway", gateway)
        self.wait(self.api.answers, "gateway")

    def start_agent(self) -> float:
        """Starts the daemon; returns the CLOCK_MONOTONIC second just before its process began."""
        began_s = time.monotonic()
        machine = str(self.files.machine_file)
        self.spawn("agent", [sys.executable, "-m", "edge_agent", "run", "--config", machine])
        return began_s

    def stop(self, name: str) -> None:
        """Ends a child cleanly, or at once if it takes too long."""
        child = self._children.pop(name, None)
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def operations(self) -> dict[str, Any]:
        """Reads the gateway's operators' page. Raises `MeasureFault`."""
        token = base64.b64encode(f"measure:{API_KEY}".encode()).decode()
        page = Http(self.files.api_port, Authorization=f"Basic {token}")
        try:
            found: dict[str, Any] = page.call("GET", "/operations.json")
            return found
        finally:
            page.close()

    def wire(self) -> dict[str, float]:
        """The counters of the only bus."""
        found: dict[str, float] = self.sim.call("GET", "/wire")["main"]
        return found

    def silent_devices(self) -> int:
        """How many devices the daemon reports silent on its local API. Raises `MeasureFault`."""
        connection = http.client.HTTPConnection("agent", timeout=20)
        with contextlib.closing(connection):
            try:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.connect(str(self.settings.path(self.settings.paths.socket)))
                connection.request("GET", "/v1/alarms")
                alarms = json.loads(connection.getresponse().read())
            except (OSError, http.client.HTTPException) as error:
                raise MeasureFault(f"the daemon's socket: {error}") from error
        return sum(alarm["alarm"] == "DEVICE_SILENT" for alarm in alarms)

    def wait(self, condition: Callable[[], bool], name: str, pause_s: float = 0.02) -> None:
        """Returns when the condition holds. Raises `MeasureFault` if a child ends or it takes too long."""
        end_s = time.monotonic() + READY_S
        while not condition():
            for child, process in self._children.items():
                if process.poll() is not None:
                    raise MeasureFault(f"{child} ended with {process.returncode}: {self._log(child)}")
            if time.monotonic() > end_s:
                raise MeasureFault(f"{name} does not answer: {self._log(name)}")
            time.sleep(pause_s)

    def close(self) -> None:
        """Ends every child. A second Ctrl-C meanwhile has no effect."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.sim.close()
            self.api.close()
            for name in sorted(self._children, key=lambda name: name == "broker"):
                self.stop(name)
        finally:
            signal.signal(signal.SIGINT, before)

    def spawn(self, name: str, command: list[str]) -> None:
        """Starts a child of any kind; it ends with the rig."""
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("BENCH_", "EDGE_AGENT_"))}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env=environment | {"PYTHONPATH": str(REPOSITORY)},
                start_new_session=True,
            )

    def _log(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
        return "no log"


@contextlib.contextmanager
def rig_of(run: Run, baud: int | None = None, config: Path = DEMO, *, screen: bool = False) -> Iterator[Rig]:
    """An empty rig for the length of a `with`; everything is removed afterwards."""
    parent = None if run.folder is None else str(run.folder)
    with tempfile.TemporaryDirectory(prefix="measure-", dir=parent) as folder:
        rig = Rig(Path(folder), baud, config, screen=screen)
        try:
            yield rig
        finally:
            rig.close()
