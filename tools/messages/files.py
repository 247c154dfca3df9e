"""Writes the message files: every message in the order of the sources, with the translation it has so far."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from edge_agent.cli.text.po import Entry, read_po
from tools.messages.extract import COMMANDS, Message, messages

FOLDER = COMMANDS / "messages"
HOLE = re.compile(r"\{[^{}]*\}")
CODE = re.compile(r"`[^`]+`")
Key = tuple[str | None, str]


def path_of(language: str) -> Path:
    """The file of a language."""
    return FOLDER / f"{language}.po"


def entries_of(source: str) -> dict[Key, Entry]:
    """The messages of a file, without its header."""
    return {(one.context, one.text): one for one in read_po(source) if one.text}


def updated(source: str) -> str:
    """A file with exactly the messages that there are; new ones have no translation yet. The head of the
    file, with its glossary, stays."""
    head = source.partition("\n\n")[0]
    known = entries_of(source)
    forms = forms_of(source)
    blocks = [_block(message, known.get(message.key), forms) for message in messages()]
    return "\n\n".join([head, *blocks]) + "\n"


def forms_of(source: str) -> int:
    """How many plural forms a language has. Raises `ValueError`."""
    found = re.search(r"nplurals=(\d)", source)
    if found is None:
        raise ValueError("the head names no number of plural forms")
    return int(found[1])


def _block(message: Message, entry: Entry | None, forms: int) -> str:
    kept = [] if entry is None or entry.plural != message.plural else entry.translations
    lines = [f"#: {message.place}"] if message.place else []
    lines += [f"msgctxt {quoted(message.context)}"] if message.context is not None else []
    lines.append(f"msgid {quoted(message.text)}")
    if message.plural is None:
        lines.append(f"msgstr {quoted(kept[0] if kept else '')}")
    else:
        lines.append(f"msgid_plural {quoted(message.plural)}")
        texts = kept or [""] * forms
        lines += [f"msgstr[{number}] {quoted(text)}" for number, text in enumerate(texts)]
    return "\n".join(lines)


def quoted(text: str) -> str:
    """A text as it stands in a file."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def faults(language: str, wanted: Iterable[Message], found: Mapping[Key, Entry], forms: int) -> list[str]:
    """What is wrong with a language: missing, stale, or with other holes or commands than the source."""
    keys = {message.key: message for message in wanted}
    wrong = [f"{language}: stale: {text!r}" for context, text in found if (context, text) not in keys]
    for key, message in keys.items():
        entry = found.get(key)
        if entry is None or not all(entry.translations):
            wrong.append(f"{language}: not translated: {message.text!r}")
            continue
        if len(entry.translations) != (1 if message.plural is None else forms):
            wrong.append(f"{language}: number of plural forms: {message.text!r}")
        for text in entry.translations:
            wrong += [f"{language}: {why}: {message.text!r}" for why in _differences(message.text, text)]
    return wrong


def _differences(text: str, translation: str) -> list[str]:
    found = []
    if set(HOLE.findall(text)) != set(HOLE.findall(translation)):
        found.append("other placeholders")
    if sorted(CODE.findall(text)) != sorted(CODE.findall(translation)):
        found.append("other commands or keys")
    ends = (len(text) - len(text.lstrip()), len(text) - len(text.rstrip()))
    if ends != (len(translation) - len(translation.lstrip()), len(translation) - len(translation.rstrip())):
        found.append("other blanks at the ends")
    return found
