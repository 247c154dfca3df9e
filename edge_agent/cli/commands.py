"""The commands of `edge-agent`.

Exit codes: 0 good, 1 refused or a fault found, 2 bad usage or configuration, 3 the daemon is not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from edge_agent import __version__
from edge_agent.cli.acts import open_cell, resolve, signal, technician
from edge_agent.cli.bundle.command import bundle
from edge_agent.cli.bus import bus_app
from edge_agent.cli.completion import CellLabel, completion
from edge_agent.cli.config import check, config_app
from edge_agent.cli.daemon import (
    DEFAULT_SOCKET,
    NO_DAEMON,
    AsJson,
    Socket,
    call,
    console,
    print_json,
    print_json_line,
    problems,
    rows_of,
    until_stopped,
)
from edge_agent.cli.diagnose import diagnose
from edge_agent.cli.event_filter import SEARCHED, EventFilter, moment_since
from edge_agent.cli.explain.command import explain
from edge_agent.cli.forget import forget
from edge_agent.cli.init.command import init
from edge_agent.cli.logs import logs
from edge_agent.cli.pin import As, PinFile, act
from edge_agent.cli.reload import reload
from edge_agent.cli.reservations import reservations
from edge_agent.cli.restore import clear, restore
from edge_agent.cli.schema import schema_app
from edge_agent.cli.service_commands import service_commands
from edge_agent.cli.text.event_rows import event_row
from edge_agent.cli.text.help_texts import LocalGroup
from edge_agent.cli.text.language import _
from edge_agent.cli.text.times import Utc
from edge_agent.cli.views import alarms_table, cells_table, events_table, status_table
from edge_agent.cli.watch.command import watch
from edge_agent.runtime.clock import SystemClock

HELP = "The software of a parcel locker. `edge-agent run --config FILE` is the daemon; most others ask it."

app = typer.Typer(
    cls=LocalGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    help=HELP,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edge-agent {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


def status(socket: Socket = DEFAULT_SOCKET, as_json: AsJson = False, utc: Utc = False) -> None:
    """Show the machine at a glance."""
    found = call(socket, "GET", "/v1/status")
    if as_json:
        print_json(found)
        return
    console.print(status_table(found, utc=utc))


def alarms(socket: Socket = DEFAULT_SOCKET, as_json: AsJson = False, utc: Utc = False) -> None:
    """Show the standing alarms."""
    found = call(socket, "GET", "/v1/alarms")
    if as_json:
        print_json(found)
        return
    console.print(alarms_table(found, utc=utc) if found else _("no alarms"))


def events(
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many of the newest")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="also show new ones as they happen")] = False,
    cell: Annotated[str | None, typer.Option(metavar="LABEL", help="only those of this cell")] = None,
    order: Annotated[
        str | None,
        typer.Option(metavar="ID", help="only those of this order or reservation; a prefix is enough"),
    ] = None,
    alarm: Annotated[str | None, typer.Option(metavar="NAME", help="only this alarm")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="only later ones: 90m, 2h, 3d, or 2026-11-30T10:00"),
    ] = None,
    utc: Utc = False,
) -> None:
    """Show events, and the ledger of unlocks: intent, outcome, actor, reason.

    Filters search the newest 1000. A time without a zone is local, with --utc it is UTC.
    """
    now = datetime.fromtimestamp(SystemClock().now().wall_s, UTC)
    wanted = EventFilter(cell, order, alarm, moment_since(since, now, utc=utc))
    if follow:
        _follow(socket, as_json, wanted, utc)
        return
    found = call(socket, "GET", f"/v1/events?limit={SEARCHED if wanted.limits else limit}")
    found = wanted.choose(found)[-limit:]
    if as_json:
        print_json(found)
        return
    nothing = _("nothing has happened yet")
    if wanted.limits:
        nothing = _("nothing matches among the newest {number}", number=SEARCHED)
    console.print(events_table(found, utc=utc) if found else nothing)


RECONNECT_S = 1.0
"""Pause before a daemon that has ended is called again."""


def _follow(socket: Path, as_json: bool, wanted: EventFilter, utc: bool) -> None:
    """Continues where it was when the daemon restarts, also after a reload; ends if there is no daemon at the
    beginning."""
    places: deque[str] = deque(maxlen=1)
    waiting = False
    with until_stopped():
        while True:
            resumed = {"Last-Event-ID": places[0]} if places else None
            path = "/v1/events?follow=1"
            try:
                for row in rows_of(socket, "GET", path, headers=resumed, on_place=places.append):
                    waiting = False
                    if wanted.matches(row):
                        _show(row, as_json, utc)
            except typer.Exit as ended:
                if not places or ended.exit_code != NO_DAEMON:
                    raise
            if not waiting:
                problems.print(_("the daemon does not answer; waiting until it does"), highlight=False)
            waiting = True
            Event().wait(RECONNECT_S)


def _show(row: dict[str, Any], as_json: bool, utc: bool) -> None:
    if as_json:
        print_json_line(row)
    else:
        text = "  ".join(cell for cell in event_row(row, utc=utc) if cell)
        console.print(text, highlight=False, markup=False)


def cells(socket: Socket = DEFAULT_SOCKET, as_json: AsJson = False) -> None:
    """Show every cell: door, use, weight, temperature."""
    found = call(socket, "GET", "/v1/cells")
    if as_json:
        print_json(found)
        return
    console.print(cells_table(found))


def code(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="a code or the text of a QR code")],
    socket: Socket = DEFAULT_SOCKET,
) -> None:
    """Enter what the kiosk's keypad or scanner would send."""
    opened = call(socket, "POST", "/v1/code", {"text": text})
    console.print(_("cell {cell} is open", cell=opened["cell"]["description"]), highlight=False, markup=False)


def block(
    cell: CellLabel,
    reason: Annotated[str, typer.Option(help="the reason, for the next person")],
    socket: Socket = DEFAULT_SOCKET,
) -> None:
    """Take a cell out of allocation; a parcel in it stays reachable."""
    call(socket, "POST", f"/v1/cells/{cell}/block", {"reason": reason})
    console.print(_("cell {cell} is blocked", cell=cell), highlight=False, markup=False)


def tare(
    cell: CellLabel,
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
) -> None:
    """Confirm that a free cell is empty: the present reading of its scale counts as zero from now on."""
    done = call(socket, "POST", f"/v1/cells/{cell}/tare")
    if as_json:
        print_json(done)
        return
    said = _("cell {cell}: a reading of {grams} g counts as zero now", cell=cell, grams=done["tare_g"])
    console.print(said, highlight=False, markup=False)


def unblock(
    cell: CellLabel,
    socket: Socket = DEFAULT_SOCKET,
    pin_file: PinFile = None,
    name: As = None,
) -> None:
    """Give a blocked cell back to allocation."""
    act(socket, cell, "unblock", None, pin_file, name)
    console.print(_("cell {cell} is not blocked any more", cell=cell), highlight=False, markup=False)


LOOK, ACT, KEEP = "Look", "Act", "Set up and maintain"
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    LOOK: {
        "status": status,
        "cells": cells,
        "reservations": reservations,
        "alarms": alarms,
        "events": events,
        "logs": logs,
        "service-commands": service_commands,
        "watch": watch,
        "explain": explain,
    },
    ACT: {
        "code": code,
        "open": open_cell,
        "signal": signal,
        "block": block,
        "unblock": unblock,
        "clear": clear,
        "resolve": resolve,
        "tare": tare,
        "restore": restore,
        "forget": forget,
    },
    KEEP: {
        "init": init,
        "check": check,
        "reload": reload,
        "diagnose": diagnose,
        "bundle": bundle,
        "technician": technician,
        "completion": completion,
    },
}
"""Every command but the daemon, as they stand in the help."""

for _panel, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(bus_app, name="bus", rich_help_panel=KEEP)
app.add_typer(config_app, name="config", rich_help_panel=KEEP)
app.add_typer(schema_app, name="schema", rich_help_panel=KEEP)
