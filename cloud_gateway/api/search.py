"""Which machines are near, and whether a parcel fits; pure."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

from edge_agent.model import CellStatus, Packaging
from edge_agent.protocol.api import CellDetail, CellInformation, Machine

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the earth (IUGG)."""


def distance_m(latitude: float, longitude: float, machine: Machine) -> float:
    """Great-circle distance in metres (haversine formula)."""
    here, there = radians(latitude), radians(machine.latitude)
    north, east = there - here, radians(machine.longitude - longitude)
    half = sin(north / 2) ** 2 + cos(here) * cos(there) * sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(sqrt(min(1.0, half)))


def fits(parcel: Packaging, cell: CellDetail) -> bool:
    """See `Packaging.fits`. A machine that does not publish its weight limits checks them itself."""
    return parcel.fits(
        cell.width,
        cell.height,
        cell.depth,
        heating=cell.heating,
        cooling=cell.cooling,
        max_mass_g=cell.max_weight,
    )


def is_free(cell: CellDetail) -> bool:
    """Whether a cell can be reserved, by the machine's last published state."""
    if cell.available is not None:
        return cell.available
    return cell.status is CellStatus.IDLE and not cell.blocked and not cell.faulty


def suits(machine: Machine, parcel: Packaging | None, *, only_available: bool) -> bool:
    """Whether a machine has a cell for the parcel (for any parcel if None), now or in principle."""
    if only_available and not machine.online:
        return False
    return any(
        (parcel is None or fits(parcel, cell)) and (not only_available or is_free(cell))
        for cell in machine.all_cells
    ) or (parcel is None and not only_available)


def preferred_now(machine: Machine) -> list[CellInformation]:
    """The preferred cells without the kinds that have no free cell left."""
    free = {_kind(cell) for cell in machine.all_cells if cell.status is CellStatus.IDLE and is_free(cell)}
    return [cell for cell in machine.preferred_cells if _kind(cell) in free]


def _kind(cell: CellInformation) -> tuple[object, ...]:
    return (cell.width, cell.height, cell.depth, cell.heating, cell.cooling, cell.weight_sensor)
