"""The gateway's service under the real systemd: ready, hardened, watched, stopped, upgraded, removed.

Needs root and Debian's mirror; run by `make deb-test`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.package.clean_root import clean_root
from tests.package.test_gateway_root import CONFIG, configure
from tests.package.test_systemd import Booted
from tests.support.bench import wait_for
from tools.measure.rig import DEMO, Rig
from tools.package.__main__ import make, project_version
from tools.package.gateway import GATEWAY

pytestmark = pytest.mark.skipif("DEB_TEST" not in os.environ, reason="run by `make deb-test`, as root")

UNIT = "edge-gateway"
STOP_US = 2_000_000


@contextmanager
def booted(folder: Path) -> Iterator[tuple[Booted, Rig]]:
    """The package in a root that was just switched on, without a configuration; and a broker."""
    rig = Rig(folder, None, DEMO)
    try:
        with clean_root(folder / "root") as root:
            rig.start_broker()
            root.install("systemd")
            root.add(make("amd64", project_version(), folder, GATEWAY))
            shutil.copy(
                make("amd64", f"{project_version()}+next", folder, GATEWAY), root.folder / "root" / "next.deb"
            )
            machine = Booted(root, folder / "boot.log")
            try:
                yield machine, rig
            finally:
                machine.close()
    finally:
        rig.close()


def test_the_service_lives_under_systemd(tmp_path: Path) -> None:
    with booted(tmp_path) as (machine, rig):
        assert machine.of_unit("ActiveState", UNIT) == "inactive"  # it waits for a configuration
        assert machine.run("systemctl", "is-enabled", UNIT) == "enabled"
        configure(machine.root, rig)
        machine.run("systemctl", "start", UNIT, check=False)  # returns when it is ready
        log = machine.run("journalctl", "-u", UNIT, "--no-pager")
        assert machine.of_unit("ActiveState", UNIT) == "active", log
        wait_for(lambda: machine.of_unit("StatusText", UNIT) == "serving, broker connected", 30)
        assert machine.of_unit("NRestarts", UNIT) == "0"
        hardening(machine)
        stops_in_time(machine)
        watchdog(machine)
        upgrade_and_purge(machine)


def hardening(machine: Booted) -> None:
    """No privileges; its files are its own; the configuration's folder is as the package left it."""
    status = machine.run("cat", f"/proc/{machine.of_unit('MainPID', UNIT)}/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(facts["CapBnd"], 16) == 0
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    seen = machine.run("stat", "-c", "%a %U %G", "/etc/edge-gateway", "/var/lib/edge-gateway/gateway.db")
    assert seen.splitlines() == ["2750 root edge-gateway", "600 edge-gateway edge-gateway"]
    assert "mode is different" not in machine.run("journalctl", "-u", UNIT, "--no-pager")


def stops_in_time(machine: Booted) -> None:
    """As systemd measures it, with nothing under way."""
    machine.run("systemctl", "stop", UNIT)
    assert machine.of_unit("Result", UNIT) == "success"
    ended = int(machine.of_unit("InactiveEnterTimestampMonotonic", UNIT))
    took_us = ended - int(machine.of_unit("ActiveExitTimestampMonotonic", UNIT))
    assert took_us < STOP_US


def watchdog(machine: Booted) -> None:
    """A gateway that stands still is killed and started again."""
    short = r"[Service]\nWatchdogSec=3\nTimeoutAbortSec=2\n"
    machine.run("mkdir", "-p", f"/run/systemd/system/{UNIT}.service.d")
    machine.run("sh", "-c", f"printf '{short}' >/run/systemd/system/{UNIT}.service.d/short.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", UNIT)
    before = machine.of_unit("MainPID", UNIT)
    machine.run("sh", "-c", f"kill -STOP {before}")
    wait_for(lambda: machine.of_unit("NRestarts", UNIT) == "1", 60)
    wait_for(lambda: machine.of_unit("ActiveState", UNIT) == "active", 60)
    assert machine.of_unit("MainPID", UNIT) not in ("0", before)
    assert "Watchdog timeout" in machine.run("journalctl", "-u", UNIT, "--no-pager")


def upgrade_and_purge(machine: Booted) -> None:
    """The new version runs as soon as it is there; after purge nothing does."""
    before = machine.of_unit("MainPID", UNIT)
    machine.run("dpkg", "-i", "/root/next.deb")
    wait_for(lambda: machine.of_unit("StatusText", UNIT) == "serving, broker connected", 30)
    running = machine.of_unit("MainPID", UNIT)
    assert running != before
    assert machine.run("test", "-e", CONFIG) == ""
    machine.run("dpkg", "--purge", UNIT)
    assert machine.of_unit("LoadState", UNIT) == "not-found"
    for place in (f"/proc/{running}", "/etc/edge-gateway", "/var/lib/edge-gateway", "/usr/lib/edge-gateway"):
        assert machine.run("test", "!", "-e", place) == ""
