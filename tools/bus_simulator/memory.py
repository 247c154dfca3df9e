"""Doors and grams of the cells in a small JSON file, which outlives the simulator."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from edge_agent.drivers.simulated.world import World
from edge_agent.model import Door

Contents = dict[str, tuple[Door, int]]


class _Kept(BaseModel):
    door: Door
    grams: int


_FILE = TypeAdapter(dict[str, _Kept])


def load_contents(path: Path) -> Contents:
    """Doors and grams by label; empty if there is no file yet. Raises `ValueError` if it is unusable."""
    try:
        kept = _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise ValueError(f"{path}: {error.errors(include_url=False)[0]['msg']}") from None
    return {label: (cell.door, cell.grams) for label, cell in kept.items()}


class StateFile:
    """Writes the file when doors or grams have changed, completely or not at all."""

    def __init__(self, path: Path, world: World) -> None:
        self._path = path
        self._world = world
        self._written = ""

    def save(self) -> None:
        """Saves changes; cheap if there are none. Raises `OSError`."""
        cells = {cell.label: {"door": cell.door, "grams": cell.grams} for cell in self._world.cells()}
        text = json.dumps(cells)
        if text == self._written:
            return
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self._path)
        self._written = text
