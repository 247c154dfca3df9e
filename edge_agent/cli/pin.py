"""The technician's PIN: from a file, else from the environment, else from a hidden prompt. Never from an
argument, because other users can read the arguments of a process."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from getpass import getpass, getuser
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from edge_agent.cli.daemon import REFUSED, USAGE, PinNeeded, call, problems
from edge_agent.cli.text.language import _, from_daemon
from edge_agent.config.technicians import NAME_HEADER, PIN_HEADER

PIN_VARIABLE, NAME_VARIABLE = "EDGE_AGENT_PIN", "EDGE_AGENT_TECHNICIAN"
PinFile = Annotated[
    Path | None,
    typer.Option(
        "--pin-file",
        metavar="FILE",
        help=f"file with the technician's PIN (default: {PIN_VARIABLE}; else a prompt if a PIN is needed)",
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="NAME", envvar=NAME_VARIABLE, help="name of the technician (default: your user name)"
    ),
]
T = TypeVar("T")


def with_pin(ask: Callable[[dict[str, str]], T], pin_file: Path | None, name: str | None) -> T:
    """What `ask` gives with the headers it needs: those that are known, or a PIN typed at the terminal.

    `ask` raises `PinNeeded` if they are not enough. Ends the process if there is no PIN.
    """
    pin = known_pin(pin_file)
    try:
        return ask(headers_of(name, pin))
    except PinNeeded as needed:
        if not _is_interactive():
            needs = from_daemon(str(needed))
            how = _("{why}: give it with --pin-file FILE or in {variable}", why=needs, variable=PIN_VARIABLE)
            problems.print(how, style="red", highlight=False, markup=False)
            raise typer.Exit(REFUSED) from None
    who = name or getuser()
    try:
        return ask(headers_of(name, getpass(_("PIN of {name}: ", name=who))))
    except (EOFError, PinNeeded):
        raise typer.Exit(REFUSED) from None


def act(
    socket: Path,
    cell: str,
    name: str,
    body: dict[str, Any] | None,
    pin_file: Path | None,
    technician: str | None,
) -> Any:
    """A technician's act on a cell."""
    path = f"/v1/cells/{quote(cell, safe='')}/{name}"
    return with_pin(lambda headers: call(socket, "POST", path, body, headers), pin_file, technician)


def known_pin(pin_file: Path | None) -> str | None:
    """The PIN from a file, else from the environment; None if neither has one. Ends the process if the file
    is invalid."""
    return os.environ.get(PIN_VARIABLE) if pin_file is None else _read(pin_file)


def headers_of(name: str | None, pin: str | None) -> dict[str, str]:
    """The headers that name the technician to the local API."""
    headers = {} if pin is None else {PIN_HEADER: quote(pin, safe="")}
    return headers if name is None else headers | {NAME_HEADER: quote(name, safe="")}


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _read(path: Path) -> str:
    """The PIN in a file of our own. Ends the process if others could read it, too."""
    try:
        mode = path.stat().st_mode
        pin = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = from_daemon(getattr(error, "strerror", None) or "") or _("is not UTF-8")
        raise _unusable(path, why) from None
    if stat.S_IMODE(mode) & 0o077:
        mode_text = f"{stat.S_IMODE(mode):04o}"
        raise _unusable(path, _("can be read by others (mode {mode})", mode=mode_text))
    if not pin:
        raise _unusable(path, _("is empty"))
    return pin


def _unusable(path: Path, why: str) -> typer.Exit:
    problems.print(f"{path}: {why}", style="red", highlight=False, markup=False, soft_wrap=True)
    return typer.Exit(USAGE)
