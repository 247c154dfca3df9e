"""What scales say of drop-offs, of what is left behind, and of changes behind a closed door."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import Alarm, CellStatus, Door, Purpose, Reservation, ReservationStatus
from edge_agent.statemachine.inputs import DoorsSeen, Weighed
from edge_agent.statemachine.locker import next_due_ns
from edge_agent.statemachine.outputs import Weigh
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.weight import PATIENCE_NS
from tests.support.core import Core, specs


def weighing(*, hold: bool = False) -> Core:
    """A locker of one cell with a scale."""
    return Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}), hold_empty_dropoff=hold))


def stands(core: Core, alarm: Alarm) -> bool:
    return f"{alarm}/A01" in core.state.alarms


def status(core: Core) -> str:
    return core.state.cells["A01"].status.value


def dropoff(core: Core, **details: object) -> Reservation:
    reservation = core.reserve(**details)  # type: ignore[arg-type]
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    done = core.close("A01")
    assert done.effects == (Weigh("A01"),)
    return reservation


@pytest.mark.behaviour("weight-01", "alarms-14")
@pytest.mark.parametrize(("mass_g", "empty"), [(0, True), (49, True), (50, False), (1500, False)])
def test_a_dropoff_without_a_parcel_raises_an_alarm_until_the_reservation_ends(
    mass_g: int, empty: bool
) -> None:
    core = weighing()
    reservation = dropoff(core, grace_pickup_s=0)
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    core.feed(Weighed("A01", mass_g))
    assert stands(core, Alarm.EMPTY_DROPOFF) is empty
    assert core.state.cells["A01"].empty is empty
    core.opens(core.wish(reservation, Purpose.PICKUP))
    core.close("A01")
    core.feed(Weighed("A01", 0))
    core.pass_s(1)
    assert core.state.cells["A01"].status is CellStatus.IDLE
    assert not core.state.alarms


def test_only_the_first_weight_after_the_closing_tells_of_an_empty_dropoff() -> None:
    core = weighing()
    dropoff(core)
    core.feed(Weighed("A01", 900))
    core.feed(Weighed("A01", 0))
    assert not stands(core, Alarm.EMPTY_DROPOFF)
    assert stands(core, Alarm.WEIGHT_CHANGED)


@pytest.mark.behaviour("weight-02")
def test_held_an_empty_dropoff_leaves_the_reservation_pending() -> None:
    core = weighing(hold=True)
    reservation = dropoff(core)
    assert core.live(reservation).status is ReservationStatus.PENDING
    assert core.refused(core.cancel(reservation)).code is Code.NOT_ALLOWED
    core.feed(Weighed("A01", 10))
    assert core.live(reservation).status is ReservationStatus.PENDING
    assert stands(core, Alarm.EMPTY_DROPOFF)
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    core.close("A01")
    core.feed(Weighed("A01", 800))
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    dropped_off = core.live(reservation).dropped_off
    assert dropped_off == core.now


def test_held_and_found_empty_it_can_be_cancelled() -> None:
    core = weighing(hold=True)
    reservation = dropoff(core)
    core.feed(Weighed("A01", 0))
    core.feed(core.cancel(reservation))
    assert core.state.cells["A01"].status is CellStatus.IDLE
    assert not core.state.alarms


def test_a_scale_that_says_nothing_holds_nothing_up() -> None:
    core = weighing(hold=True)
    reservation = dropoff(core)
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + PATIENCE_NS
    core.pass_s(4.9)
    core.feed(Weighed("A01", None))
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.pass_s(0.2)
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert not core.state.alarms


def test_held_a_door_that_is_opened_again_is_weighed_again() -> None:
    core = weighing(hold=True)
    reservation = dropoff(core)
    core.pass_s(1)
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    core.feed(Weighed("A01", 0))
    core.pass_s(60)
    assert core.live(reservation).status is ReservationStatus.PENDING
    assert not stands(core, Alarm.EMPTY_DROPOFF)
    core.close("A01")
    core.feed(Weighed("A01", 700))
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


def test_held_a_start_loses_no_parcel() -> None:
    core = weighing(hold=True)
    reservation = core.reserve()
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    core.restart({"A01": Door.CLOSED})
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert core.live(reservation).recovered


@pytest.mark.behaviour("weight-03", "alarms-17")
def test_what_is_left_behind_after_the_grace_awaits_inspection() -> None:
    core = weighing()
    reservation = dropoff(core, grace_pickup_s=0)
    core.feed(Weighed("A01", 900))
    core.opens(core.wish(reservation, Purpose.PICKUP))
    core.close("A01")
    core.feed(Weighed("A01", 880))
    core.pass_s(1)
    assert stands(core, Alarm.PARCEL_LEFT_BEHIND)
    assert status(core) == "AWAITING_INSPECTION"
    core.clear("A01")
    assert not core.state.alarms
    assert status(core) == "IDLE"


def test_the_end_of_a_grace_waits_a_moment_for_the_scale() -> None:
    core = weighing()
    reservation = dropoff(core, grace_pickup_s=0)
    core.opens(core.wish(reservation, Purpose.PICKUP))
    core.close("A01")
    core.pass_s(1)
    assert status(core) == "IN_GRACE"
    core.pass_s(4.1)
    assert status(core) == "IDLE"


@pytest.mark.behaviour("weight-04", "alarms-15")
@pytest.mark.parametrize(("after_g", "changed"), [(1000, False), (1099, False), (1101, True), (0, True)])
def test_a_change_behind_a_closed_door(after_g: int, changed: bool) -> None:
    core = weighing()
    reservation = dropoff(core, grace_pickup_s=0)
    core.feed(Weighed("A01", 1000))
    core.feed(Weighed("A01", after_g))
    assert stands(core, Alarm.WEIGHT_CHANGED) is changed
    core.feed(core.abandon(reservation))
    assert not stands(core, Alarm.WEIGHT_CHANGED)


def test_a_change_in_a_free_cell_or_behind_an_open_door_is_none() -> None:
    core = weighing()
    core.feed(Weighed("A01", 0))
    core.feed(Weighed("A01", 900))
    reservation = core.reserve()
    core.opens(core.wish(reservation, Purpose.DROPOFF))
    core.feed(Weighed("A01", 2000))
    assert core.state.cells["A01"].mass_g is None
    core.close("A01")
    core.feed(Weighed("A01", 2000))
    assert not core.state.alarms


def opened_and_weighed(mass_g: int) -> tuple[Core, Reservation]:
    """A reservation whose cell was opened by support, and closed again with so much in it."""
    two = [specs()[0], specs()[4]]
    core = Core(Layout(specs={spec.label: spec for spec in two}, weighed=frozenset({"A01"})))
    reservation = core.reserve()
    core.opens(core.wish(reservation, Purpose.OPEN_DOOR))
    core.close("A01")
    core.feed(Weighed("A01", mass_g))
    core.pass_s(11)
    return core, reservation


@pytest.mark.behaviour("cells-12")
@pytest.mark.parametrize(("mass_g", "status"), [(0, CellStatus.IDLE), (900, CellStatus.AWAITING_INSPECTION)])
def test_a_cell_proven_empty_is_free_at_once(mass_g: int, status: CellStatus) -> None:
    core, reservation = opened_and_weighed(mass_g)
    core.feed(core.cancel(reservation))
    assert core.state.cells["A01"].status is status


@pytest.mark.behaviour("opening-17")
@pytest.mark.parametrize(("mass_g", "cell"), [(0, "C01"), (900, "A01")])
def test_a_reservation_whose_cell_is_proven_empty_may_move(mass_g: int, cell: str) -> None:
    core, reservation = opened_and_weighed(mass_g)
    core.jams(core.feed(core.wish(reservation, Purpose.DROPOFF)))
    assert core.live(reservation).cell == cell


def test_an_opened_door_makes_the_weight_unknown() -> None:
    core = weighing()
    core.feed(Weighed("A01", 0))
    assert core.state.cells["A01"].empty is True
    core.feed(DoorsSeen({"A01": Door.OPEN}))
    cell = core.state.cells["A01"]
    assert (cell.mass_g, cell.empty) == (None, None)


def test_a_cell_whose_scale_is_not_looked_at_is_not_weighed() -> None:
    core = Core()
    reservation = core.dropped_off()
    assert not core.live(reservation).to_be_weighed
    before = core.state.cells
    core.feed(replace(Weighed(reservation.cell, 0)))
    assert core.state.cells == before
