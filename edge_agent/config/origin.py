"""Who made a configuration file: `edge-agent init` names itself in the first line."""

from __future__ import annotations

import re
from pathlib import Path

_HEAD = re.compile(r"# Written by `edge-agent init` at (\S{1,40}) by ([^\s]{1,64})$")


def head(at: str, actor: str) -> str:
    """The first line of a file that `edge-agent init` writes at an RFC 3339 time in the name of a user."""
    return f"# Written by `edge-agent init` at {at} by {actor}"


def made_by_init(path: Path) -> tuple[str, str] | None:
    """When and by whom a file was written by `edge-agent init`; None if it was not, or cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            found = _HEAD.fullmatch(file.readline(200).rstrip("\n"))
    except OSError:
        return None
    return None if found is None else (found[1], found[2])
