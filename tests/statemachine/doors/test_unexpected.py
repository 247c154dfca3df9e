"""Doors that open or stay open unexpectedly: alarms, and no reservation moves."""

from __future__ import annotations

import pytest

from edge_agent.errors import Code
from edge_agent.model import Alarm, Door, Purpose, ReservationStatus
from edge_agent.statemachine.inputs import Clear, DoorRead, DoorsChanged, PulseDone
from edge_agent.statemachine.locker import next_due_ns
from tests.support.pure_core.core import Core


def stands(core: Core, alarm: Alarm, label: str) -> bool:
    return f"{alarm}/{label}" in core.state.alarms


@pytest.mark.behaviour("opening-19", "alarms-03")
def test_a_door_that_opens_with_no_pulse_is_forced_until_closed_and_acknowledged() -> None:
    core = Core()
    reservation = core.reserve()
    core.forced(reservation.cell)
    assert stands(core, Alarm.DOOR_FORCED, reservation.cell)
    assert core.refused(Clear(core.key(), reservation.cell)).code is Code.NOT_ALLOWED
    core.close(reservation.cell)
    assert stands(core, Alarm.DOOR_FORCED, reservation.cell)
    core.feed(Clear(core.key(), reservation.cell))
    assert not stands(core, Alarm.DOOR_FORCED, reservation.cell)
    live = core.state.reservations[reservation.reservation_id]
    assert live.status is ReservationStatus.PENDING


@pytest.mark.behaviour("alarms-04")
def test_a_forced_door_is_forgotten_after_ten_minutes_closed() -> None:
    core = Core()
    core.forced("A01")
    core.pass_s(30)
    core.close("A01")
    core.pass_s(599)
    assert stands(core, Alarm.DOOR_FORCED, "A01")
    core.pass_s(1)
    assert list(core.state.alarms) == ["SENSOR_FAULT/A01/contact"]


@pytest.mark.behaviour("opening-20", "alarms-02")
def test_a_door_open_too_long_is_ajar_until_it_is_closed() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 120 * 10**9
    core.pass_s(119)
    assert not core.state.alarms
    core.pass_s(1)
    assert stands(core, Alarm.DOOR_AJAR, reservation.cell)
    assert next_due_ns(core.state, core.layout, core.now) is None
    core.close(reservation.cell)
    assert not core.state.alarms
    assert core.state.reservations[reservation.reservation_id].status is ReservationStatus.DROPPED_OFF


def test_a_door_whose_contact_chatters_is_ajar_all_the_same() -> None:
    """A closing that does not settle ends no time of standing open."""
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    for _ in range(119):
        core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
        core.pass_s(0.5)
        core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
        core.pass_s(0.5)
    assert not stands(core, Alarm.DOOR_AJAR, reservation.cell)
    core.pass_s(1)
    assert stands(core, Alarm.DOOR_AJAR, reservation.cell)
    core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
    core.pass_s(10)
    assert stands(core, Alarm.DOOR_AJAR, reservation.cell)
    core.settle(reservation.cell)
    core.pass_s(5)
    assert not stands(core, Alarm.DOOR_AJAR, reservation.cell)
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    core.pass_s(119)
    assert not stands(core, Alarm.DOOR_AJAR, reservation.cell)


@pytest.mark.behaviour("opening-18", "alarms-07")
def test_another_door_than_the_one_commanded_stops_the_unlock() -> None:
    core = Core()
    reservation = core.reserve()
    other = "C01"
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.forced(other)
    for label in (reservation.cell, other):
        assert stands(core, Alarm.WRONG_DOOR, label)
        assert core.state.cells[label].faulty is not None
    done = core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert not done.effects
    assert done.answers[0].refusal is not None
    assert len(core.pulses) == 1
    assert not stands(core, Alarm.LOCK_JAMMED, reservation.cell)
    core.close(other)
    assert core.reserve().cell not in (other, reservation.cell)
    for label in (reservation.cell, other):
        assert core.refused(Clear(core.key(), label)).code is Code.NOT_ALLOWED
        core.opened_by_hand(label)
        core.close(label)
        core.feed(Clear(core.key(), label))
    assert not core.state.alarms


def test_a_lock_that_opens_late_was_not_forced() -> None:
    core = Core()
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    for attempt in (1, 2, 3):
        core.feed(PulseDone(command.unlock_id, attempt, Door.CLOSED))
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    assert not stands(core, Alarm.DOOR_FORCED, reservation.cell)


@pytest.mark.behaviour("opening-19")
def test_a_door_forced_while_the_daemon_was_dead_is_reported_at_the_start() -> None:
    core = Core()
    core.restart({"A01": Door.OPEN}, off_s=60)
    core.lasts()
    assert stands(core, Alarm.DOOR_FORCED, "A01")
