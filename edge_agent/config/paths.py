"""The key paths of a configuration (`unlock.pulse_ms`); cells go by their labels, wherever they are in the
file."""

from __future__ import annotations

from typing import Any


def flat(raw: dict[str, Any]) -> dict[str, Any]:
    """Each key path with its value, in the order of `raw`, which is as from TOML; absent (None) ones are left
    out."""
    cells = raw.get("cells")
    if isinstance(cells, list):
        labelled = {
            cell["label"]: {key: value for key, value in cell.items() if key != "label"} for cell in cells
        }
        raw = raw | {"cells": labelled}
    found: dict[str, Any] = {}
    _flatten(raw, "", found)
    return found


def _flatten(raw: Any, path: str, found: dict[str, Any]) -> None:
    if isinstance(raw, dict):
        for key, value in raw.items():
            _flatten(value, f"{path}.{key}" if path else str(key), found)
    elif raw is not None:
        found[path] = raw
