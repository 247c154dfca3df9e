"""What must be true after every step; a violation is a fault of the program."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.errors import InvariantBroken
from edge_agent.model import TECHNICIAN_PURPOSES, CellStatus, Reservation, ReservationStatus
from edge_agent.statemachine.cell import AWAITING
from edge_agent.statemachine.state import Layout, LockerState

CELL_STATUS: dict[ReservationStatus, CellStatus] = {
    ReservationStatus.PENDING: CellStatus.RESERVED,
    ReservationStatus.DROPPED_OFF: CellStatus.OCCUPIED,
    ReservationStatus.PICKED_UP: CellStatus.IN_GRACE,
}
"""The use of a live reservation's cell."""

INVARIANTS = {
    "one reservation per cell": "A cell is held by at most one reservation; a live reservation holds exactly "
    "one cell.",
    "cell status": "A held cell is RESERVED while its reservation is PENDING, OCCUPIED while DROPPED_OFF, "
    "IN_GRACE while PICKED_UP; one that nobody holds is IDLE or awaits somebody.",
    "codes": "The drop-off and pick-up codes of all live reservations differ from each other.",
    "one unlock per cell": "At most one unlock is at work on a cell, from its turn to its outcome; until "
    "then every other command on that cell is refused, and the cell is given to nobody.",
    "concurrent unlocks": "At most `max_concurrent_unlocks` are at work; the others queue in order and are "
    "judged again when their turn comes.",
    "unlock for the holder": "An unlock is only ever at work for the reservation that holds the cell, or "
    "that had it last while nobody got it since; or a technician opens the cell by hand.",
    "former reservation": "Only a completed reservation is remembered as a cell's last, and only until the "
    "cell is given again.",
}
"""The rules about cells, reservations and unlocks together, by the name that a violation is reported
with."""


def check(state: LockerState, layout: Layout, changed: Iterable[tuple[str, str]] | None = None) -> None:
    """Raises `InvariantBroken` if the state contradicts itself.

    With `changed` only those entries are checked, so that the cost depends on the change and not on the size
    of the locker; without it, everything is.
    """
    if changed is None:
        changed = [(kind, key) for kind in CHECKS for key in getattr(state, kind)]
        _check_unlocks(state, layout)
    unlocks_changed = False
    for kind, key in changed:
        unlocks_changed = unlocks_changed or kind == "unlock_attempts"
        check_entry = CHECKS.get(kind)
        if check_entry is not None and key in getattr(state, kind):
            check_entry(state, key)
    if unlocks_changed:
        _check_unlocks(state, layout)


def _require(condition: bool, rule: str, message: str) -> None:
    if not condition:
        raise InvariantBroken(f"{rule}: {message}")


def _check_cell(state: LockerState, label: str) -> None:
    cell = state.cells[label]
    if cell.reservation_id is None:
        free = (CellStatus.IDLE, *AWAITING)
        _require(
            cell.status in free,
            "cell status",
            f"cell {label} is {cell.status} without a reservation",
        )
        return
    holder = state.reservations.get(cell.reservation_id)
    _require(
        holder is not None,
        "one reservation per cell",
        f"cell {label} is held by {cell.reservation_id}, which is over",
    )
    assert holder is not None
    _require(
        holder.cell == label, "one reservation per cell", f"the holder of cell {label} has cell {holder.cell}"
    )
    wanted = CELL_STATUS.get(holder.status)
    _require(
        cell.status is wanted,
        "cell status",
        f"cell {label} is {cell.status}, its parcel {holder.status}",
    )


def _check_reservation(state: LockerState, rid: str) -> None:
    reservation = state.reservations[rid]
    _require(
        reservation.status in CELL_STATUS,
        "one reservation per cell",
        f"reservation {rid} is over but not removed",
    )
    holder = state.cells[reservation.cell].reservation_id
    _require(holder == rid, "one reservation per cell", f"reservation {rid} has lost its cell")
    if reservation.first_dropoff is None:  # codes never change: checking them while it is young is enough
        _check_codes(state, reservation)


def _check_codes(state: LockerState, reservation: Reservation) -> None:
    live = state.reservations.values()
    if len({r.drop_off_code for r in live} | {r.pickup_code for r in live}) == 2 * len(live):
        return
    codes = (reservation.drop_off_code, reservation.pickup_code)
    _require(codes[0] != codes[1], "codes", f"reservation {reservation.reservation_id} has one code for both")
    for other in live:
        if other is not reservation and (other.drop_off_code in codes or other.pickup_code in codes):
            both = f"{reservation.reservation_id} and {other.reservation_id}"
            raise InvariantBroken(f"codes: reservations {both} share one")


def _check_former(state: LockerState, label: str) -> None:
    former = state.former[label]
    fits = former.cell == label and former.status is ReservationStatus.PICKED_UP
    _require(fits, "former reservation", f"cell {label} cannot have been left by {former.reservation_id}")
    _require(state.cells[label].reservation_id is None, "former reservation", f"cell {label} is held again")


def _check_unlocks(state: LockerState, layout: Layout) -> None:
    busy: set[str] = set()
    for unlock in state.unlock_attempts.values():
        if unlock.stage == "waiting":
            queued = unlock.unlock_id in state.queue
            _require(queued, "concurrent unlocks", f"unlock {unlock.unlock_id} waits but is not queued")
            continue
        _require(unlock.cell not in busy, "one unlock per cell", f"two unlocks at work on cell {unlock.cell}")
        busy.add(unlock.cell)
        holder = state.cells[unlock.cell].reservation_id
        if holder is None and unlock.cell in state.former:
            holder = state.former[unlock.cell].reservation_id
        own = holder == unlock.reservation_id or unlock.purpose in TECHNICIAN_PURPOSES
        _require(own, "unlock for the holder", f"the unlock of cell {unlock.cell} is not for its holder")
    many = state.active_unlocks() <= layout.max_concurrent_unlocks
    _require(many, "concurrent unlocks", "more locks at work than allowed")
    lost = [unlock_id for unlock_id in state.queue if unlock_id not in state.unlock_attempts]
    _require(not lost, "concurrent unlocks", f"the queue holds {lost}, which are over")


CHECKS = {"cells": _check_cell, "reservations": _check_reservation, "former": _check_former}
