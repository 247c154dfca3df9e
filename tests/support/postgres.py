"""A real PostgreSQL for tests: its own folder and Unix socket, nothing listening on the network."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import psycopg

START_S = 30.0
USER = "postgres"


def binaries() -> Path:
    """The folder of the server's programs. Fails the test where there is none (`tools/setup/postgres.sh`)."""
    there = shutil.which("postgres")
    folders = [Path(there).parent] if there else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = [folder for folder in folders if (folder / "initdb").exists()]
    assert found, "PostgreSQL is missing; install it with: apt install postgresql"
    return found[-1]


def _unprivileged() -> list[str]:
    """The server refuses to run as root: then it gets the user that its package made."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]


class Postgres:
    """One server that can be killed and started again; what was committed survives that."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = binaries()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def make(self) -> None:
        """Makes the cluster."""
        data = self._folder / "data"
        if os.geteuid() == 0:
            shutil.chown(self._folder, USER, USER)
        make: list[Path | str] = [
            self._programs / "initdb",
            "-D",
            data,
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
        ]
        self._run([*make, "--no-sync"])

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *_unprivileged(),
                    str(self._programs / "postgres"),
                    *("-D", str(self._folder / "data"), "-k", str(self._folder), "-c", "listen_addresses="),
                    # A killed process loses nothing that it wrote; only a machine that stops would.
                    *("-c", "fsync=off", "-c", "max_connections=100"),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                env=_plain_environment(),
            )
        end = monotonic() + START_S
        while True:
            try:
                psycopg.connect(host=str(self._folder), user=USER, dbname=USER).close()
                return
            except psycopg.OperationalError:
                assert monotonic() < end, (self._folder / "postgres.log").read_text(errors="replace")[-2000:]
            sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to the server and what it started."""
        assert self._process is not None
        children = _children(self._process.pid)
        self._process.kill()
        self._process.wait()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        end = monotonic() + START_S
        while any(_alive(child) for child in children):
            assert monotonic() < end
            sleep(0.01)
        self._process = None

    def stop(self) -> None:
        """Ends it at once, connections or not; harmless when it is not running."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast": clients are thrown out
            self._process.wait(timeout=20)
            self._process = None

    def database(self) -> str:
        """A new, empty database; gives its URL."""
        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(host=str(self._folder), user=USER, dbname=USER, autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://{USER}@/{name}?host={self._folder}"

    def _run(self, command: list[Path | str]) -> None:
        done = subprocess.run(
            [*_unprivileged(), *map(str, command)],
            capture_output=True,
            text=True,
            cwd=self._folder,
            env=_plain_environment(),
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _plain_environment() -> Mapping[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _children(pid: int) -> list[int]:
    """The children of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(number) for number in listed.read_text().split()] if listed.exists() else []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server for the length of a `with`; its folder goes with it."""
    # Not below pytest's folder, which the server's user may not enter; and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = Postgres(folder)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
