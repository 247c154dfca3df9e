"""Help and usage errors of `run` and `kiosk-browser`, in the language of the locale.

These two are read by argparse, so that a service imports no library of the commands; this module is imported
only when there is something to show.
"""

from __future__ import annotations

import argparse

from edge_agent.cli.text.language import _, from_daemon

USAGE_ERRORS = (
    "the following arguments are required: {0}",
    "unrecognized arguments: {0}",
    "argument {0}: expected one argument",
    "argument {0}: ignored explicit argument {1}",
)
"""Errors of argparse, as templates; they are translated like texts of the daemon."""


def texts_of(parser: argparse.ArgumentParser) -> list[str]:
    """Every text of a parser that its help shows."""
    return [parser.description or "", *(action.help or "" for action in parser._actions)]


def help_of(parser: argparse.ArgumentParser) -> str:
    """The help of a parser."""
    formatter = _usage(parser)
    formatter.add_text(_(parser.description or ""))
    for title, group in ((_("Arguments"), parser._positionals), (_("Options"), parser._optionals)):
        for action in group._group_actions:
            action.help = _(action.help or "")
        formatter.start_section(title)
        formatter.add_arguments(group._group_actions)
        formatter.end_section()
    return formatter.format_help()


def error_of(parser: argparse.ArgumentParser, message: str) -> str:
    """A usage error: the usage, then what is wrong."""
    formatter = _usage(parser)
    formatter.add_text(f"{_('Error')}: {from_daemon(message)}")
    return formatter.format_help()


def _usage(parser: argparse.ArgumentParser) -> argparse.HelpFormatter:
    formatter = parser._get_formatter()
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, _("Usage: "))
    return formatter
