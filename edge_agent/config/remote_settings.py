"""Settings that an operator sets remotely, on top of the machine's file
(docs/decisions/0050-remote-settings.md). Which keys there are: `edge_agent.protocol.settable`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_agent.config.paths import flat
from edge_agent.errors import ConfigError, Finding, StorageFault
from edge_agent.process.whole_file import write_whole
from edge_agent.protocol.settable import is_settable

NOT_SETTABLE = "cannot be set remotely: it is for a technician at the machine"


class RemoteSettings(BaseModel):
    """Remote settings: key paths with values. `base`: what the file held for these keys when they were
    applied, null if nothing; a key whose value in the file has changed since is not overwritten."""

    model_config = ConfigDict(frozen=True)

    version: int
    settings: dict[str, Any]
    base: dict[str, Any] = {}
    request_id: str = ""
    by: str = ""


class TrialEnd(BaseModel):
    """How the last attempt to apply settings ended; `at_s`: Unix time."""

    model_config = ConfigDict(frozen=True)

    version: int
    request_id: str
    outcome: Literal["APPLIED", "REFUSED", "REVERTED"]
    detail: str = ""
    at_s: float


class RemoteState(BaseModel):
    """What the machine keeps of remote settings: those in use, those on trial, and the last end."""

    model_config = ConfigDict(frozen=True)

    applied: RemoteSettings | None = None
    trial: RemoteSettings | None = None
    last: TrialEnd | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """A key whose value was changed in the file since it was set remotely; None where it is absent."""

    key: str
    local: Any
    desired: Any


@dataclass(frozen=True, slots=True)
class Merged:
    """A document with remote settings in it: which keys come from there, and which the file overrules."""

    document: dict[str, Any]
    keys: frozenset[str] = frozenset()
    drift: tuple[Drift, ...] = field(default=())


def forbidden(settings: Mapping[str, Any]) -> list[Finding]:
    """A finding for each key that may not be set remotely."""
    return [Finding(key, NOT_SETTABLE) for key in settings if not is_settable(key)]


def base_of(document: dict[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """What the file's content holds for some keys; None where it holds nothing."""
    held = flat(document)
    return {key: held.get(key) for key in keys}


def merge(document: dict[str, Any], remote: RemoteSettings | None) -> Merged:
    """The file's content with the remote settings. A key that was changed in the file since they were
    applied keeps the file's value. Raises `ConfigError` if a key has no place in the file's structure."""
    if remote is None:
        return Merged(document)
    held, merged = flat(document), copy.deepcopy(document)
    drift, keys = [], []
    for key, desired in remote.settings.items():
        local = held.get(key)
        if local != remote.base.get(key) and local != desired:
            drift.append(Drift(key, local, desired))
            continue
        *sections, last = key.split(".")
        place: Any = merged
        for name in sections:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ConfigError([Finding(key, f"{name} is not a section in the machine's file")])
        place[last] = desired
        keys.append(key)
    return Merged(merged, frozenset(keys), tuple(drift))


def remote_file(journal: Path) -> Path:
    """The file that keeps the remote settings: beside the journal, where the daemon may write."""
    return journal.with_name(f"{journal.name}.remote.json")


def read_remote(file: Path) -> RemoteState:
    """What the machine keeps of remote settings; nothing if there is no such file.

    Raises `StorageFault` if it cannot be read.
    """
    try:
        return RemoteState.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return RemoteState()
    except (OSError, ValidationError) as error:
        raise StorageFault(f"remote settings: {file} cannot be read: {error}") from None


def write_remote(file: Path, state: RemoteState) -> None:
    """Replaces the file; it is on the disk when this returns, whole or as before. Raises `StorageFault`."""
    try:
        write_whole(file, json.dumps(state.model_dump(mode="json"), ensure_ascii=False, indent=1).encode())
    except OSError as error:
        raise StorageFault(f"remote settings: {file} cannot be written: {error.strerror}") from None
