"""A filesystem that loses its files at a power cut is distinguished from one that keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.storage import storage_findings
from edge_agent.journal.volatile import verdict
from tests.app.test_reload import demo, loaded

ROOT = "22 1 8:1 / / rw - ext4 /dev/mmcblk0p2 rw\n"
OVERLAY = "30 22 0:30 / /data rw - overlay overlay rw,lowerdir=/low,upperdir={upper},workdir=/w{more}\n"


def mounts(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text(ROOT + text, encoding="utf-8")
    return file


@pytest.mark.behaviour("history-07")
@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_a_filesystem_in_memory_is_volatile(tmp_path: Path, kind: str) -> None:
    found = verdict(Path("/data/x"), mounts(tmp_path, f"30 22 0:30 / /data rw - {kind} none rw\n"))
    assert found.volatile is True
    assert kind in found.why


@pytest.mark.behaviour("history-07")
def test_w8_an_overlay_is_volatile_where_its_upper_layer_is(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir()
    kept = OVERLAY.format(upper=upper, more="")
    assert verdict(Path("/data"), mounts(tmp_path, kept)).volatile is False
    memory = f"31 22 0:31 / {tmp_path} rw - tmpfs none rw\n"
    assert verdict(Path("/data"), mounts(tmp_path, memory + kept)).volatile is True
    flag = OVERLAY.format(upper=upper, more=",volatile")
    assert verdict(Path("/data"), mounts(tmp_path, flag)).volatile is True


@pytest.mark.behaviour("history-08")
def test_what_cannot_be_determined_is_a_warning(tmp_path: Path) -> None:
    hidden = mounts(tmp_path, OVERLAY.format(upper="/not/in/sight", more=""))
    assert verdict(Path("/data"), hidden).volatile is None
    assert verdict(Path("/data"), tmp_path / "none").volatile is None
    document = demo()
    document["paths"]["journal"] = "/data/journal.sqlite"
    refused, warned = storage_findings(loaded(tmp_path, document), hidden)
    assert (len(refused), len(warned)) == (0, 1)
    memory = mounts(tmp_path, "30 22 0:30 / /data rw - tmpfs none rw\n")
    refused, _ = storage_findings(loaded(tmp_path, document), memory)
    assert "paths.volatile = true" in str(refused[0])
    document["paths"]["volatile"] = True
    assert storage_findings(loaded(tmp_path, document), memory) == ([], [])
