"""`edge-agent logs`: the daemon's log from systemd's journal, as lines for people or as JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import IO, Annotated, Any

import typer

from edge_agent.cli.bundle.parts import UNIT
from edge_agent.cli.daemon import (
    NO_DAEMON,
    REFUSED,
    AsJson,
    console,
    print_json,
    print_json_line,
    problems,
    until_stopped,
)
from edge_agent.cli.event_filter import moment_since
from edge_agent.cli.text.language import _
from edge_agent.cli.text.times import Utc, moment
from edge_agent.process.log_output import PRIORITIES
from edge_agent.protocol.api import rfc3339
from edge_agent.runtime.clock import SystemClock

USUAL_LIMIT = 200
ASKED_S = 10.0
"""How long systemd has to answer whether there is a service."""
FIELD = "EDGE_"
"""Prefix of the daemon's own fields in the journal."""
STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}


class Level(StrEnum):
    """How serious an entry is, least first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


def logs(
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="only later entries: 90m, 2h, 3d, or 2026-11-30T10:00"),
    ] = None,
    level: Annotated[
        Level | None,
        typer.Option(
            metavar="LEVEL",
            help="only entries of this level and worse: debug, info, warning, error or critical",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="how many of the newest; default: 200, with --since all")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="also show new ones as they come")] = False,
    as_json: AsJson = False,
    utc: Utc = False,
) -> None:
    """Show the log of the service, from systemd's journal: time, level, message.

    Root and members of the groups adm and systemd-journal may read it. The exit code is 3 if this system
    has no such service or no journal.
    """
    after = moment_since(since, datetime.fromtimestamp(SystemClock().now().wall_s, UTC), utc=utc)
    _require_service()
    lines = USUAL_LIMIT if limit is None and after is None else limit
    command = ["journalctl", f"--unit={UNIT}", "--output=json", "--all", "--no-pager"]
    command += [] if lines is None else [f"--lines={lines}"]
    command += [] if after is None else [f"--since=@{after.timestamp():.0f}"]
    command += [] if level is None else [f"--priority={PRIORITIES[level]}"]
    command += ["--follow"] if follow else []
    with until_stopped(), _entries(command) as entries:
        if as_json and not follow:
            print_json(list(entries))
            return
        shown = False
        for entry in entries:
            shown = True
            if as_json:
                print_json_line(entry)
            else:
                _show(entry, utc)
        if not shown:
            console.print(_("no entry"))


def _require_service() -> None:
    """Ends the process if systemd has no log of the service."""
    if shutil.which("journalctl") is None:
        raise _nothing(_("journalctl is not installed"))
    asked = ["systemctl", "show", "--property=LoadState", "--value", UNIT]
    try:
        state = subprocess.run(asked, capture_output=True, text=True, timeout=ASKED_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        state = ""
    if state.strip() in ("", "not-found"):
        raise _nothing(_("systemd has no service {unit} here", unit=UNIT))


def _nothing(why: str) -> typer.Exit:
    step = _("without the service the log is on the standard error of `edge-agent run`")
    problems.print(f"{why}; {step}", style="red", highlight=False, markup=False)
    return typer.Exit(NO_DAEMON)


@contextmanager
def _entries(command: list[str]) -> Iterator[Iterator[dict[str, Any]]]:
    """The entries as journalctl prints them. Ends the process if it fails; its own message is already
    on standard error."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield _parsed(process.stdout)
        except BaseException:
            process.terminate()
            raise
        code = process.wait()
    if code:
        problems.print(_("journalctl ended with exit code {code}", code=code), style="red", highlight=False)
        raise typer.Exit(REFUSED)


def _parsed(lines: IO[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith(b"{"):  # the others are remarks, such as "-- No entries --"
            yield _entry(json.loads(line))


def _entry(fields: dict[str, Any]) -> dict[str, Any]:
    """An entry of the journal: `at`, `level`, `message`, and the daemon's own `fields`."""
    names = {str(number): level for level, number in PRIORITIES.items() if level in list(Level)}
    at_s = int(fields["__REALTIME_TIMESTAMP"]) / 1e6
    own = {key.removeprefix(FIELD).lower(): _text(fields[key]) for key in fields if key.startswith(FIELD)}
    return {
        "at": rfc3339(at_s),
        "level": names.get(str(fields.get("PRIORITY")), Level.INFO.value),
        "message": _text(fields.get("MESSAGE")),
        "fields": own,
    }


def _text(value: Any) -> str:
    """A value of the journal: text, numbers of bytes if it is no valid text, or a list of several values."""
    if isinstance(value, list) and all(isinstance(byte, int) for byte in value):
        return bytes(value).decode(errors="replace")
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)


def _show(entry: dict[str, Any], utc: bool) -> None:
    line = f"{moment(entry['at'], utc=utc)}  {entry['level']:<8}  {entry['message']}"
    style = STYLES.get(entry["level"])
    console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
