"""The gateway as a process: exit codes, signals, and what its log does not hold."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest

from cloud_gateway.app import listen
from edge_agent.protocol.events import EventType
from tests.cloud_gateway.receiver import receiver
from tests.cloud_gateway.support import API, KEY, RESERVE, Peer, error
from tests.support.broker import Broker
from tools.bench.ports import free_port

OPERATIONS = "opensesame"


def write_config(folder: Path, port: int, broker_port: int, webhook_url: str = "") -> Path:
    """A configuration file."""
    path = folder / "gateway.toml"
    path.write_text(
        f'listen_port = {port}\npublic_url = "http://127.0.0.1:{port}"\n'
        f'operations_key = "{OPERATIONS}"\n'
        f'[webhooks]\nallow_networks = ["127.0.0.0/8"]\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {broker_port}\nclient_id = "gateway"\n'
        f'[[platforms]]\nname = "acme"\napi_key = "{KEY}"\nwebhook_url = "{webhook_url}"\n'
    )
    return path


def command(config: Path) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "cloud_gateway", "--config", str(config)]


@asynccontextmanager
async def process(config: Path, port: int, log: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A running gateway; killed at the end if the test did not end it."""
    running = _popen(config, log)
    try:
        await _healthy(port)
        yield running
    finally:
        running.kill()
        await asyncio.to_thread(running.wait)


def _popen(config: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(command(config), stdout=out, stderr=out)


async def _healthy(port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(15):
        while True:
            try:
                if (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def post_until_taken(http: httpx.AsyncClient, url: str, peer: Peer) -> httpx.Response:
    """Asks until the machine was reached: just after the start it may not be known yet."""
    while True:
        response = await http.post(url, json=RESERVE)
        if peer.commands:
            return response


def test_a_busy_port_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as busy:
        config = write_config(tmp_path, busy.getsockname()[1], 1)
        done = subprocess.run(command(config), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Address already in use" in done.stderr


def test_a_bad_configuration_is_exit_2_with_the_key_path(tmp_path: Path) -> None:
    config = write_config(tmp_path, 1, 1)
    config.write_text(config.read_text().replace("client_id", "client"))
    done = subprocess.run(command(config), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "mqtt.client: " in done.stderr
    assert "mqtt.client_id: " in done.stderr
    assert KEY not in done.stderr


def test_a_database_of_a_newer_version_is_exit_1_and_left_alone(tmp_path: Path) -> None:
    config, database = write_config(tmp_path, free_port(), 1), tmp_path / "gateway.db"
    with closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        db.execute("INSERT INTO alembic_version VALUES ('of_tomorrow')")
        db.commit()
    done = subprocess.run(command(config), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert '"event": "database_of_a_newer_version"' in done.stderr
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("alembic_version",)]


def test_check_judges_the_configuration_and_starts_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path, 1, 1)
    done = subprocess.run(
        [*command(config), "--check"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{config}: good\n", "")
    config.write_text('keys_file = "nowhere.toml"\n' + config.read_text())
    done = subprocess.run(
        [*command(config), "--check"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "nowhere.toml" in done.stderr
    assert not (tmp_path / "gateway.db").exists()


async def test_no_code_key_or_qr_text_is_ever_logged(tmp_path: Path, broker: Broker) -> None:
    port, log = free_port(), tmp_path / "log"
    peer = Peer(broker.port)
    await asyncio.to_thread(peer.start)
    try:
        async with receiver() as target:
            target.status = lambda _: 500
            config = write_config(tmp_path, port, broker.port, target.url)
            base = f"http://127.0.0.1:{port}"
            async with (
                process(config, port, log) as running,
                httpx.AsyncClient(headers={"X-API-Key": KEY}, trust_env=False, timeout=15) as http,
            ):
                secrets = await _exercise(http, base, peer)
                running.terminate()
                assert await asyncio.to_thread(running.wait, 10) == 0
        text = log.read_text()
        assert text.count('"event": "request"') > 8
        assert '"route": "/qrcode/{text}"' in text
        for secret in [*secrets, KEY, OPERATIONS, "wrong-key", "DLV-"]:
            assert secret not in text
        assert oct((tmp_path / "gateway.db").stat().st_mode & 0o777) == "0o600"
    finally:
        await asyncio.to_thread(peer.stop)


@pytest.mark.parametrize(("trusted", "status"), [('"127.0.0.1"', 403), ('"10.0.0.0/8"', 429), ("", 429)])
async def test_behind_a_trusted_proxy_clients_without_a_key_are_counted_separately(
    tmp_path: Path, broker: Broker, trusted: str, status: int
) -> None:
    port = free_port()
    config = write_config(tmp_path, port, broker.port)
    few = "[limits]\nwrong_keys = 1\nwrong_keys_per_min = 1\n"
    config.write_text(f"trusted_proxies = [{trusted}]\n{config.read_text()}{few}")
    async with process(config, port, tmp_path / "log"), httpx.AsyncClient(trust_env=False) as http:

        async def ask(address: str) -> int:
            headers = {"X-API-Key": "guess", "X-Forwarded-For": address}
            return (await http.get(f"http://127.0.0.1:{port}{API}/reservations", headers=headers)).status_code

        assert [await ask("192.0.2.1"), await ask("192.0.2.1")] == [403, 429]
        assert await ask("192.0.2.2") == status


async def _exercise(http: httpx.AsyncClient, base: str, peer: Peer) -> list[str]:
    """Everything that handles a code, well and badly; gives the codes and QR texts."""
    peer.reservations.update({f"filler{n}": {} for n in range(31_000)})  # codes that nothing else looks like
    async with asyncio.timeout(10):
        made = (await post_until_taken(http, f"{base}{API}/reservations", peer)).json()
    path = f"{base}{API}/reservations/{made['reservation_id']}"
    await http.get(path)
    await http.get(f"{base}{API}/reservations", headers={"X-API-Key": "wrong-key"})
    await http.get(f"{base}{API}/reservations/{made['drop_off_qrcode']}")
    for name in ("drop_off_qrcode_url", "pickup_code_qrcode_url"):
        assert (await http.get(made[name])).status_code == 200
    await http.get(f"{base}/qrcode/{made['drop_off_qrcode']}x")
    await http.get(f"{base}/nowhere/{made['drop_off_qrcode']}")
    for password in (OPERATIONS, "wrong-key"):
        await http.get(f"{base}/operations", auth=("anna", password))
    await http.post(f"{path}/dropoffs")
    peer.event(EventType.DROPOFF, peer.reservations[made["reservation_id"]])
    peer.scripts["pickup"] = error(13)
    await http.post(f"{path}/pickups")
    view = dict(peer.reservations[made["reservation_id"]], status="NONSENSE")
    peer.scripts["pickup"] = lambda _: {"result": {"reservation": view}}
    assert (await http.post(f"{path}/pickups")).status_code == 500
    return [made[name] for name in ("drop_off_code", "pickup_code", "drop_off_qrcode", "pickup_code_qrcode")]
