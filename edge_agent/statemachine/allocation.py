"""Which cell a parcel gets."""

from __future__ import annotations

from edge_agent.errors import Code, Refusal
from edge_agent.model import Cell, CellSpec, Packaging
from edge_agent.statemachine.cell import allocatable
from edge_agent.statemachine.turn import Turn


def fits(spec: CellSpec, packaging: Packaging) -> bool:
    """Whether the parcel goes in, upright and turned about the vertical axis at will."""
    if packaging.height_mm > spec.height_mm or packaging.mass_g > spec.max_mass_g:
        return False
    if (packaging.heating_required and not spec.heating) or (packaging.cooling_required and not spec.cooling):
        return False
    parcel = sorted((packaging.width_mm, packaging.depth_mm))
    inside = sorted((spec.width_mm, spec.depth_mm))
    return parcel[0] <= inside[0] and parcel[1] <= inside[1]


def scarcity(spec: CellSpec, packaging: Packaging) -> int:
    """How many abilities the cell has that this parcel does not ask for."""
    spare = spec.heating and not packaging.heating_required
    return spare + (spec.cooling and not packaging.cooling_required) + spec.weight_sensor


def allocate(turn: Turn, packaging: Packaging) -> Cell:
    """The free cell that suits best: no scarcer than needed, then least volume, least worn, label.

    Raises `Refusal` with code 8 saying whether nothing fits at all or all that fit are taken.
    """
    fitting = [spec for spec in turn.layout.specs.values() if fits(spec, packaging)]
    if not fitting:
        raise Refusal(Code.NO_CELL, "no cell of this machine fits the parcel")
    free = [spec for spec in fitting if allocatable(turn.cells[spec.label])]
    if not free:
        raise Refusal(Code.NO_CELL, "every cell that fits the parcel is taken or out of order")
    best = min(
        free,
        key=lambda spec: (
            scarcity(spec, packaging),
            spec.volume_mm3,
            turn.cells[spec.label].unlocks,
            spec.label,
        ),
    )
    return turn.cells[best.label]
