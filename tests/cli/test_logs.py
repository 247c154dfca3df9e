"""`edge-agent logs`: journalctl and systemctl are small programs here that record their arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli.commands import app
from edge_agent.process.log_output import entry_of


class System:
    """A folder of programs that is all of PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = folder / "said"

    def program(self, name: str, output: str, code: int = 0) -> None:
        (self.folder / f"{name}.out").write_text(output, encoding="utf-8")
        said = f'printf "%s\\n" {name} "$@" >> {self.said}\n' if name == "journalctl" else ""
        file = self.folder / name
        file.write_text(
            f"#!/bin/sh\n{said}/bin/cat {self.folder}/{name}.out\nexit {code}\n", encoding="utf-8"
        )
        file.chmod(0o755)

    def asked(self) -> list[str]:
        return self.said.read_text(encoding="utf-8").splitlines()


@pytest.fixture(name="system")
def _system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setenv("PATH", str(tmp_path))
    system = System(tmp_path)
    system.program("systemctl", "loaded\n")
    return system


def line(message: Any, priority: int = 6, second: int = 5, **fields: Any) -> str:
    at_us = 1_796_070_600_000_000 + second * 1_000_000 + 250_000  # 2026-11-30T20:30:00Z
    return json.dumps(
        {"__REALTIME_TIMESTAMP": str(at_us), "PRIORITY": str(priority), "MESSAGE": message, **fields}
    )


def logs(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["logs", *arguments], env={"COLUMNS": "80"})


USUAL = ["journalctl", "--unit=edge-agent.service", "--output=json", "--all", "--no-pager"]


def test_entries_are_lines_with_time_level_and_message(system: System) -> None:
    long = "a frame was damaged " + "00 " * 50 + "end"
    output = [line("running"), line(long, 4, 6), line("the journal [red]is full", 3, 7)]
    system.program("journalctl", "\n".join([*output, "-- No entries --"]))
    done = logs("--utc")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "2026-11-30 20:30:05 UTC  info      running",
        f"2026-11-30 20:30:06 UTC  warning   {long}",
        "2026-11-30 20:30:07 UTC  error     the journal [red]is full",
    ]
    assert system.asked() == [*USUAL, "--lines=200"]


def test_scripts_get_times_in_utc_and_the_daemon_s_own_fields(system: System) -> None:
    fields: dict[str, Any] = {"EDGE_CELL": "A01", "EDGE_EVENT": "pulse", "_PID": "7", "EDGE_MS": ["1", "2"]}
    system.program("journalctl", line([112, 255, 117], **fields))
    (entry,) = json.loads(logs("--json").stdout)
    assert entry == {
        "at": "2026-11-30T20:30:05Z",
        "level": "info",
        "message": "p\ufffdu",
        "fields": {"cell": "A01", "event": "pulse", "ms": "1, 2"},
    }


def test_the_fields_are_those_that_the_daemon_writes() -> None:
    written = entry_of({"event": "pulse", "level": "info", "cell": "A01"}).decode()
    assert {"EDGE_CELL=A01", "EDGE_EVENT=pulse", "PRIORITY=6"} <= set(written.splitlines())


def test_options_are_arguments_of_journalctl(system: System) -> None:
    system.program("journalctl", line("running"))
    options = ["--since", "2026-11-30T20:00Z", "--level", "warning", "--limit", "7", "--follow", "--json"]
    done = logs(*options)
    assert json.loads(done.stdout)["message"] == "running"  # one object on each line
    more = ["--lines=7", "--since=@1796068800", "--priority=4", "--follow"]
    assert system.asked() == [*USUAL, *more]


def test_since_alone_shows_all_that_is_later(system: System) -> None:
    system.program("journalctl", "")
    assert logs("--since", "2026-11-30T20:00Z").stdout == "no entry\n"
    assert system.asked() == [*USUAL, "--since=@1796068800"]


def test_what_is_typed_never_reaches_a_shell(system: System) -> None:
    done = logs("--since", "$(touch x); 2h")
    assert done.exit_code == 2
    assert not system.said.exists()


def test_no_shown_entry_controls_the_terminal(system: System) -> None:
    system.program("journalctl", line("a\x1b[2Jb\x9bc"))
    assert logs().stdout.endswith("a\ufffd[2Jb\ufffdc\n")
    assert "\\u001b" not in logs("--json").stdout


@pytest.mark.parametrize("state", ["not-found\n", ""])
def test_without_the_service_the_next_step_is_named(system: System, state: str) -> None:
    system.program("journalctl", "")
    system.program("systemctl", state, 1)
    done = logs()
    assert (done.exit_code, done.stdout) == (3, "")
    said = " ".join(done.stderr.split())
    assert "systemd has no service edge-agent.service here" in said
    assert "standard error of `edge-agent run`" in said
    assert not system.said.exists()


def test_without_journalctl_the_next_step_is_named(system: System) -> None:
    done = logs()
    assert (done.exit_code, done.stdout) == (3, "")
    assert "journalctl is not installed" in done.stderr


def test_a_failing_journalctl_is_a_fault(system: System) -> None:
    system.program("journalctl", line("running"), 1)
    done = logs()
    assert done.exit_code == 1
    assert "running" in done.stdout
    assert "journalctl ended with exit code 1" in done.stderr
