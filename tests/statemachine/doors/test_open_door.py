"""Doors opened out of band: the five windows, the answer at once, the outcome as an event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import CellStatus, Door, Purpose, Reservation, ReservationStatus, UnlockOutcome
from edge_agent.statemachine.inputs import DoorRead, DoorsChanged, OpenForReservation, PulseDone
from edge_agent.statemachine.outputs import Fact, FactKind
from edge_agent.statemachine.reservation import open_window
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, Core, specs


def command(core: Core, reservation: Reservation) -> OpenForReservation:
    asked = core.command(reservation, Purpose.OPEN_DOOR)
    return replace(asked, reason="cannot open", platform_reference_id="ticket_456", x_request_id="req_xyz789")


def outcome_facts(core: Core) -> list[Fact]:
    return [fact for fact in core.facts if fact.kind is FactKind.OPEN_DOOR_FULFILLED]


def window(core: Core, reservation: Reservation) -> int | None:
    found = open_window(reservation, core.state.cells[reservation.cell], core.now)
    return None if found is None else found.number


@pytest.mark.behaviour("reservation-18")
def test_it_is_answered_at_once_and_its_outcome_is_published() -> None:
    core = Core()
    reservation = core.reserve()
    asked = command(core, reservation)
    done = core.feed(asked)
    assert done.answers[0].accepted == ("req_xyz789", core.now)
    assert done.answers[0].request_key == asked.request_key
    assert core.requested_reading(done).cell == reservation.cell
    core.feed(DoorRead(asked.unlock_id, Door.CLOSED))
    done = core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    assert not done.answers
    (fact,) = outcome_facts(core)
    assert (fact.outcome, fact.reason, fact.x_request_id) == (UnlockOutcome.OPENED, None, "req_xyz789")
    assert (fact.platform_reference_id, fact.request_key) == ("ticket_456", asked.request_key)
    assert fact.reservation == core.live(reservation)
    assert [u.reason for u in core.ledger_lines] == ["cannot open", "cannot open"]


def test_without_an_x_request_id_the_commands_own_id_comes_back() -> None:
    core = Core()
    asked = replace(command(core, core.reserve()), x_request_id=None)
    assert core.opens(asked).accepted == (asked.request_key, core.now)
    assert outcome_facts(core)[0].x_request_id == asked.request_key


@pytest.mark.behaviour("reservation-23")
def test_a_door_closed_after_it_makes_no_dropoff() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(command(core, reservation))
    core.close(reservation.cell)
    assert core.live(reservation).status is ReservationStatus.PENDING
    assert core.live(reservation).first_dropoff is None


@pytest.mark.behaviour("reservation-05", "reservation-20")
def test_a_dropoff_accepted_while_it_stands_open_is_one_when_it_closes() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(command(core, reservation))
    core.opens(core.command(reservation, Purpose.DROPOFF))
    assert len(core.pulses) == 1
    core.close(reservation.cell)
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


@pytest.mark.behaviour("reservation-16")
def test_the_five_windows() -> None:
    core = Core()
    reservation = core.reserve(grace_dropoff_s=60, grace_pickup_s=60)
    assert window(core, reservation) == 1
    core.opens(command(core, reservation))
    core.close(reservation.cell)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    assert window(core, core.live(reservation)) == 2
    core.close(reservation.cell)
    assert window(core, core.live(reservation)) == 2
    core.opens(command(core, reservation))
    core.close(reservation.cell)
    core.pass_s(61)
    assert window(core, core.live(reservation)) == 3
    core.opens(command(core, reservation))
    core.close(reservation.cell)
    core.opens(core.command(reservation, Purpose.PICKUP))
    core.close(reservation.cell)
    assert window(core, core.live(reservation)) == 4
    core.opens(command(core, reservation))
    core.pass_s(61)
    assert window(core, core.live(reservation)) == 5
    core.opens(command(core, reservation))
    core.close(reservation.cell)
    assert reservation.reservation_id not in core.state.reservations
    core.opens(command(core, reservation))
    core.close(reservation.cell)
    assert [f.outcome for f in outcome_facts(core)] == [
        UnlockOutcome.OPENED,
        UnlockOutcome.OPENED,
        UnlockOutcome.OPENED,
        UnlockOutcome.OPENED,
        UnlockOutcome.ALREADY_OPEN,
        UnlockOutcome.OPENED,
    ]
    assert core.state.cells[reservation.cell].status is CellStatus.AWAITING_INSPECTION


@pytest.mark.behaviour("reservation-16")
def test_a_dropoff_long_ago_that_never_closed_is_in_the_last_window() -> None:
    core = Core()
    reservation = core.reserve(grace_dropoff_s=10)
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.pass_s(11)
    assert window(core, core.live(reservation)) == 5


@pytest.mark.behaviour("reservation-16")
def test_the_last_window_ends_when_the_cell_is_given_again() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}))
    first = core.picked_up(grace_pickup_s=0)
    core.pass_s(1)
    assert core.state.former["A01"].reservation_id == first.reservation_id
    core.reserve()
    assert "A01" not in core.state.former
    late = replace(command(core, first), ended=ReservationStatus.PICKED_UP)
    refusal = core.refused(late)
    assert (refusal.code, refusal.message) == (
        Code.NOT_ALLOWED,
        "open-door not allowed: its cell was given to another reservation",
    )


@pytest.mark.behaviour("reservation-17")
@pytest.mark.parametrize("ended", [ReservationStatus.CANCELLED, ReservationStatus.ABANDONED])
def test_never_after_cancelled_or_abandoned(ended: ReservationStatus) -> None:
    core = Core()
    if ended is ReservationStatus.CANCELLED:
        reservation = core.reserve()
        core.feed(core.cancel(reservation))
    else:
        reservation = core.dropped_off()
        core.feed(core.abandon(reservation))
    assert core.refused(replace(command(core, reservation), ended=ended)).code is Code.NOT_ALLOWED
    assert core.refused(command(core, reservation)).code is Code.NOT_FOUND


@pytest.mark.behaviour("reservation-18")
def test_what_fails_is_published_with_the_reason() -> None:
    core = Core()
    reservation = core.dropped_off()
    core.jams(core.feed(command(core, reservation)))
    (fact,) = outcome_facts(core)
    assert fact.outcome is UnlockOutcome.NO_MOVEMENT
    assert fact.reason == f"the door of cell {reservation.cell} did not open (NO_MOVEMENT)"
    assert core.live(reservation).cell == reservation.cell
    other = core.dropped_off()
    asked = command(core, other)
    core.feed(asked)
    core.feed(DoorRead(asked.unlock_id, Door.CLOSED))
    core.feed(PulseDone(asked.unlock_id, 1, Door.UNKNOWN))
    assert outcome_facts(core)[-1].outcome is UnlockOutcome.UNKNOWN
    core.feed(DoorsChanged({other.cell: Door.OPEN}))
    assert len(outcome_facts(core)) == 2


@pytest.mark.behaviour("opening-11")
def test_one_that_waits_too_long_is_published_as_failed() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))
    first, second = core.reserve(), core.reserve()
    busy = core.command(first, Purpose.DROPOFF)
    core.feed(busy)
    core.feed(command(core, second))
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 11 * 10**9)
    core.feed(DoorRead(busy.unlock_id, Door.OPEN))
    (fact,) = outcome_facts(core)
    assert (fact.outcome, fact.reason) == (
        UnlockOutcome.NO_MOVEMENT,
        "the command expired while it waited for other doors",
    )
    assert not core.pulses


@pytest.mark.behaviour("opening-11")
def test_one_that_waits_when_its_cell_is_given_again_fails() -> None:
    core = Core(Layout(specs={s.label: s for s in (specs()[0], specs()[4])}, max_concurrent_unlocks=1))
    first = core.picked_up(grace_pickup_s=0)
    core.pass_s(1)
    second = core.reserve(replace(SMALL, height_mm=350))
    assert (first.cell, second.cell) == ("A01", "C01")
    busy = core.command(second, Purpose.DROPOFF)
    core.feed(busy)
    asked = command(core, first)
    core.feed(asked)
    assert core.state.queue == (asked.unlock_id,)
    assert core.reserve().cell == "A01"
    (fact,) = outcome_facts(core)
    assert fact.reason == "cell A01 was given to another reservation while the command waited"
    assert fact.reservation is not None
    assert fact.reservation.reservation_id == first.reservation_id
    assert not core.state.queue
    core.feed(DoorRead(busy.unlock_id, Door.CLOSED))
    assert [p.cell for p in core.pulses] == ["A01", "A01", "C01"]


def test_accepted_before_a_restart_it_opens_nothing_after_it_and_fails() -> None:
    core = Core()
    reservation = core.reserve()
    core.feed(command(core, reservation))
    core.pulses.clear()
    core.restart({})
    (fact,) = outcome_facts(core)
    assert (fact.outcome, fact.reason) == (
        UnlockOutcome.NO_MOVEMENT,
        "the machine restarted before the lock was pulsed",
    )
    assert not core.pulses
    assert not core.state.unlock_attempts


@pytest.mark.behaviour("reservation-24")
def test_no_cell_is_given_while_its_last_holders_door_is_being_opened() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}))
    reservation = core.picked_up(grace_pickup_s=0)
    core.pass_s(1)
    asked = command(core, reservation)
    core.feed(asked)
    with pytest.raises(Exception, match="taken or out of order"):
        core.reserve()
    core.feed(DoorRead(asked.unlock_id, Door.CLOSED))
    core.feed(PulseDone(asked.unlock_id, 1, Door.UNKNOWN))
    assert core.state.cells["A01"].status is CellStatus.AWAITING_INSPECTION
    core.feed(DoorsChanged({"A01": Door.CLOSED}))
    with pytest.raises(Exception, match="taken or out of order"):
        core.reserve()
    core.clear("A01")
    core.reserve()
