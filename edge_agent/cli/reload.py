"""`edge-agent reload`: the daemon applies the changes of its configuration, all or none."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import httpx
import typer
from rich.table import Table

from edge_agent.cli.daemon import (
    DEFAULT_SOCKET,
    NO_DAEMON,
    REFUSED,
    AsJson,
    Socket,
    call,
    console,
    print_json,
    problems,
)
from edge_agent.cli.text.language import _, plural

LOOKS, LOOK_S = 300, 0.1
"""How often, and with which pause, the daemon is asked whether the new configuration is in use."""


def reload(socket: Socket = DEFAULT_SOCKET, as_json: AsJson = False) -> None:
    """Apply the changes of the configuration file; `edge-agent check` it first.

    Refused, without any change, if a live reservation would be affected: exit code 1.
    """
    asked = call(socket, "POST", "/v1/reload")
    changes = asked["changes"]
    state = _applied(socket, asked["number"]) if changes else None
    if as_json:
        print_json({"changes": changes, "configuration": state})
    elif not changes:
        console.print(_("nothing has changed"))
    else:
        console.print(_table(changes))
    if state is not None and state["failed"] is not None:
        failure = _("the new configuration failed, the previous one stays in use: {why}", why=state["failed"])
        problems.print(failure, style="red", highlight=False, markup=False)
        raise typer.Exit(REFUSED)
    if changes and not as_json:
        said = plural("{number} change is in use", "{number} changes are in use", len(changes))
        console.print(said, highlight=False)


def _table(changes: list[dict[str, Any]]) -> Table:
    table = Table(_("key"), _("before"), _("now"))
    for change in changes:
        table.add_row(change["path"], *(_shown(change[side]) for side in ("before", "after")))
    return table


def _shown(value: Any) -> str:
    return "-" if value is None else str(value).replace("[", r"\[")


def _applied(socket: Path, number: int) -> dict[str, Any]:
    """The state of the daemon's configuration, once a new one is in use or has failed. Ends the process if
    the daemon does not restart in time."""
    pause = Event()
    for _look in range(LOOKS):
        try:
            transport = httpx.HTTPTransport(uds=str(socket))
            with httpx.Client(transport=transport, base_url="http://agent", timeout=5.0) as client:
                state: dict[str, Any] = client.get("/v1/status").json()["configuration"]
        except (httpx.TransportError, ValueError):
            state = {"number": number, "failed": None}
        if state["number"] != number or state["failed"] is not None:
            return state
        pause.wait(LOOK_S)
    late = _("the daemon at {socket} does not answer: it has not restarted in time", socket=socket)
    problems.print(late, style="red", highlight=False)
    raise typer.Exit(NO_DAEMON)
