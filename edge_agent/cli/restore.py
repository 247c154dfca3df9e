"""`edge-agent restore`: restores live reservations after JOURNAL_LOST. `edge-agent clear`: one cell, or
all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from edge_agent.cli.completion import labels
from edge_agent.cli.daemon import (
    DEFAULT_SOCKET,
    REFUSED,
    USAGE,
    Socket,
    call,
    console,
    problems,
)
from edge_agent.cli.init.words import yes as yes_or_no
from edge_agent.cli.pin import As, PinFile, act, with_pin
from edge_agent.cli.text.language import _
from edge_agent.cli.text.lines import prompt

INSPECTED = "AWAITING_INSPECTION"


def restore(
    none: Annotated[
        bool, typer.Option("--none", help="start empty: restore no reservation; every cell awaits inspection")
    ] = False,
    place: Annotated[
        list[str] | None,
        typer.Option(metavar="RESERVATION=CELL", help="the parcel of this reservation lies in that cell"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask again")] = False,
    socket: Socket = DEFAULT_SOCKET,
    pin_file: PinFile = None,
    name: As = None,
) -> None:
    """After the alarm JOURNAL_LOST: give the live reservations that the gateway knows their cells back.

    All other cells await inspection. What is in the cells is not verified: look, and correct with
    `--place`.
    """
    placed = _placed(place or [])
    if none:
        _confirm(_("no reservation is restored: the codes of the parcels stored here stay invalid"), yes=yes)
    elif _lost(socket):
        _show(call(socket, "GET", "/v1/restore")["reservations"], placed)
        _confirm(_("these reservations hold their cells again"), yes=yes)
    body = {"none": none, "place": placed}
    with_pin(lambda headers: call(socket, "POST", "/v1/restore", body, headers), pin_file, name)
    done = _("no reservation is restored") if none else _("restored")
    what = _("inspect every cell that awaits inspection, then `edge-agent clear CELL`")
    console.print(f"{done}; {what}", markup=False)


def clear(
    cell: Annotated[
        str | None, typer.Argument(metavar="CELL", help="label of the cell", autocompletion=labels)
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="every cell that awaits inspection: you have inspected all of them"),
    ] = False,
    socket: Socket = DEFAULT_SOCKET,
    pin_file: PinFile = None,
    name: As = None,
) -> None:
    """Clear a cell after inspecting it: it is empty and in order again."""
    if everything == (cell is not None):
        raise _stop(_("Missing argument 'CELL', or --all"), USAGE)
    if cell is not None:
        act(socket, cell, "clear", None, pin_file, name)
        console.print(_("cell {cell} is clear", cell=cell), highlight=False, markup=False)
        return
    labels = [row["label"] for row in call(socket, "GET", "/v1/cells") if row["status"] == INSPECTED]

    def clear_all(headers: dict[str, str]) -> None:
        while labels:
            call(socket, "POST", f"/v1/cells/{quote(labels[0], safe='')}/clear", None, headers)
            console.print(_("cell {cell} is clear", cell=labels.pop(0)), highlight=False, markup=False)

    with_pin(clear_all, pin_file, name)


def _lost(socket: Path) -> bool:
    return any(row["alarm"] == "JOURNAL_LOST" for row in call(socket, "GET", "/v1/alarms"))


def _placed(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        reservation, equals, cell = text.rpartition("=")
        if not (reservation and equals and cell):
            raise _stop(_("--place: {text} is not RES=CELL", text=repr(text)), USAGE)
        found[reservation] = cell
    return found


def _show(rows: list[dict[str, Any]], placed: dict[str, str]) -> None:
    table = Table(_("cell"), _("status"), _("reservation"), _("order"), box=None)
    shown = [(str(placed.get(row["reservation_id"], row["cell"])), row) for row in rows]
    for cell, row in sorted(shown, key=lambda one: one[0]):
        status = row["status"].removeprefix("RESERVATION_STATUS_")
        table.add_row(cell, status, row["reservation_id"], row["platform_order_id"])
    console.print(table)


def _confirm(what: str, *, yes: bool) -> None:
    """Ends the process unless the user confirms."""
    if yes:
        return
    if not _is_interactive():
        raise _stop(_("{what}: confirm with --yes", what=what), USAGE)
    if not confirmed(_("{what}. Go on?", what=what)):
        raise typer.Exit(REFUSED)


def confirmed(question: str) -> bool:
    """Whether the user says yes, in any language of the commands; no is the default."""
    while True:
        asked = prompt(f"{question} [{_('yes')}/{_('no')}]", console)
        answer: str = typer.prompt(asked, default=_("no"), show_default=False)
        try:
            return yes_or_no(answer)
        except ValueError as problem:
            problems.print(str(problem), style="red", highlight=False, markup=False)


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _stop(why: str, code: int) -> typer.Exit:
    problems.print(why, style="red", highlight=False, markup=False, soft_wrap=True)
    return typer.Exit(code)
