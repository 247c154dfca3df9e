"""The entry point of the pure core: one input in, one `Step` out."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    CELL_ALARMS,
    Alarm,
    Door,
    Instant,
    Purpose,
    Reservation,
    Source,
    Ticket,
    parse_qr,
)
from edge_agent.statemachine import (
    access,
    allocation,
    board_faults,
    cell,
    climate,
    conditions,
    doors,
    guessing,
    history,
    observing,
    outcome,
    resolving,
    unconfirmed,
    unlocking,
    weight,
)
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.anchor import bring_over
from edge_agent.statemachine.inputs import (
    Abandon,
    BlockCell,
    Boot,
    Cancel,
    Clear,
    ClosingSettled,
    Condition,
    DeviceHealth,
    DoorRead,
    DoorsSeen,
    EnterCode,
    HandCheck,
    HistoryAhead,
    HistoryCompared,
    HistoryLost,
    Input,
    OpenCell,
    OpenFor,
    PulseDone,
    RequestMaintenance,
    Reserve,
    Resolve,
    Restore,
    Tare,
    TemperatureSeen,
    Tick,
    UnblockCell,
    Weighed,
)
from edge_agent.statemachine.invariants import check
from edge_agent.statemachine.reservation import NS, apply, demand, enter, live, rule_for
from edge_agent.statemachine.state import Layout, LockerState, cell_of
from edge_agent.statemachine.transitions import Trigger
from edge_agent.statemachine.turn import Step, Turn

UNSYNCED = f"{Alarm.CLOCK_UNSYNCED}/"


def step(state: LockerState, layout: Layout, given: Input, now: Instant) -> Step:
    """The new state, effects, facts and answers when `given` happens at `now`.

    Raises `Refusal` for a command that is refused, and then nothing has changed; `InvariantBroken` if the
    result would contradict itself.
    """
    turn = Turn(state, layout, now)
    if not history.held_back(turn, given):
        _take(turn, given)
    _what_is_due(turn)
    result = turn.result()
    check(result.state, layout, result.changed)
    return result


def _take(turn: Turn, given: Input) -> None:
    match given:
        case Reserve():
            _reserve(turn, given)
        case OpenFor():
            _open_for(turn, given)
        case OpenCell():
            _open_cell(turn, given)
        case EnterCode():
            _enter_code(turn, given)
        case Cancel():
            _give_up(turn, given, Trigger.CANCEL)
        case Abandon():
            _give_up(turn, given, Trigger.ABANDON)
        case RequestMaintenance():
            _request_maintenance(turn, given)
        case BlockCell() | UnblockCell() | Clear() | Tare():
            _look_after(turn, given)
        case Resolve():
            _refuse_expired(turn, given.expires_ns)
            resolving.resolve(turn, given)
        case DoorRead():
            observing.door_read(turn, given)
        case PulseDone():
            if given.given:
                unlocking.pulse_done(turn, given.unlock_id, given.attempt, given.door, given.acknowledged)
            else:
                unlocking.pulse_lapsed(turn, given.unlock_id, given.attempt)
        case DoorsSeen():
            observing.doors_seen(turn, given)
        case ClosingSettled():
            observing.closing_settled(turn, given)
        case Weighed():
            observing.weighed(turn, given)
        case TemperatureSeen():
            climate.seen(turn, given.cell, given.temperature_c)
        case DeviceHealth():
            observing.device_health(turn, given)
        case Condition():
            conditions.note(turn, given)
        case HandCheck():
            observing.hand_check(turn, given)
        case Restore():
            history.restore(turn, given)
        case HistoryLost():
            history.lost(turn, given)
        case HistoryAhead():
            history.ahead(turn, given)
        case HistoryCompared():
            history.compared(turn, given)
        case Boot():
            _boot(turn, given)
        case Tick():
            pass


def next_due_ns(state: LockerState, layout: Layout, now: Instant) -> int | None:
    """CLOCK_BOOTTIME at which a `Tick` would next do something; None if time alone does nothing.

    A grace whose elapsed time no clock shows is not due; it is checked again when something happens.
    """
    left = [left_ns for _, left_ns in _running_out(state, layout, now)]
    left += [left_ns for _, left_ns in observing.held(state, layout, now)]
    left += doors.left_ns(state, now, layout.door_ajar_ns)
    left += unconfirmed.left_ns(state, now)
    left += climate.left_ns(state, layout, now)
    for way, guesses in state.guesses.items():
        if f"{Alarm.CODE_GUESSING}/{way}" in state.alarms:
            left.append(guessing.rest_left_ns(guesses, now))
    left += conditions.left_ns(state, now)
    due = [now.boottime_ns + max(0, left_ns) for left_ns in left]
    return min(due, default=None)


def _running_out(
    state: LockerState | Turn, layout: Layout, now: Instant
) -> Iterator[tuple[Reservation, int]]:
    """Pick-up graces that end by time alone (door read closed, no ticket working on it).

    Each with its rest in nanoseconds; 0 or less means that it is over.
    """
    for reservation in state.reservations.values():
        if reservation.picked_up is None or reservation.held:
            continue
        place = state.cells[reservation.cell]
        if place.door is not Door.CLOSED or not place.answering or not place.settled:
            continue
        if state.at_work(place.label) is not None:
            continue
        elapsed_ns = reservation.picked_up.elapsed_ns(now)
        if elapsed_ns is not None:
            left_ns = reservation.grace_pickup_s * NS - elapsed_ns + 1
            yield reservation, max(left_ns, weight.waits_ns(layout, place, now))


def _refuse_expired(turn: Turn, expires_ns: int | None) -> None:
    if expires_ns is not None and turn.now.boottime_ns > expires_ns:
        raise Refusal(Code.EXPIRED, "the command expired before its turn came")


def _reserve(turn: Turn, given: Reserve) -> None:
    _refuse_expired(turn, given.expires_ns)
    conditions.refuse_on_a_full_disk(turn)
    if given.ended is not None or given.reservation_id in turn.reservations:
        live_or_over = live(turn, given.reservation_id, given.ended, Trigger.RESERVE)
        demand(turn, live_or_over, Trigger.RESERVE)
    taken = allocation.allocate(turn, given.packaging)
    drop_off_code, pickup_code = access.choose_codes(turn, given.candidate_codes)
    access.forget_rested(turn)
    for code in (drop_off_code, pickup_code):
        turn.wake_code(code)
    reservation = Reservation(
        reservation_id=given.reservation_id,
        platform=given.platform,
        platform_order_id=given.platform_order_id,
        packaging=given.packaging,
        cell=taken.label,
        drop_off_code=drop_off_code,
        pickup_code=pickup_code,
        created=turn.now,
        notes=given.notes,
        webhook_url=given.webhook_url,
        eta_minutes=given.eta_minutes,
        grace_pickup_s=given.grace_pickup_s,
        grace_dropoff_s=given.grace_dropoff_s,
    )
    enter(turn, reservation, given.request_key)
    outcome.take_over(turn, taken.label)
    turn.answer(given.request_key, reservation, taken.label)


def _open_for(turn: Turn, given: OpenFor) -> None:
    reservation = live(turn, given.reservation_id, given.ended, outcome.WISH[given.purpose])
    ticket = Ticket(
        unlock_id=given.unlock_id,
        reservation_id=reservation.reservation_id,
        cell=reservation.cell,
        purpose=given.purpose,
        source=Source.API,
        stage="waiting",
        expires_ns=given.expires_ns,
        request_key=given.request_key,
        reason=given.reason,
        platform_reference_id=given.platform_reference_id,
        echo_id=given.echo_id,
    )
    unlocking.accept(turn, ticket)


def _open_cell(turn: Turn, given: OpenCell) -> None:
    """A technician's command concerns the cell, whichever parcel is in it."""
    cell.find(turn, given.cell)
    asked_ns = turn.now.boottime_ns if given.asked_ns is None else given.asked_ns
    ticket = Ticket(
        unlock_id=given.unlock_id,
        reservation_id="",
        cell=given.cell,
        purpose=given.purpose,
        source=Source.MACHINE,
        stage="waiting",
        expires_ns=asked_ns + ENTRY_LIFE_NS,
        request_key=given.request_key,
        reason=given.reason,
        actor=given.actor,
    )
    unlocking.accept(turn, ticket)


def _enter_code(turn: Turn, given: EnterCode) -> None:
    """A wrong code is answered with "not valid" only and is counted; a resting keypad ignores entries.

    A valid code never counts as wrong: the answer gives the reason why its door does not open.
    """
    entered_ns = turn.now.boottime_ns if given.entered_ns is None else given.entered_ns
    expires_ns = entered_ns + ENTRY_LIFE_NS
    if turn.now.boottime_ns > expires_ns:
        turn.answer(given.request_key, refusal=Refusal(Code.EXPIRED, "too late: enter the code again"))
        return
    way: guessing.Way = "digits" if parse_qr(given.text) is None else "qr"
    if guessing.rests(turn, way):
        turn.answer(given.request_key, refusal=access.not_valid())
        return
    found = access.match_entry(turn, given.text)
    if found is None or rule_for(turn, found[0], outcome.WISH[found[1]]) is None:
        guessing.note_invalid(turn, way, guess=access.is_guess(turn, given.text))
        turn.answer(given.request_key, refusal=access.not_valid())
        return
    reservation, purpose = found
    ticket = Ticket(
        unlock_id=given.unlock_id,
        reservation_id=reservation.reservation_id,
        cell=reservation.cell,
        purpose=purpose,
        source=Source.MACHINE,
        stage="waiting",
        expires_ns=expires_ns,
        request_key=given.request_key,
    )
    try:
        unlocking.accept(turn, ticket)
    except Refusal as refusal:
        turn.answer(given.request_key, refusal=refusal)


ENTRY_LIFE_NS = 30 * 10**9
"""How long an entry at the kiosk, or a technician's request, may act: after that the person has gone."""
LIKE = {Trigger.CANCEL: "cancelled", Trigger.ABANDON: "abandoned"}


def _give_up(turn: Turn, given: Cancel | Abandon, wish: Trigger) -> None:
    _refuse_expired(turn, given.expires_ns)
    reservation = live(turn, given.reservation_id, given.ended, wish)
    outcome.refuse_while_busy(turn, reservation.cell)
    demand(turn, reservation, wish)
    moved = apply(turn, reservation, wish, source=Source.API, request_key=given.request_key)
    assert moved is not None
    turn.answer(given.request_key, moved, reservation.cell)
    over = f"the reservation was {LIKE[wish]} before its turn came"
    outcome.end_waiting(turn, moved, over)


def _request_maintenance(turn: Turn, given: RequestMaintenance) -> None:
    _refuse_expired(turn, given.expires_ns)
    if given.cell is not None:
        cell.find(turn, given.cell)
    if given.cell is not None and given.block:
        outcome.refuse_while_busy(turn, given.cell)
        if turn.cells[given.cell].blocked is None:
            cell.block(turn, given.cell, given.description, given.maintenance_ticket_id, Source.API)
    cell.request_maintenance(
        turn,
        given.maintenance_ticket_id,
        given.description,
        given.severity,
        given.cell,
        source=Source.API,
        request_key=given.request_key,
    )
    made = (given.maintenance_ticket_id, turn.now)
    turn.answer(given.request_key, cell=given.cell, maintenance=made)


def _look_after(turn: Turn, given: BlockCell | UnblockCell | Clear | Tare) -> None:
    _refuse_expired(turn, given.expires_ns)
    found = cell.find(turn, given.cell)
    outcome.refuse_while_busy(turn, given.cell)
    tare_g = None
    match given:
        case BlockCell():
            cell.block(turn, given.cell, given.reason, None, given.source, given.actor)
        case UnblockCell():
            cell.unblock(turn, given.cell, given.source, given.actor)
        case Clear():
            holder = None if found.reservation_id is None else turn.reservations[found.reservation_id]
            freed = holder is not None and apply(turn, holder, Trigger.CLEARED, source=given.source)
            cell.clear(turn, given.cell, given.source, freed=bool(freed), actor=given.actor)
        case Tare():
            tare_g = weight.tare(turn, given.cell, given.source, given.actor)
    turn.answer(given.request_key, cell=given.cell, tare_g=tare_g)


def _boot(turn: Turn, given: Boot) -> None:
    """Reconciles the journal with the doors' readings. A ticket that never had an intent is dropped."""
    for standing in tuple(turn.alarms.values()):
        if standing.alarm in CELL_ALARMS and cell_of(standing.place) not in turn.cells:
            turn.clear_alarm(standing.alarm, standing.place, at_once=True)
    # Before the tickets change: a pulse in progress may have moved the wrong door.
    observing.opened_unasked(turn, [label for label, door in given.doors.items() if door is Door.OPEN])
    for ticket in tuple(turn.tickets.values()):
        if ticket.stage == "pulsing":
            # No caller waits at the kiosk any more; its keys start again with each process.
            waits = ticket.request_key if ticket.source is Source.API else None
            turn.change_ticket(ticket, stage="unresolved", request_key=waits)
        elif ticket.stage != "unresolved":
            restarted = "the machine restarted before the lock was pulsed"
            outcome.give_up(turn, ticket, Refusal(Code.OFFLINE, restarted))
    if turn.now.synced:
        bring_over(turn)
    guessing.begin_anew(turn)
    doors.begin_anew(turn)
    unconfirmed.begin_anew(turn)
    board_faults.begin_anew(turn)
    climate.begin_anew(turn)
    weight.begin_anew(turn)
    history.at_start(turn)
    for label in turn.cells:
        observing.door_seen(turn, label, given.doors.get(label, Door.UNKNOWN), recovered=True)


def _what_is_due(turn: Turn) -> None:
    """Ends rests, and pick-up graces that have run out behind a closed door; notices changes of the clock."""
    if turn.now.synced:
        if conditions.stands(turn, UNSYNCED):
            bring_over(turn)
            turn.clear_alarm(Alarm.CLOCK_UNSYNCED, "")
    else:
        turn.raise_alarm(Alarm.CLOCK_UNSYNCED, "")
    guessing.end_rests(turn)
    conditions.what_is_due(turn)
    doors.what_is_due(turn)
    unconfirmed.what_is_due(turn)
    for reservation, left_ns in tuple(observing.held(turn, turn.layout, turn.now)):
        if left_ns <= 0:
            observing.dropped_off(turn, reservation, recovered=False, to_be_weighed=False)
    for reservation, left_ns in tuple(_running_out(turn, turn.layout, turn.now)):
        if left_ns <= 0:
            apply(turn, reservation, Trigger.GRACE_OVER)
    climate.what_is_due(turn)
    unlocking.promote(turn)


def lasting(ticket: Ticket) -> bool:
    """Whether a ticket outlives the process: yes once a pulse is intended, no while it only waits or reads.

    An open-door does from the beginning: its sender was answered that it is accepted, and must get an
    outcome.
    """
    return ticket.stage in ("pulsing", "unresolved") or ticket.purpose is Purpose.OPEN_DOOR


def restored(state: LockerState, now: Instant) -> LockerState:
    """A state from before a restart, adapted to this boot: drops pulses of another boot, and the record of
    the doors that were being checked by hand."""
    tickets = {unlock_id: ticket for unlock_id, ticket in state.tickets.items() if lasting(ticket)}
    silent = {
        label: amend(place, answering=False, unread=True, settled=False, changes_ns=(), quiet_from_ns=None)
        for label, place in state.cells.items()
    }
    recent = {label: pulses for label, pulses in state.pulses.items() if pulses.boot_id == now.boot_id}
    return amend(state, cells=silent, tickets=tickets, queue=(), pulses=recent, hand_checked={})
