"""Whether the wall clock is right, as far as the kernel or the time service tells."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.runtime.clock import MARK_COUNTS_S, SystemClock


def clock_told(state: int, mark: Path) -> SystemClock:
    """A clock whose adjtimex(2) answers this."""
    clock: Any = SystemClock(mark=mark)
    clock._libc = SimpleNamespace(adjtimex=lambda _: state)
    made: SystemClock = clock
    return made


@pytest.mark.parametrize(("state", "synced"), [(0, True), (1, True), (4, True), (5, False)])
def test_the_kernel_is_believed_where_it_may_be_asked(tmp_path: Path, state: int, synced: bool) -> None:
    mark = tmp_path / "synchronized"
    assert clock_told(state, mark).now().synced is synced
    mark.touch()
    assert clock_told(state, mark).now().synced is synced


def test_where_the_kernel_may_not_be_asked_the_time_service_s_mark_counts(tmp_path: Path) -> None:
    mark = tmp_path / "synchronized"
    clock = clock_told(-1, mark)
    assert not clock.now().synced
    mark.touch()
    assert clock.now().synced
    old_s = clock.now().wall_s - MARK_COUNTS_S - 1
    os.utime(mark, (old_s, old_s))
    assert not clock.now().synced
