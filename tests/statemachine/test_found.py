"""Where the core differs from the behaviour page: each test fails today, and says what it should do.

Who mends one takes its mark off, moves it to `test_corners.py`, and takes its name, where it has one, out of
`QUIRKS` in `tests/support/model.py`.
"""

from __future__ import annotations

import pytest

from edge_agent.model import Door, Purpose
from edge_agent.statemachine.inputs import DoorRead, PulseDone, Weighed
from edge_agent.statemachine.state import Layout
from tests.support.core import Core, specs


def weighing() -> Core:
    """A locker of one cell with a scale."""
    return Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"})))


@pytest.mark.xfail(strict=True, reason="an opening told by the watching does not end the wait for the scale")
def test_a_scale_that_tells_only_after_the_pick_up_says_nothing_of_the_dropoff() -> None:
    """EMPTY_DROPOFF: a weight cell that closes after a drop-off without a parcel. This one had one."""
    core = weighing()
    reservation = core.dropped_off()  # the scale is silent
    core.feed(wish := core.wish(reservation, Purpose.PICKUP))
    core.feed(DoorRead(wish.unlock_id, Door.CLOSED))
    core.feed(PulseDone(wish.unlock_id, 1, Door.OPEN))
    core.close("A01")
    core.feed(Weighed("A01", 0))
    assert not core.state.alarms


@pytest.mark.xfail(strict=True, reason="a reading that differs little does not prove a cell empty")
def test_a_scale_that_settles_slowly_proves_a_cell_empty() -> None:
    """PARCEL_LEFT_BEHIND: a remaining weight after the grace. What remains counts as nothing."""
    core = weighing()
    reservation = core.dropped_off()
    core.feed(Weighed("A01", 900))
    core.opens(core.wish(reservation, Purpose.PICKUP))
    core.close("A01")
    core.feed(Weighed("A01", 60))
    core.feed(Weighed("A01", 20))
    core.pass_s(130)
    assert not core.state.alarms
