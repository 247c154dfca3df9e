"""A clean Debian 12 in a folder, and hands on it: packages, the daemon, its local API."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.bench import wait_for

SUITE = "bookworm"
KEPT = {"var/log", "var/cache", "var/lib/dpkg", "var/lib/apt", "proc", "tmp", "dev", "run"}
"""Below these the package manager keeps its own notes, and the kernel its."""
BACKUPS = {"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-"}
SOCKET = "run/edge-agent/agent.sock"
PROGRAM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def mirror() -> str:
    """The mirror that this machine's apt uses."""
    lists = Path("/etc/apt")
    for file in [*sorted((lists / "sources.list.d").glob("debian*")), lists / "sources.list"]:
        if file.exists():
            found = re.search(
                r"^(?:URIs:|deb) +(?:\[.*?\] +)?(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE
            )
            if found is not None:
                return found[1]
    return "http://deb.debian.org/debian"


class CleanRoot:
    """A root made by debootstrap. Programs run in it by chroot; the network is the machine's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemon: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Installs the smallest Debian, and what our package depends on."""
        program = shutil.which("debootstrap") or "/usr/sbin/debootstrap"
        command = [program, "--variant=minbase", SUITE, str(self.folder), mirror()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for name in ("resolv.conf", "hosts"):
            shutil.copy(f"/etc/{name}", self.folder / "etc" / name)
        subprocess.run(["mount", "-t", "proc", "proc", str(self.folder / "proc")], check=True)
        self.run("apt-get", "update")
        self.install("python3", "adduser")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a program in it, as its root."""
        proxies = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
        environment = {"PATH": PROGRAM_PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", **proxies}
        chroot = shutil.which("chroot") or "/usr/sbin/chroot"
        done = subprocess.run(
            [chroot, str(self.folder), *command], capture_output=True, text=True, check=False, env=environment
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def install(self, *packages: str) -> None:
        """Installs packages with apt, or our own file."""
        self.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
        self.run("apt-get", "clean")

    def add(self, deb: Path) -> None:
        """Installs a package file and what it depends on."""
        target = self.folder / "tmp" / deb.name
        shutil.copy(deb, target)
        self.run(
            "apt-get",
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "--allow-downgrades",
            f"/tmp/{deb.name}",
        )
        target.unlink()

    def listing(self) -> dict[str, str]:
        """Every path with what it is; files with a digest."""
        found = {}
        for folder, folders, files in os.walk(self.folder):
            here = Path(folder).relative_to(self.folder)
            folders[:] = [name for name in folders if str(here / name) not in KEPT]
            for name in (str(here / name) for name in (*folders, *files)):
                if name not in BACKUPS:
                    found[name] = _seen(self.folder / name)
        return found

    def start(self) -> None:
        """Runs the service's command as its user, and waits until its local API answers."""
        run = self.folder / "run" / "edge-agent"
        run.mkdir(exist_ok=True)
        self.run("chown", "edge-agent:edge-agent", "/run/edge-agent")
        setpriv = ["setpriv", "--reuid=edge-agent", "--regid=edge-agent", "--init-groups"]
        command = ["/usr/bin/edge-agent", "run", "--config", "/etc/edge-agent/locker.toml"]
        chroot = shutil.which("chroot") or "/usr/sbin/chroot"
        with (self.folder / "var/log/edge-agent.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [chroot, str(self.folder), *setpriv, *command],
                env={"PATH": PROGRAM_PATH},
                stdout=log,
                stderr=log,
            )
        wait_for((self.folder / SOCKET).exists, 30, self.log())

    def log(self) -> str:
        """What the daemon has logged so far."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "var/log/edge-agent.log").read_text()
        return ""

    def stop(self) -> int:
        """Ends the daemon as systemd would; its exit code."""
        assert self._daemon is not None
        self._daemon.terminate()
        code = self._daemon.wait(5)
        self._daemon = None
        return code

    def close(self) -> None:
        """Ends what runs, and gives the mount back."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
        subprocess.run(["umount", str(self.folder / "proc")], check=False)


def _seen(path: Path) -> str:
    """What stands at a place."""
    if path.is_symlink():
        return f"-> {os.readlink(path)}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder or device"


@contextmanager
def clean_root(folder: Path) -> Iterator[CleanRoot]:
    """A root for the length of a `with`."""
    root = CleanRoot(folder)
    try:
        root.make()
        yield root
    finally:
        root.close()
        if not (folder / "proc").is_mount():
            shutil.rmtree(folder, ignore_errors=True)
