"""One reservation's life, by the sentences of the behaviour page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import (
    Alarm,
    CellStatus,
    Door,
    Packaging,
    Purpose,
    ReservationStatus,
    Source,
    UnlockOutcome,
    qr_text,
)
from edge_agent.statemachine.doors.outcome import COMMAND_FOR
from edge_agent.statemachine.inputs import (
    Clear,
    DeviceHealth,
    DoorRead,
    DoorsChanged,
    OpenForReservation,
    PulseDone,
    Reserve,
)
from edge_agent.statemachine.locker import next_due_ns
from edge_agent.statemachine.outputs import Answer, FactKind, PulseLock
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, Core, specs


def kinds(core: Core) -> list[FactKind]:
    return [fact.kind for fact in core.facts]


@pytest.mark.behaviour("reservation-01", "reservation-04", "reservation-10", "reservation-15")
def test_a_whole_life_in_order() -> None:
    core = Core()
    reservation = core.reserve()
    cell = reservation.cell
    assert core.state.cells[cell].status is CellStatus.RESERVED
    opened = core.opens(core.command(reservation, Purpose.DROPOFF))
    assert opened.cell == cell
    assert opened.reservation is not None
    assert opened.reservation.status is ReservationStatus.PENDING
    core.pass_s(20)
    core.close(cell)
    assert core.state.cells[cell].status is CellStatus.OCCUPIED
    picked = core.opens(core.command(reservation, Purpose.PICKUP))
    assert picked.reservation is not None
    assert picked.reservation.status is ReservationStatus.PICKED_UP
    core.close(cell)
    core.pass_s(119)
    assert core.state.cells[cell].status is CellStatus.IN_GRACE
    done = core.pass_s(2)
    assert [r.reservation_id for r in done.ended] == [reservation.reservation_id]
    assert core.state.cells[cell].status is CellStatus.IDLE
    assert kinds(core) == [
        FactKind.RESERVATION_CREATED,
        FactKind.DROPOFF,
        FactKind.PICKUP,
        FactKind.RESERVATION_COMPLETED,
    ]
    assert [p.cell for p in core.pulses] == [cell, cell]
    assert [f.source for f in core.facts] == [Source.API, Source.MACHINE, Source.API, Source.MACHINE]


@pytest.mark.behaviour("reservation-15")
def test_grace_over_with_the_door_open_frees_only_when_it_closes() -> None:
    core = Core()
    reservation = core.reserve(grace_pickup_s=5)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.pass_s(60)
    assert core.state.cells[reservation.cell].status is CellStatus.IN_GRACE
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 60 * 10**9  # ajar
    core.close(reservation.cell)
    assert core.state.cells[reservation.cell].status is CellStatus.IDLE


@pytest.mark.behaviour("reservation-08", "reservation-13")
def test_reopening_within_the_graces_moves_nothing_and_publishes_nothing() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close(reservation.cell)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close(reservation.cell)
    assert kinds(core) == [FactKind.RESERVATION_CREATED, FactKind.DROPOFF, FactKind.PICKUP]


@pytest.mark.behaviour("reservation-08", "reservation-13", "reservation-19")
def test_reopening_after_the_graces_is_refused_with_9() -> None:
    core = Core()
    reservation = core.reserve(grace_dropoff_s=10, grace_pickup_s=10)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    core.pass_s(11)
    assert core.refused(core.command(reservation, Purpose.DROPOFF)).code is Code.NOT_ALLOWED
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.pass_s(11)
    assert core.refused(core.command(reservation, Purpose.PICKUP)).code is Code.NOT_ALLOWED


@pytest.mark.behaviour("reservation-20", "reservation-21")
def test_a_door_that_is_open_already_is_not_pulsed() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    answer = core.opens(core.command(reservation, Purpose.DROPOFF))
    assert answer.refusal is None
    assert len(core.pulses) == 1
    core.close(reservation.cell)
    core.opens(core.command(reservation, Purpose.DROPOFF))  # re-opened, left open
    picked = core.opens(core.command(reservation, Purpose.PICKUP))
    assert picked.reservation is not None
    assert picked.reservation.status is ReservationStatus.PICKED_UP
    assert len(core.pulses) == 2


@pytest.mark.behaviour("opening-19")
def test_a_forced_door_makes_no_dropoff() -> None:
    core = Core()
    reservation = core.reserve()
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    core.close(reservation.cell)
    live = core.state.reservations[reservation.reservation_id]
    assert live.status is ReservationStatus.PENDING


@pytest.mark.behaviour("reservation-11", "opening-01", "opening-15", "alarms-05")
@pytest.mark.parametrize("purpose", list(COMMAND_FOR))
def test_no_movement_after_all_attempts_is_a_jam(purpose: Purpose) -> None:
    core = Core()
    reservation = core.dropped_off()
    core.pass_s(60)
    core.facts.clear()
    core.pulses.clear()
    command = core.command(reservation, purpose)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    answers: list[Answer] = []
    for attempt in (1, 2, 3):
        answers += core.feed(PulseDone(command.unlock_id, attempt, Door.CLOSED)).answers
    assert [p.pulse_number for p in core.pulses] == [1, 2, 3]
    if purpose is Purpose.OPEN_DOOR:
        assert not answers
        published = core.facts[-1]
        assert (published.kind, published.outcome) == (
            FactKind.OPEN_DOOR_FULFILLED,
            UnlockOutcome.NO_MOVEMENT,
        )
        assert published.reason is not None
    else:
        assert answers[0].refusal is not None
        assert answers[0].refusal.code is Code.INTERNAL
    assert core.state.cells[reservation.cell].faulty is not None
    assert f"{Alarm.LOCK_JAMMED}/{reservation.cell}" in core.state.alarms
    failed = [f for f in core.facts if f.kind is FactKind.PICKUP_FAILED]
    assert len(failed) == (purpose is Purpose.PICKUP)
    core.feed(Clear(core.key(), reservation.cell))
    assert not core.state.alarms


@pytest.mark.behaviour("first-01", "reservation-24", "opening-06")
def test_an_unreadable_door_after_a_pulse_is_unknown_and_never_pulsed_again() -> None:
    core = Core()
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    done = core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
    assert done.answers[0].refusal is not None
    assert "UNKNOWN" in done.answers[0].refusal.message
    assert core.refused(core.command(reservation, Purpose.DROPOFF)).code is Code.NOT_ALLOWED
    later = core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    assert not later.effects
    assert core.state.reservations[reservation.reservation_id].dropoff_opened
    assert len(core.pulses) == 1


@pytest.mark.behaviour("opening-06")
def test_an_unreadable_door_before_the_pulse_gets_no_pulse() -> None:
    core = Core()
    reservation = core.dropped_off()
    core.pulses.clear()
    command = core.command(reservation, Purpose.PICKUP)
    core.feed(command)
    done = core.feed(DoorRead(command.unlock_id, Door.UNKNOWN))
    assert done.answers[0].refusal is not None
    assert not core.pulses


@pytest.mark.behaviour("reservation-24")
def test_from_the_look_to_the_outcome_other_commands_on_the_cell_are_refused() -> None:
    core = Core()
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    for other in (core.command(reservation, Purpose.DROPOFF), core.cancel(reservation)):
        assert core.refused(other).code is Code.NOT_ALLOWED
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    for other in (core.command(reservation, Purpose.DROPOFF), core.cancel(reservation)):
        assert core.refused(other).code is Code.NOT_ALLOWED


@pytest.mark.behaviour("opening-09", "opening-11", "opening-13")
def test_at_most_two_locks_at_once_and_the_third_is_judged_again() -> None:
    core = Core()
    reservations = [core.reserve() for _ in range(4)]
    commands = [core.command(r, Purpose.DROPOFF, life_s=5) for r in reservations]
    for command in commands:
        core.feed(command)
    assert core.state.active_unlocks() == 2
    assert core.state.queue == (commands[2].unlock_id, commands[3].unlock_id)
    cancelled = core.feed(core.cancel(reservations[3]))
    assert [a.refusal is None for a in cancelled.answers] == [True, False]
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 6 * 10**9)
    done = core.feed(DoorRead(commands[0].unlock_id, Door.OPEN))
    expired = [a for a in done.answers if a.request_key == commands[2].request_key]
    assert len(expired) == 1
    assert expired[0].refusal is not None
    assert expired[0].refusal.code is Code.EXPIRED
    assert not core.pulses


@pytest.mark.behaviour("opening-08")
def test_a_lock_beyond_its_duty_is_not_pulsed() -> None:
    core = Core()
    reservation = core.reserve()
    for _ in range(6):
        core.opens(core.command(reservation, Purpose.DROPOFF))
        core.close(reservation.cell)
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    done = core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    assert done.answers[0].refusal is not None
    assert "cool down" in done.answers[0].refusal.message
    assert len(core.pulses) == 6
    core.pass_s(11)
    core.opens(core.command(reservation, Purpose.DROPOFF))


@pytest.mark.behaviour("reservation-06", "cells-08")
def test_cancel_frees_the_cell_unless_it_was_open() -> None:
    core = Core()
    reservation = core.reserve()
    core.feed(core.cancel(reservation))
    assert core.state.cells[reservation.cell].status is CellStatus.IDLE
    again = core.reserve()
    command = core.command(again, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
    core.feed(DoorsChanged({again.cell: Door.CLOSED}))
    core.feed(core.cancel(again))
    assert core.state.cells[again.cell].status is CellStatus.AWAITING_INSPECTION
    core.feed(Clear(core.key(), again.cell))
    assert core.state.cells[again.cell].status is CellStatus.IDLE


@pytest.mark.behaviour("reservation-07")
def test_cancel_while_a_dropoff_has_the_door_is_refused() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    assert core.refused(core.cancel(reservation)).code is Code.NOT_ALLOWED


@pytest.mark.behaviour("reservation-19")
def test_over_and_unknown_reservations() -> None:
    core = Core()
    over = OpenForReservation("k", "res_x", Purpose.PICKUP, "u", 2**62, ended=ReservationStatus.CANCELLED)
    assert core.refused(over).code is Code.NOT_ALLOWED
    assert core.refused(replace(over, ended=None)).code is Code.NOT_FOUND


@pytest.mark.behaviour("reservation-02", "codes-07", "codes-08", "codes-11")
def test_codes_open_only_where_they_may() -> None:
    core = Core()
    reservation = core.reserve()
    for text in ("0000x", "99999", reservation.pickup_code, "DLV-DROP-res_none-1234"):
        core.invalid(text)
    wrong = qr_text(Purpose.PICKUP, reservation.reservation_id, reservation.drop_off_code)
    core.invalid(wrong)
    assert core.opens(core.entry(reservation.drop_off_code)).cell == reservation.cell
    core.close(reservation.cell)
    dropped = core.facts[-1]
    assert (dropped.kind, dropped.source) == (FactKind.DROPOFF, Source.MACHINE)
    core.opens(core.entry(qr_text(Purpose.PICKUP, reservation.reservation_id, reservation.pickup_code)))
    assert core.facts[-1].kind is FactKind.PICKUP
    assert core.facts[-1].source is Source.MACHINE


@pytest.mark.behaviour("codes-02", "codes-04")
def test_dead_codes_rest_and_live_ones_are_unique() -> None:
    core = Core()
    first = core.reserve()
    codes = (first.drop_off_code, first.pickup_code)
    fresh = tuple(f"{n:04d}" for n in range(5000, 5100, 11))
    base = Reserve("k1", "res_b", "p", "o", SMALL, (*codes, *fresh))
    second = core.feed(base).answers[0].reservation
    assert second is not None
    assert {second.drop_off_code, second.pickup_code} == {"5000", "5011"}
    core.feed(core.cancel(first))
    third = core.feed(replace(base, request_key="k2", reservation_id="res_c")).answers[0].reservation
    assert third is not None
    assert {third.drop_off_code, third.pickup_code} == {"5022", "5033"}
    core.pass_s(8 * 24 * 3600)
    fourth = core.feed(replace(base, request_key="k3", reservation_id="res_d")).answers[0].reservation
    assert fourth is not None
    assert {fourth.drop_off_code, fourth.pickup_code} == set(codes)


@pytest.mark.behaviour("codes-05")
def test_when_no_code_is_left_those_retired_first_come_back() -> None:
    core = Core(Layout(specs={s.label: s for s in specs()}, code_digits=1))
    for number in range(5):
        reserve = Reserve(f"k{number}", f"res_{number}", "p", "o", SMALL, ())
        made = core.feed(reserve).answers[0].reservation
        assert made is not None
        assert made.drop_off_code == str(2 * number)
        core.feed(core.cancel(made))
    last = core.feed(Reserve("k9", "res_9", "p", "o", SMALL, ())).answers[0].reservation
    assert last is not None
    assert (last.drop_off_code, last.pickup_code) == ("0", "1")


@pytest.mark.behaviour("cells-16", "cells-20")
def test_allocation_takes_no_scarcer_a_cell_than_needed() -> None:
    core = Core()
    cells = [core.reserve().cell for _ in range(5)]
    assert cells == ["A01", "A02", "C01", "B01", "B02"]
    full = Reserve("k", "res_z", "p", "o", SMALL, ("0001", "0002"))
    refusal = core.refused(full)
    assert refusal.code is Code.NO_CELL
    assert "taken" in refusal.message
    huge = replace(full, packaging=Packaging(9_000, 1, 1))
    assert "fits" in core.refused(huge).message


@pytest.mark.behaviour("cells-13", "cells-14", "cells-15")
@pytest.mark.parametrize(
    ("packaging", "cell"),
    [
        (Packaging(450, 150, 350), "A01"),
        (Packaging(350, 151, 450), "C01"),
        (Packaging(300, 200, 400, 1_500, cooling_required=True), "B01"),
        (Packaging(300, 200, 400, 1_500, heating_required=True), "B02"),
        (Packaging(100, 100, 100, 15_000), "C01"),
    ],
)
def test_a_parcel_fits_upright_and_turned(packaging: Packaging, cell: str) -> None:
    assert Core().reserve(packaging).cell == cell


@pytest.mark.behaviour("cells-04", "cells-05", "alarms-08")
def test_cells_of_a_silent_board_are_not_given() -> None:
    core = Core()
    core.feed(DeviceHealth("locks_a", False, ("A01", "A02")))
    assert core.reserve().cell == "C01"
    assert f"{Alarm.DEVICE_SILENT}/locks_a" in core.state.alarms
    core.feed(DeviceHealth("locks_a", True, ("A01", "A02")))
    core.feed(DoorsChanged({"A01": Door.CLOSED, "A02": Door.CLOSED}))
    assert core.reserve().cell == "A01"
    core.pass_s(5)
    assert not core.state.alarms


@pytest.mark.behaviour("cells-04")
def test_an_unclosed_door_is_not_given() -> None:
    core = Core()
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert core.reserve().cell == "A02"


@pytest.mark.behaviour("reservation-38", "opening-02")
def test_the_ledger_holds_intent_and_outcome() -> None:
    core = Core()
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    intent = core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    assert [(u.pulse_number, u.outcome) for u in intent.ledger_lines] == [(1, None)]
    assert intent.effects == (PulseLock(command.unlock_id, reservation.cell, 1, command.expires_ns),)
    outcome = core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    assert [(u.pulse_number, u.outcome) for u in outcome.ledger_lines] == [(1, UnlockOutcome.OPENED)]
