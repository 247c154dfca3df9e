"""Which cell a parcel gets, where accessibility or the room of another cell counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import CellSpec, Door, Purpose
from edge_agent.statemachine.allocation import is_larger
from edge_agent.statemachine.inputs import DoorRead, PulseDone, Reserve
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, Core, specs


def locker(*low: str) -> Core:
    """A locker whose cells with these labels are within reach of a person in a wheelchair."""
    return Core(Layout(specs={spec.label: replace(spec, low=spec.label in low) for spec in specs()}))


def test_an_accessible_reservation_gets_a_cell_within_reach() -> None:
    core = locker("A02", "C01")
    assert core.reserve(accessible=True).cell == "A02"
    assert core.reserve(accessible=True).cell == "C01"


def test_an_accessible_reservation_gets_no_cell_out_of_reach() -> None:
    core = locker("A02")
    core.reserve(accessible=True)
    given = Reserve("k", "res_x", "p", "o", SMALL, ("1234", "5678"), accessible=True)
    refusal = core.refused(given)
    assert (refusal.code, refusal.info and refusal.info.reason) == (Code.NO_CELL, "ALL_TAKEN")
    refusal = locker().refused(given)
    assert (refusal.code, refusal.info and refusal.info.reason) == (Code.NO_CELL, "NOTHING_FITS")


def test_of_two_equal_cells_the_one_out_of_reach_is_given_first() -> None:
    core = locker("A01")
    assert [core.reserve().cell for _ in range(3)] == ["A02", "A01", "C01"]


def test_an_accessible_reservation_whose_lock_jams_moves_to_a_cell_within_reach() -> None:
    core = locker("A01", "B01")
    reservation = core.reserve(accessible=True)
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    for number in (1, 2, 3):
        core.feed(PulseDone(command.unlock_id, number, Door.CLOSED))
    assert core.live(reservation).cell == "B01"


@pytest.mark.parametrize(
    ("size", "larger"),
    [
        ((350, 150, 450), False),
        ((450, 150, 350), False),
        ((350, 151, 450), True),
        ((450, 151, 350), True),
        ((351, 150, 450), True),
        ((349, 900, 900), False),
        ((340, 900, 340), False),
        ((900, 149, 900), False),
    ],
)
def test_a_cell_is_larger_if_it_is_smaller_in_no_direction(size: tuple[int, int, int], larger: bool) -> None:
    assert is_larger(CellSpec("B", "b", *size, 1), CellSpec("A", "a", 350, 150, 450, 1)) is larger
