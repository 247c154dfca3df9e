"""The real machine: versions side by side on the disk, apt, systemd, and the daemon's local API."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edge_updater.logic import FetchFailed, Health, Unusable
from edge_updater.packages import Packages
from edge_updater.state import State, Wanted, from_json, to_json, wanted_of

UNIT = "edge-agent.service"
ANSWER_S = 2.0
"""How long the local API may take to answer."""
COMMAND_S = 60.0
CHECK_S = 30.0
UPGRADING = "upgrading the journal"
"""What the daemon tells systemd while it does."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is. `base`: the version that the package manager installed; `data`: the updater's own
    folder; `wanted`: what the daemon hands over; `config`: the machine's file."""

    base: Path = Path("/usr/lib/edge-agent")
    data: Path = Path("/var/lib/edge-agent-updater")
    wanted: Path = Path("/var/lib/edge-agent/wanted-version.json")
    socket: Path = Path("/run/edge-agent/agent.sock")
    config: Path = Path("/etc/edge-agent/locker.toml")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")

    @property
    def state(self) -> Path:
        """The state; the daemon reads the outcome in it."""
        return self.data / "state.json"

    @property
    def link(self) -> Path:
        """The version in use, if it is not the base."""
        return self.data / "current"

    @property
    def versions(self) -> Path:
        """The unpacked versions, each in a folder of its name."""
        return self.data / "versions"


class SystemHost:
    """`Host` of a machine with systemd and apt; `systemctl` is the program that stands for systemd."""

    def __init__(self, places: Places, packages: Packages, systemctl: str = "systemctl") -> None:
        self._places = places
        self._packages = packages
        self._systemctl = systemctl
        self.boot_id = places.boot_id.read_text(encoding="ascii").strip()
        places.versions.mkdir(mode=0o755, parents=True, exist_ok=True)

    def wanted(self) -> Wanted | None:
        """See `Host.wanted`. A file that cannot be read is no wanted version."""
        try:
            return wanted_of(json.loads(self._places.wanted.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError):
            return None

    def load(self) -> State:
        """See `Host.load`. A damaged state is none: the link shows which version is in use."""
        try:
            return from_json(self._places.state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return State()

    def save(self, state: State) -> None:
        """See `Host.save`."""
        part = self._places.state.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            file.write(to_json(state))
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(self._places.state)
        sync_folder(self._places.data)

    def current(self) -> str:
        """See `Host.current`."""
        link = self._places.link
        return link.readlink().name if link.is_symlink() and link.exists() else self._base_version()

    def _base_version(self) -> str:
        return (self._places.base / "version").read_text(encoding="utf-8").strip()

    def has(self, version: str) -> bool:
        """See `Host.has`. A folder of a version appears by one rename, when it is whole."""
        return version == self._base_version() or (self._places.versions / version).is_dir()

    def fetch(self, version: str) -> None:
        """See `Host.fetch`."""
        target = self._places.versions / version
        unpacking = self._places.data / "unpacking"
        shutil.rmtree(unpacking, ignore_errors=True)
        unpacking.mkdir()
        part = unpacking / version
        self._packages.unpack(version, part)
        self._check(part, version)
        sync_tree(part)
        part.rename(target)
        sync_folder(target.parent)

    def _check(self, tree: Path, version: str) -> None:
        """Lets the version judge the machine's configuration. Raises `Unusable`."""
        command = [
            str(tree / "bin/python3"),
            "-I",
            "-m",
            "edge_agent",
            "check",
            "--config",
            str(self._places.config),
        ]
        done = _run(command, CHECK_S)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            why = lines[0] if lines else f"exit code {done.returncode}"
            raise Unusable(f"version {version} does not take the machine's configuration: {why}")

    def switch(self, version: str) -> None:
        """See `Host.switch`."""
        link = self._places.link
        if version == self._base_version():
            link.unlink(missing_ok=True)
        else:
            new = link.with_name("current.part")
            new.unlink(missing_ok=True)
            new.symlink_to(f"versions/{version}")
            new.replace(link)
        sync_folder(link.parent)

    def restart(self, *, at_once: bool = False) -> None:
        """See `Host.restart`. A start that fails shows in the health."""
        if at_once:
            _run([self._systemctl, "kill", "--signal=KILL", UNIT], COMMAND_S)
        _run([self._systemctl, "restart", UNIT], COMMAND_S)

    def health(self) -> Health:
        """See `Host.health`."""
        restarts, status = self._supervisor()
        upgrading = status == UPGRADING
        said = readiness(self._places.socket)
        if said is None:
            return Health(answers=False, restarts=restarts, upgrading=upgrading)
        return Health(
            answers=True,
            version=str(said.get("version", "")),
            quiet=said.get("quiet") is True,
            broker=said.get("broker") is True,
            journal=said.get("journal") is True,
            buses=frozenset(_texts(said.get("buses"))),
            restarts=restarts,
            upgrading=upgrading,
        )

    def _supervisor(self) -> tuple[int, str]:
        done = _run([self._systemctl, "show", "--property=NRestarts,StatusText", UNIT], COMMAND_S)
        found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        number = found.get("NRestarts", "0")
        return int(number) if number.isdecimal() else 0, found.get("StatusText", "")

    def remove_others(self, *kept: str) -> None:
        """See `Host.remove_others`."""
        for folder in self._places.versions.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def readiness(path: Path) -> dict[str, object] | None:
    """The answer of `/v1/readiness` at a local API; None if there is none."""
    connection = http.client.HTTPConnection("agent")
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(ANSWER_S)
        connection.sock.connect(str(path))
        connection.request("GET", "/v1/readiness")
        response = connection.getresponse()
        said = json.loads(response.read()) if response.status == 200 else None
        return said if isinstance(said, dict) else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def sync_folder(folder: Path) -> None:
    """Puts a folder's entries on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(tree: Path) -> None:
    """Puts every file of a tree on the disk, and then its folders."""
    for folder, _, names in os.walk(tree, topdown=False):
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(Path(folder))


def _run(command: list[str], limit_s: float) -> subprocess.CompletedProcess[str]:
    """Runs a program; one that hangs or is missing counts as failed."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    return subprocess.CompletedProcess(command, 127, "", f"{command[0]} could not be run")


__all__ = ["FetchFailed", "Places", "SystemHost", "sync_folder", "sync_tree"]
