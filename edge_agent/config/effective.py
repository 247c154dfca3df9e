"""The configuration in effect: every key with its value, and whether the file gives it or it is a default."""

from __future__ import annotations

from typing import Any

from edge_agent.config.paths import flat
from edge_agent.config.sections import Settings


def effective(settings: Settings) -> list[dict[str, Any]]:
    """A row for each key that has a value: `key` (its path), `value`, and `from`: `file`, `default`,
    or `remote` (set remotely).

    Files of `[mqtt]` are absolute paths. A secret type is masked by pydantic.
    """
    raw = settings.model_dump(mode="json")
    raw["climate"] = {name: section.model_dump(mode="json") for name, section in settings.climates().items()}
    return [{"key": key, "value": value, "from": _origin(settings, key)} for key, value in flat(raw).items()]


def _origin(settings: Settings, key: str) -> str:
    if key in settings.remote_keys:
        return "remote"
    return "file" if key in settings.keys_in_file else "default"
