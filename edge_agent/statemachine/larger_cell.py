"""Exchanges the cell of a drop-off for a larger one: its door stands open, and the parcel does not fit.

Once per reservation, and within `LARGER_CELL_S` after the door opened. The old cell stands open with nobody's
reservation: it awaits inspection, unless a scale proves it empty after it is closed.
"""

from __future__ import annotations

from edge_agent.errors import Code, ErrorInfo, Refusal
from edge_agent.model import Alarm, Instant, Purpose, Reservation, Source, UnlockAttempt
from edge_agent.statemachine import allocation
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.doors import outcome, unlocking
from edge_agent.statemachine.inputs import ENTRY_LIFE_NS, LargerCell
from edge_agent.statemachine.reservation import (
    LARGER_CELL_S,
    NS,
    find_for_command,
    give_other_cell,
    require_rule,
    rule_for,
)
from edge_agent.statemachine.state import Layout, LockerState
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import Trigger

NO_LARGER_CELL = ErrorInfo("NO_LARGER_CELL", {})
"""The reason for programs."""


def give(builder: StepBuilder, given: LargerCell) -> None:
    """Moves a reservation to the larger cell that suits best, and queues the opening of its door.

    Raises `Refusal`: `NOT_FOUND`, `NOT_ALLOWED`, or `NO_CELL` if no larger cell is free. Nothing has changed
    then.
    """
    asked_ns = builder.now.boottime_ns if given.asked_ns is None else given.asked_ns
    if builder.now.boottime_ns > asked_ns + ENTRY_LIFE_NS:
        raise Refusal(Code.EXPIRED, "too late: ask for a larger cell again")
    reservation = find_for_command(builder, given.reservation_id, given.ended, Trigger.LARGER_CELL)
    too_small = reservation.cell
    outcome.refuse_while_busy(builder, too_small)
    require_rule(builder, reservation, Trigger.LARGER_CELL)
    if f"{Alarm.WRONG_DOOR}/{too_small}" in builder.alarms:
        why = f"another door opened in place of that of cell {too_small}; call for help"
        raise Refusal(Code.NOT_ALLOWED, why, info=ErrorInfo("WRONG_DOOR", {"cell": too_small}))
    label = _larger(builder, reservation)
    for alarm in (Alarm.EMPTY_DROPOFF, Alarm.WEIGHT_CHANGED):
        builder.clear_alarm(alarm, too_small, cell=too_small)
    moved = give_other_cell(
        builder,
        reservation,
        label,
        Trigger.LARGER_CELL,
        dropoff_opened=False,
        to_be_weighed=False,
        larger_than=too_small,
    )
    assert moved is not None
    builder.change_cell(too_small, inspect_unless_empty=True)
    outcome.end_former(builder, label)
    unlock = UnlockAttempt(
        unlock_id=given.unlock_id,
        reservation_id=moved.reservation_id,
        cell=label,
        purpose=Purpose.DROPOFF,
        source=Source.MACHINE,
        stage="waiting",
        expires_ns=asked_ns + ENTRY_LIFE_NS,
        request_key=given.request_key,
    )
    unlocking.accept(builder, unlock)


def _larger(builder: StepBuilder, reservation: Reservation) -> str:
    """The label of the cell to give. Raises `Refusal` (`NO_CELL`) if no larger one is free."""
    try:
        return allocation.allocate_for(builder, amend(reservation, larger_than=reservation.cell)).label
    except Refusal:
        raise Refusal(Code.NO_CELL, "no larger cell is free", info=NO_LARGER_CELL) from None


def offer_left_s(state: LockerState, layout: Layout, reservation_id: str, now: Instant) -> int:
    """For how many more whole seconds a larger cell is given; 0 if none is free, or if none may be given."""
    builder = StepBuilder(state, layout, now)
    reservation = builder.reservations.get(reservation_id)
    if reservation is None or rule_for(builder, reservation, Trigger.LARGER_CELL) is None:
        return 0
    since = builder.cells[reservation.cell].open_since
    elapsed_ns = None if since is None else since.elapsed_ns(now)
    if elapsed_ns is None:
        return 0
    try:
        _larger(builder, reservation)
    except Refusal:
        return 0
    return max(0, LARGER_CELL_S - elapsed_ns // NS)
