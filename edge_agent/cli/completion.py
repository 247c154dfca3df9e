"""Shell completion: commands, options, and the labels of the cells that there are."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer
from typer.completion import (  # type: ignore[attr-defined]  # typer re-exports them without saying so
    completion_init,
    get_completion_script,
)

from edge_agent.cli.daemon import DEFAULT_SOCKET

PROGRAM = "edge-agent"
VARIABLE = "_EDGE_AGENT_COMPLETE"
PATIENCE_S = 1.0
"""How long the shell waits for the daemon."""

completion_init()  # registers the shells with typer; without it nothing is completed


class Shell(StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish")]) -> None:
    """Print the script for completion in a shell; the Debian package has set bash up already.

    Example: `edge-agent completion zsh > ~/.zfunc/_edge-agent`.
    """
    typer.echo(script(shell))


def script(shell: Shell) -> str:
    """The completion script of a shell."""
    made: str = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell)
    return made


def labels(incomplete: str) -> list[str]:
    """The labels of cells that begin with `incomplete`; none if the daemon does not answer."""
    socket = Path(os.environ.get("EDGE_AGENT_SOCKET") or DEFAULT_SOCKET)
    try:
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://agent", timeout=PATIENCE_S) as client:
            cells = client.get("/v1/cells").raise_for_status().json()
    except httpx.HTTPError:
        return []  # an error message would spoil the command line
    return [cell["label"] for cell in cells if cell["label"].startswith(incomplete)]


CellLabel = Annotated[str, typer.Argument(metavar="CELL", help="label of the cell", autocompletion=labels)]
