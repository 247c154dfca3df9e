"""The languages of the commands: what a technician reads is English, German or Indonesian, by the locale.

JSON, logs, codes, names of alarms, events, commands, options and keys are the same in each of them. The
messages stand in `edge_agent/cli/messages`, one `.po` for each language; it is read when the first text is
shown in that language. The daemon never imports this module.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from importlib import resources

from edge_agent.cli.text.po import as_mo, read_po

SOURCE = "en"
LANGUAGES = (SOURCE, "de", "id")
DAEMON = "daemon"
"""The context (msgctxt) of texts that the daemon makes: refusals, findings, next steps."""
LITERAL = 8
"""A template with fewer characters of its own fits any sentence: a sentence in it has to be a message."""
_JOINT = re.compile(r"(?<=.)[;,] ")
_HOLE = re.compile(r"\{(\d+)\}")


def chosen(environment: Mapping[str, str]) -> str:
    """The language of the locale, as gettext chooses it: LC_ALL, LC_MESSAGES or LANG; where that is not C,
    the list in LANGUAGE goes before it."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "C")
    if locale.partition(".")[0] in ("C", "POSIX"):
        return SOURCE
    for one in [*environment.get("LANGUAGE", "").split(":"), locale]:
        code = re.split(r"[_.@-]", one)[0].lower()
        if code in LANGUAGES:
            return code
    return SOURCE


_forced: ContextVar[str | None] = ContextVar("forced", default=None)


@contextmanager
def in_language(name: str) -> Iterator[None]:
    """Texts that are made inside are in this language whatever the locale."""
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def in_english() -> AbstractContextManager[None]:
    """Texts that are made inside are English whatever the locale: for JSON and for files."""
    return in_language(SOURCE)


def language() -> str:
    """The language of the texts that are made now."""
    return _forced.get() or chosen(os.environ)


def _(text: str, /, **values: object) -> str:
    """A text in the language of the locale, with `{names}` filled in."""
    found = _catalog(language()).gettext(text)
    return found.format(**values) if values else found


def plural(one: str, many: str, number: int, /, **values: object) -> str:
    """`one` or `many` by the rules of the language; `{number}` is filled in."""
    found = _catalog(language()).ngettext(one, many, number)
    return found.format(number=number, **values)


def marked(text: str) -> str:
    """Marks a text that is translated where it is shown."""
    return text


def from_daemon(text: str) -> str:
    """A text that the daemon has made, in the language of the locale; as it is where no message fits."""
    now = language()
    return text if now == SOURCE or not text else _from_daemon(now, text)


@lru_cache(maxsize=256)
def _from_daemon(name: str, text: str) -> str:
    whole = _whole(name, text)
    if whole is not None:
        return whole
    for found in _JOINT.finditer(text):
        head, joint, rest = text[: found.start()], found[0], text[found.end() :]
        tail = _whole(name, joint + rest)  # a message, and what the daemon adds to it
        if tail is None and (two := _whole(name, rest)) is not None:  # two messages
            tail = joint + two
        if tail is not None:
            return _from_daemon(name, head) + tail
    head, colon, rest = text.partition(": ")
    if not colon:
        return text
    before = _whole(name, head + colon) or _from_daemon(name, head) + colon
    return before + _from_daemon(name, rest)


def _whole(name: str, text: str) -> str | None:
    """The translation of a text that is one message; None if it is none."""
    catalog = _catalog(name)
    exact = catalog.pgettext(DAEMON, text)
    if exact != text:
        return exact
    for template in _templates(name):
        values = template.values(text)
        if values is not None:
            shown = [_from_daemon(name, value) for value in values]
            unknown = any(" " in one for one in values) and shown == values
            if unknown and template.literal < LITERAL:
                continue
            return catalog.pgettext(DAEMON, template.text).format(*shown)
    return None


@lru_cache
def _catalog(name: str) -> NullTranslations:
    if name == SOURCE:
        return NullTranslations()
    return GNUTranslations(io.BytesIO(as_mo(read_po(source_of(name)))))


def source_of(name: str) -> str:
    """The `.po` of a language."""
    return (resources.files("edge_agent.cli") / "messages" / f"{name}.po").read_text(encoding="utf-8")


class _Template:
    """A message with numbered holes, such as `no such cell: {0}`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._numbers = [int(number) for number in _HOLE.findall(text)]
        self._parts = _HOLE.split(text)[::2]
        self.literal = sum(map(len, self._parts))
        self._longest = max(self._parts, key=len)
        self._pattern: re.Pattern[str] | None = None

    def values(self, text: str) -> list[str] | None:
        """What stands in the holes of a text; None if it is not made by this template."""
        if self._longest not in text:
            return None
        if self._pattern is None:
            self._pattern = re.compile("(.*?)".join(map(re.escape, self._parts)), re.DOTALL)
        match = self._pattern.fullmatch(text)
        if match is None:
            return None
        found = dict(zip(self._numbers, match.groups(), strict=True))
        return [found[number] for number in sorted(found)]


@lru_cache
def _templates(name: str) -> list[_Template]:
    """Those with the most literal text first: they fit the fewest other texts."""
    entries = read_po(source_of(name))
    found = [_Template(one.text) for one in entries if one.context == DAEMON and _HOLE.search(one.text)]
    return sorted(found, key=lambda template: -template.literal)
