"""Reads gettext's `.po` files and makes of them, in memory, what `gettext.GNUTranslations` reads (`.mo`)."""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

MAGIC = 0x950412DE
HEAD = 7 * 4


@dataclass(slots=True)
class Entry:
    """One message. `translations` has one text, or one for each plural form; the first entry of a file, with
    an empty `text`, is its header."""

    text: str = ""
    plural: str | None = None
    context: str | None = None
    translations: list[str] = field(default_factory=list)
    flags: str = ""

    @property
    def key(self) -> str:
        """What `.mo` files find it by."""
        whole = self.text if self.plural is None else f"{self.text}\0{self.plural}"
        return whole if self.context is None else f"{self.context}\x04{whole}"


def read_po(source: str) -> list[Entry]:
    """The entries of a file. Raises `ValueError` with the number of a line that is no `.po`."""
    entries: list[Entry] = []
    keyword = ""
    entry: Entry | None = None
    for number, raw in enumerate(source.splitlines(), 1):
        line = raw.strip()
        if not line:
            entry = None
            continue
        if entry is None:
            entry = Entry()
            entries.append(entry)
        if line.startswith("#"):
            entry.flags += line[2:] if line.startswith("#,") else ""
            continue
        if not line.startswith('"'):
            keyword, _, line = line.partition(" ")
        try:
            _put(entry, keyword, str(ast.literal_eval(line)), continued=raw.strip().startswith('"'))
        except (SyntaxError, ValueError):
            raise ValueError(f"line {number}: {raw!r}") from None
    return [entry for entry in entries if entry.translations]


def _put(entry: Entry, keyword: str, text: str, *, continued: bool) -> None:
    if keyword == "msgid":
        entry.text = entry.text + text
    elif keyword == "msgid_plural":
        entry.plural = (entry.plural or "") + text
    elif keyword == "msgctxt":
        entry.context = (entry.context or "") + text
    elif keyword.startswith("msgstr"):
        if continued:
            entry.translations[-1] += text
        else:
            entry.translations.append(text)
    else:
        raise ValueError(keyword)


def as_mo(entries: Iterable[Entry]) -> bytes:
    """The compiled form: two tables of lengths and places, then the texts, each with a zero byte after it."""
    pairs = sorted((one.key.encode(), "\0".join(one.translations).encode()) for one in entries)
    keys_at, values_at = HEAD, HEAD + 8 * len(pairs)
    at = HEAD + 16 * len(pairs)
    tables, texts = b"", b""
    for text in [key for key, _ in pairs] + [value for _, value in pairs]:
        tables += struct.pack("<II", len(text), at + len(texts))
        texts += text + b"\0"
    head = struct.pack("<7I", MAGIC, 0, len(pairs), keys_at, values_at, 0, 0)
    return head + tables + texts
