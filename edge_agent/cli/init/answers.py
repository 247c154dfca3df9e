"""Where the answers come from: an option, a file, or somebody at a terminal."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import typer

from edge_agent.cli.daemon import file_problem, problems
from edge_agent.cli.init import words
from edge_agent.cli.text.language import _
from edge_agent.cli.text.lines import prompt

T = TypeVar("T")
BACK = ("<", "back")
"""Answers that lead back to the previous question."""
KEYS = (
    "machine_id",
    "name",
    "place",
    "latitude",
    "longitude",
    "broker",
    "tls",
    "broker_port",
    "ca_file",
    "cert_file",
    "key_file",
    "ports",
    "protocols",
    "bauds",
    "parities",
    "last",
    "devices",
    "contacts",
    "closed_level",
    "sizes",
    "cell_sizes",
    "scales",
    "thermometers",
    "climate",
    "signals",
    "scanner",
    "keypad",
    "card_reader",
)
"""What may stand in a file of answers; the options have the same names with hyphens."""
NEEDED = ("machine_id", "latitude", "longitude", "broker", "closed_level")
"""Answers without a usable default: without a terminal they have to be given."""


class BadAnswer(Exception):
    """An answer cannot be used. Says which and why."""


class Back(Exception):
    """The previous question is wanted again."""


class Missing(Exception):
    """Answers are missing, and nobody is there to be asked. Says which."""


def read_answers(path: Path) -> dict[str, str]:
    """The answers of a TOML file, each as somebody would have typed it. Raises `BadAnswer`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadAnswer(file_problem(path, error)) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadAnswer(_("{file}: not TOML: {error}", file=path, error=error)) from None
    unknown = sorted(set(document) - set(KEYS))
    if unknown:
        strange, known = ", ".join(unknown), ", ".join(KEYS)
        text = _(
            "{file}: unknown keys: {unknown}; known keys: {known}", file=path, unknown=strange, known=known
        )
        raise BadAnswer(text)
    return {key: _typed(path, key, value) for key, value in document.items()}


def _typed(path: Path, key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        return ", ".join(str(one) for one in value)
    if isinstance(value, str | int | float):
        return str(value)
    text = _("{file}: {key}: must be a text, a number, true or false, or a list of these", file=path, key=key)
    raise BadAnswer(text)


def is_interactive() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class Interview:
    """Asks what was not answered beforehand.

    The questions are asked in one run from the first to the last. After `Back` the run is repeated, and what
    was typed before is not asked again: so it comes to the question that was taken back.
    """

    def __init__(self, given: Mapping[str, str], *, somebody: bool) -> None:
        self.somebody = somebody
        self._given = given
        self._typed: dict[str, str] = {}
        self._before: dict[str, str] = {}

    def check(self) -> None:
        """Raises `Missing` where answers are needed and nobody is there who could give them."""
        lacking = [key for key in NEEDED if key not in self._given]
        if lacking and not self.somebody:
            options = ", ".join(f"--{key.replace('_', '-')}" for key in lacking)
            raise Missing(
                _(
                    "no terminal; these answers are missing: {keys} ({options}, or --answers FILE)",
                    keys=", ".join(lacking),
                    options=options,
                )
            )

    def answered(self, key: str) -> bool:
        """Whether an answer is there, or somebody who can be asked."""
        return self.somebody or key in self._given

    def ask(self, key: str, text: str, default: str, parse: Callable[[str], T]) -> T:
        """The answer to one question. Raises `BadAnswer` if the one that was given as an option or in the
        file is invalid, and `Back`."""
        if key in self._given or not self.somebody:
            try:
                return parse(self._given.get(key, default))
            except ValueError as problem:
                raise BadAnswer(f"{key}: {problem}") from None
        if key in self._typed:
            try:
                return parse(self._typed[key])
            except ValueError:  # another answer before it allows this one no more
                self._forget_from(key)
        default = self._before.get(key, default)
        while True:
            answer = self._prompt(text, default)
            try:
                value = parse(answer)
            except ValueError as problem:
                self._complain(f"{key}: {problem}")
                continue
            if answer != self._before.pop(key, answer):
                self._before.clear()  # the defaults of later questions may depend on it
            self._typed[key] = answer
            return value

    def step_back(self) -> None:
        """Takes the last answer back; it becomes the default of its question."""
        if self._typed:
            key, answer = self._typed.popitem()
            self._before[key] = answer
        else:
            self._complain(_("this is the first question"))

    def _forget_from(self, key: str) -> None:
        keys = list(self._typed)
        for later in keys[keys.index(key) :]:
            del self._typed[later]

    def sure(self, text: str) -> bool:
        """Asks for confirmation; True without a terminal. Raises `Back`."""
        while self.somebody:
            try:
                return words.yes(self._prompt(text, _("yes")))
            except ValueError as problem:
                self._complain(str(problem))
        return True

    def _prompt(self, text: str, default: str) -> str:
        question = prompt(f"{text} [{default}]", problems)
        answer: str = typer.prompt(question, default=default, show_default=False, err=True)
        if answer.strip().lower() in BACK:
            raise Back
        return answer

    @staticmethod
    def _complain(what: str) -> None:
        problems.print(what, style="red", highlight=False, markup=False, soft_wrap=True)
