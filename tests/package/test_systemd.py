"""The service under the real systemd, in namespaces of its own: ready, hardened, watched, stopped, removed.

Needs root and Debian's mirror; run by `make deb-test`. What a container does not let systemd do (cgroup
controllers, devices) is not seen here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.package.clean_root import PROGRAM_PATH, CleanRoot, clean_root
from tests.package.test_root import configure, rig_behind_a_serial_server
from tests.support.bench import wait_for
from tools.measure.rig import Rig
from tools.package.__main__ import make, project_version

pytestmark = pytest.mark.skipif("DEB_TEST" not in os.environ, reason="run by `make deb-test`, as root")

BOOT = """
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t tmpfs tmpfs "$1/run"
mount -t tmpfs tmpfs "$1/tmp"
mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup" || {
    mount -t tmpfs tmpfs "$1/sys/fs/cgroup"
    mkdir "$1/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd,xattr cgroup "$1/sys/fs/cgroup/systemd"
}
# Not a chroot, in which no user namespace can be made (PrivateUsers=).
cd "$1"
pivot_root . .
umount -l .
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot . /lib/systemd/systemd --system --unit=multi-user.target
"""
STOP_US = 2_000_000


class Booted:
    """A root with systemd as its first process."""

    def __init__(self, root: CleanRoot, log: Path) -> None:
        self.root = root
        kinds = ["--pid", "--mount", "--uts", "--ipc", "--cgroup"]
        command = ["unshare", *kinds, "--fork", "--kill-child", "bash", "-c", BOOT, "boot", str(root.folder)]
        with log.open("wb") as output:
            self._outer = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        self.first = wait_for(lambda: children.read_text().split(), 10)[0]
        wait_for(self._is_up, 60, log.read_text(errors="replace"))

    def _is_up(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False) in ("running", "degraded")

    def run(self, *command: str, check: bool = True) -> str:
        """What a program says that runs in it."""
        enter = [
            "nsenter",
            "-t",
            self.first,
            "-m",
            "-p",
            "-u",
            "-i",
            "-C",
            f"--root=/proc/{self.first}/root",
        ]
        enter += [f"--wd=/proc/{self.first}/root", "env", "-i", f"PATH={PROGRAM_PATH}"]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def of_unit(self, name: str, unit: str = "edge-agent") -> str:
        """A property of a service."""
        return self.run("systemctl", "show", "-P", name, unit)

    def close(self) -> None:
        """Switches it off."""
        os.kill(int(self.first), signal.SIGKILL)
        self._outer.wait(10)


@contextmanager
def booted(folder: Path) -> Iterator[tuple[Booted, Rig]]:
    """The package, configured and enabled, in a root that was just switched on."""
    rigs = rig_behind_a_serial_server(folder)
    with clean_root(folder / "root") as root, rigs as rig:
        root.install("systemd", "udev")
        root.add(make("amd64", project_version(), folder))
        shutil.copy(make("amd64", f"{project_version()}+next", folder), root.folder / "root" / "next.deb")
        configure(root, rig)
        machine = Booted(root, folder / "boot.log")
        try:
            yield machine, rig
        finally:
            machine.close()


def test_the_service_lives_under_systemd(tmp_path: Path) -> None:
    with booted(tmp_path) as (machine, _):
        wait_for(lambda: machine.of_unit("ActiveState") == "active", 30)
        wait_for(lambda: "broker connected" in machine.of_unit("StatusText"), 30)
        assert machine.of_unit("NRestarts") == "0"
        hardening(machine)
        journal(machine)
        stops_in_time(machine)
        watchdog(machine)
        upgrade_and_purge(machine)


def hardening(machine: Booted) -> None:
    """No privileges, no dumps; and whether the clock is right is known all the same."""
    status = machine.run("cat", f"/proc/{machine.of_unit('MainPID')}/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(facts["CapBnd"], 16) == 0
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    names = ("dialout", "input", "systemd-journal", "tss", "edge-agent")
    groups = {machine.run("getent", "group", name).split(":")[2] for name in names}
    assert set(facts["Groups"].split()) == groups
    status = json.loads(machine.run("edge-agent", "status", "--json"))
    assert status["clock_synced"] is False
    machine.run("mkdir", "-p", "/run/systemd/timesync")
    machine.run("touch", "/run/systemd/timesync/synchronized")
    assert json.loads(machine.run("edge-agent", "status", "--json"))["clock_synced"] is True


def journal(machine: Booted) -> None:
    """Entries have fields."""
    (line,) = machine.run(
        "journalctl", "-o", "json", "EDGE_STATE=up", "_SYSTEMD_UNIT=edge-agent.service"
    ).splitlines()
    entry = json.loads(line)
    assert (entry["EDGE_EVENT"], entry["SYSLOG_IDENTIFIER"], entry["PRIORITY"]) == ("link", "edge-agent", "6")


def stops_in_time(machine: Booted) -> None:
    """As systemd measures it."""
    machine.run("systemctl", "stop", "edge-agent")
    assert machine.of_unit("Result") == "success"
    ended = int(machine.of_unit("InactiveEnterTimestampMonotonic"))
    assert ended - int(machine.of_unit("ActiveExitTimestampMonotonic")) < STOP_US


def watchdog(machine: Booted) -> None:
    """A daemon that stands still is killed and started again."""
    short = r"[Service]\nWatchdogSec=3\nTimeoutAbortSec=2\n"
    machine.run("mkdir", "-p", "/run/systemd/system/edge-agent.service.d")
    machine.run("sh", "-c", f"printf '{short}' >/run/systemd/system/edge-agent.service.d/short.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "edge-agent")
    before = machine.of_unit("MainPID")
    machine.run("sh", "-c", f"kill -STOP {before}")
    wait_for(lambda: machine.of_unit("NRestarts") == "1", 60)
    wait_for(lambda: machine.of_unit("ActiveState") == "active", 30)
    assert machine.of_unit("MainPID") not in ("0", before)
    assert "Watchdog timeout" in machine.run("journalctl", "-u", "edge-agent", "--no-pager")


def upgrade_and_purge(machine: Booted) -> None:
    """The new version runs as soon as it is there; after purge nothing does."""
    before = machine.of_unit("MainPID")
    machine.run("dpkg", "-i", "/root/next.deb")
    wait_for(lambda: "broker connected" in machine.of_unit("StatusText"), 30)
    running = machine.of_unit("MainPID")
    assert running != before
    assert json.loads(machine.run("edge-agent", "status", "--json"))["agent_version"].endswith("+next")
    machine.run("dpkg", "--purge", "edge-agent")
    assert machine.of_unit("LoadState") == "not-found"
    for place in (
        f"/proc/{running}",
        "/etc/edge-agent",
        "/var/lib/edge-agent",
        "/var/lib/edge-agent-mark",
        "/run/edge-agent",
        "/usr/lib/edge-agent",
    ):
        assert machine.run("test", "!", "-e", place) == ""
