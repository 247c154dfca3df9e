"""The texts to translate: those marked in the commands, the explanations, and those that the daemon makes.

The daemon's texts reach the commands as finished English sentences (refusals, findings, alarm details). Each
f-string is a template with numbered holes, by which the commands recognise the sentence
(`edge_agent.cli.text.language.from_daemon`).
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typer.main import get_command

from edge_agent.__main__ import NO_PIPE, kiosk_parser, run_parser
from edge_agent.cli.commands import app
from edge_agent.cli.explain.alarms import ALARMS
from edge_agent.cli.explain.command import joined
from edge_agent.cli.explain.words import CODES, EVENTS, LOCAL_EVENTS, OUTCOMES, RESERVATIONS, STATUSES
from edge_agent.cli.text import plain_parser
from edge_agent.cli.text.help_texts import USAGE_ERRORS, help_texts
from edge_agent.cli.text.language import DAEMON
from edge_agent.cli.text.plain_parser import texts_of
from edge_agent.drivers.decode import EXCEPTIONS
from edge_agent.statemachine.transitions import CELL_TABLE, FLAG_TABLE, TABLE, WHY_NOT, CellGuard, Refused
from tools.bench.settings import REPOSITORY

COMMANDS = REPOSITORY / "edge_agent" / "cli"
DAEMON_SOURCES = (
    "service/diagnosis/*.py",
    "statemachine/**/*.py",
    "console/access.py",
    "console/api.py",
    "runtime/history_check.py",
    "runtime/loop.py",
    "runtime/translator.py",
    "service/bus_checks.py",
    "service/bus_scan.py",
    "service/bus_service.py",
    "service/forgetting.py",
    "service/report.py",
    "app/remote_configuration.py",
    "app/renewal.py",
    "enrolment/client.py",
    "enrolment/machine_key.py",
    "enrolment/tpm_key.py",
    "protocol/enrolment.py",
    "app/service.py",
    "app/update_handover.py",
    "config/remote_settings.py",
    "process/child_command.py",
    "remote/handler.py",
    "runtime/admission.py",
    "app/reload.py",
    "app/adapters.py",
    "app/agent.py",
    "runtime/command_handler.py",
    "cloud/signature_check.py",
    "cloud/link.py",
    "mqtt/connection.py",
    "mqtt/credentials.py",
    "mqtt/packets.py",
    "mqtt/tpm_provider.py",
    "journal/volatile.py",
    "drivers/bus.py",
    "drivers/tty.py",
    "config/changes.py",
    "config/technicians.py",
    "journal/configurations.py",
    "console/bus_api.py",
    "console/diagnose_api.py",
    "console/restore_api.py",
    "console/signal_api.py",
    "field/signals.py",
    "runtime/local_requests.py",
    "service/recording.py",
    "errors.py",
    "config/load.py",
    "config/wiring.py",
    "config/sections.py",
    "config/modes.py",
    "config/storage.py",
    "config/credentials.py",
    "config/readers.py",
    "config/vectors.py",
    "config/screen.py",
    "drivers/measuring.py",
    "drivers/profile_writes.py",
    "drivers/profiles.py",
    "protocol/broker.py",
    "validation_findings.py",
)
"""Where the daemon's texts for technicians are made, below `edge_agent`."""
OTHER_SOURCES = ("invariants", "transitions")
"""Modules among them without such texts (a daemon ends with the former), or with tables of their own."""
NOT_SHOWN = frozenset(
    {
        "{0} of {1}",
        "{0}/{1}/scale zero",
        "scale zero",
        "is {0}",
        "{0} frames passed too quickly to be shown",
        "{0} cells",
        "{0} reservations",
        "{0} alarms",
        "broker {0}",
        "bus {0} down",
        "journal cannot be written",
        "applying a new configuration",
        "uid {0}",
        "effect {0}",
        "{0} (code {1})",
        "bus {0}",
        "poller of {0}",
        "stop signal",
        "change of configuration",
        "failure of a bus",
        "locker loop",
        "disk check",
        "commissioning mark",
        "device settings check",
        "broker link",
        "local API check",
        "poller of a bus",
        "challenge renewal",
        "trial of remote settings",
        "certificate renewal",
        "retention",
        "{0} (key {1})",
        "service commands",
        "service command {0}",
        "reports on service commands",
        "local API",
        "metrics server",
        "screen feed",
        "screen server",
        "console check",
        "upgrading the journal",
        "link's thread",
        "link's thread, connecting",
        "the library's thread died",
        "_ALERT_(\\w+)|alert ([a-z ]+)",
        "wall_s, after_sequence, how, actor, origin, digest, changes",
        "another one",
        "seconds: {0}",
        "credential {0}",
        'name = "{0}"',
        'request = "{0}"',
        'reply = "{0}"',
        "values = [{0}]",
        "Value error, ",
        "Assertion failed, ",
        "one of ",
        "could not load the shared library",
        "Could not read",
        r"^ {2}tpm2\n(?: {4}.*\n)*? {4}version: (\d+)\.(\d+)(\S*)$",
        "setpoint_c - band_c",
        "setpoint_c + band_c",
    }
)
"""Texts of these modules that no command shows, or that fit too many sentences."""
STATEMENTS = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ")
"""How texts begin that are for the database."""
DAEMON_WORDS = (
    "Is a directory",
    "Connection refused",
    "File exists",
    "No space left on device",
    "Not a directory",
    "Read-only file system",
    "No such file or directory",
    "Permission denied",
    "contact",
    "alarm",
    "alarms",
    "answers",
    "broker",
    "bus",
    "cell",
    "clock",
    "daemon",
    "device",
    "disk",
    "door",
    "doors",
    "filesystem",
    "heater",
    "heaters",
    "journal",
    "lock",
    "locks",
    "scale",
    "scales",
    "silent",
    "synchronised",
    "temperature",
    "thermometers",
)
"""Single words of the daemon that are shown."""
MARKS = {"_", "marked", "plural"}


@dataclass(frozen=True, slots=True)
class Message:
    """A text to translate. `place`: where it stands first."""

    text: str
    plural: str | None = None
    context: str | None = None
    place: str = ""

    @property
    def key(self) -> tuple[str | None, str]:
        """What it is found by."""
        return self.context, self.text


def messages() -> list[Message]:
    """Every message once, in the order of the sources."""
    found: dict[tuple[str | None, str], Message] = {}
    for one in [*_marked(), *_help(), *_explained(), *_of_daemon()]:
        before = found.setdefault(one.key, one)
        if before.plural is None and one.plural is not None:
            found[one.key] = one
    return list(found.values())


def _trees(paths: Iterator[Path]) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(paths):
        yield str(path.relative_to(REPOSITORY)), ast.parse(path.read_text(encoding="utf-8"))


def _marked() -> Iterator[Message]:
    """Raises `ValueError` for a marked text that is no literal."""
    for place, tree in _trees(COMMANDS.rglob("*.py")):
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS):
                continue
            count = 2 if node.func.id == "plural" else 1
            texts = [_literal(argument) for argument in node.args[:count]]
            if None not in texts:
                yield Message(texts[0] or "", texts[1] if count == 2 else None, None, place)
            elif isinstance(node.args[0], ast.JoinedStr):
                raise ValueError(f"{place}:{node.lineno}: an f-string cannot be translated")


def _help() -> Iterator[Message]:
    """What `--help` shows, from the docstrings and options of the commands; the errors of both parsers."""
    yield from (Message(text, place="edge_agent/cli, help") for text in help_texts(get_command(app)))
    yield from (Message(text, context=DAEMON, place="typer") for text in USAGE_ERRORS)
    for parser in (run_parser(), kiosk_parser()):
        yield from (Message(text, place="edge_agent/__main__.py, help") for text in texts_of(parser))
    plain = (*plain_parser.USAGE_ERRORS, NO_PIPE)
    yield from (Message(text, context=DAEMON, place="argparse") for text in plain)


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _explained() -> Iterator[Message]:
    place = "edge_agent/cli/explain"
    for text in ALARMS.values():
        for part in (text.cause, text.machine, text.do, text.ends, text.note):
            if part:
                yield Message(joined(part), place=place)
    for code in CODES.values():
        yield from (Message(joined(part), place=place) for part in (code.means, code.do))
    words = (STATUSES, RESERVATIONS, OUTCOMES, EVENTS, LOCAL_EVENTS)
    for word in [word for table in words for word in table.values()]:
        yield from (Message(joined(part), place=place) for part in (word.means, word.do))


def _of_daemon() -> Iterator[Message]:
    root = REPOSITORY / "edge_agent"
    yield from (Message(word, context=DAEMON) for word in DAEMON_WORDS)
    for pattern in DAEMON_SOURCES:
        for place, tree in _trees(root.glob(pattern)):
            if Path(place).stem in OTHER_SOURCES:
                continue
            for text in _sentences(tree):
                if text not in NOT_SHOWN and not text.startswith(STATEMENTS):
                    yield Message(text, context=DAEMON, place=place)
    yield from (Message(text, context=DAEMON, place="transitions") for text in _table_reasons())
    yield from (Message(text, context=DAEMON, place="modbus") for text in EXCEPTIONS.values())
    for profile in sorted((REPOSITORY / "config" / "devices").glob("*.toml")):
        for check in tomllib.loads(profile.read_text(encoding="utf-8")).get("checks", []):
            for text in (check["name"], check["why"]):
                yield Message(text, context=DAEMON, place=f"config/devices/{profile.name}")


def _table_reasons() -> Iterator[str]:
    """Why the core's tables refuse a command."""
    for entry in TABLE.values():
        if isinstance(entry, Refused):
            yield entry.why
    yield from (*WHY_NOT.values(), *CellGuard)
    for cell_entry in (*CELL_TABLE.values(), *FLAG_TABLE.values()):
        if isinstance(cell_entry, Refused):
            yield cell_entry.why


def _sentences(tree: ast.Module) -> Iterator[str]:
    """Texts of more than one word, in the order of the source: no docstrings, nothing that is logged."""
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in left_out or _is_left_out(node):
            left_out |= {id(child) for child in ast.iter_child_nodes(node)}
            continue
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(part) for part in node.values if isinstance(part, ast.Constant)}
            text: str | None = template(node)
        else:
            text = _literal(node) if isinstance(node, ast.Constant) else None
        if text is not None and re.search(r"[a-z]{2,}\W* +\S|\S +[a-z]{2,}", text):
            yield text


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
    return isinstance(node, ast.Assert)


def template(node: ast.JoinedStr) -> str:
    """An f-string with numbered holes."""
    parts, number = [], 0
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value).replace("{", "{{").replace("}", "}}"))
        else:
            parts.append(f"{{{number}}}")
            number += 1
    return "".join(parts)
