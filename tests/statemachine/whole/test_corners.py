"""Corners where the core once differed from the behaviour page: found by a second model of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import InvariantBroken
from edge_agent.model import Alarm, CellStatus, Door, Purpose, Reservation, ReservationStatus
from edge_agent.statemachine.codes import access
from edge_agent.statemachine.inputs import DoorRead, DoorsChanged, PulseDone
from edge_agent.statemachine.invariants import check
from tests.statemachine.codes.test_access import at, builder, retired
from tests.support.pure_core.core import Core


def stands(core: Core, alarm: Alarm, place: str) -> bool:
    return f"{alarm}/{place}" in core.state.alarms


def pulsing(core: Core, reservation: Reservation, purpose: Purpose = Purpose.DROPOFF) -> str:
    """A command whose first pulse is under way."""
    command = core.command(reservation, purpose)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    return command.unlock_id


def test_a_door_that_a_look_finds_open_was_opened_with_no_pulse() -> None:
    """A door that opens with no pulse is DOOR_FORCED, also if the fresh reading is the first to see it."""
    core = Core()
    command = core.command(core.dropped_off(), Purpose.PICKUP)
    core.pass_s(11)
    core.feed(replace(command, expires_ns=core.now.boottime_ns + 10**10))
    core.feed(DoorRead(command.unlock_id, Door.OPEN))
    core.lasts()
    assert stands(core, Alarm.DOOR_FORCED, "A01")


def test_a_look_can_find_the_wrong_door_open() -> None:
    """Another door moves than the one commanded: stop, WRONG_DOOR, both cells out of allocation."""
    core = Core()
    first, second = core.reserve(), core.reserve()
    core.feed(command := core.command(second, Purpose.DROPOFF))
    pulsing(core, first)
    core.feed(DoorRead(command.unlock_id, Door.OPEN))
    core.lasts()
    assert stands(core, Alarm.WRONG_DOOR, first.cell)


def test_a_door_that_was_seen_open_was_open_also_for_a_command_that_came_too_late() -> None:
    """Physical facts win over commands: a door that was seen open was open. Such a cell is inspected."""
    core = Core()
    reservation = core.reserve()
    core.feed(command := core.command(reservation, Purpose.DROPOFF, life_s=5))
    core.pass_s(6)
    core.feed(DoorRead(command.unlock_id, Door.OPEN))
    assert core.state.cells[reservation.cell].door is Door.OPEN
    assert core.state.cells[reservation.cell].opened_since_allocation


def test_a_pulse_that_was_never_sent_opens_no_door() -> None:
    """A door that opens with no pulse is DOOR_FORCED; and a lock is not worn by what was not sent."""
    core = Core()
    reservation = core.reserve()
    core.feed(PulseDone(pulsing(core, reservation), 1, Door.CLOSED, sent=False))
    assert core.state.cells[reservation.cell].pulse_count == 0
    core.forced(reservation.cell)
    assert stands(core, Alarm.DOOR_FORCED, reservation.cell)


def test_pulses_that_were_never_sent_do_not_heat_a_lock() -> None:
    """At most 6 pulses in any 10 s for one cell: a lock that had none need not rest."""
    core = Core()
    reservation = core.dropped_off()
    core.pass_s(11)
    for _ in range(core.layout.duty_pulses):
        core.feed(PulseDone(pulsing(core, reservation, Purpose.PICKUP), 1, Door.CLOSED, sent=False))
    core.feed(command := core.command(reservation, Purpose.PICKUP))
    assert core.feed(DoorRead(command.unlock_id, Door.CLOSED)).effects


def test_a_pulse_opens_a_door_once() -> None:
    """A door that opens with no pulse is DOOR_FORCED: the last pulse has had its opening."""
    core = Core()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.opens(core.command(reservation, Purpose.OPEN_DOOR))
    core.close(reservation.cell)
    core.pass_s(5)
    core.forced(reservation.cell)
    assert stands(core, Alarm.DOOR_FORCED, reservation.cell)


def test_the_order_of_the_doors_in_one_poll_decides_nothing() -> None:
    """Both doors are seen open in one poll while one of them is being opened."""
    alarms = []
    for turned in (False, True):
        core = Core()
        reservation = core.reserve()
        pulsing(core, reservation)
        seen = [(reservation.cell, Door.OPEN), ("C01", Door.OPEN)]
        core.feed(DoorsChanged(dict(reversed(seen) if turned else seen)))
        alarms.append(set(core.state.alarms))
    assert alarms[0] == alarms[1]


def test_a_jam_is_over_when_the_lock_opens_also_beside_a_wrong_door() -> None:
    """LOCK_JAMMED: `clear`, or the lock opens again. The other door was forced then, and nothing is
    locked."""
    core = Core()
    reservation = core.dropped_off()
    label = reservation.cell
    core.pass_s(11)
    core.jams(core.feed(core.command(reservation, Purpose.PICKUP)))
    core.pass_s(11)
    pulsing(core, reservation, Purpose.PICKUP)
    core.forced("C01")
    assert core.state.cells[label].faulty is not None
    assert stands(core, Alarm.WRONG_DOOR, label)
    core.feed(DoorsChanged({label: Door.OPEN}))
    assert core.state.cells[label].faulty is None
    assert not stands(core, Alarm.WRONG_DOOR, label)
    assert not stands(core, Alarm.LOCK_JAMMED, label)
    assert stands(core, Alarm.DOOR_FORCED, "C01")


def test_rests_double_until_a_day_without_an_invalid_entry() -> None:
    """The keypad rests 60 s, doubling up to 1 h, until a day without any: here each day had some."""
    core = Core()
    for _ in range(5):
        core.invalid("no code")
    core.pass_s(20 * 3600)
    core.invalid("no code")
    core.pass_s(5 * 3600)
    for _ in range(5):
        core.invalid("no code")
    assert core.state.guesses["digits"].rests == 2


def test_a_pulse_of_another_boot_is_no_excuse_for_an_open_door() -> None:
    """Two starts soon after power came: the uptime of the second is not less than that of the pulse."""
    core = Core()
    reservation = core.dropped_off()
    core.restart({}, boot_id="boot-2")
    core.jams(core.feed(core.command(reservation, Purpose.PICKUP)))
    assert core.now.boottime_ns == 10**9
    core.restart({reservation.cell: Door.OPEN}, boot_id="boot-3", off_s=3600)
    assert core.now.boottime_ns == 10**9
    core.lasts()
    assert stands(core, Alarm.DOOR_FORCED, reservation.cell)


def reboots_then_loses_the_clock(core: Core) -> None:
    """The clock was synchronised across the reboot and is not any more, as on a machine that goes offline."""
    core.restart({}, boot_id="boot-2", off_s=5)
    core.now = replace(core.now, synced=False)


def test_a_rest_from_before_a_reboot_ends_without_a_clock() -> None:
    """Within one boot, time runs on the boot-time clock: the keypad rested long enough in this one."""
    core = Core()
    for _ in range(5):
        core.invalid("no code")
    reboots_then_loses_the_clock(core)
    core.pass_s(3600)
    assert not stands(core, Alarm.CODE_GUESSING, "digits")


def test_a_grace_from_before_a_reboot_ends_without_a_clock() -> None:
    """Both ends of the reboot were synchronised; from there on it runs on the clock of this boot."""
    core = Core()
    reservation = core.picked_up()
    reboots_then_loses_the_clock(core)
    core.pass_s(3600)
    assert core.state.cells[reservation.cell].status is CellStatus.IDLE


def test_a_door_open_since_before_a_reboot_is_ajar_without_a_clock() -> None:
    """A door open longer than `door_ajar_s` is DOOR_AJAR: it was, in this boot alone."""
    core = Core()
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    core.restart({"A01": Door.OPEN}, boot_id="boot-2", off_s=5)
    core.now = replace(core.now, synced=False)
    core.pass_s(3600)
    assert stands(core, Alarm.DOOR_AJAR, "A01")


def test_a_right_code_says_why_its_door_does_not_open() -> None:
    """A right code in its right state never counts as wrong, also while the door is being opened."""
    core = Core()
    reservation = core.reserve()
    core.feed(core.command(reservation, Purpose.DROPOFF))
    for _ in range(6):
        (answer,) = core.feed(core.entry(reservation.drop_off_code)).answers
        assert answer.refusal is not None
        assert answer.refusal.message == "the door of cell A01 is being opened just now"
    assert not core.state.guesses


def test_a_code_never_used_comes_before_one_retired_lately() -> None:
    """A retired code is not given again for 7 days while others are left: 9 was left."""
    week_s = 7 * 24 * 3600
    codes = retired("0")
    for code in "12345678":
        codes = codes.with_code(code, at(week_s))
    assert access.choose_codes(builder(codes, week_s + 10), ()) == ("0", "9")


def test_a_live_reservation_that_is_over_breaks_an_invariant() -> None:
    """The whole check reports it by the rule's name, as the check by change does."""
    core = Core()
    reservation = core.reserve()
    over = replace(reservation, status=ReservationStatus.CANCELLED)
    with pytest.raises(InvariantBroken):
        check(replace(core.state, reservations={over.reservation_id: over}), core.layout)


def test_a_lock_may_open_late_after_its_next_pulse_was_not_sent() -> None:
    """The first pulse was given and may still open the door: that is not forced."""
    core = Core()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.feed(command := core.command(reservation, Purpose.PICKUP))
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    core.feed(PulseDone(command.unlock_id, 2, Door.CLOSED, sent=False))
    core.pass_s(1)
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    assert f"{Alarm.DOOR_FORCED}/{reservation.cell}" not in core.state.alarms
