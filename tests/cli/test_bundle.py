"""`edge-agent bundle`: what is in it, what is black in it, and where it ends when something cannot be had."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli.commands import app
from edge_agent.service import blackout
from tests.support.machines import CONFIG

ROWS = [
    {"reservation_id": "res_1", "notes": "ring at Smith's", "webhook_url": "https://shop.example/hook/t0k3n"}
]


FINDING = {"check": "disk", "target": "", "verdict": "good", "finding": "pin=4711"}


def bundle(monkeypatch: pytest.MonkeyPatch, answer: Any, *arguments: str) -> Result:
    def handler(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        if request.url.path == "/v1/diagnose":
            return httpx.Response(200, text=f"data: {json.dumps(FINDING)}\n\n", request=request)
        return httpx.Response(200, json=answer, request=request)

    monkeypatch.setattr(httpx, "HTTPTransport", lambda uds: httpx.MockTransport(handler))
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner().invoke(app, ["bundle", *arguments])


def content(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        read = {}
        for member in archive.getmembers():
            held = archive.extractfile(member)
            assert held is not None
            read[member.name.partition("/")[2]] = held.read().decode()
        return read


def test_a_bundle_holds_every_part_and_names_the_missing_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, log = tmp_path / "b.tar.gz", tmp_path / "agent.log"
    log.write_text("event='pulse' cell='A01'\nscanned DLV-DROP-res_1-4711\n", encoding="utf-8")
    config = str(CONFIG / "demo.toml")
    done = bundle(monkeypatch, ROWS, "-o", str(file), "--config", config, "--log", str(log))
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{file}: {len(content(file))} parts\n"
    assert file.stat().st_mode & 0o777 == 0o600
    held = content(file)
    assert {"status.json", "cells.json", "events.json", "bus.json", "bus-check.json", "config.json"} <= set(
        held
    )
    assert json.loads(held["reservations.json"])[0]["reservation_id"] == "res_1"
    assert json.loads(held["diagnose.json"]) == [FINDING | {"finding": f'pin="{blackout.BLACK}"'}]
    assert "Smith" not in held["reservations.json"]
    assert "t0k3n" not in held["reservations.json"]
    assert held["log.txt"] == f"event='pulse' cell='A01'\nscanned {blackout.BLACK}\n"
    assert json.loads(held["config.json"])["machine"]["machine_id"] == "machine_123"
    assert held["config-check.txt"] == "good\n"
    assert "demo.toml" in held["files.txt"]
    assert "Python" in held["system.txt"]


def test_json_output_lists_the_parts_of_a_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    done = bundle(monkeypatch, [], "--quick", "--json", "--config", str(CONFIG / "demo.toml"))
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert set(answer["parts"]) == set(content(tmp_path / answer["file"]))
    assert "diagnose.json" not in answer["parts"]
    assert answer["missing"].keys() <= {"log.txt", "service.txt"}


def test_without_the_daemon_a_bundle_holds_the_rest_and_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "b.tar.gz"
    gone = httpx.ConnectError("Connection refused")
    done = bundle(monkeypatch, gone, "-o", str(file), "--config", str(tmp_path / "none.toml"))
    assert done.exit_code == 3
    assert "without status.json: cannot reach the daemon at /run/edge-agent/agent.sock" in done.stderr
    held = content(file)
    assert "status.json" not in held
    assert "status.json: cannot reach the daemon" in held["missing.txt"]
    assert "none.toml" in held["missing.txt"]
    assert held["system.txt"]


def test_bad_usage_and_a_file_that_is_there_already(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert bundle(monkeypatch, [], "A01").exit_code == 2
    file = tmp_path / "b.tar.gz"
    file.write_bytes(b"precious")
    done = bundle(monkeypatch, [], "-o", str(file))
    assert done.exit_code == 2
    assert "File exists" in done.stderr
    assert file.read_bytes() == b"precious"


BLACK = blackout.BLACK


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("entry DLV-PICK-res_9-123456789 refused", f"entry {BLACK} refused"),
        ("password='hunter2' host='h'", f"password=\"{BLACK}\" host='h'"),
        ('{"drop_off_code": "4711", "code": 9}', f'{{"drop_off_code": "{BLACK}", "code": 9}}'),
        ("EDGE_AGENT_PIN=123456 x", f'EDGE_AGENT_PIN="{BLACK}" x'),
        ("pin = 123456", f'pin = "{BLACK}"'),
        ("spinning=1 shopping: 2", "spinning=1 shopping: 2"),
        ("X-API-Key: bench-key", f'X-API-Key: "{BLACK}"'),
        ("POST https://u:p@shop.example/hook?k=v 200", f"POST https://shop.example/{BLACK} 200"),
        ("mqtts://m1:pw@broker:8883", f"mqtts://{BLACK}@broker:8883"),
        ("broker at mqtts://broker:8883 up", "broker at mqtts://broker:8883 up"),
        ("maria:$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA", f"maria:{BLACK}"),
        ("a\n-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nb", f"a\n{BLACK}\nb"),
        ("-----BEGIN PRIVATE KEY-----\ncut off", BLACK),
        ("a\nAuthorization: Bearer ab.cd ef\nb", f'a\nAuthorization: "{BLACK}"\nb'),
        ("notes: the code is 4711, ring\nb", f'notes: "{BLACK}"\nb'),
        ("password=a,b;c]d e", f'password="{BLACK}" e'),
        ("pass = a, pwd => b", f'pass = "{BLACK}" pwd => "{BLACK}"'),
        ("bypass=1 passed: 2", "bypass=1 passed: 2"),
        ('body="{\\"password\\": \\"p\\"}" x', f'body="{{\\"password\\": "{BLACK}" x'),
        ("MQTTS://m1:pw@broker:8883", f"MQTTS://{BLACK}@broker:8883"),
        ("dlv-drop-res_9-1234", BLACK),
    ],
)
def test_secrets_are_blacked_out(raw: str, clean: str) -> None:
    assert blackout.text(raw) == clean


def test_values_are_blacked_out_by_their_keys_and_paths_of_secrets_are_not() -> None:
    assert blackout.value({"credentials": {"user": "u"}, "pass": ["p"]}) == {
        "credentials": BLACK,
        "pass": BLACK,
    }
    raw = {"password_file": "/etc/x", "password": "p", "mqtt": [{"token": 7, "host": "h"}], "pin": None}
    assert blackout.value(raw) == {
        "password_file": "/etc/x",
        "password": BLACK,
        "mqtt": [{"token": BLACK, "host": "h"}],
        "pin": None,
    }
