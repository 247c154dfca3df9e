"""`edge-agent run` as a service: what it sends to its supervisor, and how soon it ends on a stop."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.bench import wait_for
from tests.support.supervisor import FakeSupervisor
from tools.bench.settings import REPOSITORY
from tools.measure.rig import DEMO, Rig

STOP_S = 2.0
"""The service promises to have ended by then."""


class Service:
    """The daemon as a child, with a supervisor in systemd's place."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder, None, DEMO)
        self.supervisor = FakeSupervisor(folder, 3.0)
        self.log = folder / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits for READY."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run", "--config", str(self.rig.files.machine_file)],
                env={**os.environ, **self.supervisor.environment, "PYTHONPATH": str(REPOSITORY)},
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: self.heard("READY=1"), what=self.log.read_text())

    def heard(self, line: str) -> bool:
        """Whether it sent this line, now or before."""
        self.supervisor.receive()
        return any(received.startswith(line) for received in self.supervisor.received)

    def says(self, words: str) -> bool:
        """Whether a status line of it had these words."""
        self.supervisor.receive()
        return any(
            line.startswith("STATUS=24 cells, ") and words in line for line in self.supervisor.received
        )

    def fed(self) -> bool:
        """Whether it has fed the watchdog since the last call."""
        return "WATCHDOG=1" in self.supervisor.receive()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def stop(self) -> int:
        """SIGTERM; fails if it does not end in the promised time. Gives its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_S)

    def close(self) -> None:
        """Ends everything."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self.supervisor.close()
        self.rig.close()


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    made = Service(folder)
    try:
        yield made
    finally:
        made.close()


def nothing(_: Service) -> None:
    """All is well."""


def broker_stands_still(at: Service) -> None:
    os.kill(at.rig.pid("broker"), signal.SIGSTOP)


def noise(at: Service) -> None:
    at.rig.sim.call("POST", "/faults", {"kind": "noise", "value": 1.0})
    wait_for(at.rig.silent_devices, 30)


@pytest.mark.parametrize(
    "trouble", [nothing, broker_stands_still, pytest.param(noise, marks=pytest.mark.long)]
)
def test_the_service_gets_ready_feeds_the_watchdog_and_stops_within_two_seconds(
    tmp_path: Path, trouble: Callable[[Service], None]
) -> None:
    with service(tmp_path) as at:
        at.rig.start_broker()
        at.rig.start_simulator()
        at.start()
        wait_for(lambda: at.says("broker connected"))
        wait_for(at.fed)
        trouble(at)
        assert at.stop() == 0
        assert at.heard("STOPPING=1")
        if trouble is broker_stands_still:
            os.kill(at.rig.pid("broker"), signal.SIGCONT)


def test_without_broker_and_bus_the_service_is_ready_and_reports_both(tmp_path: Path) -> None:
    with service(tmp_path) as at:
        at.start()
        wait_for(lambda: at.says("broker not connected, bus main down"))
        wait_for(at.fed)
        assert at.stop() == 0


def test_a_hung_service_feeds_no_watchdog_and_dumps_its_stacks_when_it_is_killed(
    tmp_path: Path,
) -> None:
    """Systemd aborts a service that feeds no watchdog. No dump is written, and the log names the lines."""
    with service(tmp_path) as at:
        at.start()
        at.process.send_signal(signal.SIGABRT)
        assert at.process.wait(10) == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in at.log.read_text()
        assert "in run_forever" in at.log.read_text()


def test_a_long_upgrade_of_the_journal_extends_the_start_timeout(tmp_path: Path) -> None:
    fixture = REPOSITORY / "tests" / "journal" / "fixtures" / "schema-1.sql"
    with service(tmp_path) as at:
        with closing(sqlite3.connect(at.rig.journal)) as connection:
            connection.executescript(fixture.read_text(encoding="utf-8"))
        at.start()
        received = at.supervisor.received
        since = len(list((REPOSITORY / "edge_agent" / "journal" / "schema").glob("*.sql"))) - 1
        assert received.count("STATUS=upgrading the journal") == since
        assert received.index("EXTEND_TIMEOUT_USEC=120000000") < received.index("READY=1")
        assert at.stop() == 0


def test_a_journal_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    """After a downgrade the daemon refuses to start; the newer version finds everything as it was."""
    with service(tmp_path) as at:
        at.start()
        assert at.stop() == 0
        with closing(sqlite3.connect(at.rig.journal)) as connection:
            connection.execute("PRAGMA user_version = 99")
            connection.execute("UPDATE compatible SET oldest_schema = 99")
            connection.commit()
        before = at.rig.journal.read_bytes()
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent", "run", "--config", str(at.rig.files.machine_file)],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        assert "written by a newer version (schema 99" in done.stderr
        assert at.rig.journal.read_bytes() == before
