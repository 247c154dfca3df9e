"""The commands of `edge-agent`.

Exit codes: 0 good, 1 refused or a fault found, 2 bad usage or configuration, 3 the daemon is not there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from edge_agent.config import load_settings
from edge_agent.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The software inside a parcel locker. `edge-agent run` is the daemon; the rest talks to it.",
)
console = Console()
problems = Console(stderr=True)

REFUSED, USAGE, NO_DAEMON = 1, 2, 3
UNLOCK_TIMEOUT_S = 60.0

Socket = Annotated[
    Path, typer.Option("--socket", envvar="EDGE_AGENT_SOCKET", help="the daemon's Unix socket")
]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]
DEFAULT_SOCKET = Path("/run/edge-agent/agent.sock")


def _call(socket: Path, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The daemon's answer; ends the process where there is none or it is a refusal."""
    try:
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://agent", timeout=UNLOCK_TIMEOUT_S) as client:
            response = client.request(method, path, json=body)
    except httpx.TransportError as error:
        problems.print(f"no daemon at {socket}: {error}", style="red", highlight=False)
        raise typer.Exit(NO_DAEMON) from None
    if response.is_error:
        problems.print(response.json()["message"], style="red", highlight=False, markup=False)
        raise typer.Exit(REFUSED)
    return response.json()


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@app.command()
def check(config: Annotated[Path, typer.Option("--config", metavar="FILE")]) -> None:
    """Validate a configuration and its device profiles."""
    try:
        settings = load_settings(config)
    except ConfigError as error:
        for finding in error.findings:
            problems.print(f"{config}: {finding}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(USAGE) from None
    what = f"{len(settings.cells)} cells, {len(settings.devices)} devices, {len(settings.buses)} bus(es)"
    console.print(f"{config}: good: {what}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def status(socket: Socket = DEFAULT_SOCKET, as_json: AsJson = False) -> None:
    """Show the machine at a glance."""
    found = _call(socket, "GET", "/v1/status")
    if as_json:
        _print_json(found)
        return
    table = Table(show_header=False, box=None)
    for key, value in found.items():
        if key not in ("alarms", "buses"):
            table.add_row(key.replace("_", " "), "-" if value is None else str(value))
    for name, bus in found["buses"].items():
        counts = ", ".join(f"{count} {key.replace('_', ' ')}" for key, count in bus.items() if count)
        table.add_row(f"bus {name}", counts)
    for alarm in found["alarms"]:
        place = f" {alarm['place']}" if alarm["place"] else ""
        row = f"[yellow]{alarm['alarm']}{place}[/] since {alarm['since']} {alarm['detail']}"
        table.add_row("alarm", row)
    console.print(table)


@app.command()
def cells(socket: Socket = DEFAULT_SOCKET, as_json: AsJson = False) -> None:
    """Show every cell: door, use, weight, temperature."""
    found = _call(socket, "GET", "/v1/cells")
    if as_json:
        _print_json(found)
        return
    table = Table("cell", "door", "status", "flags", "weight", "temperature", "reservation")
    for cell in found:
        flags = " ".join(flag for flag in ("blocked", "faulty") if cell[flag])
        weight = "" if cell["mass_g"] is None else f"{cell['mass_g']} g"
        degrees = "" if cell["temperature_c"] is None else f"{cell['temperature_c']:.1f} °C"
        door = {"open": "[yellow]open[/]", "unknown": "[red]unknown[/]"}.get(cell["door"], cell["door"])
        holder = cell["reservation_id"] or ""
        table.add_row(cell["label"], door, cell["status"], flags, weight, degrees, holder)
    console.print(table)


@app.command()
def code(
    text: Annotated[str, typer.Argument(help="a code or the text of a QR code")],
    socket: Socket = DEFAULT_SOCKET,
) -> None:
    """Enter what the kiosk's keypad or scanner would send."""
    opened = _call(socket, "POST", "/v1/code", {"text": text})
    console.print(f"cell {opened['cell']['description']} is open", highlight=False)


@app.command()
def clear(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="label of the cell")],
    socket: Socket = DEFAULT_SOCKET,
) -> None:
    """Say that a cell was looked into: it is empty and in order again."""
    _call(socket, "POST", f"/v1/cells/{cell}/clear")
    console.print(f"cell {cell} is clear", highlight=False)
