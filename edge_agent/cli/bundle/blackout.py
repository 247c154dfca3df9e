"""What must not leave the kiosk is blacked out: codes, QR texts, PINs, passwords, keys, secret addresses.

Nothing of it should be in what is collected; this is the second lock on that door.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

BLACK = "█████"

_SECRET_NAME = (
    r"[\w-]*(?:password|passwd|passphrase|secret|token|credential|private[_-]?key|api[_-]?key"
    r"|drop_off_code|pickup_code|qrcode|authorization)[\w-]*|(?:[\w-]*[_-])?pin|notes"
)
_VALUE = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;}\]]+"
_SCHEME, _LOGIN, _HOST = r"\b([a-z][a-z0-9+.-]*://)", r"(?:[^\s/@\"']*@)", r"([^\s/?#\"'<>]+)"
_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL), BLACK),
    (re.compile(r"DLV-(?:DROP|PICK)-[A-Za-z0-9_]{1,128}-[0-9]{1,9}"), BLACK),
    (re.compile(r"\$?scrypt\$[^\s\"']+"), BLACK),
    # Of an address who logs in and what stands behind the host may be a secret.
    (
        re.compile(r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/@\"']*@)?([^\s/?#\"'<>]+)[/?#][^\s\"'<>]*"),
        rf"\1\2/{BLACK}",
    ),
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/@\"']*@([^\s/?#\"'<>]+)"), rf"\1{BLACK}@\2"),
    (
        re.compile(rf"(?<![\w-])([\"']?(?:{_SECRET_NAME})[\"']?\s*[=:]\s*)(?:{_VALUE})", re.IGNORECASE),
        lambda found: f'{found[1]}"{BLACK}"',
    ),
)
_NAMES = re.compile(rf"(?:{_SECRET_NAME}|webhook_url)", re.IGNORECASE)
_PLACES = re.compile(r".*_(?:file|path)$", re.IGNORECASE)
"""Where a secret lies is no secret, and what support asks for first."""


def text(raw: str) -> str:
    """A text (log, command output) without secrets."""
    for pattern, instead in _RULES:
        raw = pattern.sub(instead, raw)
    return raw


def value(raw: Any, name: str = "") -> Any:
    """A value as JSON or TOML has it without secrets: by the names of keys, then by what texts hold."""
    if isinstance(raw, dict):
        return {key: value(one, key) for key, one in raw.items()}
    if isinstance(raw, list | tuple):
        return [value(one, name) for one in raw]
    if raw is not None and _NAMES.fullmatch(name) and not _PLACES.fullmatch(name):
        return BLACK
    return text(raw) if isinstance(raw, str) else raw
