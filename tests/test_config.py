"""A wrong configuration is told by key path, all findings at once, and nothing starts."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edge_agent.config import load_settings
from edge_agent.errors import ConfigError

CONFIG = Path(__file__).resolve().parents[1] / "config"


def demo() -> dict[str, Any]:
    return tomllib.loads((CONFIG / "demo.toml").read_text(encoding="utf-8"))


def write(folder: Path, document: dict[str, Any]) -> Path:
    document["paths"] = {**document.get("paths", {}), "profiles": str(CONFIG / "devices")}
    path = folder / "machine.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    return path


def findings(folder: Path, document: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(folder, document))
    return [str(finding) for finding in caught.value.findings]


def unknown_key(d: dict[str, Any]) -> None:
    d["unlock"]["puls_ms"] = 500


def bad_baud(d: dict[str, Any]) -> None:
    d["buses"]["main"]["baud"] = 19201


def one_coil(d: dict[str, Any]) -> None:
    d["cells"][1]["lock"]["channel"] = 1


def missing_device(d: dict[str, Any]) -> None:
    d["cells"][3]["lock"]["device"] = "locks_z"


def missing_channel(d: dict[str, Any]) -> None:
    d["cells"][0]["door"]["channel"] = 9


def wrong_capability(d: dict[str, Any]) -> None:
    d["cells"][0]["scale"] = {"device": "thermometer"}


def one_address(d: dict[str, Any]) -> None:
    d["devices"]["locks_b"]["address"] = 1


def no_profile(d: dict[str, Any]) -> None:
    d["devices"]["locks_b"]["profile"] = "nothing"


def no_bus(d: dict[str, Any]) -> None:
    d["devices"]["locks_b"]["bus"] = "aux"


def long_pulse(d: dict[str, Any]) -> None:
    d["unlock"]["pulse_ms"] = 250


def same_label(d: dict[str, Any]) -> None:
    d["cells"][1]["label"] = "A01"


def no_polarity(d: dict[str, Any]) -> None:
    del d["doors"]


def number_as_text(d: dict[str, Any]) -> None:
    d["unlock"]["attempts"] = "3"


def one_port(d: dict[str, Any]) -> None:
    d["scanner"]["port"] = d["buses"]["main"]["port"]


@pytest.mark.parametrize(
    ("spoil", "path", "word"),
    [
        (unknown_key, "unlock.puls_ms", "unknown key"),
        (bad_baud, "buses.main.baud", "19200"),
        (one_coil, "cells[1].lock", "cells[0].lock"),
        (missing_device, "cells[3].lock.device", "locks_z"),
        (missing_channel, "cells[0].door.channel", "1 to 8"),
        (wrong_capability, "cells[0].scale.device", "has no scale"),
        (one_address, "devices.locks_b.address", "locks_a"),
        (no_profile, "devices.locks_b.profile", "nothing"),
        (no_bus, "devices.locks_b.bus", "aux"),
        (long_pulse, "unlock.pulse_ms", "steps of 100 ms"),
        (same_label, "cells[1].label", "cells[0]"),
        (no_polarity, "doors", "required"),
        (number_as_text, "unlock.attempts", "integer"),
        (one_port, "scanner.port", "buses.main.port"),
    ],
)
def test_each_fault_is_named_by_its_key_path(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], path: str, word: str
) -> None:
    document = demo()
    spoil(document)
    found = findings(tmp_path, document)
    assert any(line.startswith(f"{path}: ") and word in line for line in found), found


def test_all_findings_come_at_once(tmp_path: Path) -> None:
    document = demo()
    one_coil(document)
    one_address(document)
    same_label(document)
    assert len(findings(tmp_path, document)) == 3


@pytest.mark.behaviour("codes-06")
def test_more_cells_than_codes_allow(tmp_path: Path) -> None:
    document = demo()
    document["cells"] *= 5
    assert any(line.startswith("cells: 100 cells at most") for line in findings(tmp_path, document))


@pytest.mark.parametrize(("text", "word"), [("[machine", "not TOML"), (None, "No such file")])
def test_a_file_that_is_none(tmp_path: Path, text: str | None, word: str) -> None:
    path = tmp_path / "machine.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=word):
        load_settings(path)


def test_the_demo_locker_is_what_the_contract_says() -> None:
    settings = load_settings(CONFIG / "demo.toml")
    specs = settings.cell_specs()
    assert [s.label for s in specs] == [f"{row}{n:02}" for row in "ABC" for n in range(1, 9)]
    assert len({(s.width_mm, s.height_mm, s.depth_mm) for s in specs}) == 3
    assert sum(s.cooling for s in specs) >= 4
    assert sum(s.heating for s in specs) >= 4
    assert sum(s.weight_sensor for s in specs) == 8
    assert sum(not (s.cooling or s.heating or s.weight_sensor) for s in specs) >= 8
    assert settings.buses["main"].baud == 19200


@pytest.mark.parametrize("spoil", [unknown_key, bad_baud, one_coil, missing_device])
def test_the_daemon_and_check_exit_2_with_the_line_and_start_nothing(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None]
) -> None:
    document = demo()
    document["paths"] = {"journal": str(tmp_path / "journal.sqlite")}
    spoil(document)
    path = write(tmp_path, document)
    script = Path(sys.executable).with_name("edge-agent")
    expected = findings(tmp_path, document)
    for command in ("run", "check"):
        done = subprocess.run(
            [script, command, "--config", path], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 2
        assert [line.removeprefix(f"{path}: ") for line in done.stderr.splitlines()] == expected
    assert not (tmp_path / "journal.sqlite").exists()
