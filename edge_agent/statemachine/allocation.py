"""Chooses the cell for a parcel."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

from edge_agent.errors import Code, ErrorInfo, Refusal
from edge_agent.model import Cell, CellSpec, Packaging, Reservation
from edge_agent.statemachine.cell import IDLE, allocatable
from edge_agent.statemachine.step_builder import StepBuilder

ALL_TAKEN = ErrorInfo("ALL_TAKEN", {})
NOTHING_FITS = ErrorInfo("NOTHING_FITS", {})
"""Reasons for programs: a later call may succeed, or no call for such a parcel at this machine ever will."""


def fits(spec: CellSpec, packaging: Packaging) -> bool:
    """Whether the parcel fits into a cell, see `Packaging.fits`."""
    return packaging.fits(
        spec.width_mm,
        spec.height_mm,
        spec.depth_mm,
        heating=spec.heating,
        cooling=spec.cooling,
        max_mass_g=spec.max_mass_g,
    )


def is_larger(spec: CellSpec, than: CellSpec) -> bool:
    """Whether a cell has more room than another one, and is smaller in no direction when the parcel is turned
    about the vertical axis."""
    room = sorted((spec.width_mm, spec.depth_mm))
    needed = sorted((than.width_mm, than.depth_mm))
    in_no_direction = room[0] >= needed[0] and room[1] >= needed[1] and spec.height_mm >= than.height_mm
    return in_no_direction and spec.volume_mm3 > than.volume_mm3


def scarcity(spec: CellSpec, packaging: Packaging) -> int:
    """How many abilities the cell has that this parcel does not need."""
    spare = spec.heating and not packaging.heating_required
    return spare + (spec.cooling and not packaging.cooling_required) + spec.weight_sensor


def allocate_for(builder: StepBuilder, reservation: Reservation) -> Cell:
    """Another cell for a reservation: it fits the parcel, is as accessible as requested, and larger than the
    cell that was too small. Raises `Refusal`, see `allocate`."""
    too_small = builder.layout.specs.get(reservation.larger_than)
    return allocate(builder, reservation.packaging, accessible=reservation.accessible, larger_than=too_small)


def allocate(
    builder: StepBuilder,
    packaging: Packaging,
    *,
    accessible: bool = False,
    larger_than: CellSpec | None = None,
) -> Cell:
    """The free cell that suits best: no scarcer than needed, then least volume, least worn, label.

    `accessible`: only a cell that is `low` suits. Otherwise, of cells with the same volume, those that are
    not `low` come first. Raises `Refusal` (`NO_CELL`) with the reason: nothing fits at
    all, or all that fit are taken.
    """
    ranked = sorted(
        (scarcity(spec, packaging), spec.volume_mm3, spec.low, labels)
        for spec, labels in builder.layout.kinds
        if fits(spec, packaging)
        and (spec.low or not accessible)
        and (larger_than is None or is_larger(spec, larger_than))
    )
    busy = {unlock.cell for unlock in builder.unlock_attempts.values() if unlock.stage != "waiting"}
    for _, alike in groupby(ranked, key=itemgetter(0, 1, 2)):
        cells = [builder.cells[label] for *_, labels in alike for label in labels]
        idle = [cell for cell in cells if cell.status is IDLE]
        free = [
            (cell.pulse_count, cell.label) for cell in idle if allocatable(cell) and cell.label not in busy
        ]
        if free:
            return builder.cells[min(free)[1]]
    if ranked:
        taken = "every cell that fits the parcel is taken or out of order"
        raise Refusal(Code.NO_CELL, taken, info=ALL_TAKEN)
    raise Refusal(Code.NO_CELL, "no cell of this machine fits the parcel", info=NOTHING_FITS)
