"""The recipe of the gateway's image: what can be checked without an engine that builds it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_gateway.settings import Settings, load
from tools.bench.settings import REPOSITORY
from tools.package.gateway import GATEWAY, PARTS_OF_THE_DAEMON
from tools.package.wheels import PYTHON

RECIPE = REPOSITORY / "Containerfile"
SITE = f"/opt/edge-gateway/lib/python{PYTHON}/site-packages/"


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its arguments, continued lines joined."""
    text = re.sub(r"^#.*\n", "", RECIPE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line)]


def of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def copies() -> Iterator[tuple[list[str], str]]:
    """The sources and the target of each COPY from the build's folder."""
    for rest in of("COPY"):
        if not rest.startswith("--from="):
            *sources, target = rest.split()
            yield sources, target


def in_the_context(source: str) -> bool:
    """Whether `.dockerignore` lets a source in: it leaves out everything but what it names."""
    first, *rest = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert first == "*"
    kept = [line.removeprefix("!") for line in rest if line.startswith("!")]
    return any(source == name or source.startswith(f"{name}/") for name in kept)


def test_everything_that_is_copied_exists() -> None:
    sources = [source for found, _ in copies() for source in found]
    assert sources
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert in_the_context(source), source


def test_the_image_has_the_same_parts_as_the_package() -> None:
    sources = {source for found, _ in copies() for source in found}
    assert {name.removeprefix("edge_agent/") for name in sources if name.startswith("edge_agent/")} == set(
        PARTS_OF_THE_DAEMON
    )
    assert {name for name in sources if not name.startswith("edge_agent/")} == {
        "cloud_gateway",
        f"requirements/{GATEWAY.requirements}",
    }


def test_libraries_are_installed_with_their_hashes_only() -> None:
    (install,) = [rest for rest in of("RUN") if "pip install" in rest]
    words = shlex.split(install)
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(words)
    target = words[words.index("-r") + 1]
    assert ([f"requirements/{GATEWAY.requirements}"], target) in list(copies())
    pins = (REPOSITORY / "requirements" / GATEWAY.requirements).read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", pins.strip())
    assert len(blocks) > 20
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)


def test_no_address_of_an_index_or_registry_is_in_it() -> None:
    text = RECIPE.read_text(encoding="utf-8")
    assert "://" not in text
    for image in of("FROM"):
        assert re.fullmatch(rf"python:{re.escape(PYTHON)}-slim-bookworm( AS \w+)?", image)


def test_it_runs_as_a_user_without_rights_that_has_a_folder() -> None:
    users = of("USER")
    assert len(users) == 1
    uid, _, gid = users[0].partition(":")
    assert int(uid) > 0
    assert int(gid) > 0
    names = [name for name, _ in instructions()]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])
    (made,) = [rest for rest in of("RUN") if "useradd" in rest]
    assert f"--uid {uid} " in made
    assert f"--gid {gid} " in made
    assert "-m 0700 -o edge-gateway -g edge-gateway /var/lib/edge-gateway" in made
    assert of("ENV") == ["STATE_DIRECTORY=/var/lib/edge-gateway"]
    assert of("VOLUME") == ["/var/lib/edge-gateway"]


def test_the_port_is_that_of_the_example() -> None:
    example = load(REPOSITORY / "config" / "gateway.example.toml")
    assert isinstance(example, Settings)
    assert of("EXPOSE") == [str(example.listen_port)]
    assert of("STOPSIGNAL") == ["SIGTERM"]


@pytest.mark.parametrize("arguments", [["--help"], ["api-keys", "--help"]])
def test_what_is_copied_is_enough_for_the_entry_point(tmp_path: Path, arguments: list[str]) -> None:
    site = tmp_path / "site"
    for sources, target in copies():
        if not target.startswith(SITE):
            continue
        place = site / target.removeprefix(SITE)
        for source in sources:
            if (REPOSITORY / source).is_dir():
                shutil.copytree(REPOSITORY / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / source, place)
    (entry,) = of("ENTRYPOINT")
    program, *options = json.loads(entry)
    assert program.startswith("/opt/edge-gateway/bin/python")
    assert options == ["-I", "-m", "cloud_gateway"]
    run = (
        f"import runpy, sys\nsys.path.insert(0, {str(site)!r})\nsys.argv = {['edge-gateway', *arguments]!r}\n"
        "runpy.run_module('cloud_gateway', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", run], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_the_python_of_the_image_is_one_that_the_project_supports() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={PYTHON}"
