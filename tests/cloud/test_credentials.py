"""The check of credential files, apart from any broker."""

from __future__ import annotations

import os
import random
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time

import pytest

from edge_agent.errors import LinkFault, LinkRefused
from edge_agent.mqtt.backoff import Backoff
from edge_agent.mqtt.credentials import (
    CERT_FILE,
    PASSWORD_FILE,
    CredentialCheck,
    Credentials,
    WallTime,
    alert_in,
    fault_of,
    read_secret,
    validity_s,
)
from edge_agent.protocol.broker import file_at
from tests.support.pki import DAY, write_private
from tests.support.secure import Keys


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.make(tmp_path)


@pytest.mark.parametrize("years", [1, 60])
def test_the_validity_of_a_certificate_is_read_also_beyond_2050(keys: Keys, years: int) -> None:
    pair = keys.authority.issue("m1", begins=-2 * DAY, ends=years * 365 * DAY)
    now = datetime.now(UTC)
    begins_s, ends_s = validity_s(pair.cert, CERT_FILE)
    assert abs(begins_s - (now - 2 * DAY).timestamp()) < 5
    assert abs(ends_s - (now + years * 365 * DAY).timestamp()) < 5


@pytest.mark.parametrize("cut", [0, 30, 60, 100])
def test_a_damaged_certificate_has_no_validity(keys: Keys, cut: int) -> None:
    lines = keys.client.cert.read_text().splitlines()
    body = "".join(lines[1:-1])[:cut]
    keys.client.cert.write_text("\n".join([lines[0], body, lines[-1]]))
    with pytest.raises(LinkRefused, match="holds no certificate that can be read"):
        validity_s(keys.client.cert, CERT_FILE)


@pytest.mark.parametrize(
    ("offset", "synced", "problem"),
    [
        (timedelta(0), True, ""),
        (2 * DAY, True, "has expired"),
        (2 * DAY, False, "has expired"),
        (-2 * DAY, True, "is not valid yet"),
        (-2 * DAY, False, ""),
    ],
)
def test_a_clock_that_was_never_synchronised_is_believed_only_that_time_has_passed(
    keys: Keys, offset: timedelta, synced: bool, problem: str
) -> None:
    now = WallTime((datetime.now(UTC) + offset).timestamp(), synced)
    if not problem:
        assert keys.credentials().check(now).context is not None
        return
    with pytest.raises(LinkRefused, match=problem):
        keys.credentials().check(now)


def test_a_credential_of_systemd_may_show_the_bits_of_its_acl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    write_private(secret, b"x")
    secret.chmod(0o440)
    with pytest.raises(LinkRefused, match="0440"):
        read_secret(secret, PASSWORD_FILE)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret(secret, PASSWORD_FILE) == b"x"
    for mode in (0o460, 0o444):
        secret.chmod(mode)
        with pytest.raises(LinkRefused, match="can be read by others"):
            read_secret(secret, PASSWORD_FILE)


def test_a_folder_is_not_accepted_as_a_secret(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(LinkRefused, match="is no file"):
        read_secret(tmp_path / "folder", PASSWORD_FILE)


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_pipe_instead_of_a_file_does_not_block(keys: Keys, tmp_path: Path, key: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(LinkRefused, match=rf"^mqtt\.tls\.{key} is no file$"):
        keys.credentials(**{key: pipe}).check(WallTime(time(), synced=True))


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file", "password_file"])
def test_a_secret_instead_of_a_file_name_is_not_shown(keys: Keys, key: str) -> None:
    wrong = keys.credentials(username="m", **{key: Path("/etc/locker/hunter2-sesame")})
    with pytest.raises(LinkRefused, match=rf"^mqtt\.(tls\.)?{key}: No such file or directory$"):
        wrong.check(WallTime(time(), synced=True))


def test_a_secret_instead_of_a_credential_s_name_is_not_shown(tmp_path: Path) -> None:
    for name in ("credential:hunter2", "credential:hunter2/sesame"):
        with pytest.raises(ValueError, match=r"LoadCredential|without a slash") as caught:
            file_at(tmp_path, name, {})
        assert "hunter2" not in str(caught.value)


def test_a_password_is_one_line_and_text(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    credentials = Credentials(username="m", password_file=secret)
    write_private(secret, "pass wörd \r\n".encode())
    assert credentials.check(WallTime(0, synced=False)).password == "pass wörd "
    write_private(secret, b"\xff\xfe")
    with pytest.raises(LinkRefused, match="is not UTF-8"):
        credentials.check(WallTime(0, synced=False))


def test_the_stamp_changes_with_any_file(keys: Keys) -> None:
    credentials = keys.credentials()
    seen = {credentials.stamp()}
    for path in (keys.authority.file, keys.client.cert, keys.client.key):
        write_private(path, path.read_bytes())
        seen.add(credentials.stamp())
    keys.client.key.chmod(0o640)
    seen.add(credentials.stamp())
    keys.client.key.unlink()
    seen.add(credentials.stamp())
    assert len(seen) == 6


def test_files_are_read_again_when_they_change_and_expiry_is_always_checked(keys: Keys) -> None:
    check, now = CredentialCheck(keys.credentials()), datetime.now(UTC).timestamp()
    first = check.check(WallTime(now, synced=True))
    assert check.check(WallTime(now + 1, synced=True)) is first
    with pytest.raises(LinkRefused, match="has expired"):
        check.check(WallTime(now + 2 * 86_400, synced=True))
    keys.client.key.chmod(0o644)
    with pytest.raises(LinkRefused, match="read by others"):
        check.check(WallTime(now, synced=True))
    keys.client.key.chmod(0o600)
    keys.authority.issue("m1")
    second = check.check(WallTime(now, synced=True))
    assert second is not first
    check.forget()
    assert check.check(WallTime(now, synced=True)) is not second


def test_each_connection_error_has_its_meaning() -> None:
    assert type(fault_of(ConnectionRefusedError(111, "Connection refused"))) is LinkFault
    assert type(fault_of(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"))) is LinkFault
    assert type(fault_of(None)) is LinkFault
    alert = "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:1)"
    assert str(alert_in(alert)).endswith("TLS alert 'certificate required'")
    assert isinstance(fault_of(ssl.SSLError(1, alert)), LinkRefused)
    assert alert_in("failed to receive on socket: [Errno 104] Connection reset by peer") is None


def test_pauses_double_up_to_the_bound_and_are_spread() -> None:
    backoff = Backoff(0.2, 8.0, random.Random(5))
    bounds = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8.0, 8.0]
    for bound in bounds:
        assert 0.05 <= backoff.pause_s() <= bound
    late = [backoff.pause_s() for _ in range(1000)]
    # A thousand machines at the bound: in no second come more than about an eighth of them.
    assert max(sum(second <= pause < second + 1 for pause in late) for second in range(8)) < 190
    backoff.reset()
    assert backoff.pause_s() <= 0.2
