"""Changes the status or the cell of a reservation: always by a rule of the table in `transitions`."""

from __future__ import annotations

from typing import Any

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    Alarm,
    Cell,
    CellCause,
    CellStatus,
    Door,
    Instant,
    Reservation,
    ReservationStatus,
    Source,
    UnlockOutcome,
)
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine import weight
from edge_agent.statemachine.doors import contact
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import (
    LIVE,
    OVER,
    STATUS,
    TABLE,
    WHY_NOT,
    WINDOWS,
    CellTrigger,
    Guard,
    Phase,
    Refused,
    Rule,
    Trigger,
    Window,
)

NS = 10**9
LARGER_CELL_S = 60
"""How long after its door opened for a drop-off a cell may be exchanged for a larger one."""
FRESH = {
    "opened_since_allocation": False,
    "unlocked_since_allocation": False,
    "outcome_unknown": False,
    "inspect_unless_empty": False,
    "last_outcome": None,
    "unverified": False,
}
"""Fields of a cell that are reset when it is allocated or released."""


def within(since: Instant | None, grace_s: int, now: Instant) -> bool:
    """Whether a grace of `grace_s` seconds that began at `since` still runs; False if the elapsed time is
    unknown."""
    if since is None:
        return False
    elapsed_ns = since.elapsed_ns(now)
    return elapsed_ns is not None and elapsed_ns <= grace_s * NS


def holds(guard: Guard, reservation: Reservation, cell: Cell, now: Instant) -> bool:
    """Whether a guard of the table is met; `cell` is the reservation's, also if the reservation is over."""
    match guard:
        case Guard.DROPOFF_HAS_DOOR:
            return reservation.dropoff_opened
        case Guard.NO_DROPOFF_HAS_DOOR:
            return not reservation.dropoff_opened
        case Guard.NO_DROPOFF_YET:
            return reservation.first_dropoff is None
        case Guard.WITHIN_DROPOFF_GRACE:
            known = not reservation.grace_unknown
            return known and within(reservation.first_dropoff, reservation.grace_dropoff_s, now)
        case Guard.WITHIN_PICKUP_GRACE:
            known = not reservation.grace_unknown
            return known and within(reservation.picked_up, reservation.grace_pickup_s, now)
        case Guard.DOOR_SEEN_CLOSED:
            return cell.door is Door.CLOSED and cell.answering
        case Guard.NEVER_OPENED:
            return not cell.opened_since_allocation or (cell.empty is True and not cell.outcome_unknown)
        case Guard.CELL_NOT_GIVEN_AGAIN:
            return cell.reservation_id in (None, reservation.reservation_id)
        case Guard.IN_A_WINDOW:
            return open_window(reservation, cell, now) is not None
        case Guard.ENDS_BY_CLEAR:
            picked_up = reservation.picked_up
            return picked_up is not None and (reservation.held or picked_up.elapsed_ns(now) is None)
        case Guard.CELL_TOO_SMALL:
            door_open = cell.door is Door.OPEN and cell.answering and contact.believed_open(cell)
            first = reservation.dropoff_opened and not reservation.larger_than
            return first and door_open and within(cell.open_since, LARGER_CELL_S, now)
        case Guard.NEVER_UNLOCKED:
            return not cell.unlocked_since_allocation or (cell.empty is True and not cell.outcome_unknown)


def open_window(reservation: Reservation, cell: Cell, now: Instant) -> Window | None:
    """The first of the API's five windows (`WINDOWS`) that is open for an open-door now; None if none is."""
    phase = phase_in(reservation, cell)
    for window in WINDOWS:
        if phase in window.phases and (window.guard is None or holds(window.guard, reservation, cell, now)):
            return window
    return None


def phase_in(reservation: Reservation, cell: Cell) -> Phase:
    """The phase of a reservation; it is over when it does not hold its cell."""
    if cell.reservation_id == reservation.reservation_id:
        return LIVE[reservation.status]
    return OVER[reservation.status]


def rule_for(builder: StepBuilder, reservation: Reservation, trigger: Trigger) -> Rule | None:
    """The rule that applies now; None if the table has none or its guard is not met."""
    cell = builder.cells[reservation.cell]
    entry = TABLE[phase_in(reservation, cell), trigger]
    if not isinstance(entry, Rule):
        return None
    if entry.guard is not None and not holds(entry.guard, reservation, cell, builder.now):
        return None
    return entry


def require_rule(builder: StepBuilder, reservation: Reservation, trigger: Trigger) -> Rule:
    """The rule for a command. Raises `Refusal` with the reason against it."""
    cell = builder.cells[reservation.cell]
    entry = TABLE[phase_in(reservation, cell), trigger]
    if not isinstance(entry, Rule):
        raise refusal(trigger, entry.why, entry.code if isinstance(entry, Refused) else None)
    if entry.guard is not None and not holds(entry.guard, reservation, cell, builder.now):
        raise refusal(trigger, WHY_NOT[entry.guard])
    return entry


def find_for_command(
    builder: StepBuilder, reservation_id: str, ended: ReservationStatus | None, command: Trigger
) -> Reservation:
    """The reservation of a command: a live one or, if the table allows the command then (open-door), a
    completed one whose cell was not allocated since.

    `ended` is its last status if it is over. Raises `Refusal` with the table's reason if there is none.
    """
    reservation = builder.reservations.get(reservation_id)
    if reservation is not None:
        return reservation
    for former in builder.former.values():
        if former.reservation_id == reservation_id:
            require_rule(builder, former, command)
            return former
    entry = TABLE[Phase.NONE if ended is None else OVER[ended], command]
    if isinstance(entry, Refused):
        raise refusal(command, entry.why, entry.code)
    assert isinstance(entry, Rule)
    assert entry.guard is not None
    raise refusal(command, WHY_NOT[entry.guard])


def refusal(command: Trigger, why: str, code: Code | None = None) -> Refusal:
    """Makes the refusal of a command."""
    if code is Code.NOT_FOUND:
        return Refusal(Code.NOT_FOUND, why)
    return Refusal(Code.NOT_ALLOWED if code is None else code, f"{command} not allowed: {why}")


def enter(builder: StepBuilder, reservation: Reservation, request_key: str) -> None:
    """A new reservation takes its cell. Raises `Refusal` if the cell cannot be allocated."""
    rule = TABLE[Phase.NONE, Trigger.RESERVE]
    assert isinstance(rule, Rule)
    assert rule.cell is not None
    assert rule.fact is not None
    rid = reservation.reservation_id
    cells.change_status(builder, reservation.cell, rule.cell, reservation_id=rid, **FRESH)
    builder.put("reservations", rid, reservation)
    builder.add_fact(rule.fact, reservation, source=Source.API, request_key=request_key)


def apply_rule(
    builder: StepBuilder,
    reservation: Reservation,
    trigger: Trigger,
    *,
    source: Source = Source.MACHINE,
    request_key: str | None = None,
    outcome: UnlockOutcome | None = None,
    recovered: bool = False,
    at: Instant | None = None,
    actor: str = "",
    **changes: Any,
) -> Reservation | None:
    """Changes a reservation by the rule for `trigger`, with `changes` to its fields; None if no rule applies.

    `at` is the time of the event, if not now; `actor` the technician who decided it.

    Also changes the cell's status, adds the rule's fact, and ends the reservation if the rule requires it.
    """
    rule = rule_for(builder, reservation, trigger)
    if rule is None:
        return None
    changed = builder.change_reservation(reservation, status=STATUS[rule.to], **changes)
    if rule.fact is not None:
        builder.add_fact(
            rule.fact,
            changed,
            at=builder.now if at is None else at,
            source=source,
            request_key=request_key,
            outcome=outcome,
            recovered=recovered,
            actor=actor or None,
        )
    if rule.to in (Phase.COMPLETED, Phase.CANCELLED, Phase.ABANDONED):
        _end(builder, changed, rule)
    elif rule.cell is not None:
        cells.change_status(builder, changed.cell, rule.cell)
    return changed


def _end(builder: StepBuilder, reservation: Reservation, rule: Rule) -> None:
    builder.put("reservations", reservation.reservation_id, None)
    builder.ended.append(reservation)
    builder.retire_code(reservation.drop_off_code)
    builder.retire_code(reservation.pickup_code)
    if rule.to is Phase.COMPLETED:
        builder.put("former", reservation.cell, reservation)
        weight.left_behind(builder, reservation.cell)
    for alarm in (Alarm.EMPTY_DROPOFF, Alarm.WEIGHT_CHANGED, Alarm.TEMPERATURE_OUT_OF_RANGE):
        builder.clear_alarm(alarm, reservation.cell, cell=reservation.cell)
    assert rule.cell is not None
    cell = cells.change_status(
        builder,
        reservation.cell,
        rule.cell,
        reservation_id=None,
        **FRESH,
    )
    builder.put("unconfirmed", reservation.cell, None)
    if cell.status is not CellStatus.IDLE:
        builder.add_cell_fact(reservation.cell, CellCause.RELEASED)


def give_other_cell(
    builder: StepBuilder,
    reservation: Reservation,
    label: str,
    trigger: Trigger = Trigger.MOVED,
    **changes: Any,
) -> Reservation | None:
    """Gives a reservation with nothing in its cell the free cell `label` instead, with `changes` to its other
    fields; None if it may not move.

    The old cell awaits inspection unless it is known to be empty and in order.
    """
    rule = rule_for(builder, reservation, trigger)
    if rule is None:
        return None
    assert rule.cell is not None
    left = cells.change_status(builder, reservation.cell, rule.cell, reservation_id=None, **FRESH)
    builder.put("unconfirmed", reservation.cell, None)
    if left.status is not CellStatus.IDLE:
        builder.add_cell_fact(reservation.cell, CellCause.RELEASED)
    cells.change_status(builder, label, CellTrigger.TAKEN, reservation_id=reservation.reservation_id, **FRESH)
    moved = builder.change_reservation(reservation, cell=label, **changes)
    builder.add_cell_fact(label, CellCause.MOVED, reservation=moved)
    return moved
