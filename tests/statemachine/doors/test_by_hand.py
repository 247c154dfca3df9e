"""A technician opens doors: any cell's, by the rules of every unlock, and no reservation moves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import Alarm, CellStatus, Door, Purpose, ReservationStatus, Source, UnlockOutcome
from edge_agent.statemachine.inputs import (
    BlockCell,
    DoorRead,
    DoorsChanged,
    OpenCell,
    PulseDone,
    UnblockCell,
    Weighed,
)
from edge_agent.statemachine.outputs import Fact, FactKind, PulseLock
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.step_builder import Step
from tests.support.pure_core.core import Core, specs
from tests.support.pure_core.situations import LABEL, SITUATIONS, Situation, locker


def by_hand(core: Core, cell: str = "A01", purpose: Purpose = Purpose.TECHNICIAN) -> OpenCell:
    """A technician's command."""
    key = core.key()
    return OpenCell(key, cell, "the hinge squeaks", f"unl-{key}", "bob", purpose)


def outcome_facts(core: Core) -> list[Fact]:
    return [fact for fact in core.facts if fact.kind is FactKind.OPEN_DOOR_FULFILLED]


def pulses(done: Step) -> list[PulseLock]:
    return [effect for effect in done.effects if isinstance(effect, PulseLock)]


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_whatever_is_in_a_cell_its_door_opens_and_no_reservation_moves(situation: Situation) -> None:
    core = locker(LABEL)
    situation.build(core)
    core.pass_s(11)  # the lock has rested
    before = core.state
    core.facts, core.ledger_lines = [], []
    asked = by_hand(core)
    if core.state.cells[LABEL].contact_doubt is not None:
        core.feed(asked)
        core.feed(DoorRead(asked.unlock_id, Door.OPEN))
        (answer,) = core.feed(PulseDone(asked.unlock_id, 1, Door.OPEN)).answers
        assert answer.refusal is not None
        assert (answer.cell, answer.refusal.code) == (None, Code.INTERNAL)
    else:
        answer = core.opens(asked)
        assert (answer.cell, answer.reservation, answer.refusal) == (LABEL, None, None)
    (fact,) = outcome_facts(core)
    assert fact.reservation is None
    assert fact.request_key is None
    assert (fact.cell, fact.actor, fact.description) == (LABEL, "bob", "the hinge squeaks")
    assert fact.source is Source.MACHINE
    status = {rid: r.status for rid, r in before.reservations.items()}
    assert {rid: r.status for rid, r in core.state.reservations.items()} == status
    assert core.state.cells[LABEL].status is before.cells[LABEL].status
    forced = {key for key in core.state.alarms if key.startswith(Alarm.DOOR_FORCED)}
    assert forced <= set(before.alarms)
    assert {(u.actor, u.reason, u.purpose) for u in core.ledger_lines} == {
        ("bob", "the hinge squeaks", "technician")
    }


def test_each_pulse_is_an_intent_first_and_has_one_outcome() -> None:
    core = Core()
    asked = by_hand(core)
    core.feed(asked)
    done = core.feed(DoorRead(asked.unlock_id, Door.CLOSED))
    assert [(u.pulse_number, u.outcome) for u in done.ledger_lines] == [(1, None)]
    assert len(pulses(done)) == 1
    done = core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert [(u.pulse_number, u.outcome, u.pulsed) for u in done.ledger_lines] == [
        (1, UnlockOutcome.OPENED, True)
    ]


def test_a_parcel_whose_door_a_technician_closes_stays_where_it_was() -> None:
    core = Core()
    pending = core.reserve()
    core.opens(by_hand(core, pending.cell))
    core.close(pending.cell)
    assert core.live(pending).status is ReservationStatus.PENDING
    done = core.feed(core.cancel(pending))  # it was opened: the cell awaits inspection
    assert done.state.cells[pending.cell].status is CellStatus.AWAITING_INSPECTION


def test_a_technician_who_takes_a_parcel_out_of_the_scale_raises_no_alarm() -> None:
    """The door was open: what is weighed after it counts anew."""
    layout = Layout(specs={spec.label: spec for spec in specs()}, weighed=frozenset({"A01"}))
    core = Core(layout)
    parcel = core.dropped_off()
    core.feed(Weighed("A01", 900))
    assert parcel.cell == "A01"
    core.opens(by_hand(core))
    core.close("A01")
    core.facts.clear()
    core.feed(Weighed("A01", 0))
    assert core.kinds() == []
    assert core.live(parcel).status is ReservationStatus.DROPPED_OFF


def test_a_dropoff_whose_scale_has_not_reported_waits_until_the_door_is_closed_again() -> None:
    layout = Layout(
        specs={spec.label: spec for spec in specs()}, weighed=frozenset({"A01"}), hold_empty_dropoff=True
    )
    core = Core(layout)
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.DROPOFF))
    core.close("A01")
    assert core.live(reservation).to_be_weighed
    asked = by_hand(core)
    core.feed(asked)
    core.feed(DoorRead(asked.unlock_id, Door.CLOSED))
    core.feed(PulseDone(asked.unlock_id, 1, Door.OPEN))
    assert not core.live(reservation).to_be_weighed
    core.close("A01")
    core.feed(Weighed("A01", 700))
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF


def test_it_is_refused_while_the_door_is_being_opened_and_for_a_cell_that_is_none() -> None:
    core = Core()
    reservation = core.reserve()
    core.feed(core.command(reservation, Purpose.DROPOFF))
    refusal = core.refused(by_hand(core, reservation.cell))
    assert refusal.code is Code.NOT_ALLOWED
    assert "is being opened just now" in refusal.message
    assert core.refused(by_hand(core, "Z9")).code is Code.NOT_FOUND


def test_it_waits_its_turn_and_is_judged_again() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))
    first, second = by_hand(core, "A02"), by_hand(core, "A01")
    core.feed(first)
    assert not core.feed(second).effects
    core.pass_s(31)  # the technician has gone
    core.feed(DoorRead(first.unlock_id, Door.UNKNOWN))
    assert core.state.unlock_attempts == {}
    assert [(f.cell, f.outcome) for f in outcome_facts(core)] == [
        ("A02", "NO_MOVEMENT"),
        ("A01", "NO_MOVEMENT"),
    ]
    assert all("expired" in str(f.reason) for f in outcome_facts(core))
    assert core.pulses == []


def test_beyond_the_duty_of_the_lock_it_is_refused() -> None:
    core = Core()
    for _ in range(core.layout.duty_pulses):
        core.opens(by_hand(core))
        core.close("A01")
    asked = by_hand(core)
    core.feed(asked)
    (answer,) = core.feed(DoorRead(asked.unlock_id, Door.CLOSED)).answers
    assert answer.refusal is not None
    assert "has to cool down" in answer.refusal.message


def test_no_movement_is_a_jam_as_with_everybody() -> None:
    core = Core()
    done = core.jams(core.feed(by_hand(core)))
    (answer,) = done.answers
    assert answer.refusal is not None
    assert answer.refusal.code is Code.INTERNAL
    assert f"{Alarm.LOCK_JAMMED}/A01" in done.state.alarms
    assert [(f.outcome, f.actor) for f in outcome_facts(core)] == [(UnlockOutcome.NO_MOVEMENT, "bob")]
    core.pass_s(11)
    core.opens(by_hand(core))  # repaired: the technician opens it again
    assert core.state.cells["A01"].faulty is None


def test_a_door_that_opens_late_was_not_forced() -> None:
    core = Core()
    parcel = core.dropped_off()
    core.jams(core.feed(by_hand(core, parcel.cell)))
    core.pass_s(1)
    core.feed(DoorsChanged({parcel.cell: Door.OPEN}))
    assert not any(alarm.alarm is Alarm.DOOR_FORCED for alarm in core.state.alarms.values())
    assert core.live(parcel).status is ReservationStatus.DROPPED_OFF


def test_what_nobody_saw_is_published_once_and_the_cell_is_inspected() -> None:
    core = Core()
    asked = by_hand(core)
    core.feed(asked)
    core.feed(DoorRead(asked.unlock_id, Door.CLOSED))
    done = core.feed(PulseDone(asked.unlock_id, 1, Door.UNKNOWN))
    assert done.answers[0].refusal is not None
    core.close("A01")
    assert [f.outcome for f in outcome_facts(core)] == [UnlockOutcome.UNKNOWN]
    assert core.state.cells["A01"].status is CellStatus.AWAITING_INSPECTION


@pytest.mark.parametrize("door", [Door.OPEN, Door.CLOSED])
def test_after_a_crash_it_is_never_pulsed_again_and_its_outcome_is_published(door: Door) -> None:
    core = Core()
    asked = by_hand(core)
    core.feed(asked)
    core.feed(DoorRead(asked.unlock_id, Door.CLOSED))
    pulsed = len(core.pulses)
    done = core.restart({"A01": door})
    assert not done.answers
    assert len(core.pulses) == pulsed
    outcome = UnlockOutcome.OPENED if door is Door.OPEN else UnlockOutcome.UNKNOWN
    assert [(f.outcome, f.recovered, f.actor) for f in outcome_facts(core)] == [(outcome, True, "bob")]
    assert not any(alarm.alarm is Alarm.DOOR_FORCED for alarm in core.state.alarms.values())


def test_what_waited_or_looked_is_forgotten_with_the_process() -> None:
    core = Core()
    core.feed(by_hand(core))
    core.restart({})
    assert core.state.unlock_attempts == {}
    assert core.pulses == []


def test_only_a_free_cell_is_tested_and_that_is_judged_again() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))
    parcel = core.dropped_off()
    refusal = core.refused(by_hand(core, parcel.cell, Purpose.SELF_TEST))
    assert "only a free one is tested" in refusal.message
    first, test = by_hand(core, "C01"), by_hand(core, "A02", Purpose.SELF_TEST)
    core.opened_by_hand("C01")
    core.feed(first)
    core.feed(test)
    assert core.reserve().cell == "A02"  # another reservation took it first
    done = core.feed(DoorRead(first.unlock_id, Door.OPEN))
    (answer,) = [answer for answer in done.answers if answer.refusal is not None]
    assert answer.request_key == test.request_key
    core.opens(replace(by_hand(core, "B01", Purpose.SELF_TEST), reason="self-test"))
    assert {u.purpose for u in core.ledger_lines[-2:]} == {"self-test"}


def test_a_cell_that_is_being_opened_by_hand_is_given_to_nobody() -> None:
    core = Core()
    core.feed(by_hand(core, "A01"))
    assert core.reserve().cell == "A02"


def test_each_act_is_published_under_its_technician_s_name_and_without_one_under_none() -> None:
    for actor in ("maria", ""):
        core = Core()
        core.feed(BlockCell(core.key(), "A01", "hinge", Source.MACHINE, actor=actor))
        core.feed(UnblockCell(core.key(), "A01", Source.MACHINE, actor=actor))
        published = [fact.actor for fact in core.facts if fact.kind is FactKind.CELL_STATUS_CHANGED]
        assert published == [actor or None] * 2
