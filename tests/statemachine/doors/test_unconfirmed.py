"""A command that was pulsed in doubt: which closing concludes it, over re-openings and restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import Alarm, Door, Purpose, Reservation, ReservationStatus, Source, Verdict
from edge_agent.statemachine.inputs import (
    Boot,
    ClosingSettled,
    DeviceHealth,
    DoorRead,
    DoorsChanged,
    HistoryAhead,
    HistoryLost,
    OpenForReservation,
    PulseDone,
    Reserve,
    Resolve,
    Tick,
    Weighed,
)
from edge_agent.statemachine.locker import restored
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.redating import redate_moments
from edge_agent.statemachine.state import Guesses, Layout, UnconfirmedUnlock
from edge_agent.statemachine.step_builder import StepBuilder
from tests.support.pure_core.core import SMALL, Core, specs


def doubted(purpose: Purpose) -> tuple[Core, Reservation, OpenForReservation]:
    """A cell whose contact is in doubt, with a command for it."""
    core = Core()
    if purpose is Purpose.PICKUP:
        reservation = core.dropped_off()
    else:
        reservation = core.reserve()
        core.opens(core.command(reservation, Purpose.OPEN_DOOR))
        core.close(reservation.cell)
    core.pass_s(11)
    core.forced(reservation.cell)
    return core, reservation, core.command(reservation, purpose)


def waiting(purpose: Purpose) -> tuple[Core, Reservation]:
    """A command whose lock was pulsed in doubt and that waits for a closing."""
    core, reservation, command = doubted(purpose)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.OPEN))
    core.pass_s(1.5)
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    return core, reservation


def waits(core: Core, reservation: Reservation) -> UnconfirmedUnlock:
    return core.state.unconfirmed[reservation.cell]


@pytest.mark.parametrize("door", [Door.OPEN, Door.UNKNOWN])
def test_a_door_that_does_not_stay_closed_for_thirty_seconds_concludes_no_drop_off(door: Door) -> None:
    core, reservation = waiting(Purpose.DROPOFF)
    before = waits(core, reservation)
    core.close(reservation.cell)
    assert waits(core, reservation) == replace(before, closed=core.now)
    core.pass_s(20)
    core.feed(DoorsChanged({reservation.cell: door}))
    assert waits(core, reservation) == before
    core.pass_s(20)
    core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
    core.pass_s(1)
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.settle(reservation.cell)
    core.pass_s(29.9)
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.pass_s(0.1)
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


def start(core: Core, boot_id: str, *, synced: bool) -> None:
    """The daemon starts again and has read every door as closed; none has settled."""
    core.now = replace(core.now, boot_id=boot_id, boottime_ns=core.now.boottime_ns + 10**9, synced=synced)
    core.state = restored(core.state, core.now)
    core.feed(Boot(dict.fromkeys(core.layout.specs, Door.CLOSED)))


def test_a_restart_forgets_a_closing_that_has_not_lasted_and_keeps_the_waiting_time() -> None:
    core, reservation = waiting(Purpose.DROPOFF)
    before = waits(core, reservation)
    core.close(reservation.cell)
    start(core, core.now.boot_id, synced=True)
    assert waits(core, reservation) == before


def test_a_restart_keeps_a_command_without_a_closing_as_it_is() -> None:
    core, reservation = waiting(Purpose.PICKUP)
    before = waits(core, reservation)
    core.feed(DoorsChanged({reservation.cell: Door.CLOSED}))
    start(core, core.now.boot_id, synced=True)
    assert waits(core, reservation) == before


@pytest.mark.parametrize("closes", [True, False])
def test_the_waiting_time_starts_again_when_no_clock_can_measure_it(closes: bool) -> None:
    core, reservation = waiting(Purpose.DROPOFF)
    before = waits(core, reservation)
    if closes:
        core.close(reservation.cell)
    start(core, "boot-2", synced=False)
    assert waits(core, reservation) == replace(before, since=core.now)


def test_a_pick_up_in_doubt_is_dated_at_the_closing_and_has_a_known_grace() -> None:
    core, parcel = waiting(Purpose.PICKUP)
    unsure = replace(core.live(parcel), grace_unknown=True)
    core.state = replace(core.state, reservations={**core.state.reservations, parcel.reservation_id: unsure})
    core.pass_s(5)
    closed_at = core.now
    core.feed(DoorsChanged({parcel.cell: Door.CLOSED}))
    core.pass_s(2)
    core.feed(ClosingSettled(parcel.cell, closed_at.boottime_ns))
    picked_up = core.live(parcel)
    assert (picked_up.picked_up, picked_up.grace_unknown) == (closed_at, False)
    (fact,) = [fact for fact in core.facts if fact.kind is FactKind.PICKUP]
    assert fact.at == closed_at
    assert core.state.cells[parcel.cell].inspect_unless_empty is True


def test_a_pulse_in_doubt_that_a_restart_interrupts_waits_for_a_closing() -> None:
    core, parcel, command = doubted(Purpose.PICKUP)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.OPEN))
    core.restart({parcel.cell: Door.OPEN})
    assert command.unlock_id not in core.state.unlock_attempts
    assert waits(core, parcel).unlock_id == command.unlock_id
    assert core.live(parcel).status is ReservationStatus.DROPPED_OFF
    core.close(parcel.cell)
    assert core.live(parcel).status is ReservationStatus.PICKED_UP


def test_a_scale_that_settles_before_the_door_does_concludes_the_drop_off() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}), hold_empty_dropoff=True))
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.feed(DoorsChanged({"A01": Door.CLOSED}))
    core.feed(Weighed("A01", 500))
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.settle("A01")
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert core.live(reservation).to_be_weighed is False


def test_a_door_that_is_opened_again_is_not_weighed_as_it_was() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"})))
    reservation = core.dropped_off()
    assert core.live(reservation).to_be_weighed is True
    core.pass_s(5)
    core.forced("A01")
    assert core.live(reservation).to_be_weighed is False


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (True, "the machine waits for the gateway to say what happened before"),
        (
            False,
            "the machine does not know for certain what lies in its cells: `edge-agent restore` first",
        ),
    ],
)
def test_a_command_that_waits_for_the_history_is_refused_with_the_reason(known: bool, why: str) -> None:
    core = Core()
    reservation = core.reserve()
    core.feed(HistoryAhead("the gateway knows of more") if known else HistoryLost("its file is gone"))
    given = core.command(reservation, Purpose.DROPOFF)
    other = replace(given, reservation_id=given.reservation_id if known else "res_9")
    assert core.refused(other).message == why
    reserve = Reserve(core.key(), "res_8", "p", "order 8", SMALL, ("1111", "2222"))
    assert core.refused(reserve).message == why


def test_a_drop_off_in_doubt_is_reported_for_its_sender_and_dated_at_the_closing() -> None:
    core, reservation = waiting(Purpose.DROPOFF)
    core.pass_s(3)
    closed_at = core.now
    core.close(reservation.cell)
    core.pass_s(31)
    (fact,) = [fact for fact in core.facts if fact.kind is FactKind.DROPOFF]
    assert (fact.source, fact.at, fact.recovered) == (Source.API, closed_at, True)
    assert core.live(reservation).dropoff_opened is False


def test_a_command_that_still_waits_does_not_keep_another_one_from_its_end() -> None:
    core, first = waiting(Purpose.PICKUP)
    second = core.dropped_off()
    later = replace(
        waits(core, first),
        unlock_id="unl-later",
        reservation_id=second.reservation_id,
        since=replace(core.now, boottime_ns=core.now.boottime_ns + 60 * 10**9),
    )
    core.feed(DoorsChanged({second.cell: Door.OPEN}))
    core.state = replace(core.state, unconfirmed={second.cell: later, **core.state.unconfirmed})
    core.pass_s(600)
    assert list(core.state.unconfirmed) == [second.cell]


@pytest.mark.parametrize(("left_ns", "over"), [(1, False), (0, True)])
def test_a_command_fails_after_ten_minutes_and_not_before(left_ns: int, over: bool) -> None:
    core, reservation = waiting(Purpose.PICKUP)
    since = waits(core, reservation).since
    core.now = replace(since, boottime_ns=since.boottime_ns + 600 * 10**9 - left_ns)
    core.feed(Tick())
    assert (FactKind.PICKUP_FAILED in core.kinds()) is over


@pytest.mark.parametrize(("left_ns", "over"), [(1, False), (0, True)])
def test_an_alarm_is_cleared_five_seconds_after_its_condition_and_not_before(
    left_ns: int, over: bool
) -> None:
    core = Core()
    core.feed(DeviceHealth("locks_a", answering=False, cells=()))
    core.feed(DeviceHealth("locks_a", answering=True, cells=()))
    gone = core.state.alarms["DEVICE_SILENT/locks_a"].gone
    assert gone is not None
    core.now = replace(gone, boottime_ns=gone.boottime_ns + 5 * 10**9 - left_ns)
    core.feed(Tick())
    assert ("DEVICE_SILENT/locks_a" not in core.state.alarms) is over


def test_a_verdict_that_expired_is_refused() -> None:
    core, reservation = waiting(Purpose.PICKUP)
    late = Resolve(core.key(), reservation.cell, Verdict.PICKED_UP, expires_ns=core.now.boottime_ns - 1)
    assert core.refused(late).code is Code.EXPIRED


def test_a_pick_up_grace_waits_for_the_closing_to_settle() -> None:
    core = Core()
    parcel = core.picked_up(grace_pickup_s=30)
    core.pass_s(10)
    core.opened_by_hand(parcel.cell)
    core.pass_s(10)
    core.feed(DoorsChanged({parcel.cell: Door.CLOSED}))
    core.pass_s(60)
    assert core.live(parcel).status is ReservationStatus.PICKED_UP
    core.settle(parcel.cell)
    assert core.state.cells[parcel.cell].reservation_id is None


def test_an_empty_cell_at_its_closing_is_no_drop_off() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"}), hold_empty_dropoff=True))
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.feed(DoorsChanged({"A01": Door.CLOSED}))
    core.feed(Weighed("A01", 0))
    core.settle("A01")
    live = core.live(reservation)
    assert (live.status, live.dropoff_opened) == (ReservationStatus.PENDING, False)


def test_an_opening_that_only_the_watch_has_read_counts_as_a_change_of_its_contact() -> None:
    core = Core()
    command = core.command(core.reserve(), Purpose.DROPOFF)
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.pass_s(1)
    core.feed(PulseDone(look.unlock_id, 1, Door.OPEN))
    assert core.state.cells[look.cell].changes_ns == (core.now.boottime_ns,)


def test_an_alarm_of_a_cell_that_is_gone_is_cleared_in_the_start() -> None:
    core = Core()
    builder = StepBuilder(core.state, core.layout, core.now)
    builder.raise_alarm(Alarm.SENSOR_FAULT, "Z01/scale")
    core.state = builder.result().state
    core.feed(Boot(dict.fromkeys(core.layout.specs, Door.CLOSED)))
    assert "SENSOR_FAULT/Z01/scale" not in core.state.alarms


@pytest.mark.parametrize("closes", [True, False])
def test_a_waiting_command_gets_the_date_of_the_synchronised_clock(closes: bool) -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.OPEN_DOOR))
    core.close(reservation.cell)
    core.pass_s(11)
    core.forced(reservation.cell)
    core.now = replace(core.now, synced=False)
    core.pass_s(1)
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.OPEN))
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    core.pass_s(2)
    if closes:
        core.close(reservation.cell)
    before = waits(core, reservation)
    core.now = replace(core.now, synced=True, wall_s=core.now.wall_s + 1_000)
    core.feed(Tick())
    dated = replace(before.since, wall_s=before.since.wall_s + 1_000, synced=True)
    closed = None
    if before.closed is not None:
        closed = replace(before.closed, wall_s=before.closed.wall_s + 1_000, synced=True)
    assert waits(core, reservation) == replace(before, since=dated, closed=closed)
    assert closes is (closed is not None)


@pytest.mark.parametrize("field", ["recent", "wrong", "last", ""])
def test_each_moment_of_wrong_entries_is_dated_alone(field: str) -> None:
    core = Core()
    unsynced = replace(core.now, synced=False, wall_s=0.0)
    value = unsynced if field == "last" else (unsynced,)
    guesses = Guesses(rests=1, **({field: value} if field else {}))  # type: ignore[arg-type]
    builder = StepBuilder(replace(core.state, guesses={"digits": guesses}), core.layout, core.now)
    redate_moments(builder)
    if not field:
        assert builder.guesses["digits"] is guesses
        return
    dated = core.now if field == "last" else (core.now,)
    assert builder.guesses["digits"] == replace(guesses, **{field: dated})  # type: ignore[arg-type]
