"""The gateway's link with TLS: let in, refused with one line, rotated; and its signing key's file."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import VerifyKey

from cloud_gateway.machines import mqtt_link
from cloud_gateway.settings import MqttSettings, Settings, load
from cloud_gateway.signer import Signer
from edge_agent.errors import ConfigError
from edge_agent.protocol.signing import SIGNATURE, SIGNATURE_KEY, signed_bytes
from tests.cloud_gateway.support import eventually, running_gateway, settings
from tests.cloud_gateway.test_settings import GOOD
from tests.support.pki import DAY, write_private
from tests.support.secure import LOCALHOST, Keys, Recorder, SecureBroker
from tools.bench.ports import free_port
from tools.bench.settings import REPOSITORY


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.make(tmp_path / "keys", "gateway")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_link, "REFUSED_FIRST_S", 0.05)
    monkeypatch.setattr(mqtt_link, "REFUSED_MAX_S", 0.2)
    monkeypatch.setattr(mqtt_link, "CREDENTIALS_CHECK_S", 0.1)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    kept: list[Any] = []
    monkeypatch.setattr(mqtt_link, "log", lambda: Recorder(kept))
    return kept


@pytest.fixture
def broker(tmp_path: Path, keys: Keys) -> Iterator[SecureBroker]:
    running = SecureBroker(tmp_path / "broker", keys.server, keys.authority.file)
    running.start()
    yield running
    running.stop(kill=True)


def secured(folder: Path, port: int, keys: Keys, **changes: Any) -> Settings:
    """The gateway's settings with its certificate."""
    files = {"ca_file": keys.authority.file, "cert_file": keys.client.cert, "key_file": keys.client.key}
    mqtt = {"host": LOCALHOST, "port": port, "client_id": "gateway-test"}
    tls = {name: str(path) for name, path in files.items()}
    section = MqttSettings.model_validate(mqtt | {"tls": tls} | changes)
    return settings(folder, port).model_copy(update={"mqtt": section})


async def test_the_gateway_is_accepted_and_uses_new_files_at_once(
    tmp_path: Path, keys: Keys, broker: SecureBroker, logs: list[Any]
) -> None:
    async with running_gateway(secured(tmp_path, broker.port, keys)) as gateway:
        link = gateway.machines._link
        first = link.client.library
        assert (await gateway.http.get("/healthz")).status_code == 200
        keys.authority.issue("gateway", ends=5 * DAY)
        await eventually(lambda: link.connected and link.client.library is not first)
        assert [e["reason"] for e in logs if e["event"] == "broker_lost"] == ["new credentials"]


async def test_over_websockets(tmp_path: Path, keys: Keys) -> None:
    lines = ("protocol websockets", f"listener {free_port()} {LOCALHOST}")
    broker = SecureBroker(tmp_path / "broker", keys.server, keys.authority.file, *lines)
    broker.start()
    try:
        given = secured(tmp_path, broker.port, keys, transport="websockets")
        async with running_gateway(given) as gateway:
            assert gateway.machines.connected
    finally:
        broker.stop(kill=True)


async def test_a_refusal_is_one_log_line_and_ends_when_the_file_is_corrected(
    tmp_path: Path, keys: Keys, broker: SecureBroker, logs: list[Any]
) -> None:
    keys.authority.issue("gateway", begins=-3 * DAY, ends=-DAY)
    async with running_gateway(secured(tmp_path, broker.port, keys), connected=False) as gateway:
        await eventually(lambda: logs)
        assert (await gateway.http.get("/healthz")).status_code == 503
        keys.client.key.chmod(0o644)
        await eventually(lambda: len(logs) == 2)
        keys.authority.issue("gateway")
        await eventually(lambda: gateway.machines.connected)
        refused = [e["cause"] for e in logs if e["event"] == "broker_refused"]
        assert refused == [
            "mqtt.tls.cert_file has expired",
            "mqtt.tls.key_file can be read by others (mode 0644)",
        ]


async def test_a_broker_of_another_ca_is_refused(tmp_path: Path, keys: Keys, logs: list[Any]) -> None:
    other = Keys.make(tmp_path / "other")
    broker = SecureBroker(tmp_path / "broker", other.server, keys.authority.file)
    broker.start()
    try:
        async with running_gateway(secured(tmp_path, broker.port, keys), connected=False):
            await eventually(lambda: logs)
            assert logs[0]["event"] == "broker_refused"
            assert "the broker's certificate is not accepted" in logs[0]["cause"]
    finally:
        broker.stop(kill=True)


SEED = base64.b64encode(bytes(range(32))).decode()
NAMED = 'client_id = "gateway"\nsigning_key_file = "seed"\nsigning_key_name = "g"'


@pytest.mark.parametrize(
    ("mode", "content", "problem"),
    [
        (0o600, SEED + "\n", ""),
        (0o640, SEED, "can be read by others"),
        (0o600, "AAAA", "32 bytes"),
        (0o600, "not base64!", "in base64"),
    ],
)
def test_the_seed_must_be_a_secret_and_a_seed(tmp_path: Path, mode: int, content: str, problem: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(GOOD.replace('client_id = "gateway"', NAMED))
    write_private(tmp_path / "seed", content.encode())
    (tmp_path / "seed").chmod(mode)
    if not problem:
        assert load(file).mqtt.signing_key_file == str(tmp_path / "seed")
        return
    with pytest.raises(ConfigError, match=problem) as caught:
        load(file)
    assert [finding.path for finding in caught.value.findings] == ["mqtt.signing_key_file"]
    assert content not in str(caught.value)


def test_a_key_without_its_name_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(GOOD.replace('client_id = "gateway"', 'client_id = "g"\nsigning_key_name = "g"'))
    with pytest.raises(ConfigError, match="have to be set together"):
        load(file)


def keys_tool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloud_gateway.keys", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, cwd=cwd, env=environment
    )


def test_the_tool_makes_a_matching_pair_and_never_overwrites_one(tmp_path: Path) -> None:
    done = keys_tool("--name", "gateway-2026", "seed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seed").stat().st_mode & 0o777 == 0o600
    made = tomllib.loads(done.stdout)
    secret = (tmp_path / "seed").read_text().strip()
    assert secret not in done.stdout
    signer = Signer.from_file(tmp_path / made["signing_key_file"], made["signing_key_name"])
    topic = "locker/v1/m1/cmd/echo"
    user = dict(signer.properties(topic, b"body"))
    assert user[SIGNATURE_KEY] == "gateway-2026"
    public = VerifyKey(base64.b64decode(made["signing_keys"]["gateway-2026"]))
    public.verify(signed_bytes(topic, b"body"), base64.b64decode(user[SIGNATURE]))
    again = keys_tool("--name", "gateway-2026", "seed", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (2, "keys: seed: File exists\n")
    assert (tmp_path / "seed").read_text().strip() == secret
    assert keys_tool("--name", "a name", "other", cwd=tmp_path).returncode == 2
    assert not (tmp_path / "other").exists()
