"""The fleet of `make fleet`, a small one: it lives, and every figure is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tools.bench.settings import REPOSITORY


@pytest.mark.long
def test_a_small_fleet_lives_and_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.fleet", "--machines", "4", "--lives-per-s", "2", "--seconds", "4"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "refused {}" in done.stderr
    for figure in ("usual: command, p99", "gateway's backlog", "online after a killed broker"):
        assert figure in done.stdout
