"""A file of the gateway that is read again when it changes: API keys, users of the operators' pages."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from cloud_gateway.logs import log
from edge_agent.errors import ConfigError, Finding

LOOK_PAUSE_S = 1.0
"""Pause between two checks whether the file has changed."""
Content = TypeVar("Content")


class WatchedFile(Generic[Content]):
    """The content of a file as it was when it could last be used. One that cannot be used is logged, and
    changes nothing."""

    def __init__(self, path: Path | None, read: Callable[[Path], Content], empty: Content) -> None:
        """`path` None: there is no file, and `empty` is the content. Raises `ConfigError` as `read` does."""
        self._path = path
        self._read = read
        self._version = _version(path)
        self.content = empty if path is None else read(path)

    async def run(self) -> None:
        """Reads the file again whenever it has changed, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_PAUSE_S)
            self.look()

    def look(self) -> None:
        """Reads the file if it has changed."""
        version = _version(self._path)
        if self._path is None or version == self._version:
            return
        self._version = version
        try:
            self.content = self._read(self._path)
        except ConfigError as error:
            findings = [str(finding) for finding in error.findings]
            log().error("file_refused", file=self._path.name, findings=findings)
            return
        log().info("file_read", file=self._path.name)


def read_toml(path: Path) -> dict[str, Any]:
    """The values in a TOML file. Raises `ConfigError` if it cannot be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError([Finding("", f"{path}: {error.strerror}")]) from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number too long, nested too deep
        raise ConfigError([Finding("", f"{path}: {error}")]) from None


def _version(path: Path | None) -> tuple[int, int, int] | None:
    """What changes with the file; None if there is none."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)


def replace_file(path: Path, text: str) -> None:
    """Replaces a file as a whole, with the owner and the rights that it had; a new one is for its owner and
    group only. Nobody else can read it meanwhile, and a power cut leaves the old one or the new one. Raises
    `ConfigError` if that fails."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o640)
        if path.exists():
            before = path.stat()
            os.chown(draft, before.st_uid, before.st_gid)
            draft.chmod(before.st_mode & 0o777)
        draft.replace(path)
    except OSError as error:
        raise ConfigError([Finding("", f"{error.strerror}")]) from None
