"""`edge-agent service-commands`: what was requested remotely, by whom, and what came of it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from edge_agent.cli.daemon import DEFAULT_SOCKET, AsJson, Socket, call, console, print_json
from edge_agent.cli.text.language import _, from_daemon, marked
from edge_agent.cli.text.times import Utc, moment

STATES = {"RUNNING": marked("running"), "DONE": marked("done"), "FAILED": marked("failed")}


def service_commands(
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="how many of the newest")] = 50,
    utc: Utc = False,
) -> None:
    """Show what was requested remotely: when, what, by whom, with which key, and what came of it."""
    found = call(socket, "GET", f"/v1/service-commands?limit={limit}")
    if as_json:
        print_json(found)
        return
    if not found:
        console.print(_("nothing was requested remotely"))
        return
    at = Column(_("time"), no_wrap=True)
    table = Table(at, Column(_("command"), no_wrap=True), _("by"), _("key"), _("state"), _("detail"))
    for row in found:
        table.add_row(
            moment(row["received_at"], utc=utc),
            row["command"],
            escape(row["by"]),
            escape(row["key"]),
            _(STATES[row["state"]]),
            escape(_detail(row)),
        )
    console.print(table)


def _detail(row: dict[str, Any]) -> str:
    """Why it failed; otherwise what was requested in detail."""
    if row["error"] is not None:
        return from_daemon(row["error"]["message"])
    parts = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in row["arguments"].items())
    return ", ".join(parts)
