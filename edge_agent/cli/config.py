"""`edge-agent check` and `edge-agent config`: whether a configuration is good, and what it says."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Column, Table

from edge_agent.cli.daemon import (
    DEFAULT_CONFIG,
    DEFAULT_SOCKET,
    NO_DAEMON,
    USAGE,
    AsJson,
    Socket,
    call,
    console,
    print_json,
    problems,
)
from edge_agent.cli.text.language import _, from_daemon, marked
from edge_agent.cli.text.plurals import size_of
from edge_agent.config import Settings, load_settings
from edge_agent.config.effective import effective
from edge_agent.config.modes import mode_findings
from edge_agent.config.storage import storage_findings
from edge_agent.errors import ConfigError, Finding
from edge_agent.service import blackout

HIDDEN = "***"
NEAREST = 3
ORIGINS = {"file": marked("file"), "default": marked("default"), "remote": marked("remote")}

config_app = typer.Typer(no_args_is_help=True, help="Show the configuration.")


def check(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="the machine's file")],
) -> None:
    """Validate a configuration and its device profiles."""
    from edge_agent.config.vectors import (
        vector_findings,  # it loads the codecs, which other commands do not need
    )

    settings = _loaded(config)
    refused, warned = storage_findings(settings)
    if refused := [*refused, *vector_findings(settings)]:
        _stop(config, refused)
    for finding in [*warned, *mode_findings(settings, config)]:
        text = _("{file}: warning: {finding}", file=config, finding=from_daemon(str(finding)))
        problems.print(text, highlight=False, markup=False, soft_wrap=True)
    text = _("{file}: good: {size}", file=config, size=size_of(settings))
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _loaded(config: Path) -> Settings:
    """Ends the process with every finding if the file is not a valid configuration."""
    try:
        return load_settings(config)
    except ConfigError as error:
        _stop(config, error.findings)


def _stop(config: Path, findings: list[Finding]) -> NoReturn:
    for finding in findings:
        line = f"{config}: {from_daemon(str(finding))}"
        problems.print(line, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(USAGE)


def keys(incomplete: str) -> list[str]:
    """The key paths of the usual file that begin with `incomplete`, section by section; of the sections only
    if there is no such file."""
    try:
        known = [row["key"] for row in effective(load_settings(DEFAULT_CONFIG))]
    except ConfigError:
        known = list(Settings.model_fields)
    depth = incomplete.count(".") + 1
    parts = dict.fromkeys(".".join(key.split(".")[:depth]) for key in known)
    return [part for part in parts if part.startswith(incomplete)]


@config_app.command()
def show(
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY",
            help="only this key, or what is below it: unlock.pulse_ms, cells.A01",
            autocompletion=keys,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="a file; default: what the daemon uses"),
    ] = None,
    socket: Socket = DEFAULT_SOCKET,
    as_json: AsJson = False,
) -> None:
    """Show the configuration in effect: each key, its value, and whether the file gives it, it is a default,
    or it was set remotely.

    Without the daemon it is read from --config, else from /etc/edge-agent/locker.toml. Secrets are shown as
    `***`; keys without a value are left out.
    """
    found = [_without_secrets(row) for row in _rows(config, socket)]
    chosen = [row for row in found if key is None or f"{row['key']}.".startswith(f"{key}.")]
    if key is not None and not chosen:
        _unknown(key, [row["key"] for row in found])
    if as_json:
        print_json(chosen)
        return
    table = Table(Column(_("key"), no_wrap=True), _("value"), _("from"))
    for row in chosen:
        table.add_row(
            escape(row["key"]),
            escape(json.dumps(row["value"], ensure_ascii=False)),
            _(ORIGINS.get(row["from"], row["from"])),
        )
    console.print(table)


def _rows(config: Path | None, socket: Path) -> list[dict[str, Any]]:
    if config is not None:
        return effective(_loaded(config))
    try:
        rows: list[dict[str, Any]] = call(socket, "GET", "/v1/configuration", quiet=True)
    except typer.Exit as ended:
        if ended.exit_code != NO_DAEMON:
            raise
        problems.print(
            _("the daemon does not answer: this is {file}", file=DEFAULT_CONFIG),
            style="yellow",
            highlight=False,
        )
        return effective(_loaded(DEFAULT_CONFIG))
    return rows


def _without_secrets(row: dict[str, Any]) -> dict[str, Any]:
    name = row["key"].rpartition(".")[2]
    if name == "id" and row["key"].startswith("credentials."):
        return row | {"value": HIDDEN}
    value = blackout.value(row["value"], name)
    hidden = json.loads(json.dumps(value).replace(json.dumps(blackout.BLACK)[1:-1], HIDDEN))
    return row | {"value": hidden}


def _unknown(key: str, known: list[str]) -> NoReturn:
    parts = {".".join(one.split(".")[: depth + 1]) for one in known for depth in range(one.count(".") + 1)}
    nearest = ", ".join(get_close_matches(key, sorted(parts), NEAREST, cutoff=0.0))
    why = _("{key} has no value; the nearest are {nearest}", key=repr(key), nearest=nearest)
    raise typer.BadParameter(why, param_hint="KEY")
