"""`edge-agent bus`: what a technician sees and does of the buses, through the running daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO
from urllib.parse import quote

import typer
from rich.markup import escape
from rich.table import Table

from edge_agent.cli.daemon import (
    DEFAULT_SOCKET,
    USAGE,
    AsJson,
    Socket,
    call,
    console,
    print_json,
    problems,
    rows_of,
    until_stopped,
)

bus_app = typer.Typer(
    no_args_is_help=True, help="Look after the buses: who answers, how quickly, and what passes."
)
STATES = {"answering": "[green]answering[/]", "failing": "[yellow]failing[/]", "dead": "[red]dead[/]"}
RECORDED = ("at_s", "bus", "baud", "protocol", "direction", "hex", "note")
"""The keys of a recorded frame."""
COUNTS = ("requests", "replies", "timeouts", "damaged", "exceptions", "late")


@bus_app.command()
def stats(socket: Socket = DEFAULT_SOCKET, as_json: AsJson = False) -> None:
    """Show what has passed since the daemon's start, and how each device answers."""
    found = call(socket, "GET", "/v1/bus")
    if as_json:
        print_json(found)
        return
    for row in found:
        console.print(_bus_line(row), highlight=False)
        console.print(_counts_line(row), highlight=False)
        console.print(_device_table(row["devices"]))


@bus_app.command()
def monitor(
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    bus: Annotated[str | None, typer.Option(metavar="NAME", help="only this one")] = None,
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="also write JSON lines there")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="end after so long")] = None,
) -> None:
    """Show the frames as they pass, in words; until Ctrl-C."""
    query = [] if bus is None else [f"bus={quote(bus, safe='')}"]
    query += [] if seconds is None else [f"seconds={seconds}"]
    with ExitStack() as stack:
        file = None if record is None else stack.enter_context(_written(record))
        stack.enter_context(until_stopped())
        for row in rows_of(socket, "GET", f"/v1/bus/monitor?{'&'.join(query)}"):
            if file is not None:
                line = {key: row[key] for key in RECORDED}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            if as_json:
                typer.echo(json.dumps(row, ensure_ascii=False))
            else:
                console.print(_frame_line(row), highlight=False, soft_wrap=True)


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """A new file; ends the process where it cannot be written."""
    try:
        with path.open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        problems.print(f"{path}: {error.strerror}", style="red", highlight=False, markup=False)
        raise typer.Exit(USAGE) from None


def _frame_line(row: dict[str, Any]) -> str:
    time = row["at"].partition("T")[2].rstrip("Z")
    bad = row["note"] or "damaged" in row["words"] or "exception" in row["words"]
    words = f"[yellow]{escape(row['words'])}[/]" if bad else escape(row["words"])
    return f"{time}  {row['bus']}  {row['hex']:<23}  {words}"


def _bus_line(row: dict[str, Any]) -> str:
    up = "[green]up[/]" if row["up"] else "[red]down[/]"
    baud = f" at {row['baud']} baud" if row["baud"] else ""
    return f"[bold]{row['bus']}[/] {escape(row['port'])}, {row['protocol']}{baud}, {up}"


def _counts_line(row: dict[str, Any]) -> str:
    more = ("unasked", "glitches", "stray_bytes", "port_losses")
    counts = ", ".join(f"{row[key]} {key.replace('_', ' ')}" for key in (*COUNTS, *more))
    share = row["utilisation"]
    return counts if share is None else f"{counts}; bits pass {share:.0%} of the time"


def _device_table(devices: list[dict[str, Any]]) -> Table:
    table = Table("device", "address", "profile", "state")
    for heading in (*COUNTS, "owed", "p50 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right")
    for device in devices:
        state = STATES.get(device["state"], device["state"])
        if device["failing_checks"]:
            state += f" [red]check failed: {escape(', '.join(device['failing_checks']))}[/]"
        latency = device["latency_ms"]
        times = ("" if latency[key] is None else f"{latency[key]:g}" for key in ("p50", "p99", "max"))
        counts = (str(device[key]) for key in (*COUNTS, "owed"))
        table.add_row(device["device"], str(device["address"]), device["profile"], state, *counts, *times)
    return table
