"""`edge-agent config show`: from the daemon, else from the file; secrets are hidden."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomli_w
from typer.testing import CliRunner, Result

from edge_agent.cli import config as command
from edge_agent.cli.commands import app
from edge_agent.config import load_settings
from edge_agent.config.effective import effective
from tests.support.machines import CONFIG

DEMO = CONFIG / "demo.toml"


def show(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["config", "show", *arguments], env={"COLUMNS": "80"})


def values(*arguments: str) -> dict[str, tuple[Any, str]]:
    done = show("--json", *arguments)
    assert done.exit_code == 0, done.stderr
    return {row["key"]: (row["value"], row["from"]) for row in json.loads(done.stdout)}


@pytest.fixture(name="nobody")
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(refuse))


def test_each_value_is_from_the_file_or_a_default() -> None:
    found = values("--config", str(DEMO))
    assert found["unlock.pulse_ms"] == (300, "file")
    assert found["unlock.watch_ms"] == (1500, "default")
    assert found["mqtt.port"] == (1883, "file")
    assert found["access.kiosk_users"] == ([], "default")
    assert found["cells.A01.size"] == ("small", "file")
    assert "keypad.device" not in found


def test_the_usual_port_and_the_usual_climate_are_defaults(tmp_path: Path) -> None:
    document = tomllib.loads((CONFIG / "food.toml").read_text(encoding="utf-8"))
    document["paths"] = {"profiles": str(CONFIG / "devices")}
    del document["climate"]["cold"]["allowed_min"]
    file = tmp_path / "food.toml"
    file.write_text(tomli_w.dumps(document), encoding="utf-8")
    found = values("--config", str(file))
    assert found["mqtt.port"] == (1883, "default")
    assert found["climate.cold.allowed_min"] == (30, "default")
    assert found["climate.cold.setpoint_c"][1] == "file"


@pytest.mark.parametrize("file", sorted(CONFIG.glob("*.toml")), ids=lambda file: file.stem)
def test_every_key_of_a_file_is_shown_as_from_the_file(file: Path) -> None:
    if file.stem == "gateway.example":
        pytest.skip("the gateway's")
    settings = load_settings(file)
    assert {row["key"] for row in effective(settings) if row["from"] == "file"} == settings.keys_in_file


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("unlock.pulse_ms", {"unlock.pulse_ms"}),
        ("codes", {"codes.code_digits"}),
        (
            "sizes.small",
            {f"sizes.small.{name}" for name in ("width_mm", "height_mm", "depth_mm", "max_mass_g")},
        ),
    ],
)
def test_a_part_is_chosen_by_its_key_path(key: str, shown: set[str]) -> None:
    assert set(values(key, "--config", str(DEMO))) == shown


@pytest.mark.parametrize("key", ["unlock.pulse", "unlok", "keypad", ""])
def test_a_key_without_a_value_is_bad_usage_and_gets_the_nearest(key: str) -> None:
    done = show(key, "--config", str(DEMO))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the nearest are" in " ".join(done.stderr.replace("│", " ").split())


def test_a_table_shows_key_value_and_source() -> None:
    lines = show("codes", "--config", str(DEMO)).stdout.splitlines()
    assert [part.strip() for part in lines[3].split("│")[1:-1]] == ["codes.code_digits", "4", "default"]


def test_faults_of_a_file_are_named_by_key_path(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text("[machine]\nmachine_id = 7\n", encoding="utf-8")
    done = show("--config", str(file))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{file}: machine.machine_id: " in done.stderr


def test_the_daemon_s_configuration_is_shown_and_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"key": "mqtt.password", "value": "hunter2", "from": "file"},
        {"key": "mqtt.password_file", "value": "/etc/edge-agent/password", "from": "file"},
        {"key": "buses.main.port", "value": "tcp://me:hunter2@10.0.0.9:502", "from": "file"},
        {"key": "access.kiosk_users", "value": ["kiosk"], "from": "default"},
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("GET", "/v1/configuration")
        return httpx.Response(200, json=rows)

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(answer))
    assert values() == {
        "mqtt.password": ("***", "file"),
        "mqtt.password_file": ("/etc/edge-agent/password", "file"),
        "buses.main.port": ("tcp://***@10.0.0.9:502", "file"),
        "access.kiosk_users": (["kiosk"], "default"),
    }
    assert "hunter2" not in show().stdout


@pytest.mark.usefixtures("nobody")
def test_without_the_daemon_the_usual_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "DEFAULT_CONFIG", DEMO)
    done = show("unlock.pulse_ms")
    assert done.exit_code == 0
    assert "unlock.pulse_ms" in done.stdout
    assert f"the daemon does not answer: this is {DEMO}" in done.stderr.replace("\n", "")
    monkeypatch.setattr(command, "DEFAULT_CONFIG", tmp_path / "none.toml")
    assert show().exit_code == 2


def test_keys_are_completed_section_by_section(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "DEFAULT_CONFIG", DEMO)
    assert command.keys("un") == ["unlock"]
    assert command.keys("unlock.p") == ["unlock.pulse_ms"]
    assert command.keys("cells.A0")[0] == "cells.A01"
    monkeypatch.setattr(command, "DEFAULT_CONFIG", tmp_path / "none.toml")
    assert command.keys("mq") == ["mqtt"]
