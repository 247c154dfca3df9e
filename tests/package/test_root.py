"""The package's life in a clean Debian: installed, used, upgraded, taken back, removed, purged.

Needs root and Debian's mirror; run by `make deb-test`. Bus simulator, broker and gateway run outside.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.package.clean_root import CleanRoot, clean_root
from tests.support.bench import wait_for
from tools.bench.settings import REPOSITORY
from tools.measure.rig import API, Rig
from tools.package.__main__ import make, project_version

pytestmark = pytest.mark.skipif("DEB_TEST" not in os.environ, reason="run by `make deb-test`, as root")

NEXT = f"{project_version()}+next"
JOURNAL = "var/lib/edge-agent/journal.sqlite"
OLD = REPOSITORY / "tests" / "journal" / "fixtures" / "schema-2.sql"
PARCEL = {
    "machine_id": "machine_123",
    "platform_order_id": "o1",
    "packaging": {"width": 200, "height": 100, "depth": 300},
}


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanRoot]:
    with clean_root(tmp_path_factory.mktemp("debian") / "root") as root:
        yield root


@pytest.fixture(name="packages", scope="module")
def _packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """This version and a later one, for this machine."""
    folder = tmp_path_factory.mktemp("packages")
    return make("amd64", project_version(), folder), make("amd64", NEXT, folder)


@contextmanager
def rig_behind_a_serial_server(folder: Path) -> Iterator[Rig]:
    """The demo locker's hardware behind a serial server, with a broker and a gateway."""
    document = tomllib.loads((REPOSITORY / "config" / "demo.toml").read_text(encoding="utf-8"))
    document["buses"]["main"]["port"] = "rtu+tcp://127.0.0.1:1"
    document["paths"] = {"profiles": str(REPOSITORY / "config" / "devices")}
    document.pop("scanner")
    file = folder / "in.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    rig = Rig(folder, None, file)
    try:
        rig.start_broker()
        rig.start_simulator()
        rig.start_gateway()
        yield rig
    finally:
        rig.close()


@pytest.fixture(name="rig")
def _rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_behind_a_serial_server(tmp_path) as rig:
        yield rig


def configure(root: CleanRoot, rig: Rig) -> None:
    """Writes /etc/edge-agent/locker.toml as on a kiosk: everything at its usual place."""
    document = tomllib.loads(rig.files.machine_file.read_text(encoding="utf-8"))
    document["paths"] = {}
    (root.folder / "etc/edge-agent/locker.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    root.run("chgrp", "edge-agent", "/etc/edge-agent/locker.toml")


def command(root: CleanRoot, *arguments: str) -> Any:
    """The JSON output of a command."""
    return json.loads(root.run("edge-agent", *arguments, "--json").stdout)


def online(root: CleanRoot) -> None:
    wait_for(lambda: command(root, "status")["broker"] == "connected", 30)


def opened(rig: Rig) -> list[str]:
    """The cells whose solenoid was energised, in order."""
    return [row["label"] for row in rig.sim.call("GET", "/actuations")]


def test_a_live_reservation_survives_an_upgrade_and_purge_leaves_nothing(
    root: CleanRoot, packages: tuple[Path, Path], rig: Rig
) -> None:
    first, second = packages
    before = root.listing()
    root.add(first)
    configure(root, rig)
    assert "24 cells" in root.run("edge-agent", "check", "--config", "/etc/edge-agent/locker.toml").stdout
    root.start()
    online(root)
    assert command(root, "status")["agent_version"] == project_version()
    made = rig.api.call("POST", f"{API}/reservations", PARCEL)

    root.add(second)  # while the daemon runs, as on a kiosk; systemd would restart it
    assert root.stop() == 0
    root.start()
    online(root)
    assert command(root, "status")["agent_version"] == NEXT
    (kept,) = command(root, "reservations")
    assert kept["reservation_id"] == made["reservation_id"]
    again = rig.api.call("GET", f"{API}/reservations/{made['reservation_id']}")
    assert again["drop_off_code"] == made["drop_off_code"]
    root.run("edge-agent", "code", made["drop_off_code"])
    assert opened(rig) == [again["cell"]["description"]]
    assert root.stop() == 0

    journal = (root.folder / JOURNAL).read_bytes()
    root.run("apt-get", "remove", "-y", "-qq", "edge-agent")
    assert (root.folder / JOURNAL).read_bytes() == journal
    assert (root.folder / "etc/edge-agent/locker.toml").exists()
    assert not (root.folder / "usr/lib/edge-agent").exists()
    assert root.run("edge-agent", "status", check=False).returncode == 127

    root.run("apt-get", "purge", "-y", "-qq", "edge-agent")
    after = root.listing()
    assert set(after.keys() ^ before.keys()) == set()
    assert [name for name in after if after[name] != before[name]] == []


def test_a_journal_of_an_earlier_version_goes_on_with_its_codes(
    root: CleanRoot, packages: tuple[Path, Path], rig: Rig
) -> None:
    """A version that wrote schema 2 is replaced: a chilled parcel lies in B03, whose code opens its door."""
    first, second = packages
    root.add(first)
    configure(root, rig)
    with closing(sqlite3.connect(root.folder / JOURNAL)) as connection:
        connection.executescript(OLD.read_text(encoding="utf-8"))
        query = "SELECT body FROM reservation WHERE reservation_id = 'res_1'"
        code = json.loads(connection.execute(query).fetchone()[0])["pickup_code"]
    root.run("chown", "edge-agent:edge-agent", f"/{JOURNAL}")
    root.add(second)
    root.start()
    online(root)
    assert {row["reservation_id"] for row in command(root, "reservations")} == {"res_1", "res_2"}
    root.run("edge-agent", "code", code)
    assert opened(rig) == ["B03"]
    assert root.stop() == 0
    with closing(sqlite3.connect(root.folder / JOURNAL)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] > 2
    root.run("apt-get", "purge", "-y", "-qq", "edge-agent")


def test_a_downgrade_leaves_a_newer_journal_alone(
    root: CleanRoot, packages: tuple[Path, Path], rig: Rig
) -> None:
    first, second = packages
    root.add(second)
    configure(root, rig)
    root.start()
    online(root)
    assert root.stop() == 0
    with closing(sqlite3.connect(root.folder / JOURNAL)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("UPDATE compatible SET oldest_schema = 99")
        connection.commit()
    journal = (root.folder / JOURNAL).read_bytes()
    root.add(first)
    done = root.run("edge-agent", "run", "--config", "/etc/edge-agent/locker.toml", check=False)
    assert done.returncode == 1
    assert "written by a newer version" in done.stderr
    assert (root.folder / JOURNAL).read_bytes() == journal
    root.run("apt-get", "purge", "-y", "-qq", "edge-agent")


def test_a_local_profile_takes_precedence_over_the_packaged_one(
    root: CleanRoot, packages: tuple[Path, Path], rig: Rig
) -> None:
    root.add(packages[0])
    configure(root, rig)
    own = root.folder / "etc/edge-agent/devices/waveshare-io-8ch.toml"
    shutil.copy(root.folder / "usr/share/edge-agent/devices/waveshare-io-8ch.toml", own)
    check = ("edge-agent", "check", "--config", "/etc/edge-agent/locker.toml")
    root.run(*check)
    own.write_text("no = 'profile'", encoding="utf-8")
    assert root.run(*check, check=False).returncode == 2
    root.run("apt-get", "purge", "-y", "-qq", "edge-agent")
