"""Builds a `.deb` from a tree and its control files; its bytes depend only on its contents."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tools.package.layout import Package
from tools.package.wheels import Architecture

SCRIPTS = Path(__file__).parent / "debian"
"""The maintainer's scripts, in a folder for each package."""
SCRIPT_NAMES = ("postinst", "prerm", "postrm")
EPOCH = 1_767_225_600
"""The date of every file: 2026-01-01. `SOURCE_DATE_EPOCH` of the environment takes precedence."""
MAINTAINER = "edge-agent <edge-agent@localhost>"


def control_of(package: Package, architecture: Architecture, version: str, size_kb: int) -> str:
    """The file `control` (deb-control(5))."""
    depends = ["python3 (>= 3.11~)", "python3 (<< 3.12)", "libc6 (>= 2.34)", "adduser", "init-system-helpers"]
    depends += [name for _, name in architecture.from_debian if name]
    return (
        f"Package: {package.name}\nVersion: {version}\nArchitecture: {architecture.name}\n"
        f"Maintainer: {MAINTAINER}\nInstalled-Size: {size_kb}\nSection: net\nPriority: optional\n"
        f"Depends: {', '.join(depends)}\n{package.relations}{package.description}"
    )


def build_deb(
    root: Path,
    package: Package,
    architecture: Architecture,
    version: str,
    output: Path,
    packing: str = "xz",
) -> Path:
    """Makes `NAME_VERSION_ARCH.deb` of a tree in a folder; returns its path. `packing`: its `-Z`."""
    control = root / "DEBIAN"
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    size_kb = sum(-(-path.stat().st_size // 1024) for path in files)
    sums = [f"{_md5(path)}  {path.relative_to(root)}\n" for path in files]
    control.mkdir()
    text = control_of(package, architecture, version, size_kb)
    (control / "control").write_text(text, encoding="utf-8")
    (control / "md5sums").write_text("".join(sums), encoding="utf-8")
    for script in SCRIPT_NAMES:
        shutil.copyfile(SCRIPTS / package.name / script, control / script)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH))
    _settle(root, package, epoch)
    output.mkdir(parents=True, exist_ok=True)
    made = output / f"{package.name}_{version}_{architecture.name}.deb"
    command = ["dpkg-deb", "--root-owner-group", f"-Z{packing}", "--build", str(root), str(made)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return made


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _settle(root: Path, package: Package, epoch: int) -> None:
    """Sets every file's mode and date, whatever the building machine's umask and clock are."""
    scripts = {root / "DEBIAN" / name for name in SCRIPT_NAMES}
    scripts.add(root / package.home / "bin" / package.name)
    scripts |= {root / name for name in package.commands}
    private = {root / name for name in package.private}
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o750 if path in private else 0o755 if path.is_dir() or path in scripts else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
