"""`edge-agent check` compares a profile's vectors with what the daemon would send, and read in the reply."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner, Result

from edge_agent.cli.commands import app
from edge_agent.config import load_settings
from edge_agent.config.sections import Settings
from edge_agent.config.vectors import vector_findings
from edge_agent.drivers.profiles import load_profile
from tests.support.machines import CONFIG


def checked(folder: Path, old: str = "", new: str = "") -> Result:
    """`check` of the tiny machine with one text of its profile replaced."""
    document = tomllib.loads((CONFIG / "tiny.toml").read_text(encoding="utf-8"))
    document["paths"] = document.get("paths", {}) | {"profiles": str(folder), "volatile": True}
    names = {device["profile"] for device in document["devices"].values()}
    for name in names:
        shutil.copy(CONFIG / "devices" / f"{name}.toml", folder)
        text = (folder / f"{name}.toml").read_text(encoding="utf-8")
        (folder / f"{name}.toml").write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")
    file = folder / "machine.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    return CliRunner().invoke(app, ["check", "--config", str(file)], env={"COLUMNS": "200"})


def first_vector() -> tuple[str, str, str]:
    """The tiny machine's profile, and request and reply of its first vector with a reply."""
    document = tomllib.loads((CONFIG / "tiny.toml").read_text(encoding="utf-8"))
    name = next(iter(document["devices"].values()))["profile"]
    profile = load_profile(CONFIG / "devices" / f"{name}.toml")
    vector = next(one for one in profile.vectors if one.reply)
    return name, vector.request, vector.reply


def spoilt(frame: str) -> str:
    """The frame with another last byte."""
    return f"{frame[:-2]}{int(frame[-2:], 16) ^ 1:02X}"


def test_the_vectors_of_a_shipped_profile_hold(tmp_path: Path) -> None:
    assert checked(tmp_path).exit_code == 0


@pytest.mark.parametrize("part", ["request", "reply"])
def test_a_wrong_checksum_is_named_by_its_key(tmp_path: Path, part: str) -> None:
    name, request, reply = first_vector()
    frame = request if part == "request" else reply
    done = checked(tmp_path, f'{part} = "{frame}"', f'{part} = "{spoilt(frame)}"')
    assert done.exit_code == 2
    assert f"profile {name}: vectors[" in done.stderr
    assert f"].{part}: " in done.stderr


@pytest.mark.parametrize("file", sorted((CONFIG / "devices").glob("*.toml")), ids=lambda file: file.stem)
def test_every_shipped_profile_passes(file: Path) -> None:
    settings: Settings = load_settings(CONFIG / "tiny.toml")
    settings._profiles.clear()
    settings._profiles[file.stem] = load_profile(file)
    assert vector_findings(settings) == []
