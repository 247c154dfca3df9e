"""Permissions of the daemon's files: some of them hold codes and keys."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_agent.config.sections import Settings
from edge_agent.errors import Finding
from edge_agent.protocol.broker import OTHERS, secret_mask

UMASK = 0o077
"""The daemon's umask: no other user may read what it creates."""
OTHERS_WRITE, OTHERS_READ = 0o002, 0o004
COMPANIONS = ("", "-wal", "-shm", ".lock", ".reserve")
"""Endings of the journal's file names."""


def close_journal(settings: Settings) -> list[Finding]:
    """Makes the journal's files, which hold live codes, private to their owner. Returns what was open."""
    found = []
    for path, mode in _existing(_journal_files(settings)):
        if not mode & OTHERS:
            continue
        problem = f"{path} could be read by others (mode {mode:04o})"
        try:
            path.chmod(mode & ~OTHERS)
        except OSError as error:
            found.append(Finding("paths.journal", f"{problem}, and still can: {error.strerror}"))
        else:
            found.append(Finding("paths.journal", f"{problem}; it is {mode & ~OTHERS:04o} now"))
    return found


def mode_findings(settings: Settings, config: Path) -> list[Finding]:
    """What others may read or write and must not. Missing files are left out."""
    found = [
        Finding("paths.journal", f"{path} can be read by others (mode {mode:04o}); set it to 0600")
        for path, mode in _existing(_journal_files(settings))
        if mode & OTHERS
    ]
    for key, name in _secrets(settings):
        for path, mode in _existing([settings.path(name)]):
            if mode & secret_mask(path, os.environ):
                found.append(Finding(key, f"{path} can be read by others (mode {mode:04o}); set it to 0600"))
    for _, mode in _existing([config] if settings.credentials else []):
        if mode & OTHERS_READ:
            problem = f"{config} holds ids of credentials and can be read by any user (mode {mode:04o})"
            found.append(Finding("credentials", f"{problem}; set it to 0640"))
    for key, path in _trusted(settings, config):
        for _, mode in _existing([path]):
            if mode & OTHERS_WRITE and not mode & stat.S_ISVTX:
                found.append(Finding(key, f"{path} can be changed by any user (mode {mode:04o})"))
    return found


def _journal_files(settings: Settings) -> list[Path]:
    journal = settings.path(settings.paths.journal)
    return [journal.with_name(f"{journal.name}{ending}") for ending in COMPANIONS]


def _secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    mqtt, technicians = settings.mqtt, settings.access.technicians_file
    if mqtt.password_file is not None:
        yield "mqtt.password_file", mqtt.password_file
    if mqtt.tls is not None and mqtt.tls.key_file is not None:
        yield "mqtt.tls.key_file", mqtt.tls.key_file
    if technicians is not None:
        yield "access.technicians_file", technicians


def _trusted(settings: Settings, config: Path) -> Iterator[tuple[str, Path]]:
    """The files that the daemon trusts, and the folders that hold them."""
    yield "configuration file", config
    yield "configuration folder", config.resolve().parent
    yield "paths.journal", settings.path(settings.paths.journal).parent
    yield "paths.socket", settings.path(settings.paths.socket).parent
    if settings.paths.mark is not None:
        yield "paths.mark", settings.path(settings.paths.mark).parent


def _existing(paths: list[Path]) -> Iterator[tuple[Path, int]]:
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        yield path, stat.S_IMODE(mode)
