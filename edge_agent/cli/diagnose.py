"""`edge-agent diagnose`: the self-test, with a verdict and the next step for each thing that is not well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from edge_agent.cli.daemon import (
    DEFAULT_SOCKET,
    REFUSED,
    AsJson,
    Socket,
    console,
    print_json,
    problems,
    rows_of,
)
from edge_agent.cli.pin import As, PinFile, with_pin
from edge_agent.cli.text.display import verdict_word
from edge_agent.cli.text.language import _, from_daemon, plural

COLOURS = {"good": "green", "warning": "yellow", "fault": "red", "unknown": "cyan"}
ORDER = ("fault", "warning", "unknown", "good")


def diagnose(
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    doors: Annotated[
        bool,
        typer.Option(
            "--doors", help="also open every free cell, one after the other: be there to close them"
        ),
    ] = False,
    no_outputs: Annotated[
        bool, typer.Option("--no-outputs", help="leave the heaters of free cells off")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="also show what is good")] = False,
    pin_file: PinFile = None,
    name: As = None,
) -> None:
    """Test buses, devices, cells, disk, clock and broker; exit 1 on a fault.

    Takes some thirty seconds, while the machine goes on serving. The heaters of free cells are
    switched on for 8 seconds, unless there is --no-outputs; no door moves without --doors.
    """
    body = {"doors": doors, "outputs": not no_outputs}

    def run(headers: dict[str, str]) -> list[dict[str, Any]]:
        return _followed(rows_of(socket, "POST", "/v1/diagnose", body, headers))

    rows = with_pin(run, pin_file, name)
    if as_json:
        print_json(rows)
    else:
        _print(rows, everything)
    if any(row["verdict"] == "fault" for row in rows):
        raise typer.Exit(REFUSED)


def _followed(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the findings; meanwhile shows the progress, and which door has to be closed."""
    found: list[dict[str, Any]] = []
    with Progress(console=problems, transient=True, disable=not problems.is_terminal) as progress:
        task: TaskID | None = None
        for row in rows:
            if "progress" not in row:
                found.append(row)
                continue
            doing = from_daemon(row["doing"])
            if task is None:
                task = progress.add_task(escape(doing), total=row["of"])
            progress.update(task, description=escape(doing), completed=row["progress"], total=row["of"])
            if "ask" in row or "announce" in row:
                progress.console.print(doing, style="bold yellow", highlight=False, markup=False)
    return found


def _print(rows: list[dict[str, Any]], everything: bool) -> None:
    table, counts = findings_of(rows, everything=everything)
    if table is not None:
        console.print(table)
    console.print(counts, highlight=False, markup=False)


def findings_of(rows: list[dict[str, Any]], *, everything: bool) -> tuple[Table | None, str]:
    """The table of what was found (None if there is nothing to show), worst first, and how much of each
    verdict there is."""
    shown = [row for row in rows if everything or row["verdict"] != "good"]
    table = Table(_("what"), _("where"), _("verdict"), _("finding"), _("next step"), show_lines=True)
    for row in sorted(shown, key=lambda row: ORDER.index(row["verdict"])):
        colour = COLOURS[row["verdict"]]
        kinds = f"\n({', '.join(row['kinds'])})" if row["kinds"] else ""
        finding = escape(from_daemon(row["finding"]) + kinds)
        verdict = f"[{colour}]{verdict_word(row['verdict'])}[/]"
        step = escape(from_daemon(row["next_step"]))
        table.add_row(_word(row["check"]), escape(_word(row["target"])), verdict, finding, step)
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ORDER}
    words = (
        plural("{number} fault", "{number} faults", counts["fault"]),
        plural("{number} warning", "{number} warnings", counts["warning"]),
        plural("{number} good", "{number} good", counts["good"]),
        plural("{number} that could not be tested", "{number} that could not be tested", counts["unknown"]),
    )
    return (table if shown else None), ", ".join(words)


def _word(name: str) -> str:
    """What was checked: a term of the daemon, or the name of a cell or device."""
    return from_daemon(name)
