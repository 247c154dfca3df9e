"""A technician's verdict on a cell, and what ends marks and doubts: every field that it changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_agent.errors import Code
from edge_agent.model import (
    Alarm,
    Cell,
    CellCause,
    CellStatus,
    Door,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    UnlockOutcome,
    Verdict,
)
from edge_agent.statemachine.doors.contact import FORCED
from edge_agent.statemachine.inputs import (
    Clear,
    DoorRead,
    DoorsChanged,
    HandCheck,
    OpenForReservation,
    PulseDone,
    Resolve,
    Tare,
    Weighed,
)
from edge_agent.statemachine.outputs import Fact, FactKind
from edge_agent.statemachine.state import Layout, StandingAlarm, UnconfirmedUnlock
from edge_agent.statemachine.weight import ZERO
from tests.support.pure_core.core import Core, specs


def changed(core: Core, label: str, **fields: Any) -> Cell:
    """Sets fields of a cell."""
    cell = replace(core.state.cells[label], **fields)
    core.state = replace(core.state, cells={**core.state.cells, label: cell})
    return cell


def amended(core: Core, reservation: Reservation, **fields: Any) -> Reservation:
    """Sets fields of a reservation."""
    made = replace(core.live(reservation), **fields)
    core.state = replace(core.state, reservations={**core.state.reservations, made.reservation_id: made})
    return made


def facts(core: Core, kind: FactKind) -> list[Fact]:
    """The events of this kind."""
    return [fact for fact in core.facts if fact.kind is kind]


def uncertain(core: Core, reservation: Reservation) -> Reservation:
    """Everything about the cell and its reservation is as an unlock of unknown outcome leaves it."""
    changed(
        core,
        reservation.cell,
        last_outcome=UnlockOutcome.UNKNOWN,
        opened_since_allocation=True,
        unlocked_since_allocation=True,
        outcome_unknown=True,
        inspect_unless_empty=True,
    )
    waits = UnconfirmedUnlock("unl-old", reservation.reservation_id, Purpose.PICKUP, Source.API, core.now)
    core.state = replace(core.state, unconfirmed={reservation.cell: waits})
    core.facts.clear()
    return amended(core, reservation, dropoff_opened=True, to_be_weighed=True)


def word(core: Core, reservation: Reservation, verdict: Verdict, actor: str = "bob") -> None:
    """A technician resolves the cell of a reservation."""
    done = core.feed(Resolve("k", reservation.cell, verdict, source=Source.API, actor=actor))
    assert [(answer.request_key, answer.cell) for answer in done.answers] == [("k", reservation.cell)]
    assert core.state.unconfirmed == {}
    published = [
        fact for fact in facts(core, FactKind.CELL_STATUS_CHANGED) if fact.cause is CellCause.RESOLVED
    ]
    assert [(fact.cell, fact.reason, fact.actor) for fact in published] == [
        (reservation.cell, verdict, actor)
    ]
    assert published[0].source is Source.API
    assert core.state.cells[reservation.cell].last_outcome is None


def test_while_the_door_is_being_opened_nothing_is_resolved() -> None:
    """The cell is in doubt, and a reservation in the right status holds it: only the attempt forbids it."""
    core = Core()
    reservation = uncertain(core, core.reserve())
    core.feed(core.command(reservation, Purpose.DROPOFF))
    before = core.state
    refusal = core.refused(
        Resolve("k", reservation.cell, Verdict.DROPPED_OFF, source=Source.API, actor="bob")
    )
    assert (refusal.code, refusal.message) == (
        Code.NOT_ALLOWED,
        f"the door of cell {reservation.cell} is being opened just now",
    )
    assert core.state.reservations == before.reservations
    assert core.state.unlock_attempts == before.unlock_attempts


def test_dropped_off_is_dated_now_and_waits_for_no_scale() -> None:
    core = Core()
    reservation = uncertain(core, core.reserve())
    word(core, reservation, Verdict.DROPPED_OFF)
    live = core.live(reservation)
    assert (live.status, live.dropped_off) == (ReservationStatus.DROPPED_OFF, core.now)
    assert (live.dropoff_opened, live.to_be_weighed) == (False, False)
    (fact,) = facts(core, FactKind.DROPOFF)
    assert (fact.source, fact.actor) == (Source.API, "bob")


def test_picked_up_is_dated_now_and_its_grace_is_known() -> None:
    core = Core()
    reservation = uncertain(core, core.dropped_off())
    amended(core, reservation, grace_unknown=True)
    word(core, reservation, Verdict.PICKED_UP)
    live = core.live(reservation)
    assert (live.status, live.picked_up) == (ReservationStatus.PICKED_UP, core.now)
    assert (live.grace_unknown, live.to_be_weighed) == (False, False)
    (fact,) = facts(core, FactKind.PICKUP)
    assert (fact.source, fact.actor) == (Source.API, "bob")


@pytest.mark.parametrize("picked_up", [True, False])
def test_still_inside_holds_a_picked_up_reservation_and_changes_no_other(picked_up: bool) -> None:
    core = Core()
    reservation = uncertain(core, core.picked_up() if picked_up else core.dropped_off())
    word(core, reservation, Verdict.STILL_INSIDE)
    assert core.live(reservation).held is picked_up
    assert core.live(reservation).status is reservation.status


def test_empty_forgets_what_was_opened_of_a_pending_reservation() -> None:
    core = Core()
    reservation = uncertain(core, core.reserve())
    word(core, reservation, Verdict.EMPTY)
    live, cell = core.live(reservation), core.state.cells[reservation.cell]
    assert (live.status, live.dropoff_opened, live.to_be_weighed) == (ReservationStatus.PENDING, False, False)
    assert (cell.opened_since_allocation, cell.unlocked_since_allocation) == (False, False)
    assert (cell.outcome_unknown, cell.inspect_unless_empty) == (False, False)
    assert cell.opened_since_allocation is False
    assert cell.unlocked_since_allocation is False
    assert cell.outcome_unknown is False
    assert cell.inspect_unless_empty is False


def test_empty_ends_what_waits_for_a_reservation_that_it_abandons() -> None:
    """Its outcome is reported with the reservation, so that the platform gets it."""
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))
    reservation = uncertain(core, core.dropped_off())
    other = core.dropped_off()
    core.pass_s(11)
    core.feed(core.command(other, Purpose.PICKUP))
    waiting = core.command(reservation, Purpose.OPEN_DOOR)
    core.feed(waiting)
    assert core.state.unlock_attempts[waiting.unlock_id].stage == "waiting"
    word(core, reservation, Verdict.EMPTY)
    assert waiting.unlock_id not in core.state.unlock_attempts
    (fact,) = [f for f in facts(core, FactKind.OPEN_DOOR_FULFILLED) if f.request_key == waiting.request_key]
    assert fact.reservation is not None
    assert fact.reservation.reservation_id == reservation.reservation_id
    assert (fact.outcome, fact.reason) == (
        UnlockOutcome.NO_MOVEMENT,
        "the reservation's cell was found empty before its turn came",
    )


@pytest.mark.parametrize("alarm", [Alarm.LOCK_JAMMED, Alarm.WRONG_DOOR, Alarm.DOOR_AJAR])
def test_each_alarm_of_a_cell_allows_a_word_on_it(alarm: Alarm) -> None:
    core = Core()
    parcel = core.dropped_off()
    assert core.refused(Resolve("k", parcel.cell, Verdict.STILL_INSIDE)).code is Code.NOT_ALLOWED
    standing = StandingAlarm(alarm, parcel.cell, core.now)
    core.state = replace(core.state, alarms={f"{alarm}/{parcel.cell}": standing})
    core.facts.clear()
    word(core, parcel, Verdict.STILL_INSIDE)


def test_a_doubted_contact_allows_a_word_on_its_cell() -> None:
    core = Core()
    parcel = core.dropped_off()
    changed(core, parcel.cell, contact_doubt="its contact chatters")
    core.facts.clear()
    word(core, parcel, Verdict.STILL_INSIDE)


def test_a_door_that_reads_open_after_a_word_is_believed_no_more() -> None:
    core = Core()
    parcel = core.dropped_off()
    core.opens(core.command(parcel, Purpose.PICKUP))
    changed(core, parcel.cell, last_outcome=UnlockOutcome.UNKNOWN)
    core.feed(Resolve("k", parcel.cell, Verdict.STILL_INSIDE))
    cell = core.state.cells[parcel.cell]
    assert cell.opened_by_unlock is False
    assert cell.contact_doubt == "reads open, and a technician has resolved the cell"


def test_clear_forgets_every_mark_and_names_who_did_it() -> None:
    core = Core()
    changed(
        core,
        "A01",
        status=CellStatus.AWAITING_INSPECTION,
        faulty="its lock is jammed",
        worn=True,
        inspect_unless_empty=True,
        last_outcome=UnlockOutcome.NO_MOVEMENT,
        failing=True,
        opened_rightly=True,
    )
    core.feed(Clear("k", "A01", actor="eve"))
    cell = core.state.cells["A01"]
    assert (cell.status, cell.faulty, cell.worn) == (CellStatus.IDLE, None, False)
    assert (cell.inspect_unless_empty, cell.last_outcome) == (False, None)
    assert (cell.failing, cell.opened_rightly) == (False, False)
    (fact,) = facts(core, FactKind.CELL_STATUS_CHANGED)
    assert (fact.cause, fact.actor) == (CellCause.CLEARED, "eve")
    core.facts.clear()
    changed(core, "A01", status=CellStatus.AWAITING_INSPECTION)
    core.feed(Clear("k2", "A01"))
    (fact,) = facts(core, FactKind.CELL_STATUS_CHANGED)
    assert fact.actor is None


def wrongly_opened(core: Core) -> tuple[OpenForReservation, str]:
    """C01 opens while the lock of a reservation is pulsed; its command and its cell."""
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.forced("C01")
    assert {f"{Alarm.WRONG_DOOR}/{label}" for label in (reservation.cell, "C01")} <= set(core.state.alarms)
    return command, reservation.cell


@pytest.mark.parametrize("closed", [True, False])
def test_a_commanded_door_that_opens_after_all_makes_the_other_one_forced(closed: bool) -> None:
    core = Core()
    _, label = wrongly_opened(core)
    if closed:
        core.feed(DoorsChanged({"C01": Door.CLOSED}))
    core.facts.clear()
    core.feed(DoorsChanged({label: Door.OPEN}))
    cleared = {(fact.alarm, fact.cell) for fact in facts(core, FactKind.ALARM_CLEARED)}
    assert cleared == {(Alarm.WRONG_DOOR, label), (Alarm.WRONG_DOOR, "C01")}
    repaired = [fact.cell for fact in core.facts if fact.cause is CellCause.REPAIRED]
    assert repaired == [label, "C01"]
    assert core.state.cells[label].faulty is None
    assert core.state.cells["C01"].faulty is None
    forced = [fact for fact in facts(core, FactKind.ALARM_RAISED) if fact.alarm is Alarm.DOOR_FORCED]
    assert [(fact.cell, fact.reason) for fact in forced] == [("C01", "opened without a pulse")]
    assert core.state.cells["C01"].contact_doubt == FORCED


def test_a_lock_that_is_being_pulsed_is_suspected_however_long_ago_its_pulse_was() -> None:
    core = Core()
    reservation = core.reserve()
    look = core.requested_reading(core.feed(core.command(reservation, Purpose.DROPOFF)))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.pass_s(4)
    core.forced("C01")
    assert f"{Alarm.WRONG_DOOR}/C01" in core.state.alarms


def test_a_lock_whose_watch_is_over_is_suspected_for_a_moment_only() -> None:
    for passed_s, wrong in ((2.4, True), (2.5, False)):
        core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_pulses=1))
        parcel = core.dropped_off()
        core.pass_s(11)
        look = core.requested_reading(core.feed(core.command(parcel, Purpose.PICKUP)))
        core.feed(DoorRead(look.unlock_id, Door.CLOSED))
        core.feed(PulseDone(look.unlock_id, 1, Door.CLOSED))
        core.pass_s(passed_s)
        core.forced("C01")
        assert (f"{Alarm.WRONG_DOOR}/C01" in core.state.alarms) is wrong


def test_pulses_that_no_board_acknowledged_end_unknown_and_ask_for_inspection() -> None:
    core = Core()
    parcel = core.picked_up(grace_pickup_s=30)
    core.pass_s(40)
    core.opened_by_hand(parcel.cell)
    core.close(parcel.cell)
    core.pass_s(11)
    command = core.command(parcel, Purpose.OPEN_DOOR, life_s=3)
    look = core.requested_reading(core.feed(command))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.pass_s(4)
    core.ledger_lines.clear()
    core.feed(PulseDone(look.unlock_id, 1, Door.CLOSED, acknowledged=False))
    assert [record.outcome for record in core.ledger_lines] == [UnlockOutcome.UNKNOWN]
    assert core.state.cells[parcel.cell].status is CellStatus.AWAITING_INSPECTION
    (fact,) = facts(core, FactKind.OPEN_DOOR_FULFILLED)[-1:]
    assert fact.outcome is UnlockOutcome.UNKNOWN


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_pulse_that_moved_nothing_is_recorded_with_what_its_board_said(acknowledged: bool) -> None:
    core = Core()
    parcel = core.dropped_off()
    core.pass_s(11)
    look = core.requested_reading(core.feed(core.command(parcel, Purpose.PICKUP)))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.ledger_lines.clear()
    core.feed(PulseDone(look.unlock_id, 1, Door.CLOSED, acknowledged=acknowledged))
    outcome, intent = core.ledger_lines
    assert (outcome.outcome, outcome.pulsed) == (UnlockOutcome.NO_MOVEMENT, True if acknowledged else None)
    assert (intent.outcome, intent.pulse_number) == (None, 2)


def test_a_technicians_opening_ends_an_older_wait_and_an_older_pulse() -> None:
    core = Core()
    parcel = core.dropped_off()
    core.pass_s(11)
    look = core.requested_reading(core.feed(core.command(parcel, Purpose.PICKUP)))
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.feed(PulseDone(look.unlock_id, 1, Door.UNKNOWN))
    core.pass_s(11)
    core.ledger_lines.clear()
    core.opened_by_hand(parcel.cell)
    assert core.ledger_lines[0].outcome is UnlockOutcome.UNKNOWN
    assert core.live(parcel).status is ReservationStatus.DROPPED_OFF
    waits = UnconfirmedUnlock("unl-old", parcel.reservation_id, Purpose.PICKUP, Source.API, core.now)
    core.close(parcel.cell)
    core.pass_s(11)
    core.state = replace(core.state, unconfirmed={parcel.cell: waits})
    core.opened_by_hand(parcel.cell)
    assert core.state.unconfirmed == {}


def test_doors_that_are_checked_by_hand_are_forced_by_nobody_until_the_check_ends() -> None:
    core = Core()
    core.feed(HandCheck(("A01", "Z9"), running=True))
    assert core.state.hand_checked == {"A01": True}
    for _ in range(6):
        core.feed(DoorsChanged({"A01": Door.OPEN}))
        core.pass_s(0.3)
        core.feed(DoorsChanged({"A01": Door.CLOSED}))
        core.pass_s(0.3)
    assert core.state.alarms == {}
    core.restart({})
    assert core.state.hand_checked == {}
    core.feed(HandCheck(("A01",), running=True))
    core.feed(HandCheck(("A01",), running=False))
    assert core.state.hand_checked == {}
    core.forced("A01")
    assert f"{Alarm.DOOR_FORCED}/A01" in core.state.alarms


def test_a_door_that_is_checked_by_hand_may_stand_open_until_the_check_ends() -> None:
    core = Core()
    core.feed(HandCheck(("A01",), running=True))
    core.feed(DoorsChanged({"A01": Door.OPEN, "A02": Door.OPEN}))
    core.pass_s(core.layout.door_ajar_ns / 1e9 + 1)
    assert f"{Alarm.DOOR_AJAR}/A01" not in core.state.alarms
    assert f"{Alarm.DOOR_AJAR}/A02" in core.state.alarms
    core.feed(HandCheck(("A01",), running=False))
    assert f"{Alarm.DOOR_AJAR}/A01" in core.state.alarms


def test_a_tare_forgets_the_drift_and_ends_the_fault_of_the_zero() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}, weighed=frozenset({"A01"})))
    core.feed(Weighed("A01", 0))
    core.feed(Weighed("A01", 20))
    changed(core, "A01", drift_g=20, mass_g=3)
    key = f"{Alarm.SENSOR_FAULT}/A01/{ZERO}"
    core.state = replace(core.state, alarms={key: StandingAlarm(Alarm.SENSOR_FAULT, f"A01/{ZERO}", core.now)})
    core.facts.clear()
    core.feed(Tare("k", "A01", actor="eve"))
    cell = core.state.cells["A01"]
    assert (cell.mass_g, cell.empty, cell.tare_g, cell.drift_g) == (0, True, 23, 0)
    (fact,) = facts(core, FactKind.CELL_STATUS_CHANGED)
    assert (fact.cause, fact.actor) == (CellCause.TARED, "eve")
    core.pass_s(5)
    assert core.state.alarms == {}
    (cleared,) = facts(core, FactKind.ALARM_CLEARED)
    assert (cleared.alarm, cleared.cell, cleared.device) == (Alarm.SENSOR_FAULT, "A01", ZERO)


def test_twenty_guesses_in_an_hour_and_sixty_in_a_day_rest_the_digits_for_an_hour() -> None:
    core = Core()
    core.dropped_off()
    taken = {live.pickup_code for live in core.state.reservations.values()}
    guesses = (code for code in (f"{number:04d}" for number in range(7000, 7200)) if code not in taken)
    for number in range(20):
        assert f"{Alarm.CODE_GUESSING}/digits" not in core.state.alarms, number
        core.invalid(next(guesses))
        core.pass_s(80)
    detail = core.state.alarms[f"{Alarm.CODE_GUESSING}/digits"].detail
    assert detail.startswith("20 wrong entries of digits within a day opened nothing; resting for 3600 s")
    assert core.state.guesses["digits"].long is True
    rests = 1
    for _ in range(10):
        core.pass_s(3700)
        for _ in range(5):
            if f"{Alarm.CODE_GUESSING}/digits" in core.state.alarms:
                break
            core.invalid(next(guesses))
            core.pass_s(80)
        rests += f"{Alarm.CODE_GUESSING}/digits" in core.state.alarms
    assert len(core.state.guesses["digits"].wrong) == 60
    assert rests >= 2
