"""The commands of `edge-agent`.

Exit codes: 0 good, 1 refused or a fault found, 2 bad usage or configuration, 3 the daemon is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

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
from edge_agent.cli.event_rows import event_row
from edge_agent.cli.explain.command import explain
from edge_agent.cli.init.command import init
from edge_agent.cli.logs import logs
from edge_agent.cli.pin import As, PinFile, act
from edge_agent.cli.reload import reload
from edge_agent.cli.reservations import reservations
from edge_agent.cli.restore import clear, restore
from edge_agent.cli.schema import schema_app
from edge_agent.cli.times import Utc, moment
from edge_agent.cli.watch.command import watch
from edge_agent.runtime.clock import SystemClock

HELP = "The software of a parcel locker. `edge-agent run --config FILE` is the daemon; most others ask it."

app = typer.Typer(
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
    table = Table(show_header=False, box=None)
    for key, value in found.items():
        if key not in ("alarms", "buses"):
            table.add_row(key.replace("_", " "), escape(_readable(value, utc)))
    for name, bus in found["buses"].items():
        counts = ", ".join(f"{count} {key.replace('_', ' ')}" for key, count in bus.items() if count)
        table.add_row(f"bus {name}", counts)
    for alarm in found["alarms"]:
        where = alarm["label"] or alarm["device"]
        place = f" {where}" if where else ""
        since = moment(alarm["since"], utc=utc)
        table.add_row("alarm", f"[yellow]{alarm['alarm']}{place}[/] since {since} {escape(alarm['detail'])}")
    console.print(table)


def _readable(value: Any, utc: bool, key: str = "") -> str:
    """A value of `/v1/status` for people; a time has a key that ends with `_at`."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        parts = (f"{name.replace('_', ' ')} {_readable(one, utc, name)}" for name, one in value.items())
        return ", ".join(parts)
    if isinstance(value, list):
        return ", ".join(_readable(one, utc) for one in value)
    return moment(value, utc=utc) if key.endswith("_at") else str(value)


def alarms(socket: Socket = DEFAULT_SOCKET, as_json: AsJson = False, utc: Utc = False) -> None:
    """Show the standing alarms."""
    found = call(socket, "GET", "/v1/alarms")
    if as_json:
        print_json(found)
        return
    table = Table("alarm", "cell", "device", "since", "count", "detail")
    for alarm in found:
        name, since, times = (
            f"[yellow]{alarm['alarm']}[/]",
            moment(alarm["since"], utc=utc),
            str(alarm["count"]),
        )
        table.add_row(name, alarm["label"], alarm["device"], since, times, escape(alarm["detail"]))
    console.print(table if found else "no alarms")


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
    table = Table(Column("when", no_wrap=True), "what", "cell", "reservation", "who", "more")
    for row in found:
        table.add_row(*map(escape, event_row(row, utc=utc)))
    nothing = f"nothing matches among the newest {SEARCHED}" if wanted.limits else "nothing has happened yet"
    console.print(table if found else nothing)


AGAIN_S = 1.0
"""Pause before a daemon that has ended is called again."""


def _follow(socket: Path, as_json: bool, wanted: EventFilter, utc: bool) -> None:
    """Continues when the daemon restarts; ends if there is no daemon at the beginning."""
    first, waiting = True, False
    with until_stopped():
        while True:
            try:
                for row in rows_of(socket, "GET", "/v1/events?follow=1", quiet=not first):
                    first = waiting = False
                    if wanted.matches(row):
                        _show(row, as_json, utc)
                first = False
            except typer.Exit as ended:
                if first or ended.exit_code != NO_DAEMON:
                    raise
            if not waiting:
                problems.print("the daemon does not answer; waiting until it does", highlight=False)
            waiting = True
            Event().wait(AGAIN_S)


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
    table = Table("cell", "door", "status", "flags", "weight", "temperature", "climate", "reservation")
    for cell in found:
        flags = " ".join(flag for flag in ("blocked", "faulty") if cell[flag])
        weight = "" if cell["mass_g"] is None else f"{cell['mass_g']} g"
        if cell["tare_g"]:
            weight += f" (tare {cell['tare_g']} g)"
        degrees = "" if cell["temperature_c"] is None else f"{cell['temperature_c']:.1f} °C"
        door = {"open": "[yellow]open[/]", "unknown": "[red]unknown[/]"}.get(cell["door"], cell["door"])
        holder = cell["reservation_id"] or ""
        climate = cell["climate"] if cell["heating"] or cell["cooling"] else ""
        table.add_row(cell["label"], door, cell["status"], flags, weight, degrees, climate, holder)
    console.print(table)


def code(
    text: Annotated[str, typer.Argument(help="a code or the text of a QR code")],
    socket: Socket = DEFAULT_SOCKET,
) -> None:
    """Enter what the kiosk's keypad or scanner would send."""
    opened = call(socket, "POST", "/v1/code", {"text": text})
    console.print(f"cell {opened['cell']['description']} is open", highlight=False)


def block(
    cell: CellLabel,
    reason: Annotated[str, typer.Option(help="the reason, for the next person")],
    socket: Socket = DEFAULT_SOCKET,
) -> None:
    """Take a cell out of allocation; a parcel in it stays reachable."""
    call(socket, "POST", f"/v1/cells/{cell}/block", {"reason": reason})
    console.print(f"cell {cell} is blocked", highlight=False)


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
    console.print(f"cell {cell}: a reading of {done['tare_g']} g counts as zero now", highlight=False)


def unblock(
    cell: CellLabel,
    socket: Socket = DEFAULT_SOCKET,
    pin_file: PinFile = None,
    name: As = None,
) -> None:
    """Give a blocked cell back to allocation."""
    act(socket, cell, "unblock", None, pin_file, name)
    console.print(f"cell {cell} is not blocked any more", highlight=False)


LOOK, ACT, KEEP = "Look", "Act", "Set up and maintain"
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    LOOK: {
        "status": status,
        "cells": cells,
        "reservations": reservations,
        "alarms": alarms,
        "events": events,
        "logs": logs,
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
