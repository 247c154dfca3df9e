"""Every command that asks a daemon, at one that runs: for people and scripts, with and without a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edge_agent.cli.commands import app
from edge_agent.cli.completion import labels
from tests.cli.test_every_command import ALONE, NAMES, TERMINAL
from tests.support.bench import PARCEL, Bench, running_bench, wait_for

LOOKS: dict[str, tuple[tuple[str, ...], str]] = {
    "status": ((), r"machine id\s+machine_123"),
    "cells": ((), r"│ B03 +│ closed +│ OCCUPIED"),
    "reservations": ((), r"│ res_\w+ +│ order 1/ü │ B03 +│ DROPPED_OFF"),
    "alarms": ((), r"│ CLOCK_UNSYNCED|no alarm stands"),
    "events": ((), r"unlock: OPENED +│ B03"),
    "service-commands": ((), r"nothing was requested remotely"),
    "config show": (("unlock.pulse_ms",), r"│ unlock.pulse_ms │ 300 +│ file"),
    "bus stats": ((), r"main .*modbus at 19200 baud, up"),
    "bus check": ((), r"│ main │ locks_a"),
    "bus scan": (("--first", "1", "--last", "3"), r"│ main │ 1 +│ locks_a +│ bronze +│ answers"),
    "bus monitor": (("--seconds", "0.5"), r"locks_a\(1\) read 8 inputs from 0"),
}
"""Commands that change nothing: their arguments, and what people see."""
ELSEWHERE = {
    "diagnose": "tests/system/test_technician.py",
    "bus doors": "tests/system/test_bus_commands.py",
    "watch": "tests/system/test_watch.py",
    "bundle": "tests/system/test_secrets.py",
    "logs": "tests/cli/test_logs.py",
    "reload": "tests/system/test_reload.py",
    "signal": "tests/runtime/test_signals.py",
    "bus record-profile": "tests/runtime/test_record_profile.py",
    "resolve": "tests/cli/test_every_command.py",
    "restore": "tests/cli/test_every_command.py",
    "forget": "tests/privacy/test_forget.py",
}
ACTS = {"code", "open", "block", "unblock", "clear", "tare"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """With a cooled parcel in B03."""
    with running_bench(tmp_path_factory.mktemp("commands")) as running:
        made = running.reserve(PARCEL)
        assert command(running, "code", made["drop_off_code"]).exit_code == 0
        running.person("B03", "place", "close")
        wait_for(lambda: running.status(made["reservation_id"]) == "DROPPED_OFF")
        yield running


def command(bench: Bench, name: str, *arguments: str) -> Result:
    environment = {"EDGE_AGENT_SOCKET": str(bench.folder / "agent.sock"), "COLUMNS": "200"}
    return CliRunner().invoke(app, [*name.split(), *arguments], env=environment)


def test_no_command_is_forgotten() -> None:
    assert set(NAMES) <= LOOKS.keys() | ELSEWHERE.keys() | ACTS | ALONE | TERMINAL


@pytest.mark.parametrize("name", LOOKS)
def test_people_see_a_table_and_scripts_get_json(bench: Bench, name: str) -> None:
    arguments, seen = LOOKS[name]
    done = command(bench, name, *arguments)
    assert done.exit_code == 0, done.stderr
    assert re.search(seen, done.stdout), done.stdout
    assert "\x1b" not in done.output  # no terminal, no colour
    done = command(bench, name, *arguments, "--json")
    assert done.exit_code == 0
    if name == "bus monitor":
        assert all(json.loads(line)["bus"] == "main" for line in done.stdout.splitlines())
    else:
        assert isinstance(json.loads(done.stdout), dict if name == "status" else list)


def test_a_terminal_gets_colours(bench: Bench) -> None:
    leader, follower = pty.openpty()
    environment = bench.environment | {
        "EDGE_AGENT_SOCKET": str(bench.folder / "agent.sock"),
        "TERM": "xterm-256color",
        "COLUMNS": "160",
    }
    environment.pop("NO_COLOR", None)
    path = Path(sys.executable).with_name("edge-agent")
    with subprocess.Popen(
        [path, "bus", "stats"], env=environment, stdout=follower, stderr=follower
    ) as process:
        os.close(follower)
        seen = b""
        while True:
            try:
                some = os.read(leader, 65_536)
            except OSError:  # the other end is closed
                break
            seen += some
        os.close(leader)
        assert process.wait(20) == 0
    assert b"\x1b[32manswering" in seen


def test_a_technician_s_acts_are_published_and_listed_in_the_ledger(bench: Bench) -> None:
    done = command(bench, "open", "A07", "--reason", "cleaning")
    assert (done.exit_code, done.stdout) == (0, "cell A07 is open\n")
    bench.person("A07", "close")
    assert command(bench, "block", "A07", "--reason", "hinge").stdout == "cell A07 is blocked\n"
    assert "A07" in [c["label"] for c in json.loads(command(bench, "cells", "--json").stdout) if c["blocked"]]
    assert command(bench, "unblock", "A07").stdout == "cell A07 is not blocked any more\n"
    table = command(bench, "events").stdout
    assert re.search(r"unlock: OPENED +│ A07 .*cleaning", table)
    tare = command(bench, "tare", "C01", "--json")
    assert json.loads(tare.stdout)["tare_g"] == 0
    for name, arguments, why in (
        ("clear", ("A07",), "A07 is IDLE"),
        ("code", ("0000000",), "not valid"),
        ("open", ("Z99", "--reason", "r"), "Z99"),
        ("tare", ("B03",), "B03"),
    ):
        done = command(bench, name, *arguments)
        assert (done.exit_code, done.stdout) == (1, ""), name
        assert why in done.stderr


def test_labels_of_cells_complete(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_SOCKET", str(bench.folder / "agent.sock"))
    assert labels("B0") == [f"B0{number}" for number in range(1, 9)]
