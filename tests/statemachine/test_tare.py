"""A scale's tare: kept with the cell, taken in a free cell only, and never a parcel's weight."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import Alarm, CellCause, CellStatus, Door, Purpose, Source
from edge_agent.statemachine.inputs import BlockCell, DeviceHealth, DoorsChanged, Tare, Weighed
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.weight import TARE_PERCENT
from tests.support.pure_core.core import Core, specs


def weighing(*, hold: bool = False) -> Core:
    """A locker of one cell with a scale, for parcels up to 5,000 g."""
    return Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}), hold_empty_dropoff=hold))


def weight(core: Core) -> tuple[int | None, bool | None, int]:
    cell = core.state.cells["A01"]
    return cell.mass_g, cell.empty, cell.tare_g


def test_what_a_scale_reads_of_an_empty_cell_is_nothing_from_then_on() -> None:
    core = weighing()
    core.feed(Weighed("A01", 180))
    done = core.feed(Tare("k", "A01"))
    assert [(a.request_key, a.cell, a.tare_g) for a in done.answers] == [("k", "A01", 180)]
    (published,) = done.facts
    assert (published.kind, published.cause, published.cell) == (
        FactKind.CELL_STATUS_CHANGED,
        CellCause.TARED,
        "A01",
    )
    assert (published.reason, published.source) == (
        "180 g more count as zero now: 180 g in all",
        Source.MACHINE,
    )
    assert ("cells", "A01") in done.changed
    assert weight(core) == (0, True, 180)
    reservation = core.dropped_off()
    core.feed(Weighed("A01", 1180))
    assert weight(core) == (1000, False, 180)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close("A01")
    core.feed(Weighed("A01", 200))
    assert weight(core) == (20, True, 180)
    assert not core.state.alarms


def test_a_second_tare_counts_from_what_the_scale_reads_and_may_take_the_first_back() -> None:
    core = weighing()
    for reading_g, more in ((180, "180"), (150, "-30"), (0, "-150"), (-40, "-40")):
        core.feed(Weighed("A01", reading_g))
        (published,) = [
            f for f in core.feed(Tare("k", "A01", Source.API)).facts if f.cause is CellCause.TARED
        ]
        assert weight(core) == (0, True, reading_g)
        assert published.reason == f"{more} g more count as zero now: {reading_g} g in all"
        assert published.source is Source.API


@pytest.mark.parametrize(
    ("reading_g", "granted"), [(1000, True), (1001, False), (-1000, True), (-1001, False)]
)
def test_no_parcel_is_tared_away(reading_g: int, granted: bool) -> None:
    core = weighing()
    core.feed(Weighed("A01", reading_g))
    if granted:
        core.feed(Tare("k", "A01"))
        assert weight(core) == (0, True, reading_g)
        return
    refusal = core.refused(Tare("k", "A01"))
    assert (refusal.code, refusal.message) == (
        Code.NOT_ALLOWED,
        f"cell A01: its scale reads {reading_g} g, more than {TARE_PERCENT} % of its limit of 5000 g",
    )


def test_tares_do_not_add_up_to_a_parcel() -> None:
    core = weighing()
    core.feed(Weighed("A01", 900))
    core.feed(Tare("k", "A01"))
    core.feed(Weighed("A01", 1100))
    assert weight(core) == (200, None, 900)
    assert core.refused(Tare("k", "A01")).code is Code.NOT_ALLOWED


def refused(core: Core) -> str:
    refusal = core.refused(Tare("k", "A01"))
    assert refusal.code is Code.NOT_ALLOWED
    return refusal.message


@pytest.mark.behaviour("weight-05")
def test_a_cell_is_not_tared_unless_it_is_free() -> None:
    core = weighing()
    core.feed(Weighed("A01", 10))
    reservation = core.reserve(grace_pickup_s=0)
    assert refused(core) == "cell A01 is RESERVED: only a free one is tared"
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    core.feed(Weighed("A01", 900))
    assert refused(core) == "cell A01 is OCCUPIED: only a free one is tared"
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close("A01")
    assert refused(core) == "cell A01 is IN_GRACE: only a free one is tared"
    core.feed(Weighed("A01", 900))
    core.pass_s(1)
    assert core.state.cells["A01"].status is CellStatus.AWAITING_INSPECTION
    assert refused(core) == "cell A01 is AWAITING_INSPECTION: only a free one is tared"
    core.clear("A01")
    core.feed(BlockCell("k", "A01", "for the technician"))
    core.feed(Tare("k", "A01"))


def test_an_abandoned_parcel_is_not_tared_away() -> None:
    core = weighing()
    core.feed(core.abandon(core.dropped_off()))
    core.feed(Weighed("A01", 900))
    assert refused(core) == "cell A01 is AWAITING_CLEANUP: only a free one is tared"


@pytest.mark.behaviour("weight-05")
def test_a_cell_is_not_tared_unless_its_door_is_seen_closed() -> None:
    core = weighing()
    core.feed(Weighed("A01", 10))
    core.feed(DeviceHealth("locks", False, ("A01",)))
    assert refused(core) == "cell A01 is not seen closed"
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    core.feed(Weighed("A01", 10))
    assert refused(core) == "cell A01 is not seen closed"
    core.close("A01")
    assert refused(core) == "cell A01 has not been weighed since its door was closed"
    core.feed(Weighed("A01", 10))
    core.feed(Tare("k", "A01"))


def test_without_a_scale_or_a_weight_nothing_is_tared() -> None:
    core = weighing()
    assert refused(core) == "cell A01 has not been weighed since its door was closed"
    core.feed(Weighed("A01", 10))
    core.feed(Weighed("A01", None))
    assert refused(core) == "cell A01 has not been weighed since its door was closed"
    assert refused(Core()) == "cell A01 has no scale"


@pytest.mark.behaviour("weight-06")
def test_a_start_keeps_the_tare_and_makes_none() -> None:
    core = weighing()
    core.feed(Weighed("A01", 30))
    core.feed(Tare("k", "A01"))
    core.restart({}, boot_id="boot-2", off_s=60)
    core.feed(Weighed("A01", 70))
    assert weight(core) == (40, True, 30)


def test_what_is_dropped_off_is_judged_without_the_tare() -> None:
    core = weighing(hold=True)
    core.feed(Weighed("A01", 300))
    core.feed(Tare("k", "A01"))
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    core.feed(Weighed("A01", 340))
    assert f"{Alarm.EMPTY_DROPOFF}/A01" in core.state.alarms
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    core.feed(Weighed("A01", 360))
    assert core.live(reservation).dropped_off == core.now


def test_a_creeping_weight_is_followed_and_a_step_is_a_change() -> None:
    core = weighing()
    core.dropped_off()
    for creep_g in range(0, 600, 90):
        core.feed(Weighed("A01", 1000 - creep_g))
    assert not core.state.alarms
    core.feed(Weighed("A01", 1000 - creep_g - 101))
    standing = core.state.alarms[f"{Alarm.WEIGHT_CHANGED}/A01"]
    assert standing.detail == "460 g became 359 g behind the closed door"


def test_a_tare_that_came_too_late_does_nothing() -> None:
    core = weighing()
    core.feed(Weighed("A01", 30))
    late = replace(Tare("k", "A01"), expires_ns=core.now.boottime_ns - 1)
    assert core.refused(late).code is Code.EXPIRED
