"""Writes the configuration: whole or not at all, and only if it is valid."""

from __future__ import annotations

import grp
import os
import tempfile
from pathlib import Path

from edge_agent.cli.text.language import _
from edge_agent.config import Settings, load_settings

MODE = 0o640
GROUP = "edge-agent"
"""The service's; it has to read what root has written."""


def obstacle(path: Path, *, force: bool) -> str | None:
    """Why the file cannot be written; None if it can."""
    folder = path.parent
    if not folder.is_dir():
        return _("{folder}: no such directory", folder=folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        return _("{folder}: cannot be written to; be root (sudo), or choose another --output", folder=folder)
    if path.is_dir():
        return _("{file}: is a directory", file=path)
    if force or not os.path.lexists(path):
        return None
    return _("{file}: is there already; --force replaces it", file=path)


def put(path: Path, text: str, *, force: bool) -> Settings:
    """Writes the file and returns what it says. An interrupted call leaves nothing behind.

    Raises `ConfigError` (and leaves what was there) where it does not fit together, `FileExistsError`,
    `OSError`.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), MODE)
            _for_the_service(file.fileno())
            os.fsync(file.fileno())
        settings = load_settings(Path(name))
        if force:
            os.replace(name, path)
        else:
            os.link(name, path)  # fails where something has come in between
    finally:
        if os.path.lexists(name):
            os.unlink(name)
    _sync(path.parent)
    return settings


def _for_the_service(descriptor: int) -> None:
    if os.geteuid() != 0:
        return
    try:
        os.fchown(descriptor, 0, grp.getgrnam(GROUP).gr_gid)
    except KeyError:
        return  # no package is installed here


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
