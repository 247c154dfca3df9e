"""Fields and borders that the tests of whole behaviours pass over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    Alarm,
    CellStatus,
    Door,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    UnlockOutcome,
    qr_text,
)
from edge_agent.statemachine.codes import access
from edge_agent.statemachine.doors import wrong_door
from edge_agent.statemachine.inputs import (
    Abandon,
    ClosingSettled,
    DoorRead,
    DoorsChanged,
    EnterCode,
    HandCheck,
    OpenCell,
    PulseDone,
    Weighed,
)
from edge_agent.statemachine.outputs import Fact, FactKind
from edge_agent.statemachine.state import Layout, UnconfirmedUnlock
from edge_agent.statemachine.step_builder import StepBuilder
from tests.support.pure_core.core import Core, specs

LIFE_S = 30


def one_attempt(**changes: Any) -> Core:
    return Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=1, **changes))


def fact(core: Core, kind: FactKind) -> Fact:
    """The only event of a kind."""
    (found,) = [fact for fact in core.facts if fact.kind is kind]
    return found


def changed(core: Core, label: str, **fields: Any) -> None:
    cell = replace(core.state.cells[label], **fields)
    core.state = replace(core.state, cells={**core.state.cells, label: cell})


# --- entries and technicians' acts live 30 s ----------------------------------------------------------------


@pytest.mark.parametrize(("age_s", "late"), [(LIFE_S, False), (LIFE_S + 1e-9, True)])
def test_an_entry_lives_thirty_seconds_from_when_it_was_made(age_s: float, late: bool) -> None:
    core = Core()
    reservation = core.reserve()
    made_ns = core.now.boottime_ns
    core.now = replace(core.now, boottime_ns=made_ns + round(age_s * 1e9))
    entry = EnterCode("req-late", reservation.drop_off_code, "unl-late", entered_ns=made_ns)
    done = core.feed(entry)
    if not late:
        assert [effect.cell for effect in done.effects if hasattr(effect, "cell")] == [reservation.cell]
        return
    (answer,) = done.answers
    assert answer.request_key == "req-late"
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.refusal.message) == (
        Code.EXPIRED,
        "too late: enter the code again",
    )
    assert not core.state.guesses  # no entry was a guess


def test_a_technicians_act_expires_thirty_seconds_after_it_was_asked_for() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))
    core.feed(core.command(core.reserve(), Purpose.DROPOFF, life_s=100))
    asked_ns = core.now.boottime_ns - 20 * 10**9
    core.feed(OpenCell("req-t", "C01", "why", "unl-t", asked_ns=asked_ns))
    assert core.state.unlock_attempts["unl-t"].expires_ns == asked_ns + LIFE_S * 10**9


# --- codes --------------------------------------------------------------------------------------------------


def one_digit() -> Core:
    """Ten codes, for five reservations at once."""
    label = iter(f"D{number:02}" for number in range(10))
    cells = [replace(specs()[0], label=name, cell_id=f"id_{name}") for name in label]
    return Core(Layout(specs={cell.label: cell for cell in cells}, code_digits=1))


def test_no_reservation_is_made_while_every_code_is_in_use() -> None:
    core = one_digit()
    for _ in range(5):
        core.reserve()
    with pytest.raises(Refusal) as refused:
        core.reserve()
    assert (refused.value.code, refused.value.message) == (Code.NO_CELL, "every code is in use")


def test_the_code_retired_first_is_given_when_all_are_retired() -> None:
    core = one_digit()
    made = [core.reserve() for _ in range(5)]
    retired: list[str] = []
    for reservation in made:
        core.feed(core.cancel(reservation))
        retired += [reservation.drop_off_code, reservation.pickup_code]
        core.pass_s(1)
    again = core.reserve()
    assert [again.drop_off_code, again.pickup_code] == retired[:2]


@pytest.mark.parametrize("purpose", [Purpose.DROPOFF, Purpose.PICKUP])
def test_a_qr_text_with_the_own_code_of_a_reservation_is_no_guess(purpose: Purpose) -> None:
    core = Core()
    reservation = core.reserve()
    codes = {Purpose.DROPOFF: reservation.drop_off_code, Purpose.PICKUP: reservation.pickup_code}
    builder = StepBuilder(core.state, core.layout, core.now)
    rid = reservation.reservation_id
    assert not access.is_guess(builder, qr_text(purpose, rid, codes[purpose]))
    other = codes[Purpose.PICKUP if purpose is Purpose.DROPOFF else Purpose.DROPOFF]
    assert access.is_guess(builder, qr_text(purpose, rid, other))
    assert not access.is_guess(builder, qr_text(purpose, "res_unknown", other))
    assert access.is_guess(builder, "1234")


# --- contacts -----------------------------------------------------------------------------------------------


def test_doubt_that_was_cleared_begins_from_nothing() -> None:
    """The changes that made the doubt count no longer."""
    core = Core()
    for number in range(4):
        core.feed(DoorsChanged({"A01": Door.CLOSED if number % 2 else Door.OPEN}))
        core.pass_s(0.1)
    assert core.state.cells["A01"].contact_doubt is not None
    core.settle("A01")
    core.clear("A01")
    assert core.state.cells["A01"].changes_ns == ()
    assert core.state.cells["A01"].contact_doubt is None
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert core.state.cells["A01"].contact_doubt is None


@pytest.mark.parametrize(("open_s", "doubted"), [(0.5, True), (0.601, False), (5.0, False)])
def test_what_follows_a_closing_after_a_real_opening_is_bouncing(open_s: float, doubted: bool) -> None:
    core = Core()
    core.feed(HandCheck(("A01",), True))
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    core.feed(HandCheck(("A01",), False))
    core.pass_s(open_s)
    for number in range(5):
        core.feed(DoorsChanged({"A01": Door.OPEN if number % 2 else Door.CLOSED}))
        core.pass_s(0.1)
    assert (core.state.cells["A01"].contact_doubt is not None) is doubted


def test_a_closing_of_a_door_that_opened_in_another_boot_begins_a_time_of_bounces() -> None:
    core = Core()
    core.opened_by_hand("A01")
    core.now = replace(core.now, synced=False)
    core.restart({"A01": Door.OPEN}, boot_id="boot-2")
    changed(core, "A01", door_since=replace(core.now, boot_id="boot-1"))
    core.feed(DoorsChanged({"A01": Door.CLOSED}))
    assert core.state.cells["A01"].quiet_from_ns == core.now.boottime_ns


def test_a_restart_forgets_the_changes_of_a_contact() -> None:
    core = Core()
    for number in range(3):
        core.feed(DoorsChanged({"A01": Door.CLOSED if number % 2 else Door.OPEN}))
        core.pass_s(0.1)
    assert len(core.state.cells["A01"].changes_ns) == 3
    changed(core, "A01", quiet_from_ns=core.now.boottime_ns)
    core.restart({"A01": Door.OPEN})
    cell = core.state.cells["A01"]
    assert (cell.changes_ns, cell.quiet_from_ns) == ((), None)


def test_an_opening_that_needs_a_cause_is_no_longer_this_machines() -> None:
    core = one_attempt()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
    core.pass_s(5)
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    cell = core.state.cells[reservation.cell]
    assert (cell.opened_by_unlock, cell.unexplained_since) == (False, core.now)


def test_an_opening_whose_age_no_clock_shows_is_judged_at_once() -> None:
    core = Core()
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    changed(core, "A01", unexplained_since=replace(core.now, boot_id="boot-0", synced=False))
    core.feed(DoorsChanged({"A02": Door.CLOSED}))
    assert f"{Alarm.DOOR_FORCED}/A01" in core.state.alarms


# --- late openings ------------------------------------------------------------------------------------------


def late(core: Core, purpose: Purpose = Purpose.PICKUP) -> tuple[Reservation, str]:
    """A command that has failed: its lock did not move while it was watched."""
    reservation = core.reserve() if purpose is Purpose.DROPOFF else core.dropped_off()
    core.pass_s(11)
    core.jams(core.feed(core.command(reservation, purpose)))
    return reservation, reservation.cell


@pytest.mark.parametrize("purpose", [Purpose.PICKUP, Purpose.OPEN_DOOR])
def test_a_late_opening_is_known_as_this_machines(purpose: Purpose) -> None:
    core = one_attempt()
    reservation, label = late(core, purpose)
    assert core.state.cells[label].last_outcome is not None
    core.pass_s(1)
    core.feed(DoorsChanged({label: Door.OPEN}))
    cell = core.state.cells[label]
    assert (cell.opened_by_unlock, cell.unexplained_since, cell.last_outcome) == (True, None, None)
    assert (cell.opened_since_allocation, cell.unlocked_since_allocation) == (True, True)
    expected = ReservationStatus.PICKED_UP if purpose is Purpose.PICKUP else ReservationStatus.DROPPED_OFF
    assert core.live(reservation).status is expected
    assert f"{Alarm.LOCK_JAMMED}/{label}" not in core.state.alarms


def test_a_late_opening_while_a_wrong_door_stands_is_none() -> None:
    core = one_attempt()
    _, label = late(core)
    builder = StepBuilder(core.state, core.layout, core.now)
    builder.raise_alarm(Alarm.WRONG_DOOR, label, "why", cell=label)
    core.state = builder.result().state
    core.pass_s(1)
    core.feed(DoorsChanged({label: Door.OPEN}))
    assert core.state.cells[label].opened_by_unlock is False
    assert core.state.cells[label].unexplained_since == core.now


def test_a_late_opening_leaves_the_pulses_of_the_lock_to_its_duty() -> None:
    core = one_attempt()
    _, label = late(core)
    before = core.state.pulses[label].at_ns
    core.pass_s(1)
    core.feed(DoorsChanged({label: Door.OPEN}))
    assert (core.state.pulses[label].at_ns, core.state.pulses[label].pulses_without_opening) == (before, 0)


def test_a_judged_opening_leaves_the_pulses_of_the_lock_to_its_duty() -> None:
    """Its lock was pulsed, another one since: it opened a wrong door."""
    core = one_attempt()
    first, label = late(core)
    second = core.dropped_off()
    core.jams(core.feed(core.command(second, Purpose.PICKUP)))
    before = core.state.pulses[label].at_ns
    core.feed(DoorsChanged({label: Door.OPEN}))
    core.lasts()
    assert f"{Alarm.WRONG_DOOR}/{label}" in core.state.alarms
    assert (core.state.pulses[label].at_ns, core.state.pulses[label].pulses_without_opening) == (before, 0)
    assert core.live(first).status is ReservationStatus.DROPPED_OFF


def test_the_door_itself_is_no_suspect_of_its_own_opening() -> None:
    core = one_attempt()
    _, label = late(core)
    builder = StepBuilder(core.state, core.layout, core.now)
    assert wrong_door.unopened(builder, label, core.now) == []
    assert wrong_door.possible_openers(builder, label, core.now) == []


@pytest.mark.parametrize("still_open", [True, False])
def test_a_right_opening_after_all_says_that_the_other_door_was_forced(still_open: bool) -> None:
    core = one_attempt()
    reservation = core.dropped_off()
    core.pass_s(11)
    command = core.command(reservation, Purpose.PICKUP)
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.feed(DoorsChanged({"C01": Door.OPEN}))
    core.lasts()
    assert f"{Alarm.WRONG_DOOR}/C01" in core.state.alarms
    if not still_open:
        core.feed(DoorsChanged({"C01": Door.CLOSED}))
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    assert f"{Alarm.WRONG_DOOR}/C01" not in core.state.alarms
    assert f"{Alarm.DOOR_FORCED}/C01" in core.state.alarms
    assert core.state.cells["C01"].faulty is None


# --- what is reported ---------------------------------------------------------------------------------------


def test_a_drop_off_is_dated_at_its_first_closed_reading() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
    closed = core.now
    core.pass_s(0.7)
    core.feed(ClosingSettled(reservation.cell, closed.boottime_ns))
    dropped_off = core.live(reservation).dropped_off
    assert dropped_off is not None
    assert dropped_off.boottime_ns == closed.boottime_ns
    assert fact(core, FactKind.DROPOFF).at == dropped_off != core.now


def test_a_technicians_opening_is_reported_with_all_that_is_known() -> None:
    core = one_attempt()
    core.jams(core.feed(OpenCell("req-t", "C01", "the customer calls", "unl-t", actor="bob")))
    published = fact(core, FactKind.OPEN_DOOR_FULFILLED)
    assert (published.cell, published.source, published.outcome) == (
        "C01",
        Source.MACHINE,
        UnlockOutcome.NO_MOVEMENT,
    )
    assert (published.description, published.actor, published.recovered) == (
        "the customer calls",
        "bob",
        False,
    )
    assert published.reason is not None
    assert published.reservation is None


def test_a_pick_up_again_within_its_grace_answers_with_the_reservation() -> None:
    core = Core()
    reservation = core.picked_up(grace_pickup_s=600)
    core.pass_s(11)
    command = core.command(reservation, Purpose.PICKUP)
    answer = core.opens(command)
    assert (answer.request_key, answer.cell) == (command.request_key, reservation.cell)
    assert answer.reservation is not None
    assert answer.reservation.reservation_id == reservation.reservation_id


def test_a_technicians_opening_ends_the_wait_for_a_scale() -> None:
    cells = [replace(spec, weight_sensor=True) for spec in specs()]
    layout = Layout(
        specs={cell.label: cell for cell in cells},
        weighed=frozenset(cell.label for cell in cells),
        hold_empty_dropoff=True,
    )
    core = Core(layout)
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close(reservation.cell)
    assert core.live(reservation).to_be_weighed is True
    core.opened_by_hand(reservation.cell)
    assert core.live(reservation).to_be_weighed is False


def test_an_alarm_that_returns_has_its_new_detail() -> None:
    core = Core()
    builder = StepBuilder(core.state, core.layout, core.now)
    for detail in ("first", "second", ""):
        builder.raise_alarm(Alarm.BUS_DOWN, "main", detail)
        builder.clear_alarm(Alarm.BUS_DOWN, "main")
    builder.raise_alarm(Alarm.BUS_DOWN, "main", "")
    standing = builder.alarms[f"{Alarm.BUS_DOWN}/main"]
    assert (standing.count, standing.detail, standing.gone) == (4, "second", None)


# --- what ends with a reservation ---------------------------------------------------------------------------


def test_an_abandoned_parcel_ends_what_a_closing_would_have_concluded() -> None:
    core = Core()
    reservation = core.dropped_off()
    waits = UnconfirmedUnlock("unl-x", reservation.reservation_id, Purpose.PICKUP, Source.API, core.now, None)
    core.state = replace(core.state, unconfirmed={reservation.cell: waits})
    core.feed(Abandon(core.key(), reservation.reservation_id))
    assert dict(core.state.unconfirmed) == {}
    assert core.state.cells[reservation.cell].status is CellStatus.AWAITING_CLEANUP


def test_a_new_command_ends_what_an_older_one_waits_for() -> None:
    core = Core()
    reservation = core.dropped_off()
    waits = UnconfirmedUnlock("unl-x", reservation.reservation_id, Purpose.PICKUP, Source.API, core.now, None)
    core.state = replace(core.state, unconfirmed={reservation.cell: waits})
    core.pass_s(11)
    core.opens(core.command(reservation, Purpose.PICKUP))
    assert dict(core.state.unconfirmed) == {}


def test_an_unconfirmed_pick_up_counts_from_its_first_pulse_on_the_wall_clock_too() -> None:
    core = Core()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.forced(reservation.cell)
    command = core.command(reservation, Purpose.PICKUP)
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.OPEN))
    pulsed = core.now
    core.now = replace(core.now, boottime_ns=pulsed.boottime_ns + 2 * 10**9, wall_s=pulsed.wall_s + 2.0)
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    since = core.state.unconfirmed[reservation.cell].since
    assert since.boottime_ns == pulsed.boottime_ns
    assert since.wall_s == pytest.approx(pulsed.wall_s, abs=1e-10)


def test_the_zero_of_a_scale_is_followed_in_steps_of_half_of_what_is_nothing() -> None:
    """An odd limit of what is nothing: half of it in whole grams is the greatest creep."""
    cell = replace(specs()[3])
    layout = Layout(specs={cell.label: cell}, weighed=frozenset({cell.label}), empty_below_g=51)
    core = Core(layout)
    core.feed(Weighed(cell.label, 0))
    core.feed(Weighed(cell.label, 25))
    assert core.state.cells[cell.label].drift_g == 25
    core.feed(Weighed(cell.label, 26))
    assert core.state.cells[cell.label].drift_g == 26
