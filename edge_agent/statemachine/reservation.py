"""How a reservation moves: always by a rule of the table in `transitions`."""

from __future__ import annotations

from typing import Any

from edge_agent.errors import Code, Refusal
from edge_agent.model import CellStatus, Instant, Reservation, ReservationStatus, Source, UnlockOutcome
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.transitions import TABLE, Guard, Rule, Trigger
from edge_agent.statemachine.turn import Turn

NS = 10**9

CELL_STATUS: dict[ReservationStatus, CellStatus] = {
    ReservationStatus.PENDING: CellStatus.RESERVED,
    ReservationStatus.DROPPED_OFF: CellStatus.OCCUPIED,
    ReservationStatus.PICKED_UP: CellStatus.IN_GRACE,
}
"""What the cell of a live reservation is used for."""


def within(since: Instant | None, grace_s: int, now: Instant) -> bool:
    """Whether a grace of `grace_s` seconds that began at `since` still runs; an unknown time is no grace."""
    if since is None:
        return False
    elapsed_ns = since.elapsed_ns(now)
    return elapsed_ns is not None and elapsed_ns <= grace_s * NS


def holds(guard: Guard, reservation: Reservation, now: Instant) -> bool:
    """Whether a guard of the table is met."""
    match guard:
        case Guard.DROPOFF_HAS_DOOR:
            return reservation.dropoff_opened
        case Guard.NO_DROPOFF_HAS_DOOR:
            return not reservation.dropoff_opened
        case Guard.WITHIN_DROPOFF_GRACE:
            return within(reservation.first_dropoff, reservation.grace_dropoff_s, now)
        case Guard.WITHIN_PICKUP_GRACE:
            return within(reservation.picked_up, reservation.grace_pickup_s, now)


def rule_for(reservation: Reservation, trigger: Trigger, now: Instant) -> Rule | None:
    """The rule that applies now; None if the table has none or its guard is not met."""
    rule = TABLE.get((reservation.status, trigger))
    if rule is None or (rule.guard is not None and not holds(rule.guard, reservation, now)):
        return None
    return rule


def demand(reservation: Reservation, trigger: Trigger, now: Instant) -> Rule:
    """The rule for a wish. Raises `Refusal` with code 9 that says what stands against it."""
    rule = TABLE.get((reservation.status, trigger))
    if rule is None:
        raise not_allowed(trigger, f"the reservation is {status_word(reservation.status)}")
    if rule.guard is not None and not holds(rule.guard, reservation, now):
        raise not_allowed(trigger, f"it is allowed only {_only(rule.guard)}")
    return rule


def _only(guard: Guard) -> str:
    return guard.value if guard.value.startswith("within") else f"while {guard.value}"


def status_word(status: ReservationStatus) -> str:
    """The bare word of a status: `PICKED_UP`."""
    return status.value.removeprefix("RESERVATION_STATUS_")


def not_allowed(trigger: Trigger, why: str) -> Refusal:
    """Code 9 for a wish."""
    wish = trigger.value.removesuffix(" asked for")
    return Refusal(Code.NOT_ALLOWED, f"{wish} not allowed: {why}")


def apply(
    turn: Turn,
    reservation: Reservation,
    trigger: Trigger,
    *,
    source: Source = Source.MACHINE,
    request_key: str | None = None,
    outcome: UnlockOutcome | None = None,
    recovered: bool = False,
    **changes: Any,
) -> Reservation | None:
    """Moves a reservation by its rule, with `changes` to its fields; None if no rule applies.

    Puts its cell where the new status wants it, tells the rule's fact, and ends the reservation where the
    rule says so.
    """
    rule = rule_for(reservation, trigger, turn.now)
    if rule is None:
        return None
    moved = turn.change_reservation(reservation, status=rule.to, **changes)
    if rule.fact is not None:
        turn.tell(
            rule.fact, moved, source=source, request_key=request_key, outcome=outcome, recovered=recovered
        )
    if rule.ends:
        _end(turn, moved)
    elif turn.cells[moved.cell].status is not CELL_STATUS[moved.status]:
        turn.change_cell(moved.cell, status=CELL_STATUS[moved.status])
    return moved


def _end(turn: Turn, reservation: Reservation) -> None:
    turn.put("reservations", reservation.reservation_id, None)
    turn.ended.append(reservation)
    for code in (reservation.drop_off_code, reservation.pickup_code):
        turn.put("resting_codes", code, None)  # moves to the young end if it was there
        turn.put("resting_codes", code, turn.now)
    cells.release(turn, reservation)
