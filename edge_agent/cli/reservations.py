"""`edge-agent reservations`: those that hold a cell, those that are over, and the temperatures of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape
from rich.table import Column, Table

from edge_agent.cli import temperature_log
from edge_agent.cli.daemon import (
    DEFAULT_SOCKET,
    USAGE,
    AsJson,
    Socket,
    call,
    console,
    file_problem,
    print_json,
    problems,
    visible,
)
from edge_agent.cli.event_filter import begins
from edge_agent.cli.text.language import _
from edge_agent.cli.text.times import Utc, moment

SEARCHED = 1000
"""How many of the newest reservations that are over are shown: the most that the daemon returns at once."""


def reservations(
    reservation: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="only this reservation; the beginning of its id will do"),
    ] = None,
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    over: Annotated[bool, typer.Option("--all", help="also those that are over, the newest 1000")] = False,
    order: Annotated[
        str | None, typer.Option(metavar="TEXT", help="only orders whose id begins with this")
    ] = None,
    temperatures: Annotated[
        str | None,
        typer.Option(metavar="RESERVATION", help="print the temperature log of this reservation, as CSV"),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="with --temperatures: also plot them")
    ] = None,
    utc: Utc = False,
) -> None:
    """Show the reservations that hold a cell, without codes; with --temperatures the temperature log of one.

    Ids are found in upper and lower case. The temperature log and its plot are always in UTC.
    """
    if temperatures is not None:
        _temperatures(socket, as_json, temperatures, svg)
        return
    if svg is not None:
        raise typer.BadParameter(_("only together with --temperatures"), param_hint="--svg")
    rows = call(socket, "GET", f"/v1/reservations?all=1&limit={SEARCHED}" if over else "/v1/reservations")
    found = [
        row
        for row in rows
        if begins(row["reservation_id"], reservation) and begins(row["platform_order_id"], order)
    ]
    if as_json:
        print_json(found)
    else:
        console.print(_table(found, utc) if found else _nothing(over, limited=bool(rows)))


def _nothing(over: bool, *, limited: bool) -> str:
    if not limited:
        return _("no reservation") if over else _("no reservation holds a cell")
    if over:
        return _(
            "no reservation matches; of those that are over, the newest {number} were searched",
            number=SEARCHED,
        )
    return _("no reservation that holds a cell matches; `--all` also searches those that are over")


def _table(rows: list[dict[str, Any]], utc: bool) -> Table:
    headings = (_("created"), _("dropped off"), _("picked up"))
    moments = (Column(heading, no_wrap=True) for heading in headings)
    table = Table(_("reservation"), _("order"), _("cell"), _("status"), *moments, _("notes"))
    for row in rows:
        order, notes = escape(row["platform_order_id"]), escape(row["notes"])
        times = (moment(row[key], utc=utc) for key in ("created_at", "dropped_off_at", "picked_up_at"))
        cell = row["cell"]["description"]
        table.add_row(row["reservation_id"], order, cell, _status(row), *times, notes)
    return table


def _status(row: dict[str, Any]) -> str:
    status: str = row["status"].removeprefix("RESERVATION_STATUS_")
    if row["overdue_s"] is not None:
        late = _("{time} late", time=_duration(row["overdue_s"]))
        return f"[yellow]{status}, {late}[/]"
    if row["grace_over"]:
        return f"[yellow]{status}, {_('grace over, door open')}[/]"
    return status if row["live"] else f"{status}, {_('over')}"


def _duration(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds < 7200 else _("{hours} h", hours=seconds // 3600)


def _temperatures(socket: Path, as_json: bool, reservation_id: str, svg: Path | None) -> None:
    log = call(socket, "GET", f"/v1/reservations/{quote(reservation_id, safe='')}/temperatures")
    if svg is not None:
        try:
            svg.write_text(temperature_log.as_svg(log), encoding="utf-8")
        except OSError as error:
            problems.print(file_problem(svg, error), style="red", highlight=False, markup=False)
            raise typer.Exit(USAGE) from None
    if as_json:
        print_json(log)
    else:
        typer.echo(visible(temperature_log.as_csv(log)), nl=False)
