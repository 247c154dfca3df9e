"""What scales show of drop-offs, of what is left behind, and of changes behind a closed door."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import Alarm, CellStatus, Door, Purpose, Reservation, ReservationStatus
from edge_agent.statemachine.inputs import (
    DoorRead,
    DoorsChanged,
    PulseDone,
    Tare,
    TemperatureMeasured,
    Weighed,
)
from edge_agent.statemachine.locker import next_due_ns
from edge_agent.statemachine.outputs import FactKind, Weigh
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.weight import PATIENCE_NS
from tests.support.pure_core.core import Core, specs


def weighing(*, hold: bool = False) -> Core:
    """A locker of one cell with a scale."""
    return Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}), hold_empty_dropoff=hold))


def stands(core: Core, alarm: Alarm) -> bool:
    return f"{alarm}/A01" in core.state.alarms


def status(core: Core) -> str:
    return core.state.cells["A01"].status.value


def dropoff(core: Core, **details: object) -> Reservation:
    reservation = core.reserve(**details)  # type: ignore[arg-type]
    core.opens(core.command(reservation, Purpose.DROPOFF))
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
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close("A01")
    core.feed(Weighed("A01", 0))
    core.pass_s(1)
    assert core.state.cells["A01"].status is CellStatus.IDLE
    assert not core.state.alarms


def test_only_the_first_weight_after_the_closing_proves_an_empty_dropoff() -> None:
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
    core.opens(core.command(reservation, Purpose.DROPOFF))
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
    core.opens(core.command(reservation, Purpose.DROPOFF))
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
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.restart({"A01": Door.CLOSED})
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert core.live(reservation).recovered


@pytest.mark.behaviour("weight-03", "alarms-17")
def test_what_is_left_behind_after_the_grace_awaits_inspection() -> None:
    core = weighing()
    reservation = dropoff(core, grace_pickup_s=0)
    core.feed(Weighed("A01", 900))
    core.opens(core.command(reservation, Purpose.PICKUP))
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
    core.opens(core.command(reservation, Purpose.PICKUP))
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
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.feed(Weighed("A01", 2000))
    assert core.state.cells["A01"].mass_g is None
    core.close("A01")
    core.feed(Weighed("A01", 2000))
    assert not stands(core, Alarm.WEIGHT_CHANGED)


def opened_and_weighed(mass_g: int) -> tuple[Core, Reservation]:
    """A reservation whose cell was opened by support, and closed again with that mass in it."""
    two = [specs()[0], specs()[4]]
    core = Core(Layout(specs={spec.label: spec for spec in two}, weighed=frozenset({"A01"})))
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.OPEN_DOOR))
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
    core.jams(core.feed(core.command(reservation, Purpose.DROPOFF)))
    assert core.live(reservation).cell == cell


def test_an_opened_door_makes_the_weight_unknown() -> None:
    core = weighing()
    core.feed(Weighed("A01", 0))
    assert core.state.cells["A01"].empty is True
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    cell = core.state.cells["A01"]
    assert (cell.mass_g, cell.empty) == (None, None)


def test_a_cell_whose_scale_is_not_looked_at_is_not_weighed() -> None:
    core = Core()
    reservation = core.dropped_off()
    assert not core.live(reservation).to_be_weighed
    before = core.state.cells
    core.feed(replace(Weighed(reservation.cell, 0)))
    assert core.state.cells == before


def test_a_scale_that_reports_only_after_the_pick_up_proves_nothing_of_the_dropoff() -> None:
    """EMPTY_DROPOFF: a weight cell that closes after a drop-off without a parcel. This one had one."""
    core = weighing()
    reservation = core.dropped_off()  # the scale is silent
    core.feed(command := core.command(reservation, Purpose.PICKUP))
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    core.close("A01")
    core.feed(Weighed("A01", 0))
    assert not core.state.alarms


def test_a_scale_that_settles_slowly_proves_a_cell_empty() -> None:
    """PARCEL_LEFT_BEHIND: a remaining weight after the grace. What remains counts as nothing."""
    core = weighing()
    reservation = core.dropped_off()
    core.feed(Weighed("A01", 900))
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close("A01")
    core.feed(Weighed("A01", 60))
    core.feed(Weighed("A01", 20))
    core.pass_s(130)
    assert not core.state.alarms


def scale(core: Core) -> tuple[int | None, bool | None, int]:
    cell = core.state.cells["A01"]
    return cell.mass_g, cell.empty, cell.drift_g


def faults(core: Core) -> dict[str, str]:
    """The sensor faults that stand, by the part of the cell."""
    fault = Alarm.SENSOR_FAULT
    return {a.place.removeprefix("A01/"): a.detail for a in core.state.alarms.values() if a.alarm is fault}


def creeps(core: Core, *readings_g: int) -> None:
    for reading_g in readings_g:
        core.feed(Weighed("A01", reading_g))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_creeping_zero_of_a_free_cell_is_followed(sign: int) -> None:
    core = weighing()
    creeps(core, *(sign * g for g in (0, 20, 45, 65, 90, 110, 135, 155)))
    assert scale(core) == (0, True, sign * 155)
    assert not core.state.alarms
    reservation = dropoff(core, grace_pickup_s=0)
    core.feed(Weighed("A01", sign * 155 + 49))
    assert stands(core, Alarm.EMPTY_DROPOFF)
    core.feed(Weighed("A01", sign * 155 + 60))
    assert core.state.cells["A01"].mass_g == 60
    core.feed(core.abandon(reservation))


def test_the_zero_moves_by_no_more_than_a_step_and_only_with_a_creep() -> None:
    core = weighing()
    creeps(core, 0, 40)
    assert scale(core) == (40, True, 0)
    creeps(core, 60)
    assert scale(core) == (35, True, 25)
    creeps(core, 80)
    assert scale(core) == (30, True, 50)
    assert not core.state.alarms


def test_the_first_weight_behind_a_closed_door_moves_no_zero() -> None:
    core = weighing()
    for _ in range(3):
        core.feed(DoorsChanged({"A01": Door.OPEN}))
        core.close("A01")
        core.feed(Weighed("A01", 20))
    assert scale(core) == (20, True, 0)


@pytest.mark.behaviour("alarms-10")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_zero_that_crept_too_far_is_a_fault_until_it_is_back(sign: int) -> None:
    core = weighing()
    creeps(core, *(sign * g for g in range(0, 301, 20)))
    assert scale(core) == (0, True, sign * 300)
    creeps(core, sign * 320)
    assert faults(core) == {"scale zero": f"the scale's zero has drifted by {sign * 320} g"}
    assert scale(core) == (sign * 20, None, sign * 300)
    creeps(core, sign * 300)
    assert scale(core) == (0, True, sign * 300)
    core.pass_s(5)
    assert faults(core) == {}


@pytest.mark.behaviour("alarms-10")
@pytest.mark.parametrize(
    ("reading_g", "detail"),
    [
        (50, "the scale shows 50 g in an empty cell whose door was not opened"),
        (900, "the scale shows 900 g in an empty cell whose door was not opened"),
        (-50, "the scale shows -50 g, less than nothing"),
    ],
)
def test_what_cannot_be_in_a_free_cell_is_a_fault_of_its_scale(reading_g: int, detail: str) -> None:
    core = weighing()
    creeps(core, 0, reading_g)
    assert faults(core) == {"scale zero": detail}
    raised = core.facts[-1]
    assert (raised.alarm, raised.cell, raised.device) == (Alarm.SENSOR_FAULT, "A01", "scale zero")
    assert scale(core) == (reading_g, None, 0)
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    core.close("A01")
    core.feed(Weighed("A01", reading_g))
    assert faults(core)
    core.restart({}, boot_id="boot-2", off_s=60)
    core.feed(Weighed("A01", reading_g))
    assert faults(core)
    core.facts.clear()
    core.feed(Weighed("A01", 30))
    assert scale(core) == (30, True, 0)
    core.pass_s(5)
    (cleared,) = core.facts
    assert (cleared.alarm, cleared.cell, cleared.device) == (Alarm.SENSOR_FAULT, "A01", "scale zero")


def test_what_lies_in_a_free_cell_that_was_opened_is_no_fault() -> None:
    core = weighing()
    creeps(core, 0)
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    core.close("A01")
    creeps(core, 900, 880, 700)
    assert faults(core) == {}
    assert scale(core) == (700, False, 0)


def test_a_tare_ends_the_fault() -> None:
    core = weighing()
    creeps(core, 0, 400)
    assert faults(core)
    core.feed(Tare("k", "A01"))
    creeps(core, 390, 410)
    assert scale(core) == (0, True, 10)
    core.pass_s(5)
    assert not core.state.alarms


def test_a_scale_whose_zero_is_wrong_proves_nothing() -> None:
    """It neither finds a drop-off empty nor holds it, nor clears itself by a parcel that makes up for it."""
    core = weighing(hold=True)
    creeps(core, 0, -400)
    reservation = dropoff(core, grace_pickup_s=0)
    core.feed(Weighed("A01", 0))
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert scale(core) == (400 - 400, None, 0)
    assert set(faults(core)) == {"scale zero"}
    assert not stands(core, Alarm.EMPTY_DROPOFF)
    core.feed(Weighed("A01", 101))
    assert stands(core, Alarm.WEIGHT_CHANGED)


def test_less_than_nothing_in_a_cell_in_use_proves_nothing_and_is_no_fault() -> None:
    core = weighing()
    reservation = dropoff(core)
    core.feed(Weighed("A01", -50))
    assert not core.state.alarms
    assert core.live(reservation).to_be_weighed
    core.feed(Weighed("A01", -49))
    assert stands(core, Alarm.EMPTY_DROPOFF)


def test_a_zero_is_not_followed_in_a_cell_in_use() -> None:
    core = weighing()
    creeps(core, 0)
    dropoff(core)
    creeps(core, 500, 520, 540)
    assert scale(core) == (540, False, 0)
    other = weighing()
    other.reserve()
    creeps(other, 0, 20, 40, 60)
    assert scale(other) == (60, False, 0)
    assert not other.state.alarms


@pytest.mark.behaviour("alarms-10")
def test_a_scale_that_cannot_weigh_is_a_fault_beside_its_cells_thermometer() -> None:
    layout = Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}), thermometers=frozenset({"A01"}))
    core = Core(layout)
    creeps(core, 0)
    core.feed(Weighed("A01", None, error=True))
    core.feed(TemperatureMeasured("A01", None))
    assert set(faults(core)) == {"scale", "A01"}
    assert faults(core)["scale"] == "the scale answers that it cannot weigh"
    assert scale(core) == (None, None, 0)
    core.restart({})
    assert set(faults(core)) == {"scale", "A01"}
    core.feed(Weighed("A01", None))
    core.feed(TemperatureMeasured("A01", 20.0))
    core.pass_s(5)
    assert set(faults(core)) == {"scale"}
    core.feed(Weighed("A01", 900))
    core.pass_s(5)
    assert faults(core) == {}
    raised, cleared = (f for f in core.facts if f.device == "scale")
    assert (raised.kind, cleared.kind) == (FactKind.ALARM_RAISED, FactKind.ALARM_CLEARED)
    assert raised.cell == cleared.cell == "A01"


def test_a_start_forgets_the_faults_of_a_scale_that_is_gone() -> None:
    core = weighing()
    creeps(core, 0, 900)
    core.feed(Weighed("A01", None, error=True))
    core.layout = Layout(specs=core.layout.specs)
    core.facts.clear()
    core.restart({})
    assert not core.state.alarms
    assert {(f.cell, f.device) for f in core.facts} == {("A01", "scale"), ("A01", "scale zero")}
