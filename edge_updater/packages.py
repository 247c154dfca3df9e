"""Packages from a signed apt repository: fetched and verified by apt, unpacked by dpkg-deb."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edge_updater.logic import FetchFailed, Unusable

PACKAGE = "edge-agent"
TREE = Path("usr/lib/edge-agent")
"""The program in the package."""
FETCH_S = 1800.0
"""How long a download may take, on a slow mobile line."""
UNPACK_S = 300.0


class Packages:
    """Unpacks versions of the package; `sources` is an apt source list that names the repository and its key,
    `folder` keeps apt's lists and downloads apart from the system's."""

    def __init__(self, sources: Path, folder: Path) -> None:
        self._sources = sources
        self._folder = folder

    def unpack(self, version: str, target: Path) -> None:
        """Fetches a version and unpacks the program into a new folder. Raises `FetchFailed` and
        `Unusable`."""
        if not self._sources.exists():
            raise Unusable(f"no repository is configured: {self._sources} is missing")
        archive = self._download(version)
        whole = target.with_name(f"{target.name}.deb")
        shutil.rmtree(whole, ignore_errors=True)
        try:
            self._require_installed(archive)
            _run(["dpkg-deb", "--extract", str(archive), str(whole)], UNPACK_S, Unusable)
            (whole / TREE).rename(target)
            # Without it the first start would compile everything, and take too long.
            python = [str(target / "bin/python3"), "-I", "-B", "-m", "compileall", "-q", str(target / "lib")]
            _run(python, UNPACK_S, Unusable)
        finally:
            shutil.rmtree(whole, ignore_errors=True)
            archive.unlink(missing_ok=True)

    def _download(self, version: str) -> Path:
        downloads = self._folder / "downloads"
        shutil.rmtree(downloads, ignore_errors=True)
        for name in ("lists/partial", "cache/archives/partial", "downloads"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        _run(["apt-get", *self._options(), "update"], FETCH_S, FetchFailed)
        download = ["apt-get", *self._options(), "download", f"{PACKAGE}={version}"]
        _run(download, FETCH_S, FetchFailed, downloads)
        found = list(downloads.glob(f"{PACKAGE}_*.deb"))
        if len(found) != 1:
            raise FetchFailed(f"the repository has no version {version}")
        return found[0]

    def _options(self) -> list[str]:
        """apt uses our source list and folders only. It refuses what the key of the list has not signed."""
        values = {
            "Dir::Etc::SourceList": self._sources,
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": self._folder / "lists",
            "Dir::Cache": self._folder / "cache",
            "APT::Sandbox::User": "root",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "APT::Update::Error-Mode": "any",
        }
        return ["-qq", *(f"-o{key}={value}" for key, value in values.items())]

    def _require_installed(self, archive: Path) -> None:
        """Raises `Unusable` if the version needs packages that this machine does not have: those are for apt,
        and for somebody who can go there."""
        fields = _run(["dpkg-deb", "--field", str(archive), "Depends"], UNPACK_S, Unusable)
        for wanted in filter(None, (one.strip() for one in fields.split(","))):
            names = [alternative.split("(")[0].split(":")[0].strip() for alternative in wanted.split("|")]
            if not any(map(_installed, names)):
                raise Unusable(f"it needs the package {wanted}, which is not installed")


def _installed(name: str) -> bool:
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() == "installed"


def _run(command: list[str], limit_s: float, error: type[Exception], folder: Path | None = None) -> str:
    """The output of a program. Raises `error` with its last line if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, cwd=folder
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise error(f"{Path(command[0]).name}: {problem}") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise error(f"{Path(command[0]).name}: {lines[-1] if lines else done.returncode}")
    return done.stdout
