"""The gateway's package in a clean Debian with PostgreSQL: installed, upgraded with live reservations,
removed.

Needs root and Debian's mirror; run by `make deb-test`. Bus simulator, daemon and broker run outside.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import tomli_w

from tests.package.clean_root import PROGRAM_PATH, CleanRoot, clean_root
from tests.support.bench import wait_for
from tools.bench.ports import HOST
from tools.measure.rig import API, DEMO, Rig
from tools.package.__main__ import make, project_version
from tools.package.gateway import GATEWAY

pytestmark = pytest.mark.skipif("DEB_TEST" not in os.environ, reason="run by `make deb-test`, as root")

NEXT = f"{project_version()}+next"
CONFIG = "/etc/edge-gateway/gateway.toml"
POSTGRES = "postgresql+psycopg://edge-gateway@/gateway?host=/var/run/postgresql"
ORDER = {
    "machine_id": "machine_123",
    "platform_order_id": "o1",
    "packaging": {"width": 200, "height": 100, "depth": 300},
}
OF_POSTGRES = ("var/lib/postgresql/", "var/run/", "etc/postgresql")
STOP_S = 3.0
"""Longest stop of a gateway with nothing under way, on a busy machine."""


class Gateway:
    """The gateway's command in a root, as its user."""

    def __init__(self, root: CleanRoot, port: int) -> None:
        self._root = root
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it as the unit does; returns when the machine is online."""
        setpriv = ["setpriv", "--reuid=edge-gateway", "--regid=edge-gateway", "--init-groups"]
        command = ["/usr/bin/edge-gateway", "--config", CONFIG]
        chroot = shutil.which("chroot") or "/usr/sbin/chroot"
        with (self._root.folder / "var/log/edge-gateway.log").open("ab") as log:
            self._process = subprocess.Popen(
                [chroot, str(self._root.folder), *setpriv, *command],
                env={"PATH": PROGRAM_PATH, "STATE_DIRECTORY": "/var/lib/edge-gateway"},
                stdout=log,
                stderr=log,
            )
        wait_for(self._sees_the_machine, 60, self.log())

    def log(self) -> str:
        """What it has logged so far."""
        return (self._root.folder / "var/log/edge-gateway.log").read_text()

    def stop(self) -> float:
        """Ends it as systemd would; how long that took, in seconds."""
        assert self._process is not None
        began_s = monotonic()
        self._process.terminate()
        assert self._process.wait(30) == 0
        self._process = None
        return monotonic() - began_s

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def call(
        self, method: str, path: str, body: Any = None, key: str = "bench-key", **headers: str
    ) -> tuple[int, Any]:
        """A request to the API: status and JSON."""
        named = {"X-API-Key": key, "Content-Type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(HOST, self._port, timeout=20)) as connection:
            connection.request(method, f"{API}{path}", None if body is None else json.dumps(body), named)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def _sees_the_machine(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            status, answer = self.call("GET", "/machines/machine_123")
        except OSError:
            return False
        return status == 200 and bool(answer["machine"]["online"])


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanRoot]:
    """A root with a PostgreSQL that runs."""
    with clean_root(tmp_path_factory.mktemp("debian") / "root") as root:
        policy = root.folder / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")  # nothing is started by itself
        policy.chmod(0o755)
        root.install("postgresql")
        version = root.run("sh", "-c", "ls /usr/lib/postgresql").stdout.strip()
        root.run("pg_ctlcluster", version, "main", "start")
        try:
            yield root
        finally:
            root.run("pg_ctlcluster", version, "main", "stop", "--mode", "immediate", check=False)


@pytest.fixture(name="packages", scope="module")
def _packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """This version and a later one, for this machine."""
    folder = tmp_path_factory.mktemp("packages")
    return make("amd64", project_version(), folder, GATEWAY), make("amd64", NEXT, folder, GATEWAY)


@pytest.fixture(name="rig")
def _rig(tmp_path: Path) -> Iterator[Rig]:
    """A machine and its broker."""
    rig = Rig(tmp_path, None, DEMO)
    try:
        rig.start_broker()
        rig.start_simulator()
        rig.start_agent()
        yield rig
    finally:
        rig.close()


@contextmanager
def gateway_in(root: CleanRoot, rig: Rig) -> Iterator[Gateway]:
    gateway = Gateway(root, rig.files.api_port)
    try:
        yield gateway
    finally:
        gateway.close()


def configure(root: CleanRoot, rig: Rig, **more: str) -> None:
    """Writes the configuration as an administrator does, with the bench's broker and platform."""
    document = tomllib.loads(rig.files.gateway_file.read_text(encoding="utf-8"))
    for name in ("wall", "database_url", "operations_key"):
        document.pop(name, None)
    file = root.folder / CONFIG.lstrip("/")
    file.write_text(tomli_w.dumps(more | document), encoding="utf-8")


def in_postgres(root: CleanRoot, database: str, query: str) -> str:
    command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "psql", "-At"]
    return root.run(*command, "-d", database, "-c", query).stdout.strip()


def as_postgres(root: CleanRoot, *command: str) -> None:
    root.run("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command)


def listing(root: CleanRoot) -> dict[str, str]:
    """What stands in the root, without what the database server writes."""
    return {name: seen for name, seen in root.listing().items() if not name.startswith(OF_POSTGRES)}


def test_live_reservations_survive_an_upgrade_on_postgresql_and_purge_leaves_only_the_database(
    root: CleanRoot, packages: tuple[Path, Path], rig: Rig
) -> None:
    first, second = packages
    before = listing(root)
    root.add(first)
    as_postgres(root, "createuser", "edge-gateway")
    as_postgres(root, "createdb", "-E", "UTF8", "-T", "template0", "-O", "edge-gateway", "gateway")
    configure(root, rig, database_url=POSTGRES, keys_file="keys.toml")
    tool = ("edge-gateway", "api-keys")
    key = root.run(
        *tool, "add", "--file", "/etc/edge-gateway/keys.toml", "--platform", "bench", "--name", "web"
    ).stdout.strip()
    may_be_read_by_the_service_only(root, "etc/edge-gateway/keys.toml")
    assert "good" in root.run("edge-gateway", "--config", CONFIG, "--check").stdout
    with gateway_in(root, rig) as gateway:
        gateway.start()
        asked: dict[str, Any] = {"key": key, "X_Request_ID": "req-of-the-first-version"}
        status, made = gateway.call("POST", "/reservations", ORDER, **asked)
        assert status == 200, made
        held = rows(root)

        root.add(second)  # while the gateway runs; systemd would restart it
        assert gateway.stop() < STOP_S
        assert rows(root) == held
        gateway.start()
        assert rows(root) == held
        assert gateway.call("POST", "/reservations", ORDER, **asked) == (200, made)  # one parcel, one answer
        _, kept = gateway.call("GET", f"/reservations/{made['reservation_id']}", key=key)
        assert kept["pickup_code"] == made["pickup_code"]
        assert in_postgres(root, "gateway", "SELECT count(*) FROM reservations") == "1"
        status, opened = gateway.call("POST", f"/reservations/{made['reservation_id']}/dropoffs")
        assert (status, opened["cell"]["description"]) == (200, kept["cell"]["description"])
        assert gateway.stop() < STOP_S

    root.run("apt-get", "remove", "-y", "-qq", "edge-gateway")
    assert (root.folder / CONFIG.lstrip("/")).exists()
    assert not (root.folder / "usr/lib/edge-gateway").exists()
    assert root.run("edge-gateway", "--help", check=False).returncode == 127
    assert "PostgreSQL" in root.run("apt-get", "purge", "-y", "-qq", "edge-gateway").stdout
    after = listing(root)
    assert set(after.keys() ^ before.keys()) == set()
    assert [name for name in after if after[name] != before[name]] == []
    assert in_postgres(root, "gateway", "SELECT count(*) FROM reservations") == "1"


def may_be_read_by_the_service_only(root: CleanRoot, name: str) -> None:
    """A file that root made belongs to the service's group, and others cannot read it."""
    found = (root.folder / name).stat()
    group = int(root.run("getent", "group", "edge-gateway").stdout.split(":")[2])
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (group, 0o640)


def rows(root: CleanRoot) -> dict[str, str]:
    """What the gateway has to keep, by table."""
    kept = {
        "reservations": "SELECT reservation_id, status, drop_off_code, pickup_code FROM reservations",
        "requests": "SELECT key, status, answer FROM requests",
        "machines": "SELECT machine_id FROM machines",
    }
    return {name: in_postgres(root, "gateway", f"{query} ORDER BY 1") for name, query in kept.items()}


def test_without_a_database_url_sqlite_keeps_everything_and_purge_removes_it(
    root: CleanRoot, packages: tuple[Path, Path], rig: Rig
) -> None:
    first, second = packages
    root.add(first)
    configure(root, rig)
    database = root.folder / "var/lib/edge-gateway/gateway.db"
    with gateway_in(root, rig) as gateway:
        gateway.start()
        status, made = gateway.call("POST", "/reservations", ORDER)
        assert status == 200, made
        assert stat.S_IMODE(database.stat().st_mode) == 0o600
        assert gateway.stop() < STOP_S
        root.add(second)
        gateway.start()
        _, kept = gateway.call("GET", f"/reservations/{made['reservation_id']}")
        assert kept["drop_off_code"] == made["drop_off_code"]
        assert gateway.stop() < STOP_S
        root.add(first)  # the same tables: the earlier version goes on with them
        gateway.start()
        _, kept = gateway.call("GET", f"/reservations/{made['reservation_id']}")
        assert kept["drop_off_code"] == made["drop_off_code"]
        assert gateway.stop() < STOP_S
    root.run("apt-get", "remove", "-y", "-qq", "edge-gateway")
    assert database.exists()
    root.run("apt-get", "purge", "-y", "-qq", "edge-gateway")
    assert not database.parent.exists()
    assert root.run("getent", "passwd", "edge-gateway", check=False).returncode == 2
