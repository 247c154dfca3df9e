"""Three machines from real packages under the real systemd: a good version, a poisoned one, power cuts.

Needs root and Debian's mirror; run by `make fleet-update`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_updater.host import readiness
from tests.package.clean_root import CleanRoot, clean_root
from tests.package.test_root import PARCEL, configure, rig_behind_a_serial_server
from tests.package.test_systemd import Booted
from tests.support.bench import wait_for
from tools.measure.rig import API, Rig
from tools.package.__main__ import make, project_version
from tools.repo.__main__ import PUBLIC_KEY, end_agent, make_key, publish

pytestmark = pytest.mark.skipif("DEB_TEST" not in os.environ, reason="run by `make fleet-update`, as root")

GOOD, POISONED = f"{project_version()}+good", f"{project_version()}+poisoned"
PROVES_GOOD_S = 8
STATE = "var/lib/edge-agent-updater/state.json"
WANTED = "var/lib/edge-agent/wanted-version.json"
POISON = "\nraise SystemExit('poisoned')\n"
MOST_OFF_AIR_S = 10.0


def poisoned(deb: Path, folder: Path) -> Path:
    """The package with a daemon that ends at once; its commands work, as the check before the switch needs
    them."""
    root = folder / "poisoned"
    subprocess.run(["dpkg-deb", "-R", str(deb), str(root)], check=True)
    service = next(root.glob("usr/lib/edge-agent/lib/*/site-packages/edge_agent/app/service.py"))
    service.write_text(service.read_text(encoding="utf-8") + POISON, encoding="utf-8")
    (root / "usr/lib/edge-agent/version").write_text(f"{POISONED}\n")
    control = root / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {GOOD}", f"Version: {POISONED}"))
    made = folder / f"edge-agent_{POISONED}_amd64.deb"
    subprocess.run(["dpkg-deb", "-Zgzip", "--build", str(root), str(made)], check=True)
    return made


class Machine:
    """A root with systemd, its rig, and the hands of the operator and of the power company."""

    def __init__(self, root: CleanRoot, rig: Rig, folder: Path) -> None:
        self.root, self.rig, self.folder = root, rig, folder
        self.boots = 0
        self.boot()

    def boot(self) -> None:
        self.boots += 1
        self.booted = Booted(self.root, self.folder / f"boot-{self.boots}.log")

    def end(self) -> None:
        self.booted.close()

    def cut_power(self) -> None:
        self.booted.close()
        self.boot()

    def want(self, version: str, request_id: str) -> None:
        """What the daemon writes for a service command `update`."""
        text = json.dumps({"version": version, "request_id": request_id})
        (self.root.folder / WANTED).write_text(text)

    def state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.root.folder / STATE).read_text())
        except (OSError, ValueError):
            return {"trial": None, "outcome": None}
        return found

    def outcome(self, request_id: str) -> dict[str, Any] | None:
        found = self.state()["outcome"]
        return found if found is not None and found["wanted"]["request_id"] == request_id else None

    def readiness(self) -> dict[str, Any]:
        """What the daemon answers the updater."""
        socket = f"/proc/{self.booted.first}/root/run/edge-agent/agent.sock"
        return readiness(Path(socket)) or {}

    def answers(self) -> bool:
        return bool(self.readiness())

    def version(self) -> str:
        return str(self.readiness().get("version", ""))

    def log(self) -> str:
        return self.booted.run("journalctl", "-u", "edge-agent-updater", "--no-pager", check=False)


@contextmanager
def machines(folder: Path, number: int) -> Iterator[list[Machine]]:
    """Machines of one Debian, each with the package, a repository and a cabinet of its own."""
    base_deb = make("amd64", project_version(), folder / "debs")
    good_deb = make("amd64", GOOD, folder / "debs")
    repository, gnupg = folder / "repo", folder / "gnupg"
    make_key(gnupg)
    publish([good_deb, poisoned(good_deb, folder)], repository, "stable", gnupg)
    end_agent(gnupg)
    with ExitStack() as stack:
        first = stack.enter_context(clean_root(folder / "root-0"))
        first.install("systemd", "udev", "apt")
        first.add(base_deb)
        shutil.copytree(repository, first.folder / "srv" / "repo")
        shutil.copy(repository / PUBLIC_KEY, first.folder / "etc/edge-agent")
        source = f"deb [arch=amd64 signed-by=/etc/edge-agent/{PUBLIC_KEY}] file:/srv/repo stable main\n"
        (first.folder / "etc/edge-agent/updates.list").write_text(source)
        quick = first.folder / "etc/systemd/system/edge-agent-updater.service.d"
        quick.mkdir(parents=True)
        command = f"/usr/bin/edge-agent-updater --proves-good-s {PROVES_GOOD_S}"
        (quick / "quick.conf").write_text(f"[Service]\nExecStart=\nExecStart={command}\n")
        subprocess.run(["umount", str(first.folder / "proc")], check=True)
        roots = [first]
        for place in range(1, number):  # before the first one is switched on
            roots.append(CleanRoot(folder / f"root-{place}"))
            subprocess.run(["cp", "-a", str(first.folder), str(roots[-1].folder)], check=True)
            stack.callback(shutil.rmtree, roots[-1].folder, ignore_errors=True)
        made = []
        for place, root in enumerate(roots):
            own = folder / f"machine-{place}"
            own.mkdir()
            rig = stack.enter_context(rig_behind_a_serial_server(own))
            configure(root, rig)
            machine = Machine(root, rig, own)
            stack.callback(machine.end)
            made.append(machine)
        yield made


class Watch:
    """Asks a machine's daemon all the time whether it answers, from outside."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.longest_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        answered_s = time.monotonic()
        while not self._ended.wait(0.05):
            if self._machine.answers():
                answered_s = time.monotonic()
            self.longest_s = max(self.longest_s, time.monotonic() - answered_s)


def ready(machine: Machine) -> None:
    wait_for(machine.answers, 60, machine.log())
    wait_for(lambda: "broker connected" in machine.booted.of_unit("StatusText"), 60)


def quiet(machine: Machine) -> None:
    """The doors were read at the start: for a minute that counts as movement."""
    wait_for(lambda: machine.readiness().get("quiet"), 120, str(machine.readiness()))


def test_three_machines_take_a_good_version_and_give_a_bad_one_back(tmp_path: Path) -> None:
    rng = random.Random(1)
    with machines(tmp_path, 3) as fleet:
        for machine in fleet:
            ready(machine)
        for machine in fleet:
            quiet(machine)
        codes = [machine.rig.api.call("POST", f"{API}/reservations", PARCEL) for machine in fleet]
        taken(fleet[0])
        given_back(fleet[1])
        cut_off(fleet[2], rng)
        for machine, made in zip(fleet, codes, strict=True):
            ready(machine)
            assert machine.rig.sim.call("GET", "/actuations") == []  # no door has moved
            machine.booted.run("edge-agent", "code", made["drop_off_code"])
            assert len(machine.rig.sim.call("GET", "/actuations")) == 1


def taken(machine: Machine) -> None:
    """The good version comes into use, and is kept."""
    with Watch(machine) as watch:
        machine.want(GOOD, "r-1")
        wait_for(lambda: machine.outcome("r-1"), 300, machine.log())
    assert machine.outcome("r-1") == {
        "wanted": {"version": GOOD, "request_id": "r-1"},
        "result": "APPLIED",
        "detail": "",
    }
    assert machine.version() == GOOD
    sys.stderr.write(f"good version: off the air for {watch.longest_s:.1f} s\n")
    assert watch.longest_s < MOST_OFF_AIR_S


def given_back(machine: Machine) -> None:
    """The poisoned version is started, and taken back by itself."""
    with Watch(machine) as watch:
        machine.want(POISONED, "r-1")
        wait_for(lambda: machine.outcome("r-1"), 300, machine.log())
        wait_for(machine.answers, 30)
    found = machine.outcome("r-1")
    assert found is not None
    assert found["result"] == "REVERTED", found
    assert machine.version() == project_version()
    sys.stderr.write(f"poisoned version: off the air for {watch.longest_s:.1f} s ({found['detail']})\n")
    assert watch.longest_s < MOST_OFF_AIR_S


def cut_off(machine: Machine, rng: random.Random) -> None:
    """The power fails at random instants of an update, which ends all the same."""
    for number, version in enumerate((GOOD, POISONED, project_version(), GOOD)):
        request_id = f"r-{number}"
        quiet(machine)
        machine.want(version, request_id)
        for _ in range(rng.randrange(1, 3)):
            ends_s = time.monotonic() + rng.uniform(0.0, 20.0)
            wait_for(partial(_passed, ends_s), 30)
            machine.cut_power()
            wait_for(machine.answers, 60, machine.log())
        wait_for(partial(machine.outcome, request_id), 400, machine.log())
        found = machine.outcome(request_id)
        assert found is not None
        assert found["result"] == ("REVERTED" if version == POISONED else "APPLIED"), found
    assert machine.version() == GOOD


def _passed(instant_s: float) -> bool:
    return time.monotonic() >= instant_s
