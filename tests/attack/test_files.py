"""X8: no other user may read what the daemon writes, and a start logs what others may read or change."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_agent.cli.commands import app
from edge_agent.config import load_settings
from edge_agent.config.modes import close_journal, mode_findings
from edge_agent.protocol.broker import CREDENTIAL_OTHERS, CREDENTIALS_DIRECTORY, OTHERS, secret_mask
from tests.support.bench import wait_for
from tests.support.real_site import machine_file

NO_BROKER: dict[str, Any] = {"host": "127.0.0.1", "port": 1}


@contextmanager
def run_by_hand(folder: Path, log: Path) -> Iterator[None]:
    """`edge-agent run` as somebody starts it in a shell with the usual umask."""
    file = machine_file(folder, NO_BROKER, {}, folder / "mark" / "commissioned.json")
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [Path(sys.executable).with_name("edge-agent"), "run", "--config", file],
            stderr=output,
            stdout=output,
            umask=0o022,
        )
    try:
        wait_for((folder / "agent.sock").exists, 30)
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(timeout=20)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_x8_what_a_daemon_started_by_hand_writes_is_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with run_by_hand(tmp_path, log):
        written = {
            path: mode_of(path) for path in tmp_path.rglob("*") if path.name not in ("log", "machine.toml")
        }
    assert {"journal.sqlite", "journal.sqlite-wal", "agent.sock", "commissioned.json"} <= {
        p.name for p in written
    }
    open_ones = {str(path): f"{mode:04o}" for path, mode in written.items() if mode & OTHERS}
    # The group may connect; the daemon learns from the kernel which user it is.
    assert open_ones == {str(tmp_path / "agent.sock"): "0660"}
    assert "could be read by others" not in log.read_text()
    (tmp_path / "journal.sqlite").chmod(0o644)
    (tmp_path / "agent.sock").unlink(missing_ok=True)
    with run_by_hand(tmp_path, log):
        assert mode_of(tmp_path / "journal.sqlite") == 0o600
    assert "journal.sqlite could be read by others (mode 0644); it is 0600 now" in log.read_text()


def test_x8_the_modes_of_every_file_are_checked(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    technicians, password = tmp_path / "technicians", tmp_path / "password"
    journal = tmp_path / "data" / "journal.sqlite"
    journal.parent.mkdir()
    for path in (key, technicians, password, journal, journal.with_name("journal.sqlite-wal")):
        path.write_text("x")
        path.chmod(0o640)
    mqtt = {"host": "h", "username": "u", "password_file": str(password)}
    tls = {"ca_file": "ca", "cert_file": "cert", "key_file": str(key)}
    file = machine_file(tmp_path, mqtt | {"tls": tls}, {"technicians_file": str(technicians)})
    text = file.read_text().replace(str(tmp_path / "journal.sqlite"), str(journal))
    file.write_text(text)
    settings = load_settings(file)
    assert [finding.path for finding in mode_findings(settings, file)] == [
        "paths.journal",
        "paths.journal",
        "mqtt.password_file",
        "mqtt.tls.key_file",
        "access.technicians_file",
    ]
    assert [str(finding).partition(" (")[0] for finding in close_journal(settings)] == [
        f"paths.journal: {path} could be read by others"
        for path in (journal, journal.with_name("journal.sqlite-wal"))
    ]
    assert mode_of(journal) == 0o600
    assert close_journal(settings) == []
    for path in (key, technicians, password):
        path.chmod(0o400)
    assert mode_findings(settings, file) == []
    journal.parent.chmod(0o777)
    file.chmod(0o666)
    assert [str(finding) for finding in mode_findings(settings, file)] == [
        f"configuration file: {file} can be changed by any user (mode 0666)",
        f"paths.journal: {journal.parent} can be changed by any user (mode 0777)",
    ]
    journal.parent.chmod(0o1777)
    done = CliRunner().invoke(app, ["check", "--config", str(file)])
    assert f"{file}: warning: configuration file: {file} can be changed by any user" in done.stderr
    assert str(journal.parent) not in done.stderr


def test_x8_a_mode_that_cannot_be_changed_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "journal.sqlite").touch(0o644)

    def refused(*_: object) -> None:
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(Path, "chmod", refused)
    found = close_journal(load_settings(machine_file(tmp_path, NO_BROKER)))
    assert "and still can: Operation not permitted" in str(found[0])


def test_x8_a_credential_of_systemd_may_show_the_bits_of_its_acl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secret_mask(tmp_path / "key", os.environ) == OTHERS
    monkeypatch.setenv(CREDENTIALS_DIRECTORY, str(tmp_path))
    assert secret_mask(tmp_path / "key", os.environ) == CREDENTIAL_OTHERS
    assert secret_mask(tmp_path / "other" / "key", os.environ) == OTHERS
