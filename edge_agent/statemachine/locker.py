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
    UnlockAttempt,
    parse_qr,
)
from edge_agent.statemachine import allocation, climate, conditions, history, larger_cell, observing, weight
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.codes import access, guessing
from edge_agent.statemachine.doors import board_faults, outcome, resolving, unconfirmed, unexpected, unlocking
from edge_agent.statemachine.inputs import (
    ENTRY_LIFE_NS,
    Abandon,
    BlockCell,
    Boot,
    Cancel,
    Clear,
    ClosingSettled,
    Condition,
    DeviceHealth,
    DoorRead,
    DoorsChanged,
    EnterCode,
    HandCheck,
    HistoryAhead,
    HistoryCompared,
    HistoryLost,
    Input,
    LargerCell,
    OpenCell,
    OpenForReservation,
    PulseDone,
    RequestMaintenance,
    Reserve,
    Resolve,
    Restore,
    Tare,
    TemperatureMeasured,
    Tick,
    UnblockCell,
    Weighed,
)
from edge_agent.statemachine.invariants import check
from edge_agent.statemachine.redating import redate_moments
from edge_agent.statemachine.reservation import (
    NS,
    apply_rule,
    enter,
    find_for_command,
    require_rule,
    rule_for,
)
from edge_agent.statemachine.state import Layout, LockerState, attempt_on, cell_of
from edge_agent.statemachine.step_builder import Step, StepBuilder
from edge_agent.statemachine.transitions import Trigger

UNSYNCED = f"{Alarm.CLOCK_UNSYNCED}/"


def step(state: LockerState, layout: Layout, given: Input, now: Instant) -> Step:
    """The new state, effects, facts and answers when `given` happens at `now`.

    Raises `Refusal` for a command that is refused, and then nothing has changed; `InvariantBroken` if the
    result would contradict itself.
    """
    builder = StepBuilder(state, layout, now)
    if not history.refuse_while_in_doubt(builder, given):
        _dispatch(builder, given)
    _apply_due(builder)
    result = builder.result()
    check(result.state, layout, result.changed)
    return result


def _dispatch(builder: StepBuilder, given: Input) -> None:
    match given:
        case Reserve():
            _reserve(builder, given)
        case OpenForReservation():
            _open_for(builder, given)
        case OpenCell():
            _open_cell(builder, given)
        case EnterCode():
            _enter_code(builder, given)
        case LargerCell():
            larger_cell.give(builder, given)
        case Cancel():
            _end_reservation(builder, given, Trigger.CANCEL)
        case Abandon():
            _end_reservation(builder, given, Trigger.ABANDON)
        case RequestMaintenance():
            _request_maintenance(builder, given)
        case BlockCell() | UnblockCell() | Clear() | Tare():
            _maintain_cell(builder, given)
        case Resolve():
            _refuse_expired(builder, given.expires_ns)
            resolving.resolve(builder, given)
        case DoorRead():
            observing.door_read(builder, given)
        case PulseDone():
            if given.sent:
                unlocking.pulse_done(
                    builder, given.unlock_id, given.pulse_number, given.door, given.acknowledged
                )
            else:
                unlocking.pulse_lapsed(builder, given.unlock_id, given.pulse_number)
        case DoorsChanged():
            observing.doors_changed(builder, given)
        case ClosingSettled():
            observing.closing_settled(builder, given)
        case Weighed():
            observing.weighed(builder, given)
        case TemperatureMeasured():
            climate.temperature_measured(builder, given.cell, given.temperature_c)
        case DeviceHealth():
            observing.device_health(builder, given)
        case Condition():
            conditions.condition_changed(builder, given)
        case HandCheck():
            observing.hand_check(builder, given)
        case Restore():
            history.restore(builder, given)
        case HistoryLost():
            history.lost(builder, given)
        case HistoryAhead():
            history.ahead(builder, given)
        case HistoryCompared():
            history.compared(builder, given)
        case Boot():
            _boot(builder, given)
        case Tick():
            pass


def next_due_ns(state: LockerState, layout: Layout, now: Instant) -> int | None:
    """CLOCK_BOOTTIME at which a `Tick` would next do something; None if time alone does nothing.

    A grace whose elapsed time no clock shows is not due; it is checked again when something happens.
    """
    left = [left_ns for _, left_ns in _graces_left(state, layout, now)]
    left += [left_ns for _, left_ns in observing.dropoffs_to_weigh(state, layout, now)]
    left += unexpected.left_ns(state, now, layout.door_ajar_ns)
    left += unconfirmed.left_ns(state, now)
    left += climate.left_ns(state, layout, now)
    for way, guesses in state.guesses.items():
        if f"{Alarm.CODE_GUESSING}/{way}" in state.alarms:
            left.append(guessing.rest_left_ns(guesses, now))
    left += conditions.left_ns(state, now)
    due = [now.boottime_ns + max(0, left_ns) for left_ns in left]
    return min(due, default=None)


def _graces_left(
    state: LockerState | StepBuilder, layout: Layout, now: Instant
) -> Iterator[tuple[Reservation, int]]:
    """Pick-up graces that end by time alone (door read closed, no unlock attempt at work on it).

    Each with the time that is left, in nanoseconds; 0 or less means that the grace is over.
    """
    for reservation in state.reservations.values():
        if reservation.picked_up is None or reservation.held:
            continue
        cell = state.cells[reservation.cell]
        if cell.door is not Door.CLOSED or not cell.answering or not cell.settled:
            continue
        if attempt_on(state.unlock_attempts, cell.label) is not None:
            continue
        elapsed_ns = reservation.picked_up.elapsed_ns(now)
        if elapsed_ns is not None:
            left_ns = reservation.grace_pickup_s * NS - elapsed_ns + 1
            yield reservation, max(left_ns, weight.wait_left_ns(layout, cell, now))


def _refuse_expired(builder: StepBuilder, expires_ns: int | None) -> None:
    if expires_ns is not None and builder.now.boottime_ns > expires_ns:
        raise Refusal(Code.EXPIRED, "the command expired before it was handled")


def _reserve(builder: StepBuilder, given: Reserve) -> None:
    _refuse_expired(builder, given.expires_ns)
    conditions.refuse_on_a_full_disk(builder)
    if given.ended is not None or given.reservation_id in builder.reservations:
        # The id is in use or was used: one of these raises, with the table's reason.
        live_or_over = find_for_command(builder, given.reservation_id, given.ended, Trigger.RESERVE)
        require_rule(builder, live_or_over, Trigger.RESERVE)
    taken = allocation.allocate(builder, given.packaging, accessible=given.accessible)
    drop_off_code, pickup_code = access.choose_codes(builder, given.candidate_codes)
    access.release_oldest(builder)
    for code in (drop_off_code, pickup_code):
        builder.release_code(code)
    reservation = Reservation(
        reservation_id=given.reservation_id,
        platform=given.platform,
        platform_order_id=given.platform_order_id,
        packaging=given.packaging,
        cell=taken.label,
        drop_off_code=drop_off_code,
        pickup_code=pickup_code,
        created=builder.now,
        notes=given.notes,
        webhook_url=given.webhook_url,
        eta_minutes=given.eta_minutes,
        grace_pickup_s=given.grace_pickup_s,
        grace_dropoff_s=given.grace_dropoff_s,
        accessible=given.accessible,
    )
    enter(builder, reservation, given.request_key)
    outcome.end_former(builder, taken.label)
    builder.answer(given.request_key, reservation, taken.label)


def _open_for(builder: StepBuilder, given: OpenForReservation) -> None:
    reservation = find_for_command(
        builder, given.reservation_id, given.ended, outcome.COMMAND_FOR[given.purpose]
    )
    unlock = UnlockAttempt(
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
        x_request_id=given.x_request_id,
    )
    unlocking.accept(builder, unlock)


def _open_cell(builder: StepBuilder, given: OpenCell) -> None:
    """A technician's command concerns the cell, whichever parcel is in it."""
    cells.find(builder, given.cell)
    asked_ns = builder.now.boottime_ns if given.asked_ns is None else given.asked_ns
    unlock = UnlockAttempt(
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
    unlocking.accept(builder, unlock)


def _enter_code(builder: StepBuilder, given: EnterCode) -> None:
    """A wrong code is counted and answered with "not valid" only. After too many of them, every entry of that
    way (digits or QR) is answered so for a while, and not compared with any code.

    A valid code never counts as wrong: the answer gives the reason why its door does not open.
    """
    entered_ns = builder.now.boottime_ns if given.entered_ns is None else given.entered_ns
    expires_ns = entered_ns + ENTRY_LIFE_NS
    if builder.now.boottime_ns > expires_ns:
        builder.answer(given.request_key, refusal=Refusal(Code.EXPIRED, "too late: enter the code again"))
        return
    way: guessing.Way = "digits" if parse_qr(given.text) is None else "qr"
    if guessing.rests(builder, way):
        builder.answer(given.request_key, refusal=access.not_valid())
        return
    found = access.match_entry(builder, given.text)
    if found is None or rule_for(builder, found[0], outcome.COMMAND_FOR[found[1]]) is None:
        guessing.count_invalid(builder, way, guess=access.is_guess(builder, given.text))
        builder.answer(given.request_key, refusal=access.not_valid())
        return
    reservation, purpose = found
    unlock = UnlockAttempt(
        unlock_id=given.unlock_id,
        reservation_id=reservation.reservation_id,
        cell=reservation.cell,
        purpose=purpose,
        source=Source.MACHINE,
        stage="waiting",
        expires_ns=expires_ns,
        request_key=given.request_key,
        actor=given.actor,
    )
    try:
        unlocking.accept(builder, unlock)
    except Refusal as refusal:
        builder.answer(given.request_key, refusal=refusal)


ENDED_AS = {Trigger.CANCEL: "cancelled", Trigger.ABANDON: "abandoned"}


def _end_reservation(builder: StepBuilder, given: Cancel | Abandon, command: Trigger) -> None:
    _refuse_expired(builder, given.expires_ns)
    reservation = find_for_command(builder, given.reservation_id, given.ended, command)
    outcome.refuse_while_busy(builder, reservation.cell)
    require_rule(builder, reservation, command)
    ended = apply_rule(builder, reservation, command, source=Source.API, request_key=given.request_key)
    assert ended is not None
    builder.answer(given.request_key, ended, reservation.cell)
    over = f"the reservation was {ENDED_AS[command]} before its turn came"
    outcome.end_waiting(builder, ended, over)


def _request_maintenance(builder: StepBuilder, given: RequestMaintenance) -> None:
    _refuse_expired(builder, given.expires_ns)
    if given.cell is not None:
        cells.find(builder, given.cell)
    if given.cell is not None and given.block:
        outcome.refuse_while_busy(builder, given.cell)
        if builder.cells[given.cell].blocked is None:
            cells.block(builder, given.cell, given.description, given.maintenance_ticket_id, Source.API)
    cells.request_maintenance(
        builder,
        given.maintenance_ticket_id,
        given.description,
        given.severity,
        given.cell,
        source=Source.API,
        request_key=given.request_key,
    )
    made = (given.maintenance_ticket_id, builder.now)
    builder.answer(given.request_key, cell=given.cell, maintenance=made)


def _maintain_cell(builder: StepBuilder, given: BlockCell | UnblockCell | Clear | Tare) -> None:
    _refuse_expired(builder, given.expires_ns)
    found = cells.find(builder, given.cell)
    outcome.refuse_while_busy(builder, given.cell)
    tare_g = None
    match given:
        case BlockCell():
            cells.block(builder, given.cell, given.reason, None, given.source, given.actor)
        case UnblockCell():
            cells.unblock(builder, given.cell, given.source, given.actor)
        case Clear():
            holder = None if found.reservation_id is None else builder.reservations[found.reservation_id]
            freed = holder is not None and apply_rule(builder, holder, Trigger.CLEARED, source=given.source)
            cells.clear(builder, given.cell, given.source, freed=bool(freed), actor=given.actor)
        case Tare():
            tare_g = weight.tare(builder, given.cell, given.source, given.actor)
    builder.answer(given.request_key, cell=given.cell, tare_g=tare_g)


def _boot(builder: StepBuilder, given: Boot) -> None:
    """Reconciles the journal with the doors' readings. An attempt without an intent is ended, and answered
    `OFFLINE`."""
    for standing in tuple(builder.alarms.values()):
        if standing.alarm in CELL_ALARMS and cell_of(standing.place) not in builder.cells:
            builder.clear_alarm(standing.alarm, standing.place, at_once=True)
    # Before the attempts change: a pulse in progress may have moved the wrong door.
    open_now = [label for label, door in given.doors.items() if door is Door.OPEN]
    observing.find_unexplained_openings(builder, open_now)
    for unlock in tuple(builder.unlock_attempts.values()):
        if unlock.stage == "pulsing":
            # No caller waits at the kiosk any more; the keys of its requests start again with each process.
            awaited_key = unlock.request_key if unlock.source is Source.API else None
            builder.change_unlock(unlock, stage="unresolved", request_key=awaited_key)
        elif unlock.stage != "unresolved":
            restarted = "the machine restarted before the lock was pulsed"
            outcome.end_without_pulse(builder, unlock, Refusal(Code.OFFLINE, restarted))
    if builder.now.synced:
        redate_moments(builder)
    guessing.at_start(builder)
    unexpected.at_start(builder)
    unconfirmed.at_start(builder)
    board_faults.at_start(builder)
    climate.at_start(builder)
    weight.at_start(builder)
    history.at_start(builder)
    for label in builder.cells:
        observing.apply_reading(builder, label, given.doors.get(label, Door.UNKNOWN), recovered=True)


def _apply_due(builder: StepBuilder) -> None:
    """Does what is due after every input: updates CLOCK_UNSYNCED, lets ways of entry be used again, judges
    unexplained openings that have lasted long enough, concludes drop-offs and graces, controls the climate,
    and starts waiting unlock attempts."""
    if builder.now.synced:
        if conditions.stands(builder, UNSYNCED):
            redate_moments(builder)
            builder.clear_alarm(Alarm.CLOCK_UNSYNCED, "")
    else:
        builder.raise_alarm(Alarm.CLOCK_UNSYNCED, "")
    guessing.end_rests(builder)
    conditions.apply_due(builder)
    unexpected.apply_due(builder)
    unconfirmed.apply_due(builder)
    for reservation, left_ns in tuple(observing.dropoffs_to_weigh(builder, builder.layout, builder.now)):
        if left_ns <= 0:
            observing.dropped_off(builder, reservation, recovered=False, to_be_weighed=False)
    for reservation, left_ns in tuple(_graces_left(builder, builder.layout, builder.now)):
        if left_ns <= 0:
            apply_rule(builder, reservation, Trigger.GRACE_OVER)
    climate.apply_due(builder)
    unlocking.start_waiting(builder)


def outlives_process(unlock: UnlockAttempt) -> bool:
    """Whether an unlock attempt outlives the process: yes once a pulse is intended, no while it only waits or
    reads.

    An open-door does from the beginning: it was answered as accepted, and must get an outcome.
    """
    return unlock.stage in ("pulsing", "unresolved") or unlock.purpose is Purpose.OPEN_DOOR


def restored(state: LockerState, now: Instant) -> LockerState:
    """A state from before a restart, adapted to this boot: drops attempts that do not outlast the process,
    the queue, pulses of another boot, and checks by hand; every door counts as unread."""
    unlocks = {
        unlock_id: unlock for unlock_id, unlock in state.unlock_attempts.items() if outlives_process(unlock)
    }
    silent = {
        label: amend(cell, answering=False, unread=True, settled=False, changes_ns=(), quiet_from_ns=None)
        for label, cell in state.cells.items()
    }
    recent = {label: pulses for label, pulses in state.pulses.items() if pulses.boot_id == now.boot_id}
    return amend(state, cells=silent, unlock_attempts=unlocks, queue=(), pulses=recent, hand_checked={})
