"""API keys in a file: hashes, scopes, expiry, and changes while the gateway runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_gateway.api_keys import SCOPES, KeyRing, key_hash, main, read_keys
from edge_agent.errors import ConfigError
from tests.cloud_gateway.support import API, RESERVE, running_gateway, settings
from tests.cloud_gateway.test_process import process, write_config
from tests.support.broker import Broker
from tools.bench.ports import free_port

NOW_S = 1_790_000_000.0
CALLS: dict[str, tuple[str, str, Any]] = {
    "reservations": ("POST", "/reservations", RESERVE),
    "reservations of one": ("GET", "/reservations/res_1", None),
    "reservations listed": ("GET", "/reservations", None),
    "machines": ("POST", "/machines/search", {}),
    "maintenances": ("POST", "/maintenances", {"description": "d", "machine_id": "machine_123"}),
}
"""A call of each part of the API."""


def add(file: Path, capsys: pytest.CaptureFixture[str], *options: str, name: str = "web") -> str:
    """Adds a key of `acme`; returns it."""
    assert main(["add", "--file", str(file), "--platform", "acme", "--name", name, *options]) == 0
    return capsys.readouterr().out.strip()


def test_a_key_is_printed_once_and_kept_as_its_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.toml"
    key = add(file, capsys, "--scope", "machines", "--days", "30")
    text = file.read_text(encoding="utf-8")
    assert key not in text
    assert key.startswith("lk_")
    assert len(key) >= 43
    assert file.stat().st_mode & 0o007 == 0
    (stored,) = read_keys(file, ["acme"])
    assert (stored.sha256, stored.scopes) == (key_hash(key).hex(), ("machines",))
    assert main(["list", "--file", str(file)]) == 0
    assert capsys.readouterr().out.startswith("acme web: machines; expires: 20")


def test_two_keys_are_in_use_while_one_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.toml"
    old, new = add(file, capsys, name="old"), add(file, capsys, name="new")
    ring = KeyRing(file, ["acme"], lambda: NOW_S)
    assert [found and found.name for found in map(ring.find, map(key_hash, (old, new, "x")))] == [
        "old",
        "new",
        None,
    ]
    assert main(["revoke", "--file", str(file), "--platform", "acme", "--name", "old"]) == 0
    ring.file.look()
    assert ring.find(key_hash(old)) is None
    assert ring.find(key_hash(new)) is not None
    assert main(["revoke", "--file", str(file), "--platform", "acme", "--name", "old"]) == 1


def test_a_key_expires(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"
    key, now_s = add(file, capsys, "--days", "1"), [time.time()]
    ring = KeyRing(file, ["acme"], lambda: now_s[0])
    assert ring.find(key_hash(key)) is not None
    now_s[0] += 86_401
    assert ring.find(key_hash(key)) is None


def test_the_list_shows_the_zone_of_an_expiry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"
    add(file, capsys)
    with file.open("a", encoding="utf-8") as text:
        text.write("expires = 2027-01-01T00:00:00+02:00\n")
    assert main(["list", "--file", str(file)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("expires: 2027-01-01T00:00:00+02:00")


BAD: dict[str, tuple[str, str]] = {
    "not TOML": ("keys = [", "keys.toml"),
    "nested too deep": ("keys = " + "[" * 5000, "keys.toml"),
    "a number too long": ("keys = " + "9" * 5000, "keys.toml"),
    "a short hash": ('[[keys]]\nplatform = "acme"\nname = "a"\nsha256 = "12"\n', "keys[0].sha256"),
    "an unknown scope": (
        f'[[keys]]\nplatform = "acme"\nname = "a"\nsha256 = "{"0" * 64}"\nscopes = ["doors"]\n',
        "keys[0].scopes[0]",
    ),
    "no scope": (
        f'[[keys]]\nplatform = "acme"\nname = "a"\nsha256 = "{"0" * 64}"\nscopes = []\n',
        "keys[0].scopes",
    ),
    "an unknown key": ('[[keys]]\nplatform = "acme"\nkey = "plain"\n', "keys[0].key"),
    "an unknown platform": (
        f'[[keys]]\nplatform = "nobody"\nname = "a"\nsha256 = "{"0" * 64}"\n',
        "keys[0].platform",
    ),
    "two of one name": (
        2 * f'[[keys]]\nplatform = "acme"\nname = "a"\nsha256 = "{"0" * 64}"\n',
        "keys[1].name",
    ),
    "two with one hash": (
        "".join(f'[[keys]]\nplatform = "acme"\nname = "{name}"\nsha256 = "{"0" * 64}"\n' for name in "ab"),
        "keys[1].sha256",
    ),
    "nothing yet": ("", "keys"),
    "a time without a zone": (
        f'[[keys]]\nplatform = "acme"\nname = "a"\nsha256 = "{"0" * 64}"\nexpires = 2027-01-01T00:00:00\n',
        "keys[0].expires",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_names_the_key_path_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text, path = BAD[name]
    file = tmp_path / "keys.toml"
    key = add(file, capsys)
    ring = KeyRing(file, ["acme"], lambda: NOW_S)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_keys(file, ["acme"])
    assert any(path in str(finding) for finding in caught.value.findings)
    ring.file.look()
    assert ring.find(key_hash(key)) is not None


def test_the_file_may_vanish_for_a_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"
    key = add(file, capsys)
    ring = KeyRing(file, ["acme"], lambda: NOW_S)
    text = file.read_text(encoding="utf-8")
    file.unlink()
    ring.file.look()
    assert ring.find(key_hash(key)) is not None
    file.write_text(text.replace('name = "web"', 'name = "new"'), encoding="utf-8")
    ring.file.look()
    found = ring.find(key_hash(key))
    assert found is not None
    assert found.name == "new"


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_scope_opens_its_part_of_the_api_and_no_other(
    tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str], scope: str
) -> None:
    file = tmp_path / "keys.toml"
    key = add(file, capsys, "--scope", scope)
    given = settings(tmp_path, broker.port).model_copy(update={"keys_file": str(file)})
    async with running_gateway(given) as gateway:
        for name, (method, path, body) in CALLS.items():
            response = await gateway.http.request(method, API + path, json=body, headers={"X-API-Key": key})
            allowed = name.split(" ")[0] == scope
            refused = response.status_code == 403 and "has no right to" in response.json()["message"]
            assert refused is not allowed, (name, response.text)
        echo = await gateway.http.post(f"{API}/echo", json={"message": "x"}, headers={"X-API-Key": key})
        assert echo.status_code == 200


def until(client: httpx.Client, key: str, reached: Callable[[int], bool]) -> None:
    """Waits until the list of reservations is answered so."""
    end_s = time.monotonic() + 20
    while not reached(client.get(f"{API}/reservations", headers={"X-API-Key": key}).status_code):
        assert time.monotonic() < end_s
        time.sleep(0.1)


async def test_keys_are_added_and_revoked_while_the_process_runs(
    tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    file, port = tmp_path / "keys.toml", free_port()
    old = add(file, capsys, name="old")
    config = write_config(tmp_path, port, broker.port)
    config.write_text('keys_file = "keys.toml"\n' + config.read_text(encoding="utf-8"), encoding="utf-8")
    async with process(config, port, tmp_path / "log"):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            until(client, old, lambda status: status == 200)
            new = add(file, capsys, name="new")
            until(client, new, lambda status: status == 200)
            main(["revoke", "--file", str(file), "--platform", "acme", "--name", "old"])
            until(client, old, lambda status: status == 403)
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert '"key": "new"' in log
    assert old not in log
    assert new not in log


def test_a_gateway_does_not_start_with_a_bad_file(tmp_path: Path, broker: Broker) -> None:
    (tmp_path / "keys.toml").write_text('[[keys]]\nplatform = "nobody"\n', encoding="utf-8")
    config = write_config(tmp_path, free_port(), broker.port)
    config.write_text('keys_file = "keys.toml"\n' + config.read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "cloud_gateway", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "keys[0].name" in done.stderr
