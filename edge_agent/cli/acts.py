"""The commands `open`, `signal`, `resolve` and `technician`."""

from __future__ import annotations

import os
import pwd
import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.cli.completion import CellLabel
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
    problems,
)
from edge_agent.cli.pin import As, PinFile, act
from edge_agent.cli.text.language import _, from_daemon
from edge_agent.config.technicians import TechniciansFault, line, read
from edge_agent.model import Verdict

SERVICE_USER = "edge-agent"


def open_cell(
    cell: CellLabel,
    reason: Annotated[str, typer.Option(help="the reason, for the journal")],
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    pin_file: PinFile = None,
    name: As = None,
) -> None:
    """Open the door of a cell, whatever is in it; no reservation changes. It is journaled under your name."""
    done = act(socket, cell, "open", {"reason": reason}, pin_file, name)
    if as_json:
        print_json(done)
        return
    console.print(_("cell {cell} is open", cell=done["cell"]["description"]), highlight=False, markup=False)


def signal(
    cell: CellLabel,
    seconds: Annotated[int, typer.Option(min=1, max=60, help="how long it blinks")] = 10,
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
) -> None:
    """Make the light or buzzer of a cell blink, to show which door it is. No lock moves."""
    done = call(socket, "POST", f"/v1/cells/{cell}/signal", {"seconds": seconds})
    if as_json:
        print_json(done)
        return
    label = done["cell"]["description"]
    said = _("the signal of cell {cell} blinks for {seconds} s", cell=label, seconds=seconds)
    console.print(said, highlight=False, markup=False)


def resolve(
    cell: CellLabel,
    dropped_off: Annotated[bool, typer.Option("--dropped-off", help="a parcel was put in")] = False,
    picked_up: Annotated[bool, typer.Option("--picked-up", help="the parcel was taken out")] = False,
    still_inside: Annotated[bool, typer.Option("--still-inside", help="the parcel is inside")] = False,
    empty: Annotated[bool, typer.Option("--empty", help="nothing is inside")] = False,
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    pin_file: PinFile = None,
    name: As = None,
) -> None:
    """Resolve a cell whose last unlock has no certain outcome, or whose contact is in doubt.

    Look into the cell first. Its reservation moves by your answer; it is journaled under your name.
    """
    given = dict(zip(Verdict, (dropped_off, picked_up, still_inside, empty), strict=True))
    verdicts = [verdict for verdict, is_given in given.items() if is_given]
    if len(verdicts) != 1:
        hint = " | ".join(f"--{verdict}" for verdict in Verdict)
        raise typer.BadParameter(_("give exactly one of these"), param_hint=hint)
    done = act(socket, cell, "resolve", {"verdict": verdicts[0]}, pin_file, name)
    if as_json:
        print_json(done)
        return
    said = _("cell {cell} is resolved: {verdict}", cell=cell, verdict=verdicts[0])
    console.print(said, highlight=False, markup=False)


def technician(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the name that the ledger shows")],
    append: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="add the line to this file (`access.technicians_file`)"),
    ] = None,
) -> None:
    """Add a technician: asks twice for a PIN and prints the line for `access.technicians_file`.

    Without a terminal the PIN is read from the first line of the standard input.
    """
    try:
        made = line(name, _new_pin())
    except ValueError as problem:
        raise _stop(from_daemon(str(problem)), USAGE) from None
    if append is None:
        typer.echo(made)
        return
    _append(append, name, made)
    console.print(_("{name} is a technician", name=name), highlight=False, markup=False)


def _new_pin() -> str:
    if not _is_interactive():
        return sys.stdin.readline().rstrip("\r\n")
    try:
        pin = getpass(_("new PIN: "))
        again = getpass(_("once more: "))
    except EOFError:
        raise typer.Exit(REFUSED) from None
    if pin != again:
        raise _stop(_("the two PINs differ"), REFUSED)
    return pin


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _append(path: Path, name: str, made: str) -> None:
    """Adds the line; a new file is owned by the service where possible, and only its owner may read it."""
    try:
        new = not path.exists()
        if not new and name in read(path, ours=False):  # the service's, and we may be root
            why = _("{file}: {name} is in it already; remove that line first", file=path, name=name)
            raise _stop(why, REFUSED)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            if new and os.geteuid() == 0:
                _give_to_service(descriptor)
            file.seek(max(0, os.fstat(descriptor).st_size - 1))
            ended = file.read(1) in (b"", b"\n")
            file.write((b"" if ended else b"\n") + made.encode() + b"\n")
    except TechniciansFault as fault:
        raise _stop(from_daemon(str(fault)), REFUSED) from None
    except OSError as error:
        raise _stop(file_problem(path, error), USAGE) from None


def _give_to_service(descriptor: int) -> None:
    try:
        service = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return
    os.fchown(descriptor, service.pw_uid, service.pw_gid)


def _stop(why: str, code: int) -> typer.Exit:
    problems.print(why, style="red", highlight=False, markup=False, soft_wrap=True)
    return typer.Exit(code)
