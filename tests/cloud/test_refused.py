"""Invalid credentials in the whole machine: one log line, an alarm, and codes that still work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cloud import link as link_module
from edge_agent.model import Alarm
from edge_agent.mqtt.packets import REFUSALS
from tests.support.pki import DAY, Authority, write_private
from tests.support.real_site import real_site
from tests.support.secure import LOCALHOST, Keys, Recorder, SecureBroker, password_file

Change = Callable[[Keys, Path], None]


def open_key(keys: Keys, folder: Path) -> None:
    keys.client.key.chmod(0o644)


def close_key(keys: Keys, folder: Path) -> None:
    keys.client.key.chmod(0o600)


def expire(keys: Keys, folder: Path) -> None:
    keys.authority.issue("m1", begins=-3 * DAY, ends=-DAY)


def issue(keys: Keys, folder: Path) -> None:
    keys.authority.issue("m1")


def trust_another(keys: Keys, folder: Path) -> None:
    write_private(folder / "trusted.pem", Authority(folder / "other", "other").file.read_bytes())


def trust_the_right_one(keys: Keys, folder: Path) -> None:
    write_private(folder / "trusted.pem", keys.authority.file.read_bytes())


def wrong_password(keys: Keys, folder: Path) -> None:
    write_private(folder / "password", b"wrong-sesame")


def right_password(keys: Keys, folder: Path) -> None:
    write_private(folder / "password", b"right-sesame")


CASES = {
    "a key that others can read": (
        open_key,
        close_key,
        "mqtt.tls.key_file can be read by others (mode 0644)",
    ),
    "an expired certificate": (expire, issue, "mqtt.tls.cert_file has expired"),
    "a wrong CA": (trust_another, trust_the_right_one, "the broker's certificate is not accepted"),
    "a wrong password": (
        wrong_password,
        right_password,
        f"the broker refuses us: Not authorized; {REFUSALS[0x87]}",
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if "certificate" in name or "CA" in name else ())
        for name in CASES
    ],
)
async def test_a_refused_link_raises_one_alarm_and_the_locker_works_on(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, mend, cause = CASES[name]
    logs: list[Any] = []
    monkeypatch.setattr(link_module, "log", Recorder(logs))
    monkeypatch.setattr(link_module, "FIRST_REFUSED_S", 0.05)
    monkeypatch.setattr(link_module, "LONGEST_REFUSED_S", 0.2)
    keys = Keys.make(tmp_path / "keys")
    users = password_file(tmp_path, m1="right-sesame")
    lines = ("allow_anonymous false", f"password_file {users}")
    broker = SecureBroker(tmp_path / "broker", keys.server, keys.authority.file, *lines)
    trust_the_right_one(keys, tmp_path)
    right_password(keys, tmp_path)
    spoil(keys, tmp_path)
    files = {"ca_file": "trusted.pem", "cert_file": "keys/m1.pem", "key_file": "keys/m1.key"}
    mqtt = {"host": LOCALHOST, "port": broker.port, "tls": files}
    broker.start()
    try:
        async with real_site(tmp_path, mqtt | {"username": "m1", "password_file": "password"}) as site:
            await site.until(lambda: site.alarm(Alarm.LINK_REFUSED) is not None)
            assert cause in (site.alarm(Alarm.LINK_REFUSED) or "")
            await site.serves_a_parcel_by_codes()  # seconds, with many attempts meanwhile
            assert not site.agent.link.up
            causes = [entry["cause"] for entry in logs if entry["event"] == "link refused"]
            assert causes == [site.alarm(Alarm.LINK_REFUSED)]
            assert "sesame" not in repr(logs)
            mend(keys, tmp_path)
            await site.until(lambda: site.agent.link.up)
            await site.until(lambda: site.alarm(Alarm.LINK_REFUSED) is None)
    finally:
        broker.stop(kill=True)


async def test_an_alarm_of_an_earlier_start_ends_with_the_first_connection(tmp_path: Path) -> None:
    keys = Keys.make(tmp_path / "keys")
    broker = SecureBroker(tmp_path / "broker", keys.server, keys.authority.file)
    names = {"ca_file": "keys/ca.pem", "cert_file": "keys/m1.pem", "key_file": "keys/m1.key"}
    mqtt = {"host": LOCALHOST, "port": broker.port, "tls": names}
    open_key(keys, tmp_path)
    async with real_site(tmp_path, mqtt) as site:
        await site.until(lambda: site.alarm(Alarm.LINK_REFUSED) is not None)
    close_key(keys, tmp_path)
    broker.start()
    try:
        async with real_site(tmp_path, mqtt) as site:
            await site.until(lambda: site.agent.link.up and site.alarm(Alarm.LINK_REFUSED) is None)
    finally:
        broker.stop(kill=True)


async def test_an_unreachable_broker_raises_no_alarm(tmp_path: Path) -> None:
    keys = Keys.make(tmp_path / "keys")
    nobody = SecureBroker(tmp_path / "broker", keys.server, keys.authority.file)
    async with real_site(tmp_path, {"host": LOCALHOST, "port": nobody.port, "tls": {}}) as site:
        await site.serves_a_parcel_by_codes()
        assert site.alarm(Alarm.LINK_REFUSED) is None
