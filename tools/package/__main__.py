"""`python -m tools.package`: the Debian packages, by default one for each architecture, into `dist/`.

Exit codes: 0 all made, 1 one could not be made, 2 bad usage.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from tools.bench.settings import REPOSITORY
from tools.package.deb import build_deb
from tools.package.tree import build_tree
from tools.package.wheels import ARCHITECTURES, NoWheel, download


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and makes the packages; returns the exit code."""
    parser = argparse.ArgumentParser(prog="package", description="Makes Debian packages of the daemon.")
    parser.add_argument("--arch", action="append", choices=sorted(ARCHITECTURES), help="default: all")
    parser.add_argument("--version", default=project_version(), help="default: that of pyproject.toml")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", metavar="FOLDER")
    options = parser.parse_args(arguments)
    if shutil.which("dpkg-deb") is None:
        print("package: dpkg-deb is missing; this works on Debian and its like", file=sys.stderr)
        return 1
    failed = False
    for name in options.arch or ARCHITECTURES:
        try:
            print(make(name, options.version, options.output))
            given = [package for _, package in ARCHITECTURES[name].from_debian if package]
            if given:
                print(f"  no ready wheels of some libraries for {name}: it depends on {', '.join(given)}")
        except NoWheel as error:
            failed = True
            print(f"package: no ready wheel: {error}", file=sys.stderr)
    return int(failed)


def project_version() -> str:
    """The version in pyproject.toml."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    version: str = tomllib.loads(text)["project"]["version"]
    return version


def make(name: str, version: str, output: Path) -> Path:
    """Makes one package and returns its path. Raises `NoWheel`."""
    architecture = ARCHITECTURES[name]
    with tempfile.TemporaryDirectory(prefix="package-") as folder:
        requirements = REPOSITORY / "requirements" / "device.txt"
        wheels = download(requirements, architecture, Path(folder) / "wheels")
        root = Path(folder) / "root"
        root.mkdir()
        build_tree(root, wheels, architecture, version)
        return build_deb(root, architecture, version, output)


if __name__ == "__main__":
    sys.exit(main())
