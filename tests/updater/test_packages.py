"""Versions from a signed repository: real apt, real packages with a small program in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_updater.host import Places, SystemHost
from edge_updater.logic import FetchFailed, Unusable
from edge_updater.packages import Packages
from edge_updater.state import Outcome, State, Wanted
from tools.repo.__main__ import PUBLIC_KEY, end_agent, make_key, publish

needs_apt = pytest.mark.skipif(
    shutil.which("apt-get") is None or shutil.which("apt-ftparchive") is None,
    reason="apt and apt-utils are needed; `make test` installs them on Debian",
)
ARCHITECTURE = "amd64"


def package(folder: Path, version: str, *, depends: str = "libc6", good: bool = True) -> Path:
    """A package whose program takes every configuration, or none."""
    root = folder / f"root-{version}"
    home = root / "usr/lib/edge-agent"
    (home / "bin").mkdir(parents=True)
    (home / "bin/python3").symlink_to(sys.executable)
    (home / "version").write_text(f"{version}\n")
    module = home / "lib/edge_agent"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("")
    (home / "bin/pyvenv.cfg").write_text("")
    check = "import sys\n" + ("" if good else 'sys.exit("machine.name: must not be empty")\n')
    (module / "__main__.py").write_text(check)
    names = f"Package: edge-agent\nVersion: {version}\nArchitecture: {ARCHITECTURE}\n"
    control = f"{names}Maintainer: x <x@localhost>\n"
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(f"{control}Depends: {depends}\nDescription: a test\n")
    made = folder / f"edge-agent_{version}_{ARCHITECTURE}.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(made)], check=True, stdout=subprocess.DEVNULL)
    return made


class Repository:
    """A signed repository in a folder, and a machine that knows its key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "repo"
        self.gnupg = folder / "gnupg"
        make_key(self.gnupg)
        self.data = folder / "data"
        base = folder / "base"
        base.mkdir()
        (base / "version").write_text("1.0\n")
        self.sources = folder / "updates.list"
        self.places = Places(
            base, self.data, folder / "wanted.json", folder / "none.sock", folder / "locker.toml"
        )

    def add(self, version: str, **kind: object) -> None:
        made = package(self.folder, version, **kind)  # type: ignore[arg-type]
        publish([made], self.output, "stable", self.gnupg)
        key = self.output / PUBLIC_KEY
        self.sources.write_text(f"deb [arch={ARCHITECTURE} signed-by={key}] file:{self.output} stable main\n")

    def host(self) -> SystemHost:
        return SystemHost(self.places, Packages(self.sources, self.data / "apt"), "false")


@pytest.fixture(name="repository")
def _repository(tmp_path: Path) -> Iterator[Repository]:
    made = Repository(tmp_path)
    yield made
    end_agent(made.gnupg)


@needs_apt
def test_a_version_is_fetched_verified_and_unpacked_beside_the_others(repository: Repository) -> None:
    repository.add("1.1")
    host = repository.host()
    packages = Packages(repository.sources, repository.data / "apt")
    target = repository.data / "versions" / "1.1"
    packages.unpack("1.1", target)
    assert (target / "version").read_text() == "1.1\n"
    assert list((target / "lib").rglob("*.pyc"))  # compiled ahead, so that the first start is quick
    assert host.has("1.1")
    assert not host.has("1.2")
    assert host.current() == "1.0"
    host.switch("1.1")
    assert host.current() == "1.1"
    host.switch("1.0")
    assert (host.current(), repository.places.link.is_symlink()) == ("1.0", False)


@needs_apt
def test_what_the_key_has_not_signed_is_not_unpacked(repository: Repository) -> None:
    repository.add("1.1")
    packages = Packages(repository.sources, repository.data / "apt")
    target = repository.data / "versions" / "1.1"
    target.parent.mkdir(parents=True)
    deb = next((repository.output / "pool").rglob("*.deb"))
    deb.write_bytes(deb.read_bytes() + b"x")
    with pytest.raises(FetchFailed):
        packages.unpack("1.1", target)
    release = repository.output / "dists/stable/InRelease"
    release.write_text(release.read_text().replace("edge-agent", "edge-agenT"))
    with pytest.raises(FetchFailed):
        packages.unpack("1.1", target)
    release.unlink()
    with pytest.raises(FetchFailed):
        packages.unpack("1.1", target)
    other = repository.folder / "other"
    ours = (repository.output / PUBLIC_KEY).read_bytes()
    make_key(other)
    publish([deb], repository.output, "stable", other)
    end_agent(other)
    (repository.output / PUBLIC_KEY).write_bytes(ours)
    with pytest.raises(FetchFailed):
        packages.unpack("1.1", target)
    assert not target.exists()


@needs_apt
def test_an_unknown_version_and_a_missing_dependency_are_named(repository: Repository) -> None:
    repository.add("1.1", depends="a-package-that-is-nowhere (>= 2)")
    packages = Packages(repository.sources, repository.data / "apt")
    target = repository.data / "versions" / "1.1"
    target.parent.mkdir(parents=True)
    with pytest.raises(FetchFailed):
        packages.unpack("9.9", target)
    with pytest.raises(Unusable, match="a-package-that-is-nowhere"):
        packages.unpack("1.1", target)
    with pytest.raises(Unusable, match="no repository is configured"):
        Packages(repository.folder / "missing.list", repository.data / "apt").unpack("1.1", target)
    assert not target.exists()


def test_the_state_survives_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "version").write_text("1.0\n")
    places = Places(base, tmp_path / "data", tmp_path / "wanted.json", tmp_path / "s", tmp_path / "c")
    host = SystemHost(places, Packages(tmp_path / "x", tmp_path / "apt"), "false")
    state = State(None, Outcome(Wanted("1.1", "r"), "REVERTED", "the daemon does not answer"))
    host.save(state)
    assert host.load() == state
    assert os.stat(places.state).st_mode & 0o777 == 0o644  # the daemon reads it
    places.state.write_text("{")
    assert host.load() == State()
    assert host.wanted() is None
    wrong = ("..", "../1.0", "1.0/x", "", "v1", "1" * 65)
    texts = [json.dumps({"version": version, "request_id": "r"}) for version in wrong]
    for text in ("[]", '{"version": 1, "request_id": "r"}', '{"version": "1.1"}', *texts):
        places.wanted.write_text(text)
        assert host.wanted() is None
    places.wanted.write_text('{"version": "1.1", "request_id": "r", "later": 1}')
    assert host.wanted() == Wanted("1.1", "r")
    assert host.health().answers is False


def test_a_link_to_a_missing_version_counts_for_nothing(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "version").write_text("1.0\n")
    places = Places(base, tmp_path / "data", tmp_path / "w", tmp_path / "s", tmp_path / "c")
    host = SystemHost(places, Packages(tmp_path / "x", tmp_path / "apt"), "false")
    (places.versions / "1.1").mkdir()
    host.switch("1.1")
    assert host.current() == "1.1"
    shutil.rmtree(places.versions / "1.1")
    assert host.current() == "1.0"
    for name in ("1.1", "1.2", "1.3", "1.4.part"):
        (places.versions / name).mkdir()
    host.remove_others("1.2", "1.3")
    assert sorted(folder.name for folder in places.versions.iterdir()) == ["1.2", "1.3"]
