"""What a package is, and the parts of its file layout that daemon and gateway share."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.bench.settings import REPOSITORY
from tools.package.wheels import PYTHON, Architecture, unpack

LEFT_OUT = {"__pycache__", "simulated"}
"""Folders of the source that no machine needs."""


@dataclass(frozen=True, slots=True)
class Package:
    """One Debian package; also the name of its command, its user and its folders.

    `requirements`: the file of its pins. `private`: folders that only root and its group may read.
    `fill(root, architecture, version)` puts everything but libraries and control files into a folder.
    """

    name: str
    requirements: str
    architectures: tuple[str, ...]
    relations: str
    description: str
    private: tuple[str, ...]
    module: str
    fill: Callable[[Path, Path, str], None]
    commands: tuple[str, ...] = ()
    """Executable files besides the environment's own command."""

    @property
    def home(self) -> Path:
        """The private virtual environment."""
        return Path("usr/lib") / self.name

    @property
    def site(self) -> Path:
        """The environment's libraries."""
        return self.home / "lib" / f"python{PYTHON}" / "site-packages"

    @property
    def doc(self) -> Path:
        """Its pages and examples."""
        return Path("usr/share/doc") / self.name


def build_tree(
    root: Path, package: Package, wheels: list[Path], architecture: Architecture, version: str
) -> None:
    """Fills an empty folder with everything but the control files."""
    site = root / package.site
    site.mkdir(parents=True)
    for wheel in wheels:
        unpack(wheel, site)
    for name in architecture.links:
        (site / name).symlink_to(f"/usr/lib/python3/dist-packages/{name}")
    _make_environment(root, package)
    package.fill(root, site, version)
    (root / package.doc / "copyright").write_text(
        f"The files below /{package.site} that do not belong to\nedge_agent or cloud_gateway are other "
        "people's work; the licence of each stands in its own *.dist-info folder there.\n",
        encoding="utf-8",
    )


def copy_source(name: str, target: Path) -> None:
    """Copies a package or a module of ours."""

    def left_out(_folder: str, names: list[str]) -> set[str]:
        return LEFT_OUT & set(names)

    source = REPOSITORY / name
    if source.is_file():
        copy(source, target)
    else:
        shutil.copytree(source, target, ignore=left_out)


def set_version(init: Path, version: str) -> None:
    """Writes the version of the package into our `__init__.py`."""
    text, count = re.subn(
        r'__version__ = ".*"', f'__version__ = "{version}"', init.read_text(encoding="utf-8")
    )
    assert count == 1
    init.write_text(text, encoding="utf-8")


def copy(source: Path, target: Path) -> None:
    """Copies a file, and makes its folders."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _make_environment(root: Path, package: Package) -> None:
    """Makes what `python3 -m venv --without-pip` makes, without a path of the building machine."""
    home = root / package.home
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to(f"/usr/bin/python{PYTHON}")
    (home / "bin" / "python").symlink_to("python3")
    config = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n"
    (home / "pyvenv.cfg").write_text(config, encoding="utf-8")
    command = home / "bin" / package.name
    command.write_text(
        f"#!/{package.home}/bin/python -I\nimport sys\n\n"
        f"from {package.module}.__main__ import main\n\nsys.exit(main())\n",
        encoding="utf-8",
    )
    command.chmod(0o755)
    (root / "usr/bin").mkdir()
    (root / "usr/bin" / package.name).symlink_to(f"../lib/{package.name}/bin/{package.name}")
