"""What all commands have in common: help, bad arguments, no daemon; completion and the manual page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from edge_agent import __version__
from edge_agent.cli.commands import app
from edge_agent.cli.completion import Shell, labels, script
from tests.support.machines import CONFIG
from tools.pages.manual.__main__ import FILE
from tools.pages.manual.page import page

# The HTTP library leaves it to the collector to close a socket that could not be connected.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]

ALONE = {"init", "check", "explain", "technician", "completion"}
ALONE |= {"config show", "schema asyncapi", "schema config", "schema profile"}
"""Commands that need no daemon."""
OF_THE_SYSTEM = {"logs"}
"""Commands that ask systemd instead of the daemon."""
NEEDED: dict[str, tuple[str, ...]] = {
    "check": ("--config", str(CONFIG / "demo.toml")),
    "bus record-profile": ("locks_a",),
    "reservations": ("res_1",),
    "code": ("1234",),
    "open": ("A01", "--reason", "r"),
    "signal": ("A01",),
    "block": ("A01", "--reason", "r"),
    "unblock": ("A01",),
    "clear": ("A01",),
    "resolve": ("A01", "--empty"),
    "tare": ("A01",),
    "forget": ("order-1",),
    "explain": ("DOOR_AJAR",),
    "config show": ("--config", str(CONFIG / "demo.toml")),
    "technician": ("maria",),
    "completion": ("bash",),
}
"""Arguments with which a command does something."""
UNASKED = {"check", "completion", "config show", "reservations"}
"""Those of them that need none, or ask in other words."""
TERMINAL = {"watch"}
"""Commands that are nothing without a terminal: bad usage."""


def tree(command: Any = None, name: str = "") -> Iterator[str]:
    """Every command by its full name."""
    command = typer.main.get_command(app) if command is None else command
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name
        return
    for below, one in inner.items():
        yield from tree(one, f"{name} {below}".strip())


NAMES = list(tree())


def invoke(name: str, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, [*name.split(), *arguments], env=environment)


def test_the_commands_of_the_contract_are_all_there() -> None:
    contract = {"check", "status", "cells", "reservations", "events", "alarms", "code", "open", "block"}
    contract |= {"unblock", "clear", "tare", "watch", "diagnose", "bus scan", "bus stats", "bus monitor"}
    contract |= {"resolve", "bundle", "schema config", "schema asyncapi"}
    assert contract <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_help_describes_the_command_and_each_argument(name: str) -> None:
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    done = invoke(name, "--help")
    assert done.exit_code == 0
    assert command.help
    assert command.help.split()[0] in done.stdout
    for parameter in command.params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", ["--no-such-option", "surplus"])
def test_bad_arguments_are_named_and_end_with_2(name: str, bad: str, tmp_path: Path) -> None:
    if name == "bus doors" and bad == "surplus":
        pytest.skip("it takes any number of cells")
    done = invoke(name, *NEEDED.get(name, ()), bad, EDGE_AGENT_SOCKET=str(tmp_path / "none"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert bad in done.stderr


@pytest.mark.parametrize("name", [name for name in NEEDED if name not in UNASKED])
def test_required_options_are_asked_for(name: str, tmp_path: Path) -> None:
    done = invoke(name, EDGE_AGENT_SOCKET=str(tmp_path / "none"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Missing" in done.stderr


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALONE | TERMINAL | OF_THE_SYSTEM])
@pytest.mark.parametrize("as_json", [False, True])
def test_without_the_daemon_each_command_reports_it_and_exits_with_3(
    name: str, as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    socket = tmp_path / "agent.sock"
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    if as_json and not any("--json" in parameter.opts for parameter in command.params):
        pytest.skip("it has nothing for scripts")
    arguments = [*NEEDED.get(name, ()), *(["--json"] if as_json else [])]
    done = invoke(name, *arguments, EDGE_AGENT_SOCKET=str(socket), COLUMNS="300")
    assert done.exit_code == 3, done.output
    assert f"cannot reach the daemon at {socket}" in done.stderr + (done.stdout if name == "bundle" else "")
    assert "Errno" not in done.stderr or name == "bundle"
    assert done.stdout == "" or name == "bundle"


@pytest.mark.parametrize("name", sorted(ALONE - {"init"}))  # that one has a file of tests of its own
def test_the_others_need_none(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        [*name.split(), *NEEDED.get(name, ())],
        input="739154\n",
        env={"EDGE_AGENT_SOCKET": str(tmp_path / "none")},
    )
    assert done.exit_code == 0, done.output
    assert done.stdout
    assert "\x1b" not in done.stdout


def test_version_and_nothing_at_all() -> None:
    assert invoke("", "--version").stdout == f"edge-agent {__version__}\n"
    done = invoke("")
    assert done.exit_code == 2
    assert "diagnose" in done.output


def test_a_bad_configuration_is_reported_key_by_key(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text("[machine]\nmachine_id = 7\n", encoding="utf-8")
    done = invoke("check", "--config", str(file))
    assert (done.exit_code, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert any(line.startswith(f"{file}: machine.machine_id: ") for line in lines)
    assert any(line.startswith(f"{file}: buses: ") for line in lines)


@pytest.mark.parametrize("shell", list(Shell))
def test_each_shell_gets_a_script_that_it_can_read(shell: Shell, tmp_path: Path) -> None:
    text = invoke("completion", shell).stdout
    assert text.rstrip("\n") == script(shell)
    assert "_EDGE_AGENT_COMPLETE" in text
    if shutil.which(shell) is not None:
        file = tmp_path / "completion"
        file.write_text(text, encoding="utf-8")
        subprocess.run([shell, "-n", str(file)], check=True)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["edge-agent", "b"], {"block", "bundle", "bus"}),
        (["edge-agent", "bus", "s"], {"stats", "scan"}),
        (["edge-agent", "explain", "door_"], {"door_ajar", "door_forced"}),
    ],
)
def test_completion_offers_what_can_follow(typed: list[str], offered: set[str]) -> None:
    environment = os.environ | {
        "COMP_WORDS": " ".join(typed),
        "COMP_CWORD": str(len(typed) - 1),
        "_EDGE_AGENT_COMPLETE": "complete_bash",
    }
    command = [Path(sys.executable).with_name("edge-agent")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == offered


def test_without_the_daemon_no_label_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_SOCKET", str(tmp_path / "none"))
    assert labels("A") == []


def test_the_manual_page_is_current_and_has_every_command() -> None:
    assert FILE.read_text(encoding="utf-8") == page(), "run again: python -m tools.pages.manual"
    text = page().replace("\\-", "-")
    for name in NAMES:
        assert f"\n.SS {name}" in text


def test_ctrl_c_while_a_command_is_being_loaded_shows_no_traceback() -> None:
    code = """
import sys
from edge_agent.__main__ import main

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "edge_agent.cli.commands":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
sys.argv = ["edge-agent", "events", "--follow"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
