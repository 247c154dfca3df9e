"""What a new configuration changes in the running one: key paths with old and new value. Cells go by their
labels, wherever they are in the file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from edge_agent.config.paths import flat
from edge_agent.config.sections import Settings

ANOTHER = "another one"
"""Stands for the new value of a secret."""


@dataclass(frozen=True, slots=True)
class Change:
    """One changed key: None where it is absent before or after. Values as in TOML."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.path}: new, {self.after!r}"
        if self.after is None:
            return f"{self.path}: gone, was {self.before!r}"
        return f"{self.path}: {self.before!r} is now {self.after!r}"


def changes(before: Settings, after: Settings) -> list[Change]:
    """Every key that differs, defaults included, in the order of the file."""
    old, new = _flat(before), _flat(after)
    other_ids = _ids_changed(before, after)
    return [
        Change(path, old.get(path), ANOTHER if path in other_ids else new.get(path))
        for path in dict.fromkeys([*old, *new])
        if old.get(path) != new.get(path) or path in other_ids
    ]


def _ids_changed(before: Settings, after: Settings) -> set[str]:
    """The key paths of ids that changed; their values are masked, and compare as equal."""
    old, new = before.credentials, after.credentials
    return {f"credentials.{name}.id" for name in old.keys() & new.keys() if old[name].id != new[name].id}


def digest(settings: Settings) -> str:
    """The same for two configurations exactly if `changes` finds nothing between them."""
    ids = {name: entry.id for name, entry in settings.credentials.items()}  # `_flat` masks them
    text = json.dumps([_flat(settings), ids], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(settings: Settings) -> dict[str, Any]:
    raw = settings.model_dump(mode="json")
    # A profile's file may have changed under the same name.
    raw["profiles"] = {name: profile.model_dump(mode="json") for name, profile in settings._profiles.items()}
    return flat(raw)
