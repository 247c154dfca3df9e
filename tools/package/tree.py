"""The file layout of a machine with the package."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

from edge_agent.cli.completion import Shell, script
from tools.bench.settings import REPOSITORY
from tools.package.wheels import PYTHON, Architecture, unpack

HOME = Path("usr/lib/edge-agent")
"""The private virtual environment."""
SHARE = Path("usr/share/edge-agent")
DOC = Path("usr/share/doc/edge-agent")
LEFT_OUT = {"__pycache__", "simulated"}
"""Folders of the source that a machine does not need."""
COMMAND = f"""#!/{HOME}/bin/python -I
import sys

from edge_agent.__main__ import main

sys.exit(main())
"""
UNITS = {
    "edge-agent.service": "usr/lib/systemd/system/edge-agent.service",
    "edge-agent.sysusers": "usr/lib/sysusers.d/edge-agent.conf",
    "edge-agent.tmpfiles": "usr/lib/tmpfiles.d/edge-agent.conf",
    "60-edge-agent.rules": "usr/lib/udev/rules.d/60-edge-agent.rules",
}
COMPLETIONS = {
    Shell.BASH: "usr/share/bash-completion/completions/edge-agent",
    Shell.ZSH: "usr/share/zsh/vendor-completions/_edge-agent",
    Shell.FISH: "usr/share/fish/vendor_completions.d/edge-agent.fish",
}
PAGES = ("README.md", "docs/guide.md", "docs/installation.md", "docs/operations.md", "docs/devices.md")
COPYRIGHT = """The files below /usr/lib/edge-agent/lib/python3.11/site-packages that do not belong to
edge_agent itself are other people's work; the licence of each stands in its own *.dist-info folder there.
"""


def build_tree(root: Path, wheels: list[Path], architecture: Architecture, version: str) -> None:
    """Fills an empty folder with everything but the control files."""
    site = root / HOME / "lib" / f"python{PYTHON}" / "site-packages"
    site.mkdir(parents=True)
    for wheel in wheels:
        unpack(wheel, site)
    for name in architecture.links:
        (site / name).symlink_to(f"/usr/lib/python3/dist-packages/{name}")
    _copy_source(site / "edge_agent", version)
    _make_environment(root)
    _copy_data(root)


def _copy_source(target: Path, version: str) -> None:
    def left_out(_folder: str, names: list[str]) -> set[str]:
        return LEFT_OUT & set(names)

    shutil.copytree(REPOSITORY / "edge_agent", target, ignore=left_out)
    init = target / "__init__.py"
    text, count = re.subn(
        r'__version__ = ".*"', f'__version__ = "{version}"', init.read_text(encoding="utf-8")
    )
    assert count == 1
    init.write_text(text, encoding="utf-8")


def _make_environment(root: Path) -> None:
    """Makes what `python3 -m venv --without-pip` makes, without a path of the building machine."""
    home = root / HOME
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to(f"/usr/bin/python{PYTHON}")
    (home / "bin" / "python").symlink_to("python3")
    config = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n"
    (home / "pyvenv.cfg").write_text(config, encoding="utf-8")
    command = home / "bin" / "edge-agent"
    command.write_text(COMMAND, encoding="utf-8")
    command.chmod(0o755)
    (root / "usr/bin").mkdir()
    (root / "usr/bin/edge-agent").symlink_to(f"../{HOME.relative_to('usr')}/bin/edge-agent")


def _copy_data(root: Path) -> None:
    for name, place in UNITS.items():
        _copy(REPOSITORY / "systemd" / name, root / place)
    for profile in sorted((REPOSITORY / "config" / "devices").glob("*.toml")):
        _copy(profile, root / SHARE / "devices" / profile.name)
    for machine in sorted((REPOSITORY / "config").glob("*.toml")):
        if "gateway" not in machine.name:
            _copy(machine, root / SHARE / "examples" / machine.name)
    for page in (REPOSITORY / name for name in PAGES):
        if page.exists():
            _copy(page, root / DOC / page.name)
    for example in sorted((REPOSITORY / "systemd" / "examples").iterdir()):
        _copy(example, root / DOC / "examples" / example.name)
    for manual in sorted((REPOSITORY / "docs" / "man").glob("*.[1-8]")):
        target = root / "usr/share/man" / f"man{manual.suffix[1:]}" / f"{manual.name}.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(manual.read_bytes(), mtime=0))
    for shell, place in COMPLETIONS.items():
        (root / place).parent.mkdir(parents=True)
        (root / place).write_text(script(shell) + "\n", encoding="utf-8")
    _copy(REPOSITORY / "config" / "grafana" / "edge-agent.json", root / SHARE / "grafana" / "edge-agent.json")
    (root / DOC / "copyright").write_text(COPYRIGHT, encoding="utf-8")
    (root / "etc/edge-agent/devices").mkdir(parents=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
