"""Blacks out what must not leave the kiosk: codes, QR texts, PINs, passwords, keys, secret addresses.

The collected files should hold none of it anyway; this is a second safeguard.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

BLACK = "█████"

_SECRET_NAME = (
    r"[\w-]*(?:password|passwd|passphrase|passcode|secret|token|credential|private[_-]?key|api[_-]?key"
    r"|drop_off_code|pickup_code|qrcode|authorization)[\w-]*|(?:[\w-]*[_-])?(?:pin|pass|pwd)|notes"
)
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_IS = r"\\*[\"']?\s*[=:]>?\s*"
"""Between a name and its value; the quotes of JSON within JSON are escaped."""
_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL), BLACK),
    (re.compile(r"DLV-(?:DROP|PICK)-[A-Za-z0-9_]{1,128}-[0-9]{1,9}", re.IGNORECASE), BLACK),
    (re.compile(r"\$?scrypt\$[^\s\"']+"), BLACK),
    # In a URL the user information, and everything after the host, may be secret.
    (
        re.compile(
            r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/@\"']*@)?([^\s/?#\"'<>]+)[/?#][^\s\"'<>]*", re.IGNORECASE
        ),
        rf"\1\2/{BLACK}",
    ),
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^\s/@\"']*@([^\s/?#\"'<>]+)", re.IGNORECASE), rf"\1{BLACK}@\2"),
    # Values of several words: without quotes they end with the line.
    (
        re.compile(
            rf"(?<![\w-])([\"']?(?:[\w-]*authorization|notes){_IS})(?:{_QUOTED}|[^\n]+)", re.IGNORECASE
        ),
        lambda found: f'{found[1]}"{BLACK}"',
    ),
    (
        re.compile(rf"(?<![\w-])([\"']?(?:{_SECRET_NAME}){_IS})(?:{_QUOTED}|\S+)", re.IGNORECASE),
        lambda found: f'{found[1]}"{BLACK}"',
    ),
)
_NAMES = re.compile(rf"(?:{_SECRET_NAME}|webhook_url)", re.IGNORECASE)
_PLACES = re.compile(r".*_(?:file|path)$", re.IGNORECASE)
"""Paths of files are kept: they are no secret, and support needs them."""


def text(raw: str) -> str:
    """A text (log, command output) without secrets."""
    for pattern, instead in _RULES:
        raw = pattern.sub(instead, raw)
    return raw


def value(raw: Any, name: str = "") -> Any:
    """A JSON or TOML value without secrets: judged by the names of keys, then by the content of texts."""
    if raw is not None and _NAMES.fullmatch(name) and not _PLACES.fullmatch(name):
        return BLACK
    if isinstance(raw, dict):
        return {key: value(one, key) for key, one in raw.items()}
    if isinstance(raw, list | tuple):
        return [value(one, name) for one in raw]
    return text(raw) if isinstance(raw, str) else raw
