"""The real link against a real Mosquitto with TLS: who is let in, what is refused, how files change."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cloud import link as link_module
from edge_agent.mqtt.credentials import Credentials, FileWatch, WallTime
from edge_agent.mqtt.messages import Message
from edge_agent.mqtt.packets import REFUSALS
from edge_agent.protocol.topics import Topics
from tests.support.broker import Broker
from tests.support.pki import DAY, Authority, write_private
from tests.support.secure import (
    LOCALHOST,
    DeafProxy,
    Keys,
    SecureBroker,
    make_link,
    password_file,
    watched,
)
from tools.bench.ports import free_port

TOPICS = Topics("m1")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.make(tmp_path / "keys")


@pytest.fixture
def broker(tmp_path: Path, keys: Keys) -> Iterator[SecureBroker]:
    running = SecureBroker(tmp_path / "broker", keys.server, keys.authority.file)
    running.start()
    yield running
    running.stop(kill=True)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FIRST_REFUSED_S", 0.05)
    monkeypatch.setattr(link_module, "LONGEST_REFUSED_S", 0.2)


async def acknowledged(link: Any) -> None:
    """Sends an event and waits for its PUBACK."""
    acknowledged = asyncio.Event()
    link.publish(Message(TOPICS.events, "{}"), lambda _: acknowledged.set())
    async with asyncio.timeout(10):
        await acknowledged.wait()


async def test_a_client_certificate_is_accepted(broker: SecureBroker, keys: Keys) -> None:
    async with watched(make_link(broker.port, keys.credentials())) as seen:
        await seen.until(lambda: seen.link.up)
        await acknowledged(seen.link)
        client: Any = seen.link.client.library
        assert client.socket().version() in ("TLSv1.2", "TLSv1.3")
        assert seen.refusals == [""]


@pytest.mark.parametrize("secure", [False, True])
async def test_websockets_with_and_without_tls(tmp_path: Path, keys: Keys, secure: bool) -> None:
    class Web(SecureBroker):
        def listener(self) -> list[str]:
            lines = super().listener() if secure else Broker.listener(self)
            # Mosquitto 2.0.11 does not start without a listener that is no websockets one.
            return [*lines, "protocol websockets", f"listener {free_port()} {LOCALHOST}"]

    broker = Web(tmp_path / "broker", keys.server, keys.authority.file)
    broker.start()
    try:
        credentials = keys.credentials() if secure else Credentials()
        link = make_link(broker.port, credentials, transport="websockets")
        async with watched(link) as seen:
            await seen.until(lambda: link.up)
            await acknowledged(link)
    finally:
        broker.stop(kill=True)


Spoil = Callable[[Keys], Credentials]


def open_key(keys: Keys) -> Credentials:
    keys.client.key.chmod(0o640)
    return keys.credentials()


def missing_key(keys: Keys) -> Credentials:
    keys.client.key.unlink()
    return keys.credentials()


def other_key(keys: Keys) -> Credentials:
    write_private(keys.client.key, keys.authority.issue("other").key.read_bytes())
    return keys.credentials()


def encrypted_key(keys: Keys) -> Credentials:
    keys.authority.issue("m1", passphrase=b"sesame")
    return keys.credentials()


def expired(keys: Keys) -> Credentials:
    keys.authority.issue("m1", begins=-3 * DAY, ends=-timedelta(seconds=2))
    return keys.credentials()


def no_certificate(keys: Keys) -> Credentials:
    keys.client.cert.write_text("no certificate")
    return keys.credentials()


def no_ca(keys: Keys) -> Credentials:
    return keys.credentials(ca_file=keys.client.cert)


def garbage_ca(keys: Keys) -> Credentials:
    keys.authority.file.write_text("garbage")
    return keys.credentials()


def open_password(keys: Keys) -> Credentials:
    path = keys.authority.folder / "password"
    path.write_text("sesame")
    path.chmod(0o604)
    return keys.credentials(username="m1", password_file=path)


def empty_password(keys: Keys) -> Credentials:
    path = keys.authority.folder / "password"
    write_private(path, b"\n")
    return keys.credentials(username="m1", password_file=path)


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (open_key, "mqtt.tls.key_file can be read by others (mode 0640)"),
        (missing_key, "mqtt.tls.key_file: No such file or directory"),
        (other_key, "mqtt.tls.key_file is not the key of mqtt.tls.cert_file"),
        (encrypted_key, "mqtt.tls.key_file is encrypted"),
        (expired, "mqtt.tls.cert_file has expired"),
        (no_certificate, "mqtt.tls.cert_file holds no certificate that can be read"),
        (no_ca, "mqtt.tls.ca_file holds no certificate of a CA"),
        (garbage_ca, "mqtt.tls.ca_file holds no certificate"),
        (open_password, "mqtt.password_file can be read by others (mode 0604)"),
        (empty_password, "mqtt.password_file is empty"),
    ],
)
async def test_invalid_files_are_sent_to_no_broker(keys: Keys, spoil: Spoil, cause: str) -> None:
    async with DeafProxy(1) as nobody, watched(make_link(nobody.port, spoil(keys))) as seen:
        await seen.refused(cause)
        assert nobody.accepted == 0
        assert "sesame" not in json.dumps([seen.refusals, seen.logs], default=repr)


async def test_a_corrected_file_is_used_at_once_during_a_long_pause(
    broker: SecureBroker, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "FIRST_REFUSED_S", 3600.0)
    keys.authority.issue("m1", begins=-3 * DAY, ends=-DAY)
    async with watched(make_link(broker.port, keys.credentials())) as seen:
        await seen.refused("has expired", attempts=1)
        keys.authority.issue("m1")
        await seen.mended()


async def test_a_file_that_is_made_private_again_is_used_at_once_too(
    broker: SecureBroker, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "FIRST_REFUSED_S", 3600.0)
    keys.client.key.chmod(0o644)
    async with watched(make_link(broker.port, keys.credentials())) as seen:
        await seen.refused("can be read by others", attempts=1)
        keys.client.key.chmod(0o600)
        await seen.mended()
        keys.client.key.chmod(0o640)
        await seen.until(lambda: len(seen.refusals) == 3)
        assert "can be read by others (mode 0640)" in seen.refusals[2]
        assert seen.link.up


async def test_another_cause_is_reported_again(broker: SecureBroker, keys: Keys) -> None:
    good = keys.client.key.read_bytes()
    keys.client.key.chmod(0o644)
    async with watched(make_link(broker.port, keys.credentials())) as seen:
        await seen.refused("can be read by others")
        keys.client.key.unlink()
        await seen.until(lambda: len(seen.refusals) == 2)
        assert "No such file" in seen.refusals[1]
        write_private(keys.client.key, good)
        await seen.mended()
        assert len(seen.refusals) == 3


class TestBrokersThatAreNoGood:
    """The broker shows a certificate that we do not accept."""

    async def refused(self, tmp_path: Path, keys: Keys, cause: str, **changes: Any) -> None:
        broker = SecureBroker(tmp_path / "broker", keys.server, keys.authority.file)
        broker.start()
        try:
            link = make_link(broker.port, keys.credentials(**changes))
            async with watched(link) as seen:
                await seen.refused(cause)
        finally:
            broker.stop(kill=True)

    async def test_of_another_ca(self, tmp_path: Path, keys: Keys) -> None:
        other = Authority(tmp_path / "other", "other").file
        await self.refused(
            tmp_path, keys, "is not accepted: self-signed certificate in certificate chain", ca_file=other
        )

    async def test_of_another_name(self, tmp_path: Path, keys: Keys) -> None:
        keys.server = keys.authority.issue("broker", hosts=("broker.example.org",))
        await self.refused(tmp_path, keys, "is not accepted: IP address mismatch")

    async def test_expired(self, tmp_path: Path, keys: Keys) -> None:
        keys.server = keys.authority.issue("broker", hosts=(LOCALHOST,), begins=-3 * DAY, ends=-DAY)
        await self.refused(tmp_path, keys, "is not accepted: certificate has expired")


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
async def test_a_certificate_that_the_broker_does_not_accept(
    tmp_path: Path, keys: Keys, version: str
) -> None:
    others = Authority(tmp_path / "other", "other").file
    broker = SecureBroker(tmp_path / "broker", keys.server, others, f"tls_version {version}")
    broker.start()
    try:
        async with watched(make_link(broker.port, keys.credentials())) as seen:
            await seen.refused("the broker does not accept us: TLS alert 'unknown ca'")
    finally:
        broker.stop(kill=True)


async def test_a_password_that_the_broker_does_not_accept(tmp_path: Path, keys: Keys) -> None:
    users = password_file(tmp_path, m1="right")
    lines = ("allow_anonymous false", f"password_file {users}")
    broker = SecureBroker(tmp_path / "broker", keys.server, keys.authority.file, *lines, required=False)
    broker.start()
    secret = tmp_path / "password"
    write_private(secret, b"wrong-sesame\n")
    changes = {"cert_file": None, "key_file": None, "username": "m1", "password_file": secret}
    try:
        async with watched(make_link(broker.port, keys.credentials(**changes))) as seen:
            await seen.refused(f"the broker refuses us: Not authorized; {REFUSALS[0x87]}")
            assert "wrong-sesame" not in json.dumps(seen.logs, default=repr)
            write_private(secret, b"right\n")
            await seen.mended()
    finally:
        broker.stop(kill=True)


async def test_an_unreachable_broker_is_not_a_refusal(keys: Keys, broker: SecureBroker) -> None:
    broker.stop(kill=True)
    async with watched(make_link(broker.port, keys.credentials())) as seen:
        await seen.until(lambda: len(seen.attempts) >= 3)
        assert seen.refusals == []
        downs = [entry["reason"] for entry in seen.logs if entry["event"] == "link"]
        assert downs == ["no connection: Connection refused"]
        broker.start()
        await seen.until(lambda: seen.link.up, 10)


async def test_new_files_lead_to_a_new_connection_that_uses_them(broker: SecureBroker, keys: Keys) -> None:
    async with watched(make_link(broker.port, keys.credentials())) as seen:
        await seen.until(lambda: seen.link.up)
        first: Any = seen.link.client.library
        keys.authority.issue("m1", ends=5 * DAY)
        await seen.until(lambda: seen.user.ups == 2)
        await acknowledged(seen.link)
        assert seen.link.client.library is not first
        assert seen.refusals == ["", ""]
        assert [e["reason"] for e in seen.logs if e.get("state") == "down"] == ["new credentials"]


async def test_invalid_new_files_are_reported_and_the_connection_stays(
    broker: SecureBroker, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    changed = FileWatch.changed

    def counting(watch: FileWatch) -> bool:
        looks.append(changed(watch))
        return looks[-1]

    monkeypatch.setattr(FileWatch, "changed", counting)
    async with watched(make_link(broker.port, keys.credentials())) as seen:
        await seen.until(lambda: seen.link.up)
        first: Any = seen.link.client.library
        keys.authority.issue("m1", begins=-3 * DAY, ends=-DAY)
        await seen.until(lambda: len(seen.refusals) == 2)
        assert "has expired" in seen.refusals[1]
        await seen.until(lambda: len(looks) > looks.index(True) + 4)  # it looks again, and leaves it at that
        await acknowledged(seen.link)
        assert seen.link.client.library is first
        assert len(seen.refusals) == 2
        keys.authority.issue("m1")
        await seen.until(lambda: seen.link.client.library not in (None, first) and seen.link.up)
        assert seen.refusals[2:] == [""]


async def test_a_link_that_drops_everything_is_down_after_twice_the_keepalive(
    broker: SecureBroker, keys: Keys
) -> None:
    keepalive_s = 2
    async with DeafProxy(broker.port) as proxy:
        link = make_link(proxy.port, keys.credentials(), keepalive_s=keepalive_s)
        async with watched(link) as seen:
            await seen.until(lambda: link.up)
            await acknowledged(link)
            loop = asyncio.get_running_loop()
            for talking in (False, True):
                proxy.deaf = True
                began_s = loop.time()
                while link.up:  # also a link that goes on sending must notice that nothing comes back
                    assert loop.time() - began_s < 2 * keepalive_s + 10
                    if talking:
                        link.publish(Message(TOPICS.telemetry, "{}", qos=0))
                    await asyncio.sleep(0.1)
                proxy.deaf = False
                await seen.until(lambda: link.up, 20)


async def test_a_silent_broker_never_blocks_the_loop(keys: Keys) -> None:
    """Neither by a connection that is refused, nor by the end of one that is stuck in its handshake."""
    loop = asyncio.get_running_loop()
    longest_s = 0.0

    async def beat() -> None:
        nonlocal longest_s
        while True:
            before_s = loop.time()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, loop.time() - before_s)

    beating = asyncio.create_task(beat())
    async with DeafProxy(1) as silent, watched(make_link(silent.port, keys.credentials())) as seen:
        await seen.until(
            lambda: silent.accepted == 1
        )  # refused behind the proxy: nothing listens on its port
        await seen.until(lambda: len(seen.attempts) >= 3)
        silent.deaf = True
        count = silent.accepted
        await seen.until(lambda: silent.accepted > count)
    beating.cancel()
    await asyncio.wait([beating])
    assert longest_s < 2  # a connection attempt that blocks takes 5 s and more


def test_tls_1_2_is_the_least(keys: Keys) -> None:
    context = keys.credentials().check(WallTime(0.0, synced=False)).context
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
