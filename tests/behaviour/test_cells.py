"""Sentences on cells and their allocation that no other test shows, or not whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Block, CellSpec, CellStatus, Door, Occupancy, Packaging, Purpose
from edge_agent.statemachine.cell import allocatable, occupancy
from edge_agent.statemachine.inputs import BlockCell, Clear, DeviceHealth, DoorsChanged, UnblockCell
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, Core


def locker(*cells: CellSpec) -> Core:
    return Core(Layout(specs={cell.label: cell for cell in cells}))


def small(label: str, **abilities: bool) -> CellSpec:
    return CellSpec(label, f"id_{label}", 350, 150, 450, 5_000, **abilities)


@pytest.mark.behaviour("cells-01")
def test_a_cell_goes_through_all_its_statuses() -> None:
    core = locker(small("A01"))
    seen = []

    def note() -> None:
        seen.append(core.state.cells["A01"].status.name)

    note()
    reservation = core.reserve(grace_pickup_s=5)
    note()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    note()
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close("A01")
    note()
    core.pass_s(6)
    note()
    core.feed(core.abandon(core.dropped_off()))
    note()
    core.clear("A01")
    opened = core.reserve()
    core.opens(core.command(opened, Purpose.OPEN_DOOR))
    core.close("A01")
    core.feed(core.cancel(opened))
    note()
    assert seen == [
        "IDLE",
        "RESERVED",
        "OCCUPIED",
        "IN_GRACE",
        "IDLE",
        "AWAITING_CLEANUP",
        "AWAITING_INSPECTION",
    ]
    assert {status.name for status in CellStatus} == set(seen)


@pytest.mark.behaviour("cells-02", "cells-03")
def test_either_flag_and_every_status_but_idle_takes_a_cell_out_of_allocation() -> None:
    free = Core().state.cells["A01"]
    assert allocatable(free)
    assert not allocatable(replace(free, blocked=Block("bent", "maint_1")))
    assert not allocatable(replace(free, faulty="no movement after 3 pulses"))
    assert [status.name for status in CellStatus if allocatable(replace(free, status=status))] == ["IDLE"]


@pytest.mark.behaviour("cells-04", "cells-05")
def test_a_cell_is_allocated_only_with_a_closed_reading_of_an_answering_board() -> None:
    free = Core().state.cells["A01"]
    assert [door.name for door in Door if allocatable(replace(free, door=door))] == ["CLOSED"]
    assert not allocatable(replace(free, answering=False))
    core = locker(small("A01"))
    core.feed(DeviceHealth("locks_a", False, ("A01",)))
    with pytest.raises(Exception, match="taken or out of order"):
        core.reserve()
    core.feed(DeviceHealth("locks_a", True, ("A01",)))
    with pytest.raises(Exception, match="taken or out of order"):
        core.reserve()
    core.feed(DoorsChanged({"A01": Door.CLOSED}))
    core.reserve()


@pytest.mark.behaviour("cells-09")
def test_clear_takes_faulty_off_and_leaves_blocked() -> None:
    core = Core()
    reservation = core.reserve()
    core.jams(core.feed(core.command(reservation, Purpose.DROPOFF)))
    core.feed(BlockCell(core.key(), reservation.cell, "smells"))
    core.feed(Clear(core.key(), reservation.cell))
    cell = core.state.cells[reservation.cell]
    assert (cell.faulty, cell.blocked) == (None, Block("smells"))
    assert not allocatable(cell)


@pytest.mark.behaviour("cells-10")
def test_unblock_takes_blocked_off_and_leaves_faulty() -> None:
    core = Core()
    reservation = core.reserve()
    core.jams(core.feed(core.command(reservation, Purpose.DROPOFF)))
    core.feed(BlockCell(core.key(), reservation.cell, "smells"))
    core.feed(UnblockCell(core.key(), reservation.cell))
    cell = core.state.cells[reservation.cell]
    assert (cell.faulty is not None, cell.blocked) == (True, None)


@pytest.mark.behaviour("cells-11")
def test_a_cell_that_was_opened_and_is_given_up_awaits_inspection_and_one_that_was_not_is_free() -> None:
    core = Core()
    opened, shut = core.reserve(), core.reserve()
    core.opens(core.command(opened, Purpose.OPEN_DOOR))
    core.close(opened.cell)
    for reservation in (opened, shut):
        core.feed(core.cancel(reservation))
    statuses = [core.state.cells[reservation.cell].status for reservation in (opened, shut)]
    assert statuses == [CellStatus.AWAITING_INSPECTION, CellStatus.IDLE]


@pytest.mark.behaviour("cells-13", "cells-14")
def test_a_parcel_may_fill_the_cell_to_the_last_millimetre_and_gram_and_is_never_turned_on_its_side() -> None:
    exact = Packaging(width_mm=350, height_mm=150, depth_mm=450, mass_g=5_000)
    for good in (exact, replace(exact, width_mm=450, depth_mm=350)):
        assert locker(small("A01")).reserve(good).cell == "A01"
    for bad in (
        replace(exact, width_mm=351),
        replace(exact, height_mm=151),
        replace(exact, depth_mm=451),
        replace(exact, mass_g=5_001),
        Packaging(width_mm=100, height_mm=350, depth_mm=100),
    ):
        with pytest.raises(Exception, match="no cell of this machine fits"):
            locker(small("A01")).reserve(bad)


@pytest.mark.behaviour("cells-15")
@pytest.mark.parametrize("ability", ["heating", "cooling"])
def test_a_heated_or_chilled_parcel_gets_no_other_cell(ability: str) -> None:
    other = {"heating": "cooling", "cooling": "heating"}[ability]
    parcel = replace(SMALL, **{f"{ability}_required": True})
    with pytest.raises(Exception, match="no cell of this machine fits"):
        locker(small("A01"), small("A02", **{other: True})).reserve(parcel)
    assert locker(small("A01"), small("A02", **{ability: True})).reserve(parcel).cell == "A02"


@pytest.mark.behaviour("cells-16")
def test_features_a_parcel_does_not_need_are_kept_free_even_if_the_cell_is_larger() -> None:
    large = CellSpec("C01", "id_c01", 900, 900, 900, 20_000)
    core = locker(
        small("A01", heating=True), small("A02", cooling=True), small("A03", weight_sensor=True), large
    )
    assert core.reserve().cell == "C01"
    core = locker(small("A01", heating=True, weight_sensor=True), small("A02", heating=True))
    assert core.reserve(replace(SMALL, heating_required=True)).cell == "A02"


@pytest.mark.behaviour("cells-17", "cells-19")
def test_then_the_smallest_volume_decides_and_last_the_label() -> None:
    flat = CellSpec("Z01", "id_z01", 350, 140, 450, 5_000)
    core = locker(small("B02"), small("B01"), flat)
    assert [core.reserve().cell for _ in range(3)] == ["Z01", "B01", "B02"]


@pytest.mark.behaviour("cells-17", "cells-18")
def test_among_equals_the_least_worn_and_only_among_equals() -> None:
    flat = CellSpec("Z01", "id_z01", 350, 140, 450, 5_000)
    core = locker(small("A01"), small("A02"), flat)
    worn = [core.reserve() for _ in range(2)]
    assert [reservation.cell for reservation in worn] == ["Z01", "A01"]
    for reservation in worn:
        core.opens(core.command(reservation, Purpose.OPEN_DOOR))
        core.close(reservation.cell)
        core.feed(core.cancel(reservation))
        core.clear(reservation.cell)
    assert [core.reserve().cell for _ in range(3)] == ["Z01", "A02", "A01"]


@pytest.mark.behaviour("cells-21")
def test_occupancy_counts_what_reservations_keep_and_nothing_else() -> None:
    core = locker(*(small(f"A{number:02}") for number in range(1, 11)))

    def level() -> Occupancy:
        return occupancy(core.state.cells.values())

    core.feed(BlockCell(core.key(), "A09", "smells"))
    core.feed(DeviceHealth("locks_b", False, ("A10",)))
    assert level() is Occupancy.LOW
    reserved = [core.reserve() for _ in range(3)]
    assert level() is Occupancy.LOW
    core.reserve()
    assert level() is Occupancy.MEDIUM
    core.opens(core.command(reserved[0], Purpose.OPEN_DOOR))
    core.close(reserved[0].cell)
    core.feed(core.cancel(reserved[0]))
    assert core.state.cells[reserved[0].cell].status is CellStatus.AWAITING_INSPECTION
    assert level() is Occupancy.MEDIUM
    core.clear(reserved[0].cell)
    assert level() is Occupancy.LOW


@pytest.mark.behaviour("cells-21")
@pytest.mark.parametrize(
    ("taken", "level"),
    [(30, "LOW"), (31, "MEDIUM"), (70, "MEDIUM"), (71, "HIGH"), (95, "HIGH"), (96, "OVERLOADED")],
)
def test_the_levels_of_occupancy_are_those_of_the_reference(taken: int, level: str) -> None:
    cell = Core().state.cells["A01"]
    cells = [replace(cell, status=CellStatus.OCCUPIED if n < taken else CellStatus.IDLE) for n in range(100)]
    assert occupancy(cells) is Occupancy[level]
