"""The manual page (man(7)): every command with its arguments and options, as in the help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from edge_agent import __version__
from edge_agent.cli.commands import COMMANDS, HELP, app

EXIT_CODES = {
    "0": "All is good.",
    "1": "A fault was found, or the request was refused.",
    "2": "Bad usage or configuration.",
    "3": "The daemon is not there.",
}
VARIABLES = {
    "EDGE_AGENT_SOCKET": "The daemon's Unix socket, where --socket does not name it.",
    "EDGE_AGENT_PIN": "The PIN of the technician who acts, where --pin-file does not name a file with it.",
    "EDGE_AGENT_TECHNICIAN": "The technician's name, where --as does not give it.",
    "LC_ALL, LC_MESSAGES, LANG, LANGUAGE": "The language of what people read: English, German or Indonesian.",
    "NO_COLOR": "Tables without colour; without a terminal they have none anyway.",
}
FILES = {
    "/etc/edge-agent/locker.toml": "The machine's configuration.",
    "/etc/edge-agent/devices/": "Profiles of boards that go before the shipped ones.",
    "/usr/share/edge-agent/devices/": "The profiles of boards that are shipped.",
    "/usr/share/edge-agent/examples/": "Configurations to begin with.",
    "/var/lib/edge-agent/": "The journal. It holds the codes of parcels: keep it to yourself.",
    "/run/edge-agent/agent.sock": "The local API.",
}


def page() -> str:
    """The whole page in roff."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    root: Any = typer.main.get_command(app)
    yield f'.TH EDGE-AGENT 1 "" "edge-agent {__version__}" "Parcel locker"'
    yield ".SH NAME"
    yield r"edge-agent \- the software inside a parcel locker"
    yield ".SH SYNOPSIS"
    yield r".B edge-agent run \-\-config"
    yield r".I FILE"
    yield ".br"
    yield ".B edge-agent"
    yield r".I COMMAND"
    yield "[ARGS]..."
    yield ".SH DESCRIPTION"
    yield from _prose(HELP)
    yield ".PP"
    yield from _prose("Every command has `--help`, and those that show something `--json` for scripts.")
    yield ".SH COMMANDS"
    yield r".SS run \-\-config FILE [\-\-rewired] [\-\-renamed]"
    yield "Run the daemon in the foreground. SIGTERM ends it cleanly; SIGHUP makes it take a new"
    yield r"configuration. \-\-rewired: wires of cells that are not empty were really moved since the last"
    yield r"start. \-\-renamed: the machine has a new machine_id and takes over the journal kept under"
    yield "the old one. Without them such a start is refused."
    named = [name for commands in COMMANDS.values() for name in commands]
    for name in [*named, *(name for name in root.commands if name not in named)]:
        yield from _command(name, root.commands[name])
    yield from _table("EXIT STATUS", EXIT_CODES)
    yield from _table("ENVIRONMENT", VARIABLES)
    yield from _table("FILES", FILES)
    yield ".SH SEE ALSO"
    yield r".BR systemctl (1), journalctl (1)"


def _command(name: str, command: Any) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is not None:
        for below, one in inner.items():
            yield from _command(f"{name} {below}", one)
        return
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    names = (argument.metavar or argument.name.upper() for argument in arguments)
    optional = (_optional(n) if not a.required else n for n, a in zip(names, arguments, strict=True))
    usage = " ".join([name, *optional])
    yield f".SS {_escaped(usage)}"
    yield from _prose(command.help or "")
    for argument in arguments:
        yield ".TP"
        yield rf".I {_escaped(argument.metavar or argument.name.upper())}"
        yield from _prose(argument.help or "")
    for option in command.params:
        if option in arguments or option.hidden:
            continue
        value = "" if getattr(option, "is_flag", False) else rf" \fI{_escaped(option.metavar or 'VALUE')}\fR"
        yield ".TP"
        yield rf"\fB{_escaped(', '.join(option.opts))}\fR{value}"
        yield from _prose(_about(option))


def _optional(metavar: str) -> str:
    return metavar if metavar.startswith("[") else f"[{metavar}]"


def _about(option: Any) -> str:
    parts = [option.help or ""]
    if option.required:
        parts.append("has to be given")
    elif option.default not in (None, False, ()) and not callable(option.default):
        parts.append(f"default {option.default}")
    if option.envvar:
        parts.append(f"else {option.envvar} of the environment")
    return "; ".join(part for part in parts if part)


def _table(title: str, rows: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for name, about in rows.items():
        yield ".TP"
        yield rf".B {_escaped(name)}"
        yield from _prose(about)


def _prose(text: str) -> Iterator[str]:
    """Paragraphs; text in backquotes is bold."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        line = _escaped(" ".join(paragraph.split()))
        line = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", line)
        yield rf"\&{line}" if line[:1] in (".", "'") else line


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-")
