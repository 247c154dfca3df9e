"""The command that makes a bundle."""

from __future__ import annotations

import io
import os
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from edge_agent.cli.bundle.parts import Missing, NoDaemon, parts
from edge_agent.cli.daemon import (
    DEFAULT_CONFIG,
    DEFAULT_SOCKET,
    NO_DAEMON,
    USAGE,
    AsJson,
    Socket,
    console,
    file_problem,
    print_json,
    problems,
)
from edge_agent.cli.text.language import _, from_daemon
from edge_agent.runtime.clock import SystemClock


def bundle(
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="the .tar.gz to write")
    ] = None,
    config: Annotated[Path, typer.Option(metavar="FILE", help="the machine's file")] = DEFAULT_CONFIG,
    quick: Annotated[
        bool, typer.Option("--quick", help="skip the self-test, which takes half a minute")
    ] = False,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the daemon's log, if it is not in systemd's journal")
    ] = None,
) -> None:
    """Collect what support needs into an archive, every secret and code blacked out.

    Without the daemon the archive holds only the other parts, and the exit code is 3.
    """
    now_s = SystemClock().now().wall_s
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    file = Path(f"edge-agent-{stamp}.tar.gz") if output is None else output
    found: dict[str, bytes] = {}
    missing: dict[str, str] = {}
    no_daemon = False
    wanted = parts(socket, config, log, not quick)
    with Progress(console=problems, transient=True, disable=not problems.is_terminal) as progress:
        for part in progress.track(wanted, description=_("collecting")):
            try:
                found[part.name] = part.collect().encode()
            except Missing as error:
                missing[part.name] = str(error)
                no_daemon = no_daemon or isinstance(error, NoDaemon)
    found["missing.txt"] = "".join(f"{name}: {why}\n" for name, why in missing.items()).encode()
    _write(file, f"edge-agent-{stamp}", found, int(now_s))
    if as_json:
        sizes = {name: len(content) for name, content in found.items()}
        print_json({"file": str(file), "parts": sizes, "missing": missing})
    else:
        text = _("{file}: {number} parts", file=file, number=len(found))
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        for name, why in missing.items():
            text = _("without {name}: {why}", name=name, why=from_daemon(why))
            problems.print(text, style="yellow", highlight=False, markup=False)
    if no_daemon:
        raise typer.Exit(NO_DAEMON)


def _write(file: Path, folder: str, found: dict[str, bytes], at_s: int) -> None:
    """A new archive that nobody else may read. Ends the process if it cannot be written."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
            for name, content in found.items():
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mtime, entry.mode = len(content), at_s, 0o600
                archive.addfile(entry, io.BytesIO(content))
    except OSError as error:
        problems.print(file_problem(file, error), style="red", highlight=False, markup=False)
        raise typer.Exit(USAGE) from None
