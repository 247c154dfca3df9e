"""`edge-agent bus`: inspects and tests the buses through the running daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO
from urllib.parse import quote

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from edge_agent.cli.bus_doors import watch_doors
from edge_agent.cli.daemon import (
    DEFAULT_SOCKET,
    REFUSED,
    USAGE,
    AsJson,
    Socket,
    call,
    console,
    file_problem,
    print_json,
    print_json_line,
    problems,
    rows_of,
    until_stopped,
)
from edge_agent.cli.record.command import record_profile
from edge_agent.cli.text.display import device_word, key_word
from edge_agent.cli.text.frame_words import frame_words
from edge_agent.cli.text.language import _, from_daemon, marked
from edge_agent.cli.text.times import Utc, time_of_day

bus_app = typer.Typer(
    no_args_is_help=True, help="Inspect the buses: which devices answer, how quickly, and every frame."
)
COLOURS = {"answering": "green", "failing": "yellow", "dead": "red"}
RESULTS = {
    "answers": marked("answers"),
    "silent": marked("silent"),
    "garbled": marked("garbled"),
}
RECORDED = ("at_s", "bus", "baud", "protocol", "direction", "hex", "note")
"""The keys of a recorded frame."""
COUNTS = ("requests", "replies", "timeouts", "damaged", "exceptions", "late")


@bus_app.command()
def stats(socket: Socket = DEFAULT_SOCKET, as_json: AsJson = False) -> None:
    """Show the counters since the daemon's start, and how each device answers."""
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
    seconds: Annotated[float | None, typer.Option(min=0.1, help="end after this time")] = None,
    utc: Utc = False,
) -> None:
    """Show the frames as they pass, decoded; until Ctrl-C."""
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
                print_json_line(row)
            else:
                console.print(_frame_line(row, utc), highlight=False, soft_wrap=True)


@bus_app.command()
def scan(
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    bus: Annotated[str | None, typer.Option(metavar="NAME", help="only this one")] = None,
    first: Annotated[int | None, typer.Option(min=0, max=255, help="the first address to ask")] = None,
    last: Annotated[int | None, typer.Option(min=0, max=255, help="the last address to ask")] = None,
) -> None:
    """Ask every address for a device while the locker keeps working; exit 1 if there is a finding."""
    names = [bus] if bus is not None else [row["bus"] for row in call(socket, "GET", "/v1/bus")]
    rows: list[dict[str, Any]] = []
    with Progress(console=problems, transient=True, disable=not problems.is_terminal) as progress:
        for name in names:
            task = progress.add_task(_("bus {name}", name=escape(name)), total=None)
            body = {"first": first, "last": last}
            for row in rows_of(socket, "POST", f"/v1/bus/{quote(name, safe='')}/scan", body):
                rows.append(row)
                progress.update(task, total=row.get("of"), completed=row.get("number"))
    if as_json:
        print_json(rows)
    else:
        _print_scan(rows)
    if any("error" in row or row["finding"] for row in rows):
        raise typer.Exit(REFUSED)


def _print_scan(rows: list[dict[str, Any]]) -> None:
    asked = [row for row in rows if "error" not in row]
    worth = [row for row in asked if row["device"] is not None or row["result"] != "silent"]
    table = Table(_("bus"), _("address"), _("device"), _("grade"), _("result"), _("more"))
    for row in worth:
        device = f"[yellow]{_('not configured')}[/]" if row["device"] is None else row["device"]
        there = row["result"] in ("answers", "exception")  # who refuses a question is there
        word = RESULTS["answers"] if there else RESULTS.get(row["result"], row["result"])
        result = f"[{'green' if there else 'red'}]{_(word)}[/]"
        more = [from_daemon(row["finding"])] if row["finding"] else []
        if row["exception"]:
            more.append(_("refuses what it was asked: {why}", why=from_daemon(row["exception"])))
        more += [_("{number} damaged", number=row["damaged"])] if row["damaged"] else []
        like = ", ".join(row["reads_like"])
        more += [_("may be {profiles}", profiles=like)] if like else []
        grade = row.get("grade") or ""
        table.add_row(row["bus"], str(row["address"]), device, grade, result, escape("; ".join(more)))
    if worth:
        console.print(table)
    text = _(
        "{asked} addresses asked, {silent} silent as expected",
        asked=len(asked),
        silent=len(asked) - len(worth),
    )
    console.print(text)
    for row in rows:
        if "error" in row:
            why = _("bus {name}", name=row["bus"]) + f": {from_daemon(row['error'])}"
            problems.print(why, style="red", highlight=False, markup=False)


@bus_app.command()
def check(
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    doors: Annotated[bool, typer.Option("--doors", help="then watch every door, see `bus doors`")] = False,
) -> None:
    """Check how each device answers and whether it is set as its profile requires; exit 1 if not."""
    rows = call(socket, "POST", "/v1/bus/check")
    bad = any(not row["ok"] for row in rows)
    if as_json:
        print_json(rows)
    else:
        console.print(_check_table(rows))
    if doors:
        bad = not watch_doors(socket, [], None, as_json) or bad
    if bad:
        raise typer.Exit(REFUSED)


def _check_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(_("bus"), _("device"), _("address"), _("check"), _("result"), _("why"))
    for row in rows:
        good = f"[green]{_('good')}[/]"
        result = good if row["ok"] else f"[red]{escape(from_daemon(row['detail']))}[/]"
        why = "" if row["ok"] else escape(from_daemon(row["why"]))
        check = escape(from_daemon(row["check"]))
        table.add_row(row["bus"], row["device"], str(row["address"]), check, result, why)
    return table


@bus_app.command()
def doors(
    labels: Annotated[list[str] | None, typer.Argument(metavar="CELL", help="all, if none")] = None,
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="stop after this time")] = None,
) -> None:
    """Watch which contact changes while somebody opens and closes each door by hand; it says which one.

    Close every door first: one that reads open then is wired or configured the wrong way round. While it
    runs these doors raise no alarm. Ends with exit code 0 when every door was closed, then read open and
    closed again.
    """
    if not watch_doors(socket, labels or [], seconds, as_json):
        raise typer.Exit(REFUSED)


bus_app.command("record-profile")(record_profile)


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """A new file; ends the process if it cannot be written."""
    try:
        with path.open("w", encoding="utf-8") as file:
            yield file
    except BrokenPipeError:
        raise  # the reader of the pipe has gone
    except OSError as error:
        problems.print(file_problem(path, error), style="red", highlight=False, markup=False)
        raise typer.Exit(USAGE) from None


def _frame_line(row: dict[str, Any], utc: bool) -> str:
    time = time_of_day(row["at"], utc=utc)
    bad = row["note"] or "damaged" in row["words"] or "exception" in row["words"]
    words = escape(frame_words(row["words"]))
    words = f"[yellow]{words}[/]" if bad else words
    return f"{time}  {row['bus']}  {row['hex']:<23}  {words}"


def _bus_line(row: dict[str, Any]) -> str:
    up = f"[green]{_('up')}[/]" if row["up"] else f"[red]{_('down')}[/]"
    baud = f" {_('at {baud} baud', baud=row['baud'])}" if row["baud"] else ""
    return f"[bold]{row['bus']}[/] {escape(row['port'])}, {row['protocol']}{baud}, {up}"


def _counts_line(row: dict[str, Any]) -> str:
    more = ("unasked", "glitches", "stray_bytes", "port_losses")
    counts = ", ".join(f"{row[key]} {key_word(key)}" for key in (*COUNTS, *more))
    share = row["utilisation"]
    return counts if share is None else f"{counts}; {_('{share} busy', share=f'{share:.0%}')}"


def _device_table(devices: list[dict[str, Any]]) -> Table:
    table = Table(_("device"), _("address"), _("profile"), _("state"))
    counts = map(key_word, COUNTS)
    for heading in (*counts, _("replies owed"), "p50 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right")
    for device in devices:
        state = f"[{COLOURS.get(device['state'], 'default')}]{device_word(device['state'])}[/]"
        if device["failing_checks"]:
            failed = _("check failed: {checks}", checks=", ".join(map(from_daemon, device["failing_checks"])))
            state += f" [red]{escape(failed)}[/]"
        latency = device["latency_ms"]
        times = ("" if latency[key] is None else f"{latency[key]:g}" for key in ("p50", "p99", "max"))
        numbers = (str(device[key] or "") for key in (*COUNTS, "owed"))
        table.add_row(device["device"], str(device["address"]), device["profile"], state, *numbers, *times)
    return table
