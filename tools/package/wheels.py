"""Wheels of pinned requirements for another architecture, unpacked as an installer would do it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

PYTHON = "3.11"
"""Debian 12's version."""
GLIBC = (36, 35, 34, 31, 28, 27, 24, 17)
"""Minor versions of glibc 2 that wheels are built for and Debian 12 (2.36) runs, newest first."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One of Debian's architectures; `from_debian`: requirements without a wheel, and the package that has
    them.

    `links`: names below `dist-packages` that the private environment links from there.
    """

    name: str
    machine: str
    triplet: str
    from_debian: tuple[tuple[str, str], ...] = ()
    links: tuple[str, ...] = ()

    @property
    def platforms(self) -> list[str]:
        """The tags of the wheels that fit (PEP 600)."""
        return [*(f"manylinux_2_{minor}_{self.machine}" for minor in GLIBC), f"manylinux2014_{self.machine}"]


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture("amd64", "x86_64", "x86_64-linux-gnu"),
        Architecture("arm64", "aarch64", "aarch64-linux-gnu"),
        Architecture(
            "armhf",
            "armv7l",
            "arm-linux-gnueabihf",
            from_debian=(
                ("cffi", "python3-cffi-backend"),
                ("pycparser", ""),  # only cffi's compiler needs it
                ("pynacl", "python3-nacl"),
                ("pyyaml", "python3-yaml"),
            ),
            links=("nacl", "yaml", "_cffi_backend.cpython-311-arm-linux-gnueabihf.so"),
        ),
    )
}


class NoWheel(Exception):
    """A requirement has no wheel for an architecture; the message names it and the remedy."""


def requirements_for(text: str, architecture: Architecture) -> str:
    """The pinned requirements without those that Debian provides."""
    apart = {name for name, _ in architecture.from_debian}
    blocks = re.split(r"\n(?=\S)", text.strip())
    return "\n".join(b for b in blocks if b.split("==")[0].lower() not in apart) + "\n"


def download(requirements: Path, architecture: Architecture, folder: Path) -> list[Path]:
    """Fetches the wheels, hashes checked, from the index that pip is configured with. Raises `NoWheel`."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    chosen = folder / "requirements.txt"
    chosen.write_text(
        requirements_for(requirements.read_text(encoding="utf-8"), architecture), encoding="utf-8"
    )
    tags = [f"--platform={platform}" for platform in architecture.platforms]
    tags += [f"--abi={abi}" for abi in ("cp311", "abi3", "none")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--no-deps", "--require-hashes", "--implementation=cp"]
    command += [f"--python-version={PYTHON}", *tags, "--dest", str(folder), "--requirement", str(chosen)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoWheel(f"{architecture.name}: {done.stderr.strip().splitlines()[-1]}")
    return sorted(folder.glob("*.whl"))


def unpack(wheel: Path, site_packages: Path) -> None:
    """Puts the contents of a wheel where Python finds them; scripts and headers are left out (PEP 427)."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            place = name
            top, _, rest = name.partition("/")
            if top.endswith(".data"):
                kind, _, place = rest.partition("/")
                if kind not in ("purelib", "platlib"):
                    continue
            target = (site_packages / place).resolve()
            if name.endswith("/") or not target.is_relative_to(site_packages.resolve()):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
