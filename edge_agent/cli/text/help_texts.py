"""Help and usage errors of the commands, in plain words and in the language of the locale.

typer makes both: the help from docstrings and options, the errors in English and partly in the words of its
validation. Here the finished command tree and each error get the words that are shown; typer's own constants
(`typer.rich_utils`) are set before a command runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import MethodType
from typing import Any

from typer import rich_utils
from typer.core import TyperGroup

from edge_agent.cli.text.language import _, from_daemon, marked

OWN_HELP = marked("Show this message and exit.")
PANELS = {
    "ARGUMENTS_PANEL_TITLE": marked("Arguments"),
    "OPTIONS_PANEL_TITLE": marked("Options"),
    "COMMANDS_PANEL_TITLE": marked("Commands"),
    "ERRORS_PANEL_TITLE": marked("Error"),
    "ABORTED_TEXT": marked("Aborted."),
    "DEFAULT_STRING": marked("[default: {}]"),
    "ENVVAR_STRING": marked("[env var: {}]"),
    "REQUIRED_LONG_STRING": marked("[required]"),
    "RICH_HELP": marked("Try [blue]'{command_path} {help_option}'[/] for help."),
}
"""typer's texts, by their names in `typer.rich_utils`."""
FORMAT_ERROR = "rich_format_error"
"""The function of `typer.rich_utils` that shows an error."""
USAGE = marked("Usage: ")
PLACES = {
    "[OPTIONS]": marked("[OPTIONS]"),
    "COMMAND [ARGS]...": marked("COMMAND [ARGS]..."),
}
"""What stands for options and commands in a line of usage."""
VALUES = {str: "TEXT", int: "N", float: "N", Path: "FILE"}
"""What stands for the value of an option that does not say it; an option without one has no value."""
USAGE_ERRORS = (
    "Missing argument {0}.",
    "Missing option {0}.",
    "Missing parameter: {0}",
    "Missing command.",
    "No such command {0}.",
    "No such command {0}. Did you mean {1}?",
    "No such option: {0}",
    "No such option: {0} (Possible options: {1})",
    "No such option: {0} Did you mean {1}?",
    "Option {0} requires an argument.",
    "Option {0} requires {1} arguments.",
    "Option {0} does not take a value.",
    "Argument {0} takes {1} values.",
    "Got unexpected extra argument(s) ({0})",
    "Invalid value: {0}",
    "Invalid value for {0}: {1}",
    "Could not open file {0}: {1}",
    "{0} is not one of {1}.",
)
"""Errors of typer, as templates; they are translated like texts of the daemon."""
_PLAIN = (
    (re.compile(r"Value error, "), ""),
    (re.compile(r", unable to (?:parse|interpret)[^:]*$"), ""),
    (re.compile(r"Input should be a valid integer"), "must be a whole number"),
    (re.compile(r"Input should be a valid number"), "must be a number"),
    (re.compile(r"Input should be a valid boolean"), "must be true or false"),
    (re.compile(r"Input should be greater than or equal to "), "must be at least "),
    (re.compile(r"Input should be less than or equal to "), "must be at most "),
    (re.compile(r"Input should be greater than "), "must be more than "),
    (re.compile(r"Input should be less than "), "must be less than "),
    (re.compile(r"Input should be "), "must be "),
)


def paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a help text, each on one line."""
    return [" ".join(part.split()) for part in (text or "").split("\n\n") if part.strip()]


def help_texts(command: Any) -> Iterator[str]:
    """Every text of a command and of those below it that its help shows."""
    yield from paragraphs(command.help)
    for parameter in command.params:
        yield from paragraphs(getattr(parameter, "help", None))
    for below in getattr(command, "commands", {}).values():
        panel = getattr(below, "rich_help_panel", None)
        yield from [panel] if isinstance(panel, str) else []
        yield from help_texts(below)


def plain(message: str) -> str:
    """An error of typer without the words of its validation."""
    for pattern, words in _PLAIN:
        message = pattern.sub(words, message)
    return message


def _put(command: Any) -> None:
    """The help texts of a command, and of those below it, in the language of the locale."""
    command.help = "\n\n".join(map(_, paragraphs(command.help)))
    command.format_usage = MethodType(_format_usage, command)
    command.get_help_option = MethodType(_help_option, command)
    for parameter in command.params:
        _put_values(parameter)
        if getattr(parameter, "help", None):
            parameter.help = "\n\n".join(map(_, paragraphs(parameter.help)))
    for below in getattr(command, "commands", {}).values():
        if isinstance(getattr(below, "rich_help_panel", None), str):
            below.rich_help_panel = _(below.rich_help_panel)
        below.short_help = None
        _put(below)


def _help_option(command: Any, context: Any) -> Any:
    option = type(command).get_help_option(command, context)
    if option is not None:
        option.help = _(OWN_HELP)
        _put_values(option)
    return option


def _put_values(parameter: Any) -> None:
    """Usual words for the value of a parameter, instead of the names of Python's types."""
    parameter.display_type_rich = MethodType(_value, parameter)
    parameter._get_number_range_help_str = MethodType(_range, parameter)
    if hasattr(parameter, "_usage_display_name"):
        parameter._usage_display_name = MethodType(_name_in_usage, parameter)


def _value(parameter: Any, ctx: Any) -> str | None:
    """What stands beside the name of an option; nothing beside a flag or an argument."""
    if parameter.param_type_name == "argument" or getattr(parameter, "is_flag", False):
        return None
    if parameter.metavar is not None:
        return str(parameter.metavar)
    kind = parameter.type_descriptor
    if kind.is_choice:
        return "|".join(str(getattr(choice, "value", choice)) for choice in kind.choices or ())
    return VALUES.get(kind.annotation, VALUES[str])


def _range(parameter: Any) -> str | None:
    """The bounds of a number."""
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if least is None and most is None:
        return None
    if most is None:
        return _("at least {least}", least=least)
    return _("at most {most}", most=most) if least is None else _("{least} to {most}", least=least, most=most)


def _name_in_usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    shown = name if argument.required else f"[{name}]"
    return shown if argument.nargs == 1 else f"{shown}..."


def _format_usage(command: Any, context: Any, formatter: Any) -> None:
    pieces = [_(PLACES.get(piece, piece)) for piece in command.collect_usage_pieces(context)]
    formatter.write_usage(context.command_path, " ".join(pieces), prefix=_(USAGE))


class LocalGroup(TyperGroup):
    """The group of all commands; what it shows is in the language of the locale."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """See `typer.core.TyperGroup.main`."""
        for name, text in PANELS.items():
            setattr(rich_utils, name, _(text))
        setattr(rich_utils, FORMAT_ERROR, _format_local_error)
        _put(self)
        return super().main(*arguments, **options)


class _LocalError:
    """An error of typer with the message that is shown."""

    def __init__(self, error: Any) -> None:
        self.ctx = getattr(error, "ctx", None)
        self._said: str = error.format_message()

    def format_message(self) -> str:
        """What typer shows."""
        return from_daemon(plain(self._said))


_format_error: Any = rich_utils.rich_format_error


def _format_local_error(error: Any) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":  # its help is printed already
        return
    _format_error(_LocalError(error))
