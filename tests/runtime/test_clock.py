"""Whether the wall clock is right, as far as the kernel or the time service reports it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.runtime.clock import MARK_COUNTS_S, SystemClock


def clock_with(state: int, mark: Path) -> SystemClock:
    """A clock whose adjtimex(2) answers this."""
    clock: Any = SystemClock(mark=mark)
    clock._libc = SimpleNamespace(adjtimex=lambda _: state)
    made: SystemClock = clock
    return made


@pytest.mark.parametrize(("state", "synced"), [(0, True), (1, True), (4, True), (5, False)])
def test_the_kernel_is_believed_where_it_may_be_asked(tmp_path: Path, state: int, synced: bool) -> None:
    mark = tmp_path / "synchronized"
    assert clock_with(state, mark).now().synced is synced
    mark.touch()
    assert clock_with(state, mark).now().synced is synced


def test_where_the_kernel_may_not_be_asked_the_time_service_s_mark_counts(tmp_path: Path) -> None:
    mark = tmp_path / "synchronized"
    clock = clock_with(-1, mark)
    assert not clock.now().synced
    mark.touch()
    assert clock.now().synced
    old_s = clock.now().wall_s - MARK_COUNTS_S - 1
    os.utime(mark, (old_s, old_s))
    assert not clock.now().synced


class Rtc:
    """A trusted clock of a machine whose kernel was never synchronised."""

    def __init__(self, tmp_path: Path) -> None:
        self.state = 5
        clock: Any = SystemClock(trusted=True, mark=tmp_path / "none")
        clock._libc = SimpleNamespace(adjtimex=lambda _: self.state)
        self.clock: SystemClock = clock

    def takes(self, *off_s: float) -> bool:
        """Commands whose times put the clock ahead by `off_s`; whether it counts as right after them."""
        for seconds in off_s:
            self.clock.compare(self.clock.now().wall_s - seconds)
        return self.clock.now().synced


@pytest.mark.parametrize("off_s", [301, -301, 2.3e9])
def test_w12_five_commands_in_a_row_contradict_a_trusted_clock_and_five_clear_it(
    tmp_path: Path, off_s: float
) -> None:
    rtc = Rtc(tmp_path)
    assert rtc.takes(*[off_s] * 4, 0, *[off_s] * 4)
    assert not rtc.takes(off_s)
    assert rtc.clock.difference_s == pytest.approx(off_s, abs=1)
    assert not rtc.takes(*[0] * 4, off_s, *[299] * 4)
    assert rtc.takes(-299)


def test_w12_synchronisation_ends_the_contradiction(tmp_path: Path) -> None:
    rtc = Rtc(tmp_path)
    assert not rtc.takes(*[9000] * 5)
    rtc.state = 0
    assert rtc.clock.now().synced
    assert rtc.takes(*[9000] * 9), "under time synchronisation the difference is shown, nothing more"
    rtc.state = 5
    assert rtc.clock.now().synced


def test_w12_a_clock_that_nobody_trusts_is_not_judged(tmp_path: Path) -> None:
    clock = clock_with(5, tmp_path / "none")
    for _ in range(9):
        clock.compare(clock.now().wall_s - 9000)
    assert not clock.contradicted
    assert not clock.now().synced
