"""Fifty lives in virtual time over the production composition, killed again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import load_settings
from tools.bench.settings import REPOSITORY
from tools.simulate.lives import run_storm


@pytest.mark.behaviour("opening-02")
@pytest.mark.long
@pytest.mark.parametrize(("seed", "kill_every_s", "kills"), [(1, 4.0, 25), (4, 12.0, 5)])
def test_fifty_lives_with_kills_twice_with_identical_traces(
    tmp_path: Path, seed: int, kill_every_s: float, kills: int
) -> None:
    settings = load_settings(REPOSITORY / "config" / "demo.toml")
    first = run_storm(settings, tmp_path / "first.sqlite", seed, kill_every_s=kill_every_s)
    second = run_storm(settings, tmp_path / "second.sqlite", seed, kill_every_s=kill_every_s)
    assert first.lives == 50
    assert first.kills >= kills
    assert first.pulses >= 80
    assert first.open_doors >= 5
    assert {"COMPLETED", "CANCELLED", "ABANDONED"} <= set(first.ends)
    assert first.moves >= (1 if kill_every_s > 10 else 0)
    assert first.trace == second.trace
