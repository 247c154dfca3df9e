"""A technician's verdict on a cell whose state no sensor can show (`edge-agent resolve`)."""

from __future__ import annotations

from typing import Any

from edge_agent.errors import Code, Refusal
from edge_agent.model import Alarm, Cell, CellCause, Door, Reservation, ReservationStatus, Verdict
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.doors import contact, outcome, unconfirmed
from edge_agent.statemachine.inputs import Resolve
from edge_agent.statemachine.reservation import apply_rule, require_rule
from edge_agent.statemachine.state import attempt_on
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import RESOLUTIONS


def resolve(builder: StepBuilder, given: Resolve) -> None:
    """Changes the reservation of a cell in doubt according to the technician's verdict.

    Raises `Refusal`: `NOT_FOUND` for an unknown cell, `NOT_ALLOWED` if nothing is in doubt, no reservation
    holds the cell, or its status does not fit the verdict.
    """
    cell = cells.find(builder, given.cell)
    working = attempt_on(builder.unlock_attempts, given.cell)
    if working is not None and working.stage != "unresolved":
        outcome.refuse_while_busy(builder, given.cell)
    if working is None and not _uncertain(builder, cell):
        raise Refusal(Code.NOT_ALLOWED, f"cell {given.cell}: nothing about it is in doubt")
    if cell.reservation_id is None:
        raise Refusal(Code.NOT_ALLOWED, f"cell {given.cell}: no reservation holds it")
    trigger = RESOLUTIONS[given.verdict]
    require_rule(builder, builder.reservations[cell.reservation_id], trigger)
    if working is not None:
        outcome.end_unresolved(builder, working)
    unconfirmed.forget(builder, given.cell)
    reservation = builder.reservations[cell.reservation_id]
    changed = apply_rule(
        builder,
        reservation,
        trigger,
        source=given.source,
        actor=given.actor,
        **_changes(builder, given, reservation),
    )
    _record_verdict(builder, given)
    if changed is not None and changed.status is ReservationStatus.ABANDONED:
        outcome.end_waiting(builder, changed, "the reservation's cell was found empty before its turn came")
    builder.answer(given.request_key, cell=given.cell)


def _uncertain(builder: StepBuilder, cell: Cell) -> bool:
    """Whether anything about the cell is in doubt that a technician can decide."""
    alarms = (Alarm.LOCK_JAMMED, Alarm.WRONG_DOOR, Alarm.DOOR_AJAR)
    standing = any(f"{alarm}/{cell.label}" in builder.alarms for alarm in alarms)
    return standing or cell.contact_doubt is not None or cell.last_outcome is not None


def _changes(builder: StepBuilder, given: Resolve, reservation: Reservation) -> dict[str, Any]:
    """The verdict's changes to the reservation, besides its status; and to its cell, before it is
    released."""
    match given.verdict:
        case Verdict.DROPPED_OFF:
            return {"dropped_off": builder.now, "dropoff_opened": False, "to_be_weighed": False}
        case Verdict.PICKED_UP:
            return {"picked_up": builder.now, "grace_unknown": False, "to_be_weighed": False}
        case Verdict.STILL_INSIDE:
            return {"held": reservation.status is ReservationStatus.PICKED_UP}
        case Verdict.EMPTY:
            builder.change_cell(
                given.cell,
                opened_since_allocation=False,
                unlocked_since_allocation=False,
                outcome_unknown=False,
                inspect_unless_empty=False,
            )
            return {"dropoff_opened": False, "to_be_weighed": False}


def _record_verdict(builder: StepBuilder, given: Resolve) -> None:
    """The last outcome is decided. A door that still reads open is no longer believed."""
    cell = builder.change_cell(given.cell, last_outcome=None)
    if cell.door is Door.OPEN:
        builder.change_cell(given.cell, opened_by_unlock=False)
        contact.doubt(builder, given.cell, "reads open, and a technician has resolved the cell")
    builder.add_cell_fact(
        given.cell, CellCause.RESOLVED, reason=given.verdict, source=given.source, actor=given.actor
    )
