"""The package of a machine: the daemon and the technician's commands."""

from __future__ import annotations

import gzip
from pathlib import Path

from edge_agent.cli.completion import Shell, script
from tools.bench.settings import REPOSITORY
from tools.package.layout import Package, copy, copy_source, set_version

SHARE = Path("usr/share/edge-agent")
DOC = Path("usr/share/doc/edge-agent")
UNITS = {
    "edge-agent.service": "usr/lib/systemd/system/edge-agent.service",
    "edge-agent-updater.service": "usr/lib/systemd/system/edge-agent-updater.service",
    "edge-agent.sysusers": "usr/lib/sysusers.d/edge-agent.conf",
    "edge-agent.tmpfiles": "usr/lib/tmpfiles.d/edge-agent.conf",
    "60-edge-agent.rules": "usr/lib/udev/rules.d/60-edge-agent.rules",
}
HOME = Path("usr/lib/edge-agent")
LAUNCHERS = {
    "edge-agent-launcher.sh": "usr/bin/edge-agent",
    "edge-agent-updater.sh": "usr/bin/edge-agent-updater",
}
"""The commands: the updater chooses which version of the daemon the first one starts."""
COMPLETIONS = {
    Shell.BASH: "usr/share/bash-completion/completions/edge-agent",
    Shell.ZSH: "usr/share/zsh/vendor-completions/_edge-agent",
    Shell.FISH: "usr/share/fish/vendor_completions.d/edge-agent.fish",
}
PAGES = ("README.md", "docs/guide.md", "docs/installation.md", "docs/operations.md", "docs/devices.md")


def fill(root: Path, site: Path, version: str) -> None:
    """See `Package.fill`."""
    copy_source("edge_agent", site / "edge_agent")
    copy_source("edge_updater", site / "edge_updater")
    set_version(site / "edge_agent" / "__init__.py", version)
    (root / HOME / "version").write_text(f"{version}\n", encoding="utf-8")
    for name, place in LAUNCHERS.items():
        (root / place).unlink(missing_ok=True)
        copy(REPOSITORY / "systemd" / name, root / place)
    _copy_data(root)


def _copy_data(root: Path) -> None:
    for name, place in UNITS.items():
        copy(REPOSITORY / "systemd" / name, root / place)
    for profile in sorted((REPOSITORY / "config" / "devices").glob("*.toml")):
        copy(profile, root / SHARE / "devices" / profile.name)
    for machine in sorted((REPOSITORY / "config").glob("*.toml")):
        if "gateway" not in machine.name:
            copy(machine, root / SHARE / "examples" / machine.name)
    for page in (REPOSITORY / name for name in PAGES):
        if page.exists():
            copy(page, root / DOC / page.name)
    for example in sorted((REPOSITORY / "systemd" / "examples").iterdir()):
        copy(example, root / DOC / "examples" / example.name)
    for manual in sorted((REPOSITORY / "docs" / "man").glob("*.[1-8]")):
        target = root / "usr/share/man" / f"man{manual.suffix[1:]}" / f"{manual.name}.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(manual.read_bytes(), mtime=0))
    for shell, place in COMPLETIONS.items():
        (root / place).parent.mkdir(parents=True)
        (root / place).write_text(script(shell) + "\n", encoding="utf-8")
    copy(REPOSITORY / "config" / "grafana" / "edge-agent.json", root / SHARE / "grafana" / "edge-agent.json")
    (root / "etc/edge-agent/devices").mkdir(parents=True)


AGENT = Package(
    name="edge-agent",
    requirements="device.txt",
    architectures=("amd64", "arm64", "armhf"),
    relations="Recommends: systemd, udev\nSuggests: openssl, tpm2-openssl (>= 1.3)\n",
    description="""\
Description: daemon of a parcel locker, and the technician's commands
 Drives locks, door contacts, scales and relays over RS-485, decides every
 reservation locally and stays in step with the cloud over MQTT 5.
 .
 Python libraries come with the package, in an environment of their own.
""",
    private=("etc/edge-agent", "etc/edge-agent/devices"),
    module="edge_agent",
    fill=fill,
    commands=tuple(LAUNCHERS.values()),
)
