"""Every command that shows something, at a running bench: three languages, two encodings, two widths."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_agent.cli.commands import app
from tests.support.bench import PARCEL, SMALL, Bench, running_bench, wait_for
from tools.bench.settings import REPOSITORY

LOCALES = {
    "C": ("utf-8", "cell", "closed"),
    "de_DE.UTF-8": ("utf-8", "Fach", "geschlossen"),
    "de_DE.iso88591": ("iso8859-1", "Fach", "geschlossen"),
    "id_ID.UTF-8": ("utf-8", "bilik", "tertutup"),
}
"""The encoding of the terminal, which is not installed here, and two words of the table of cells."""
COMMANDS = (
    "status",
    "cells",
    "reservations",
    "reservations --all",
    "reservations res_none",
    "alarms",
    "events --limit 30",
    "events --cell Z9",
    "bus stats",
    "bus check",
    "bus scan --last 5",
    "bus doors A02 --seconds 0.2",
    "bus monitor --seconds 0.2",
    "explain WRONG_DOOR",
    "explain no_such_name",
    "config show",
    "reload",
    "open Z9 --reason none",
    "clear A03",
    "resolve A03 --empty",
    "unblock A03",
    "tare A03",
    "code 0000",
    "restore --yes",
    "logs",
    "check --config /etc/none.toml",
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running_bench(tmp_path_factory.mktemp("languages")) as running:
        rid = running.reserve(PARCEL)["reservation_id"]
        running.api.post(f"/reservations/{rid}/dropoffs").raise_for_status()
        running.person(running.reservation(rid)["cell"]["description"], "place", "close")
        wait_for(lambda: running.status(rid) == "DROPPED_OFF")
        running.reserve(SMALL)
        running.person("C08", "open")
        wait_for(lambda: "DOOR_FORCED" in running.command("alarms").stdout)
        yield running


def asked(bench: Bench, command: str, locale: str, columns: int = 80) -> tuple[int, str]:
    """Exit code and output of a command, as somebody with this locale sees it."""
    encoding = LOCALES[locale][0]
    socket = str(bench.folder / "agent.sock")
    if encoding == "utf-8":
        environment = {"EDGE_AGENT_SOCKET": socket, "COLUMNS": str(columns), "LC_ALL": locale}
        result = CliRunner().invoke(app, command.split(), env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), command
        return result.exit_code, result.stdout + result.stderr
    environment = bench.environment | {
        "EDGE_AGENT_SOCKET": socket,
        "COLUMNS": str(columns),
        "LC_ALL": locale,
        "PYTHONIOENCODING": f"{encoding}:strict",
    }
    done = subprocess.run(
        [Path(sys.executable), "-m", "edge_agent", *command.split()],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode(encoding)


def ids(bench: Bench) -> dict[str, set[str]]:
    """What must be whole in the output of a command."""

    def rows(command: str) -> Any:
        return json.loads(bench.command(*command.split(), "--json").stdout)

    cells, reservations, buses = rows("cells"), rows("reservations"), rows("bus stats")
    held = {row["reservation_id"] for row in reservations}
    return {
        "cells": {row["label"] for row in cells} | held,
        "reservations": held | {row["cell"]["description"] for row in reservations},
        "events --limit 30": held,
        "alarms": {row["alarm"] for row in rows("alarms")},
        "bus stats": {
            device[key] for bus in buses for device in bus["devices"] for key in ("device", "profile")
        },
        "config show": {row["key"] for row in rows("config show")},
    }


@pytest.mark.parametrize("locale", LOCALES)
def test_every_command_shows_whole_names_in_every_language_and_encoding(bench: Bench, locale: str) -> None:
    whole = ids(bench)
    utf8 = LOCALES[locale][0] == "utf-8"
    for command in COMMANDS if utf8 else ("cells", *COMMANDS[::3]):  # a process for each takes its time
        code, shown = asked(bench, command, locale)
        assert "Traceback" not in shown, f"{command}: {shown}"
        assert code in (0, 1, 2) or command == "logs", f"{command}: {shown}"
        words = set(shown.replace("│", " ").replace("|", " ").split())
        assert whole.get(command, set()) <= words, f"{command}: {shown}"
    for word in LOCALES[locale][1:]:
        assert word in asked(bench, "cells", locale, 200)[1]


def test_what_scripts_read_is_the_same_in_every_language(bench: Bench) -> None:
    for command in ("cells", "reservations", "alarms", "config show", "explain DOOR_AJAR"):
        english = json.loads(asked(bench, f"{command} --json", "C")[1])
        for locale in LOCALES:
            shown = json.loads(asked(bench, f"{command} --json", locale)[1])
            if command == "cells":  # what is measured may change meanwhile
                shown, english = ([row["label"] for row in rows] for rows in (shown, english))
            assert shown == english
            english = json.loads(asked(bench, f"{command} --json", "C")[1])


def test_a_refusal_of_the_daemon_is_shown_in_the_language(bench: Bench) -> None:
    assert asked(bench, "open Z9 --reason x", "de_DE.UTF-8") == (1, "kein solches Fach: Z9\n")
    assert asked(bench, "open Z9 --reason x", "id_ID.UTF-8") == (1, "tidak ada bilik: Z9\n")
    assert asked(bench, "tare A03", "de_DE.iso88591") == (1, "Fach A03 hat keine Waage\n")
