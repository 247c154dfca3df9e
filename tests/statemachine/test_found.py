"""Where the core differs from the behaviour page: each test fails today, and says what it should do.

Who mends one takes its mark off, moves it to `test_corners.py`, and takes its name, where it has one, out of
`QUIRKS` in `tests/support/model.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import InvariantBroken
from edge_agent.model import Alarm, Door, Purpose, ReservationStatus
from edge_agent.statemachine import access
from edge_agent.statemachine.inputs import DoorRead, DoorsSeen, PulseDone, Weighed
from edge_agent.statemachine.invariants import check
from edge_agent.statemachine.state import Layout
from tests.statemachine.test_codes import at, dead, turn
from tests.support.core import Core, specs


@pytest.mark.xfail(strict=True, reason="a rested code that was just chosen is counted twice")
def test_a_code_that_never_lived_comes_before_one_that_died_lately() -> None:
    """A code that died is not given again for 7 days while others are left: 9 was left."""
    week_s = 7 * 24 * 3600
    resting = dead("0")
    for code in "12345678":
        resting = resting.died(code, at(week_s))
    assert access.choose_codes(turn(resting, week_s + 10), ()) == ("0", "9")


@pytest.mark.xfail(strict=True, raises=KeyError, reason="a status is looked up before it is checked")
def test_a_live_reservation_that_is_over_breaks_an_invariant() -> None:
    """The whole check says so by the rule's name, as the check by change does."""
    core = Core()
    reservation = core.reserve()
    over = replace(reservation, status=ReservationStatus.CANCELLED)
    with pytest.raises(InvariantBroken):
        check(replace(core.state, reservations={over.reservation_id: over}), core.layout)


@pytest.mark.xfail(strict=True, reason="a pulse that was never sent hides the one before it")
def test_a_lock_may_open_late_after_its_next_pulse_was_not_sent() -> None:
    """The first pulse was given and may still open the door: that is not forced."""
    core = Core()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.feed(wish := core.wish(reservation, Purpose.PICKUP))
    core.feed(DoorRead(wish.unlock_id, Door.CLOSED))
    core.feed(PulseDone(wish.unlock_id, 1, Door.CLOSED))
    core.feed(PulseDone(wish.unlock_id, 2, Door.CLOSED, given=False))
    core.pass_s(1)
    core.feed(DoorsSeen({reservation.cell: Door.OPEN}))
    assert f"{Alarm.DOOR_FORCED}/{reservation.cell}" not in core.state.alarms


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
