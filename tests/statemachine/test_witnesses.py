"""What several witnesses say together: late openings, wrong doors, scales."""

from __future__ import annotations

from edge_agent.model import Alarm, CellStatus, Door, Purpose, ReservationStatus, UnlockOutcome
from edge_agent.statemachine.inputs import DoorRead, DoorsSeen, OpenCell, OpenFor, PulseDone, Weighed
from edge_agent.statemachine.state import Layout
from tests.support.core import SMALL, Core, specs


def alarms(core: Core) -> set[str]:
    """The alarms that stand."""
    return set(core.state.alarms)


def pulsed(core: Core, wish: OpenFor | OpenCell) -> None:
    """The first pulse for a wish is under way."""
    look = core.looks(core.feed(wish))
    core.feed(DoorRead(look.unlock_id, core.state.cells[look.cell].door))


def test_an_opening_is_the_own_locks_late_one_once_the_other_lock_has_opened() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, attempts=1))
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    late = core.wish(first, Purpose.PICKUP)
    pulsed(core, late)
    core.feed(PulseDone(late.unlock_id, 1, Door.CLOSED))
    other = core.wish(second, Purpose.PICKUP)
    pulsed(core, other)
    core.feed(DoorsSeen({first.cell: Door.OPEN}))
    assert core.live(first).status is ReservationStatus.DROPPED_OFF
    core.feed(DoorsSeen({second.cell: Door.OPEN}))
    core.lasts()
    assert core.live(first).status is ReservationStatus.PICKED_UP
    assert core.live(second).status is ReservationStatus.PICKED_UP
    assert alarms(core) == set()


def test_an_earlier_wrong_door_is_not_taken_back_by_a_later_pulse() -> None:
    core = Core()
    reservation = core.reserve()
    wish = core.wish(reservation, Purpose.DROPOFF)
    pulsed(core, wish)
    core.forced("C01")
    core.feed(PulseDone(wish.unlock_id, 1, Door.CLOSED))
    core.close("C01")
    core.pass_s(11)
    pulsed(core, OpenCell("k", "A01", "because", "unl-k"))
    core.forced("C01")
    core.feed(DoorsSeen({"A01": Door.OPEN}))
    assert {f"{Alarm.WRONG_DOOR}/A01", f"{Alarm.WRONG_DOOR}/C01"} <= alarms(core)


def test_a_technicians_pulse_in_doubt_asks_for_no_inspection() -> None:
    core = Core()
    core.opened_by_hand("A01")
    core.pass_s(1)
    core.feed(DoorsSeen({"A01": Door.CLOSED}))
    core.pass_s(0.7)
    for door in (Door.OPEN, Door.CLOSED, Door.OPEN, Door.CLOSED, Door.OPEN):
        core.feed(DoorsSeen({"A01": door}))
        core.pass_s(0.1)
    assert f"{Alarm.SENSOR_FAULT}/A01/contact" in alarms(core)
    pulsed(core, OpenCell("k", "A01", "because", "unl-k"))
    core.feed(PulseDone("unl-k", 1, Door.OPEN))
    assert core.state.cells["A01"].last_outcome is UnlockOutcome.UNKNOWN
    assert core.state.cells["A01"].status is CellStatus.IDLE


def test_a_scale_proves_a_cell_empty_after_a_pick_up_in_doubt() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"})))
    reservation = core.reserve(SMALL, grace_pickup_s=60)
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    core.close("A01")
    core.feed(Weighed("A01", 900))
    core.pass_s(11)
    core.forced("A01")
    wish = core.wish(reservation, Purpose.PICKUP)
    pulsed(core, wish)
    core.feed(PulseDone(wish.unlock_id, 1, Door.OPEN))
    core.close("A01")
    assert core.live(reservation).status is ReservationStatus.PICKED_UP
    core.feed(Weighed("A01", 0))
    core.pass_s(61)
    assert core.state.cells["A01"].status is CellStatus.IDLE
