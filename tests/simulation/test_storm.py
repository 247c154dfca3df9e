"""Fifty lives in virtual time over the production composition, killed again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import load_settings
from tools.bench.settings import REPOSITORY
from tools.simulate.lives import run_storm


@pytest.mark.behaviour("opening-02")
@pytest.mark.parametrize("seed", [1, 2])
def test_fifty_lives_with_kills_twice_with_identical_traces(tmp_path: Path, seed: int) -> None:
    settings = load_settings(REPOSITORY / "config" / "demo.toml")
    first = run_storm(settings, tmp_path / "first.sqlite", seed)
    second = run_storm(settings, tmp_path / "second.sqlite", seed)
    assert first.lives == 50
    assert first.kills >= 25
    assert first.pulses >= 100
    assert first.trace == second.trace
