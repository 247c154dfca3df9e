"""The package as it is built: the same bytes every time, each file in its place, nothing of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from tools.bench.settings import REPOSITORY
from tools.package.__main__ import PACKAGES, make, project_version
from tools.package.agent import AGENT
from tools.package.deb import build_deb
from tools.package.gateway import GATEWAY, PARTS_OF_THE_DAEMON
from tools.package.layout import Package, build_tree
from tools.package.wheels import ARCHITECTURES, requirements_for, unpack

ELF_MACHINES = {"amd64": 62, "arm64": 183, "armhf": 40}
"""`e_machine` of the ELF header."""
LARGEST = {"edge-agent": 10_000_000, "edge-gateway": 20_000_000}
"""Bytes of a package."""
BOTH = pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.name)
with_downloads = pytest.mark.skipif(
    "DEB_TEST" not in os.environ, reason="fetches wheels; run by `make deb-test`"
)


def wheel(folder: Path, **more: str) -> Path:
    """A wheel with a module, a script, and whatever else."""
    made = folder / "thing-1.0-py3-none-any.whl"
    files = {
        "thing/__init__.py": "x = 1",
        "thing-1.0.dist-info/METADATA": "Name: thing",
        "thing-1.0.data/scripts/thing": "#!python",
        "thing-1.0.data/purelib/other.py": "y = 2",
        **more,
    }
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made


def build(folder: Path, arch: str = "amd64", version: str = "1.2.3", package: Package = AGENT) -> Path:
    """A package with one small wheel instead of the real ones."""
    folder.mkdir(exist_ok=True)
    root = folder / "root"
    root.mkdir()
    build_tree(root, package, [wheel(folder)], ARCHITECTURES[arch], version)
    return build_deb(root, package, ARCHITECTURES[arch], version, folder, "gzip")


def contents(deb: Path) -> dict[str, tarfile.TarInfo]:
    """What a package puts on the disk, by its path."""
    raw = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(raw)) as archive:
        return {member.name.removeprefix("."): member for member in archive.getmembers()}


def fields(deb: Path) -> dict[str, str]:
    found = subprocess.run(["dpkg-deb", "-f", str(deb)], capture_output=True, text=True, check=True).stdout
    return dict(line.split(": ", 1) for line in found.splitlines() if ": " in line and line[0] != " ")


def test_a_wheel_is_unpacked_as_an_installer_would(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    unpack(wheel(tmp_path, **{"../outside.py": "z = 3"}), site)
    found = sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())
    assert found == ["other.py", "thing-1.0.dist-info/METADATA", "thing/__init__.py"]
    assert not (tmp_path / "outside.py").exists()


def test_libraries_that_debian_has_are_not_packaged() -> None:
    text = (REPOSITORY / "requirements" / "device.txt").read_text(encoding="utf-8")
    for name, architecture in ARCHITECTURES.items():
        chosen = requirements_for(text, architecture)
        assert ("pynacl==" in chosen) is (name != "armhf")
        assert "pydantic-core==" in chosen
        assert chosen.count("==") > 20


def test_the_device_gets_the_daemon_s_pins_and_the_commands() -> None:
    def pins(name: str) -> set[str]:
        text = (REPOSITORY / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        return {line.split()[0] for line in text.splitlines() if "==" in line}

    assert pins("daemon") <= pins("device") <= pins("all")
    assert any(pin.startswith("typer==") for pin in pins("device"))
    assert not any(pin.startswith(("fastapi==", "pytest==")) for pin in pins("device"))


@BOTH
def test_built_twice_it_has_the_same_bytes(tmp_path: Path, package: Package) -> None:
    before = os.umask(0o022)
    try:
        first = build(tmp_path / "a", package=package).read_bytes()
        os.umask(0o077)
        second = build(tmp_path / "b", package=package).read_bytes()
    finally:
        os.umask(before)
    assert first == second
    assert build(tmp_path / "c", version="1.2.4", package=package).read_bytes() != first


def test_every_file_is_where_it_belongs_and_root_s(tmp_path: Path) -> None:
    deb = build(tmp_path)
    found = contents(deb)
    for path in (
        "/usr/bin/edge-agent",
        "/usr/lib/edge-agent/bin/edge-agent",
        "/usr/lib/edge-agent/lib/python3.11/site-packages/edge_agent/cli/messages/de.po",
        "/usr/lib/edge-agent/lib/python3.11/site-packages/edge_agent/journal/schema/0001.sql",
        "/usr/lib/edge-agent/lib/python3.11/site-packages/thing/__init__.py",
        "/usr/lib/systemd/system/edge-agent.service",
        "/usr/lib/sysusers.d/edge-agent.conf",
        "/usr/lib/tmpfiles.d/edge-agent.conf",
        "/usr/lib/udev/rules.d/60-edge-agent.rules",
        "/usr/share/edge-agent/devices/waveshare-io-8ch.toml",
        "/usr/share/edge-agent/examples/locker.example.toml",
        "/usr/share/doc/edge-agent/installation.md",
        "/usr/share/doc/edge-agent/examples/10-network.conf",
        "/usr/share/doc/edge-agent/copyright",
        "/usr/share/edge-agent/grafana/edge-agent.json",
        "/usr/share/man/man1/edge-agent.1.gz",
        "/usr/share/bash-completion/completions/edge-agent",
        "/usr/share/zsh/vendor-completions/_edge-agent",
        "/usr/share/fish/vendor_completions.d/edge-agent.fish",
    ):
        assert path in found, path
    assert not [path for path in found if "simulated" in path or "__pycache__" in path]
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}
    assert found["/usr/lib/edge-agent/bin/edge-agent"].mode == 0o755
    assert found["/etc/edge-agent"].mode == 0o750
    assert not [path for path, member in found.items() if path.startswith("/etc/") and member.isfile()]


def test_every_file_of_the_gateway_is_where_it_belongs_and_root_s(tmp_path: Path) -> None:
    deb = build(tmp_path, package=GATEWAY)
    found = contents(deb)
    site = "/usr/lib/edge-gateway/lib/python3.11/site-packages"
    for path in (
        "/usr/bin/edge-gateway",
        "/usr/lib/edge-gateway/bin/edge-gateway",
        f"{site}/cloud_gateway/__main__.py",
        f"{site}/cloud_gateway/db/migrations/env.py",
        f"{site}/edge_agent/mqtt/client.py",
        f"{site}/thing/__init__.py",
        "/usr/lib/systemd/system/edge-gateway.service",
        "/usr/lib/sysusers.d/edge-gateway.conf",
        "/usr/lib/tmpfiles.d/edge-gateway.conf",
        "/usr/share/doc/edge-gateway/gateway.md",
        "/usr/share/doc/edge-gateway/copyright",
        "/usr/share/doc/edge-gateway/examples/gateway.toml",
        "/usr/share/doc/edge-gateway/examples/mosquitto/machines.acl",
        "/usr/share/doc/edge-gateway/examples/edge-gateway.rules.yml",
    ):
        assert path in found, path
    daemon_only = {"drivers", "statemachine", "journal", "console", "cli", "app"}
    assert not [path for path in found if daemon_only & set(path.partition("/edge_agent/")[2].split("/"))]
    assert not [path for path in found if "__pycache__" in path]
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}
    assert found["/usr/lib/edge-gateway/bin/edge-gateway"].mode == 0o755
    assert found["/etc/edge-gateway"].mode == 0o750
    assert not [path for path, member in found.items() if path.startswith("/etc/") and member.isfile()]


def test_daemon_and_gateway_can_be_installed_on_one_machine(tmp_path: Path) -> None:
    daemon, gateway = contents(build(tmp_path / "a")), contents(build(tmp_path / "b", package=GATEWAY))
    shared = [path for path in daemon if path in gateway and not daemon[path].isdir()]
    assert shared == []


def test_the_gateway_finds_all_that_it_imports_of_the_daemon(tmp_path: Path) -> None:
    """Every module of the gateway is imported with nothing of `edge_agent` but what is in its package."""
    site = tmp_path / "site"
    (site / "edge_agent").mkdir(parents=True)
    (site / "cloud_gateway").symlink_to(REPOSITORY / "cloud_gateway")
    for name in PARTS_OF_THE_DAEMON:
        (site / "edge_agent" / name).symlink_to(REPOSITORY / "edge_agent" / name)
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((REPOSITORY / "cloud_gateway").rglob("*.py"))
        if "migrations" not in path.parts
    ]
    program = (
        f"import importlib, sys\nsys.path.insert(0, {str(site)!r})\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "import edge_agent\nprint(edge_agent.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(site / "edge_agent" / "__init__.py")


@BOTH
def test_nothing_of_the_building_machine_is_in_it(tmp_path: Path, package: Package) -> None:
    deb = build(tmp_path, package=package)
    unpacked = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "-R", str(deb), str(unpacked)], check=True)
    found = [p for p in unpacked.rglob("*") if p.is_file() and not p.is_symlink()]
    assert len(found) > 100
    places = (str(REPOSITORY).encode(), str(tmp_path).encode())
    assert not [path for path in found if any(place in path.read_bytes() for place in places)]


def test_the_control_file_of_the_gateway_names_its_database_and_broker(tmp_path: Path) -> None:
    deb = build(tmp_path, package=GATEWAY)
    assert deb.name == "edge-gateway_1.2.3_amd64.deb"
    found = fields(deb)
    assert (found["Package"], found["Suggests"]) == (
        "edge-gateway",
        "mosquitto (>= 2), postgresql (>= 13)",
    )
    assert "python3 (<< 3.12)" in found["Depends"]


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_the_control_file_lists_the_dependencies(tmp_path: Path, arch: str) -> None:
    deb = build(tmp_path, arch)
    assert deb.name == f"edge-agent_1.2.3_{arch}.deb"
    found = fields(deb)
    assert (found["Package"], found["Version"], found["Architecture"]) == ("edge-agent", "1.2.3", arch)
    assert "python3 (<< 3.12)" in found["Depends"]
    assert found["Suggests"] == "openssl, tpm2-openssl (>= 1.3)"
    assert ("python3-nacl" in found["Depends"]) is (arch == "armhf")
    link = contents(deb).get("/usr/lib/edge-agent/lib/python3.11/site-packages/nacl")
    assert (link is not None) is (arch == "armhf")


def test_the_version_is_the_project_s(tmp_path: Path) -> None:
    deb = build(tmp_path, version="9.9.9")
    unpacked = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "-x", str(deb), str(unpacked)], check=True)
    init = unpacked / "usr/lib/edge-agent/lib/python3.11/site-packages/edge_agent/__init__.py"
    assert '__version__ = "9.9.9"' in init.read_text()
    from edge_agent import __version__

    assert project_version() == __version__


@with_downloads
@pytest.mark.parametrize(
    ("name", "arch"), [(name, arch) for name, package in PACKAGES.items() for arch in package.architectures]
)
def test_the_real_package_is_reproducible_and_for_its_machine_only(
    tmp_path: Path, name: str, arch: str
) -> None:
    package = PACKAGES[name]
    deb = make(arch, project_version(), tmp_path / "a", package)
    assert make(arch, project_version(), tmp_path / "b", package).read_bytes() == deb.read_bytes()
    assert deb.stat().st_size < LARGEST[name]
    unpacked = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "-x", str(deb), str(unpacked)], check=True)
    libraries = [path for path in unpacked.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    assert libraries
    for library in libraries:
        assert int.from_bytes(library.read_bytes()[18:20], "little") == ELF_MACHINES[arch], library
