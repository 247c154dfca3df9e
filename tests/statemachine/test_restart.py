"""What a start makes of what was journaled and of what the doors show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Alarm, CellStatus, Door, Purpose, ReservationStatus, UnlockOutcome
from edge_agent.statemachine.doors.outcome import COMMAND_FOR
from edge_agent.statemachine.inputs import DoorRead, DoorsChanged, Tick
from edge_agent.statemachine.outputs import FactKind
from tests.support.pure_core.core import Core


@pytest.mark.behaviour("time-14")
def test_a_dropoff_door_journaled_open_and_now_closed_is_dropped_off() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.restart({reservation.cell: Door.CLOSED}, off_s=30)
    live = core.state.reservations[reservation.reservation_id]
    assert live.status is ReservationStatus.DROPPED_OFF
    assert live.recovered
    assert core.facts[-1].recovered
    assert len(core.pulses) == 1


def test_a_dropoff_door_still_open_waits_for_its_closing() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.restart({reservation.cell: Door.OPEN})
    assert core.state.reservations[reservation.reservation_id].status is ReservationStatus.PENDING
    core.close(reservation.cell)
    assert core.facts[-1].kind is FactKind.DROPOFF


@pytest.mark.behaviour("time-10", "time-11", "time-12")
@pytest.mark.parametrize("purpose", list(COMMAND_FOR))
@pytest.mark.parametrize("door", [Door.OPEN, Door.CLOSED, Door.UNKNOWN])
def test_an_intent_without_outcome_is_never_pulsed_again(purpose: Purpose, door: Door) -> None:
    core = Core()
    reservation = core.reserve()
    if purpose is Purpose.PICKUP:
        core.opens(core.command(reservation, Purpose.DROPOFF))
        core.close(reservation.cell)
    before = core.state.reservations[reservation.reservation_id].status
    command = core.command(reservation, purpose)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.pulses.clear()
    answers = list(core.restart({reservation.cell: door}).answers)
    assert not core.pulses
    live = core.state.reservations[reservation.reservation_id]
    if door is Door.OPEN:
        assert live.dropoff_opened == (purpose is Purpose.DROPOFF)
        assert (live.status is ReservationStatus.PICKED_UP) == (purpose is Purpose.PICKUP)
    else:
        assert live.status is before
    if door is Door.UNKNOWN:
        assert not answers
        answers += core.feed(DoorsChanged({reservation.cell: Door.CLOSED})).answers
    if purpose is Purpose.OPEN_DOOR:
        published = [f for f in core.facts if f.kind is FactKind.OPEN_DOOR_FULFILLED]
        outcome = UnlockOutcome.OPENED if door is Door.OPEN else UnlockOutcome.UNKNOWN
        assert [(f.request_key, f.outcome) for f in published] == [(command.request_key, outcome)]
        assert not answers
    else:
        assert [a.request_key for a in answers] == [command.request_key]
        assert (answers[0].refusal is None) == (door is Door.OPEN)
    if door is not Door.OPEN:
        assert core.state.cells[reservation.cell].outcome_unknown
    assert not core.pulses
    assert not core.state.unlock_attempts


@pytest.mark.behaviour("time-13")
def test_a_cell_of_unknown_outcome_is_inspected_before_it_is_given_again() -> None:
    core = Core()
    reservation = core.reserve(grace_pickup_s=1)
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.restart({})
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close(reservation.cell)
    core.pass_s(2)
    assert core.state.cells[reservation.cell].status is CellStatus.AWAITING_INSPECTION


def test_a_command_that_waited_or_looked_is_forgotten() -> None:
    core = Core()
    commands = [core.command(core.reserve(), Purpose.DROPOFF) for _ in range(3)]
    for command in commands:
        core.feed(command)
    core.restart({})
    assert not core.state.unlock_attempts
    assert not core.state.queue
    assert not core.pulses


def picked_up_and_closed(core: Core) -> str:
    reservation = core.reserve(grace_pickup_s=60)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close(reservation.cell)
    return reservation.cell


@pytest.mark.behaviour("time-01")
def test_a_grace_goes_on_over_a_restart_and_ignores_a_stepping_wall_clock() -> None:
    core = Core()
    cell = picked_up_and_closed(core)
    core.pass_s(10, wall_step_s=86_400)
    assert core.state.cells[cell].status is CellStatus.IN_GRACE
    core.restart({}, off_s=20)
    assert core.state.cells[cell].status is CellStatus.IN_GRACE
    core.pass_s(31, wall_step_s=-86_400)
    assert core.state.cells[cell].status is CellStatus.IDLE


@pytest.mark.behaviour("time-02")
def test_across_a_reboot_synchronised_wall_clocks_show_the_time() -> None:
    core = Core()
    cell = picked_up_and_closed(core)
    core.restart({}, boot_id="boot-2", off_s=61)
    assert core.state.cells[cell].status is CellStatus.IDLE


@pytest.mark.behaviour("time-03", "time-04")
def test_across_a_reboot_without_a_clock_no_grace_opens_or_frees() -> None:
    core = Core()
    cell = picked_up_and_closed(core)
    reservation = next(iter(core.state.reservations.values()))
    core.now = replace(core.now, synced=False)
    core.restart({}, boot_id="boot-2", off_s=3600)
    core.pass_s(3600)
    assert core.state.cells[cell].status is CellStatus.IN_GRACE
    core.refused(core.command(reservation, Purpose.PICKUP))
    assert f"{Alarm.CLOCK_UNSYNCED}/" in core.state.alarms
    core.now = replace(core.now, synced=True)
    core.feed(Tick())
    assert core.state.cells[cell].status is CellStatus.IDLE


def test_after_a_restart_nobody_at_the_kiosk_gets_an_earlier_entrys_answer() -> None:
    core = Core()
    reservation = core.reserve()
    entry = core.entry(reservation.drop_off_code)
    core.feed(entry)
    core.feed(DoorRead(entry.unlock_id, Door.CLOSED))
    assert not core.restart({reservation.cell: Door.OPEN}).answers
    assert core.state.reservations[reservation.reservation_id].dropoff_opened
