"""A pulse while the contact was in doubt: what is answered, kept, and concluded later."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code, ErrorInfo
from edge_agent.model import (
    Alarm,
    CellStatus,
    Door,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    UnlockOutcome,
    Verdict,
)
from edge_agent.statemachine.inputs import (
    DoorRead,
    DoorsChanged,
    EnterCode,
    OpenCell,
    OpenForReservation,
    PulseDone,
    Resolve,
)
from edge_agent.statemachine.locker import next_due_ns
from edge_agent.statemachine.outputs import Answer, Fact, FactKind
from edge_agent.statemachine.state import UnconfirmedUnlock
from tests.support.pure_core.core import Core

TOOK_S = 1.5
"""How long the one pulse is watched."""


def doubted(parcel: bool = True) -> tuple[Core, Reservation]:
    """A cell whose door reads open although no lock was pulsed; with its parcel, or reserved."""
    core = Core()
    reservation = core.dropped_off() if parcel else core.reserve()
    if not parcel:
        core.opens(core.command(reservation, Purpose.OPEN_DOOR))
        core.close(reservation.cell)
    core.pass_s(11)
    core.forced(reservation.cell)
    return core, reservation


def pulsed(core: Core, command: OpenForReservation | EnterCode | OpenCell) -> Answer | None:
    """Plays a command whose lock is pulsed although its door reads open; its answer, if it has one."""
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.OPEN))
    core.pass_s(TOOK_S)
    answers = core.feed(PulseDone(look.unlock_id, 1, Door.OPEN)).answers
    return answers[0] if answers else None


def only_fact(core: Core, kind: FactKind) -> Fact:
    """The one event of this kind."""
    (fact,) = [fact for fact in core.facts if fact.kind is kind]
    return fact


def test_the_answer_names_the_cell_that_it_was_pulsed_and_what_to_do() -> None:
    core, parcel = doubted()
    answer = pulsed(core, core.command(parcel, Purpose.PICKUP))
    assert answer is not None
    assert answer.refusal is not None
    assert answer.refusal.code is Code.INTERNAL
    assert answer.refusal.message == (
        f"the lock of cell {parcel.cell} was pulsed, but its door contact is not reliable (UNKNOWN): "
        "check the door; if it is closed, call for help"
    )
    details = {"cell": parcel.cell, "pulsed": "true"}
    assert answer.refusal.info == ErrorInfo("CONTACT_IN_DOUBT", details)


@pytest.mark.parametrize("by", ["API", "code"])
def test_the_command_waits_for_a_closing_from_its_first_pulse_on(by: str) -> None:
    core, parcel = doubted()
    command = core.command(parcel, Purpose.PICKUP) if by == "API" else core.entry(parcel.pickup_code)
    pulse_at = core.now
    pulsed(core, command)
    source, key = (Source.API, command.request_key) if by == "API" else (Source.MACHINE, None)
    assert core.state.unconfirmed == {
        parcel.cell: UnconfirmedUnlock(
            command.unlock_id, parcel.reservation_id, Purpose.PICKUP, source, pulse_at, key
        )
    }
    record = core.ledger_lines[-1]
    assert (record.outcome, record.pulsed) == (UnlockOutcome.UNKNOWN, True)
    cell = core.state.cells[parcel.cell]
    assert (cell.last_outcome, cell.inspect_unless_empty) == (UnlockOutcome.UNKNOWN, True)
    assert (cell.opened_since_allocation, cell.unlocked_since_allocation) == (True, True)
    core.pass_s(3)
    closed_at = core.now
    core.close(parcel.cell)
    picked_up = only_fact(core, FactKind.PICKUP)
    assert (picked_up.source, picked_up.request_key, picked_up.recovered) == (source, key, True)
    assert core.live(parcel).picked_up == closed_at


def test_a_command_fails_ten_minutes_after_its_first_pulse() -> None:
    core, parcel = doubted()
    command = core.command(parcel, Purpose.PICKUP)
    pulsed(core, command)
    core.pass_s(600 - TOOK_S - 0.001)
    assert FactKind.PICKUP_FAILED not in core.kinds()
    core.pass_s(0.001)
    failed = only_fact(core, FactKind.PICKUP_FAILED)
    assert (failed.source, failed.request_key) == (Source.API, command.request_key)
    assert failed.outcome is UnlockOutcome.UNKNOWN
    assert core.state.unconfirmed == {}
    assert core.live(parcel).status is ReservationStatus.DROPPED_OFF


def test_a_closing_before_the_pulse_concludes_nothing() -> None:
    core, parcel = doubted()
    pulsed(core, core.command(parcel, Purpose.PICKUP))
    core.feed(DoorsChanged({parcel.cell: Door.CLOSED}))
    waits = core.state.unconfirmed[parcel.cell]
    later = replace(waits, since=replace(core.now, boottime_ns=core.now.boottime_ns + 1))
    core.state = replace(core.state, unconfirmed={parcel.cell: later})
    core.settle(parcel.cell)
    assert core.live(parcel).status is ReservationStatus.DROPPED_OFF
    assert core.state.unconfirmed == {parcel.cell: later}


def test_an_open_door_in_a_free_cell_asks_for_inspection_and_waits_for_nothing() -> None:
    core = Core()
    parcel = core.picked_up(grace_pickup_s=30)
    core.pass_s(40)
    assert core.state.cells[parcel.cell].status is CellStatus.IDLE
    core.forced(parcel.cell)
    core.state = replace(
        core.state,
        cells={
            **core.state.cells,
            parcel.cell: replace(
                core.state.cells[parcel.cell], status=CellStatus.IDLE, inspect_unless_empty=False
            ),
        },
    )
    command = core.command(parcel, Purpose.OPEN_DOOR)
    pulsed(core, command)
    cell = core.state.cells[parcel.cell]
    assert (cell.status, cell.last_outcome) == (CellStatus.AWAITING_INSPECTION, UnlockOutcome.UNKNOWN)
    assert core.state.unconfirmed == {}


def test_a_drop_off_in_doubt_is_concluded_by_a_closing_of_thirty_seconds() -> None:
    core, reservation = doubted(parcel=False)
    command = core.command(reservation, Purpose.DROPOFF)
    pulsed(core, command)
    core.pass_s(2)
    closed_at = core.now
    core.close(reservation.cell)
    core.pass_s(29.9)
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.pass_s(0.1)
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert core.live(reservation).dropped_off == closed_at
    assert only_fact(core, FactKind.DROPOFF).recovered


def test_a_moved_reservation_waits_for_no_closing_of_its_old_cell() -> None:
    core = Core()
    reservation = core.reserve()
    core.forced(reservation.cell)
    command = core.command(reservation, Purpose.DROPOFF)
    old = UnconfirmedUnlock(
        "unl-old", reservation.reservation_id, Purpose.DROPOFF, Source.API, core.now, None
    )
    core.state = replace(core.state, unconfirmed={reservation.cell: old})
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.OPEN))
    assert core.live(reservation).cell != reservation.cell
    assert core.state.unconfirmed == {}


def test_a_code_forgives_the_wrong_entries_of_the_last_minute_once() -> None:
    core = Core()
    parcel = core.dropped_off()
    core.invalid("x")
    core.pass_s(61)
    for _ in range(2):
        core.invalid("y")
    early = core.state.guesses["digits"].recent[0]
    core.opens(core.entry(parcel.pickup_code))
    assert core.state.guesses["digits"].recent == (early,)
    assert len(core.state.guesses["digits"].wrong) == 3
    assert core.live(parcel).codes_opened == (Purpose.PICKUP,)
    core.close(parcel.cell)
    core.invalid("z")
    core.pass_s(11)
    core.opens(core.entry(parcel.pickup_code))
    assert len(core.state.guesses["digits"].recent) == 2
    assert core.live(parcel).codes_opened == (Purpose.PICKUP,)


def test_the_code_of_each_purpose_forgives_once() -> None:
    core = Core()
    reservation = core.reserve()
    core.invalid("x")
    core.opens(core.entry(reservation.drop_off_code))
    assert core.state.guesses["digits"].recent == ()
    core.close(reservation.cell)
    core.invalid("y")
    core.pass_s(11)
    core.opens(core.entry(reservation.pickup_code))
    assert core.state.guesses["digits"].recent == ()
    assert core.live(reservation).codes_opened == (Purpose.DROPOFF, Purpose.PICKUP)


def test_a_wrong_door_names_all_locks_that_may_have_opened_it() -> None:
    core = Core()
    first, second = core.reserve(), core.reserve()
    for reservation in (first, second):
        command = core.command(reservation, Purpose.DROPOFF)
        look = core.requested_reading(core.feed(command))
        core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.forced("C01")
    detail = core.state.alarms[f"{Alarm.WRONG_DOOR}/C01"].detail
    assert detail == f"door C01 opened while the lock of {first.cell}, {second.cell} was pulsed"


def test_a_lock_that_opened_a_wrong_door_a_moment_ago_opens_no_other_one() -> None:
    core = Core()
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    for attempt in (1, 2, 3):
        core.feed(PulseDone(look.unlock_id, attempt, Door.CLOSED))
    label = core.pulses[0].cell
    core.forced("C01")
    assert f"{Alarm.WRONG_DOOR}/{label}" in core.state.alarms
    known = core.state.pulses[label]
    assert (known.pulses_without_opening, len(known.at_ns)) == (0, 3)


@pytest.mark.parametrize("parcel", [True, False])
def test_the_machine_wakes_when_a_wait_is_over(parcel: bool) -> None:
    core, reservation = doubted(parcel)
    pulsed(core, core.command(reservation, Purpose.PICKUP if parcel else Purpose.DROPOFF))
    pulsed_ns = core.now.boottime_ns - round(TOOK_S * 1e9)
    core.pass_s(125)
    assert next_due_ns(core.state, core.layout, core.now) == pulsed_ns + 600 * 10**9
    if not parcel:
        closed_ns = core.now.boottime_ns
        core.close(reservation.cell)
        core.pass_s(6)
        assert next_due_ns(core.state, core.layout, core.now) == closed_ns + 30 * 10**9


def test_a_technicians_opening_counts_for_the_wrong_door_of_now_and_not_of_before() -> None:
    core = Core()
    core.opened_by_hand("C01")
    assert core.state.cells["C01"].opened_rightly
    core.close("C01")
    core.pass_s(11)
    reservation = core.reserve()
    look = core.requested_reading(core.feed(core.command(reservation, Purpose.DROPOFF)))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.forced("C01")
    assert not core.state.cells["C01"].opened_rightly


def test_a_word_on_a_pulse_that_nobody_saw_records_it_as_unknown() -> None:
    core = Core()
    parcel = core.dropped_off()
    core.pass_s(11)
    command = core.command(parcel, Purpose.PICKUP)
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.feed(PulseDone(look.unlock_id, 1, Door.UNKNOWN))
    core.ledger_lines.clear()
    core.feed(Resolve(core.key(), parcel.cell, Verdict.STILL_INSIDE))
    assert [record.outcome for record in core.ledger_lines] == [UnlockOutcome.UNKNOWN]


@pytest.mark.parametrize("before", [Door.OPEN, Door.UNKNOWN])
def test_a_technicians_pulse_proves_no_opening_of_a_door_that_was_not_read_closed(before: Door) -> None:
    """Its contact may be broken: the board was silent at the fresh reading, and reads open afterwards."""
    core = Core()
    reservation = core.dropped_off()
    label = reservation.cell
    core.pass_s(11)
    if before is Door.OPEN:
        core.forced(label)
    else:
        cell = replace(core.state.cells[label], door=Door.UNKNOWN)
        core.state = replace(core.state, cells={**core.state.cells, label: cell})
    command = OpenCell(core.key(), label, "why", "unl-t", actor="bob")
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.UNKNOWN))
    assert len(core.pulses) == 2  # the drop-off's and his
    core.feed(PulseDone(look.unlock_id, 1, Door.OPEN))
    assert core.state.cells[label].opened_by_unlock is False
    assert core.ledger_lines[-1].outcome is UnlockOutcome.UNKNOWN
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


def test_a_technicians_pulse_opens_a_door_that_was_closed_when_its_board_fell_silent() -> None:
    core = Core()
    look = core.requested_reading(core.feed(OpenCell(core.key(), "C01", "why", "unl-t", actor="bob")))
    core.feed(DoorRead(look.unlock_id, Door.UNKNOWN))
    core.feed(PulseDone(look.unlock_id, 1, Door.OPEN))
    assert core.state.cells["C01"].opened_by_unlock is True
    assert core.ledger_lines[-1].outcome is UnlockOutcome.OPENED
