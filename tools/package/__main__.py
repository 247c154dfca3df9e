"""`python -m tools.package`: the Debian packages of daemon and gateway, by default one for each architecture,
into `dist/`.

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
from tools.package.agent import AGENT
from tools.package.deb import build_deb
from tools.package.gateway import GATEWAY
from tools.package.layout import Package, build_tree
from tools.package.wheels import ARCHITECTURES, NoWheel, download

PACKAGES = {package.name: package for package in (AGENT, GATEWAY)}


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and makes the packages; returns the exit code."""
    about = "Makes Debian packages of daemon and gateway."
    parser = argparse.ArgumentParser(prog="package", description=about)
    parser.add_argument("--package", action="append", choices=sorted(PACKAGES), help="default: all")
    parser.add_argument("--arch", action="append", choices=sorted(ARCHITECTURES), help="default: all")
    parser.add_argument("--version", default=project_version(), help="default: that of pyproject.toml")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", metavar="FOLDER")
    options = parser.parse_args(arguments)
    if shutil.which("dpkg-deb") is None:
        print("package: dpkg-deb is missing; this works on Debian and its like", file=sys.stderr)
        return 1
    failed = False
    for package in (PACKAGES[name] for name in options.package or PACKAGES):
        for name in options.arch or package.architectures:
            if name not in package.architectures:
                print(f"package: {package.name} is not made for {name}", file=sys.stderr)
                failed = True
                continue
            try:
                print(make(name, options.version, options.output, package))
                given = [library for _, library in ARCHITECTURES[name].from_debian if library]
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


def make(name: str, version: str, output: Path, package: Package = AGENT) -> Path:
    """Makes one package and returns its path. Raises `NoWheel`."""
    architecture = ARCHITECTURES[name]
    with tempfile.TemporaryDirectory(prefix="package-") as folder:
        requirements = REPOSITORY / "requirements" / package.requirements
        wheels = download(requirements, architecture, Path(folder) / "wheels")
        root = Path(folder) / "root"
        root.mkdir()
        build_tree(root, package, wheels, architecture, version)
        return build_deb(root, package, architecture, version, output)


if __name__ == "__main__":
    sys.exit(main())
