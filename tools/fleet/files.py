"""The files of a bench, changed to what they are in production."""

from __future__ import annotations

import tomllib
from typing import Any

import tomli_w

from tools.bench.settings import BenchSettings


def as_in_production(files: BenchSettings, **gateway: Any) -> None:
    """The gateway without a bench's wall, with more `gateway` settings; the broker saves every five minutes
    only."""
    settings = tomllib.loads(files.gateway_file.read_text(encoding="utf-8"))
    del settings["wall"]
    files.gateway_file.write_text(tomli_w.dumps(settings | gateway), encoding="utf-8")
    text = files.broker_file.read_text(encoding="utf-8")
    text = text.replace("autosave_on_changes true", "autosave_on_changes false")
    files.broker_file.write_text(
        text.replace("autosave_interval 1", "autosave_interval 300"), encoding="utf-8"
    )
