"""The tables, pair by pair: the core does what each entry states, and every pair has an entry."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import get_args

import pytest

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    Alarm,
    Block,
    Cell,
    CellCause,
    CellStatus,
    Door,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    UnlockAttempt,
    UnlockOutcome,
    Verdict,
    qr_text,
)
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.inputs import (
    AnsweredInput,
    DoorRead,
    Input,
    LargerCell,
    OpenForReservation,
    PulseDone,
    Resolve,
)
from edge_agent.statemachine.outputs import ReadDoor
from edge_agent.statemachine.reservation import apply_rule, give_other_cell, holds
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import (
    CELL_TABLE,
    COMMAND_TRIGGERS,
    FLAG_TABLE,
    RESOLUTIONS,
    STATUS,
    TABLE,
    WHY_NOT,
    CellGuard,
    CellRule,
    CellTrigger,
    Flag,
    FlagTrigger,
    Guard,
    Nothing,
    Phase,
    Refused,
    Rule,
    Trigger,
)
from tests.support.pure_core.core import Core
from tests.support.pure_core.every_input import PURPOSES, asked, inputs
from tests.support.pure_core.situations import LABEL, SITUATIONS, Situation, ended, locker, phase_of

ASKED = (*COMMAND_TRIGGERS, *RESOLUTIONS.values())
FACTS = tuple(trigger for trigger in Trigger if trigger not in ASKED)
every_situation = pytest.mark.parametrize("situation", SITUATIONS, ids=str)


def test_the_tables_are_total_and_every_refusal_has_a_reason() -> None:
    assert set(TABLE) == set(product(Phase, Trigger))
    assert set(CELL_TABLE) == set(product(CellStatus, CellTrigger))
    assert set(FLAG_TABLE) <= set(product(Flag, (False, True), FlagTrigger))
    for entry in (*TABLE.values(), *CELL_TABLE.values()):
        assert isinstance(entry, Rule | CellRule) or entry.why.strip()
    for (_, trigger), rule in TABLE.items():
        assert isinstance(rule, Nothing) <= (trigger in FACTS)
        assert isinstance(rule, Refused) <= (trigger in ASKED)
    assert set(WHY_NOT) == set(Guard)
    assert all(why.strip() for why in WHY_NOT.values())
    assert {situation.phase for situation in SITUATIONS} == set(Phase)


def test_every_guard_of_the_table_is_met_in_one_situation_and_not_in_another() -> None:
    for (phase, trigger), rule in TABLE.items():
        if isinstance(rule, Rule) and rule.guard is not None:
            here = [rule.guard in s.met for s in SITUATIONS if s.phase is phase]
            assert True in here, (phase, trigger)
            if (
                rule.guard is not Guard.IN_A_WINDOW or phase is Phase.COMPLETED
            ):  # while it holds, some window is
                assert False in here, (phase, trigger)


@every_situation
def test_each_situation_is_what_it_says(situation: Situation) -> None:
    core = locker()
    reservation = situation.build(core)
    assert phase_of(core, reservation) is situation.phase
    if situation.phase is not Phase.NONE:
        cell = core.state.cells[LABEL]
        assert {g for g in Guard if holds(g, reservation, cell, core.now)} == situation.met


def verdict(situation: Situation, trigger: Trigger) -> Rule | Refused | Nothing:
    """The table's entry for the situation, with its guard applied."""
    entry = TABLE[situation.phase, trigger]
    if isinstance(entry, Rule) and entry.guard is not None and entry.guard not in situation.met:
        return Refused(WHY_NOT[entry.guard]) if trigger in COMMAND_TRIGGERS else Nothing(WHY_NOT[entry.guard])
    return entry


def cell_after(cell: Cell, trigger: CellTrigger | None) -> CellStatus:
    """What becomes of a held cell by the table, its guard judged by what is known of the cell."""
    if trigger is None:
        return cell.status
    rule = CELL_TABLE[cell.status, trigger]
    assert isinstance(rule, CellRule)
    met = {
        None: True,
        CellGuard.ALLOCATABLE: True,
        CellGuard.KNOWN_EMPTY: not cell.opened_since_allocation and not cell.outcome_unknown,
        CellGuard.UNDOUBTED: not cell.outcome_unknown,
        CellGuard.UNTOUCHED: not cell.opened_since_allocation
        and not cell.outcome_unknown
        and cell.contact_doubt is None,
    }[rule.guard]
    if met:
        return rule.to
    assert rule.otherwise is not None
    return rule.otherwise


@pytest.mark.parametrize("command", COMMAND_TRIGGERS)
@every_situation
def test_every_command_in_every_situation(situation: Situation, command: Trigger) -> None:
    core = locker()
    reservation = situation.build(core)
    entry, given = verdict(situation, command), asked(core, reservation, command)
    if isinstance(entry, Refused):
        refusal = core.refused(given)
        not_found = entry.code is Code.NOT_FOUND
        assert refusal.code is entry.code
        assert refusal.message == (entry.why if not_found else f"{command} not allowed: {entry.why}")
        return
    assert isinstance(entry, Rule)
    before = core.state.cells[LABEL]
    done = core.feed(given)
    if command in PURPOSES:
        assert isinstance(given, OpenForReservation)
        assert done.effects == (ReadDoor(given.unlock_id, LABEL, given.expires_ns),)
        assert not done.facts
        assert phase_of(core, reservation) is situation.phase
        assert [answer.accepted is not None for answer in done.answers] == [True] * (
            command is Trigger.OPEN_DOOR
        )
        return
    assert done.facts[0].kind is entry.fact
    assert core.state.cells[LABEL].status is cell_after(before, entry.cell)
    if command is Trigger.LARGER_CELL:
        assert isinstance(given, LargerCell)
        (effect,) = done.effects
        assert isinstance(effect, ReadDoor)
        assert (effect.unlock_id, effect.cell) == (given.unlock_id, "C01")
        assert (core.live(reservation).cell, core.live(reservation).status) == ("C01", STATUS[entry.to])
        return
    assert not done.effects
    (answer,) = done.answers
    assert answer.reservation is not None
    assert answer.reservation.status is STATUS[entry.to]
    assert [over.status for over in done.ended] == [STATUS[entry.to]] * (command is not Trigger.RESERVE)


@pytest.mark.parametrize("as_qr", [False, True], ids=["digits", "qr"])
@pytest.mark.parametrize("command", [Trigger.DROPOFF, Trigger.PICKUP])
@every_situation
def test_every_code_in_every_situation(situation: Situation, command: Trigger, as_qr: bool) -> None:
    core = locker()
    reservation = situation.build(core)
    code = reservation.drop_off_code if command is Trigger.DROPOFF else reservation.pickup_code
    text = qr_text(PURPOSES[command], reservation.reservation_id, code) if as_qr else code
    if not isinstance(verdict(situation, command), Rule):
        core.invalid(text)
        return
    done = core.feed(core.entry(text))
    (effect,) = done.effects
    assert isinstance(effect, ReadDoor)
    assert core.state.unlock_attempts[effect.unlock_id].source is Source.MACHINE


@pytest.mark.parametrize("trigger", FACTS)
@every_situation
def test_every_fact_in_every_situation(situation: Situation, trigger: Trigger) -> None:
    core = locker()
    reservation = situation.build(core)
    if situation.phase is Phase.NONE:
        assert isinstance(TABLE[situation.phase, trigger], Nothing)
        return
    builder = StepBuilder(core.state, core.layout, core.now)
    before = core.state.cells[LABEL]
    entry = verdict(situation, trigger)
    replaces = trigger in (Trigger.MOVED, Trigger.MOVED_FROM_DOUBT)
    moved = (
        give_other_cell(builder, reservation, "C01", trigger)
        if replaces
        else apply_rule(builder, reservation, trigger)
    )
    done = builder.result()
    if isinstance(entry, Nothing):
        assert moved is None
        assert done.state == core.state
        assert not done.facts
        return
    assert isinstance(entry, Rule)
    assert moved is not None
    assert moved.status is STATUS[entry.to]
    assert [fact.kind for fact in done.facts[:1]] == [kind for kind in (entry.fact,) if kind is not None]
    assert done.state.cells[LABEL].status is cell_after(before, entry.cell)
    assert (reservation.reservation_id in done.state.reservations) == (entry.to is not Phase.COMPLETED)
    if replaces:
        assert (moved.cell, done.state.cells["C01"].status) == ("C01", CellStatus.RESERVED)
        assert done.state.cells[LABEL].reservation_id is None


@pytest.mark.parametrize("verdict_given", Verdict)
@every_situation
def test_every_resolution_in_every_situation(situation: Situation, verdict_given: Verdict) -> None:
    core = locker()
    reservation = situation.build(core)
    doubted = replace(core.state.cells[LABEL], last_outcome=UnlockOutcome.UNKNOWN)
    core.state = replace(core.state, cells={**core.state.cells, LABEL: doubted})
    given = Resolve("k", LABEL, verdict_given, actor="bob")
    phase = phase_of(core, reservation)
    if doubted.reservation_id != reservation.reservation_id:
        if doubted.reservation_id is None:
            assert core.refused(given).message == f"cell {LABEL}: no reservation holds it"
        return
    trigger = RESOLUTIONS[verdict_given]
    entry = TABLE[phase, trigger]
    if isinstance(entry, Refused):
        refusal = core.refused(given)
        assert (refusal.code, refusal.message) == (entry.code, f"{trigger} not allowed: {entry.why}")
        return
    assert isinstance(entry, Rule)
    done = core.feed(given)
    assert [f.actor for f in done.facts if f.kind is entry.fact] == ["bob"] * (entry.fact is not None)
    assert [f.actor for f in done.facts if f.cause is CellCause.RESOLVED] == ["bob"]
    assert core.state.cells[LABEL].last_outcome is None
    after = done.ended[0] if done.ended else core.live(reservation)
    assert after.status is STATUS[entry.to]
    assert [answer.refusal for answer in done.answers] == [None]
    if core.state.cells[LABEL].contact_doubt is None:  # an open door stays in doubt
        assert core.refused(given).code is Code.NOT_ALLOWED


def test_a_cell_that_is_not_in_doubt_is_not_resolved() -> None:
    core = locker()
    core.dropped_off()
    for verdict_given in Verdict:
        refusal = core.refused(Resolve("k", LABEL, verdict_given))
        assert refusal.message == f"cell {LABEL}: nothing about it is in doubt"


STAGES = ("idle", "waiting", "reading", "pulsing", "unresolved")


def bring(core: Core, reservation: Reservation, stage: str) -> bool:
    """An open-door of this reservation at that stage; False where none is granted."""
    if stage == "idle":
        return True
    command = replace(core.command(reservation, Purpose.OPEN_DOOR), ended=ended(core, reservation))
    if stage == "waiting":
        core.layout = replace(core.layout, max_concurrent_unlocks=0)
    try:
        core.feed(command)
    except Refusal:
        return False
    if stage in ("pulsing", "unresolved"):
        core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    if stage == "unresolved":
        core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
    assert [unlock.stage for unlock in core.state.unlock_attempts.values()] == [stage]
    return True


def attempt(core: Core, given: Input) -> Refusal | None:
    """One step; the refusal if there is one."""
    try:
        core.feed(given)
    except Refusal as refusal:
        return refusal
    return None


@pytest.mark.parametrize("stage", STAGES)
@every_situation
def test_no_input_raises_anything_but_a_refusal(situation: Situation, stage: str) -> None:
    core = locker()
    reservation = situation.build(core)
    if not bring(core, reservation, stage):
        assert situation.phase in (Phase.NONE, Phase.COMPLETED, Phase.CANCELLED, Phase.ABANDONED)
        return
    given = inputs(core, reservation)
    assert {type(one) for one in given} == set(get_args(Input))
    begin = core.state
    for one in given:
        core.state = begin
        refusal = attempt(core, one)
        if refusal is not None:
            assert isinstance(one, get_args(AnsweredInput)), one
            assert refusal.message
            assert core.state is begin


CIRCUMSTANCES: dict[CellGuard | None, list[tuple[bool, dict[str, object]]]] = {
    None: [(True, {})],
    CellGuard.ALLOCATABLE: [
        (True, {}),
        (False, {"blocked": Block("b")}),
        (False, {"faulty": "f"}),
        (False, {"door": Door.OPEN}),
        (False, {"door": Door.UNKNOWN}),
        (False, {"answering": False}),
        (False, {"contact_doubt": "why"}),
        (False, {"board_down": True}),
    ],
    CellGuard.UNTOUCHED: [
        (True, {}),
        (True, {"opened_since_allocation": True, "empty": True}),
        (False, {"opened_since_allocation": True}),
        (False, {"outcome_unknown": True}),
        (False, {"faulty": "f"}),
        (False, {"contact_doubt": "why"}),
    ],
    CellGuard.ONLY_OPENED: [(True, {"inspect_unless_empty": True}), (False, {})],
    CellGuard.KNOWN_EMPTY: [
        (True, {}),
        (False, {"opened_since_allocation": True}),
        (False, {"outcome_unknown": True}),
    ],
    CellGuard.UNDOUBTED: [
        (True, {"opened_since_allocation": True}),
        (False, {"outcome_unknown": True}),
        (False, {"inspect_unless_empty": True}),
        (True, {"inspect_unless_empty": True, "empty": True}),
    ],
    CellGuard.SOMETHING_TO_CLEAR: [
        (False, {}),
        (True, {"faulty": "f"}),
        (True, {"worn": True}),
        (True, {"contact_doubt": "why"}),
        (False, {"contact_doubt": "why", "door": Door.OPEN}),
    ],
}


@pytest.mark.parametrize(("status", "trigger"), CELL_TABLE, ids=lambda value: value.name.lower())
def test_every_trigger_on_a_cell_in_every_status(status: CellStatus, trigger: CellTrigger) -> None:
    entry = CELL_TABLE[status, trigger]
    core = locker()
    guard = entry.guard if isinstance(entry, CellRule) else None
    for met, changes in CIRCUMSTANCES[guard]:
        before = replace(core.state.cells[LABEL], status=status, **changes)  # type: ignore[arg-type]
        builder = StepBuilder(
            replace(core.state, cells={**core.state.cells, LABEL: before}), core.layout, core.now
        )
        to = None
        if isinstance(entry, CellRule):
            to = entry.to if met else entry.otherwise
        if isinstance(entry, Nothing):
            assert cells.change_status(builder, LABEL, trigger) is before
        elif to is None:
            with pytest.raises(Refusal) as refused:
                cells.change_status(builder, LABEL, trigger)
            why, code = f"cell {LABEL} is {status} and not {guard}", Code.NOT_ALLOWED
            if isinstance(entry, Refused):
                why, code = f"cell {LABEL}: {entry.why}", entry.code
            assert (refused.value.message, refused.value.code) == (why, code)
        else:
            assert cells.change_status(builder, LABEL, trigger) == replace(before, status=to)
        assert builder.result().changed == ((("cells", LABEL),) if to is not None else ())


def test_a_cell_at_work_is_not_taken_and_a_forced_door_can_be_cleared() -> None:
    core = locker()
    at_work = UnlockAttempt("u", "r", LABEL, Purpose.OPEN_DOOR, Source.API, "reading", None)
    builder = StepBuilder(replace(core.state, unlock_attempts={"u": at_work}), core.layout, core.now)
    with pytest.raises(Refusal, match="not in order"):
        cells.change_status(builder, LABEL, CellTrigger.TAKEN)
    builder = StepBuilder(
        replace(core.state, unlock_attempts={"u": replace(at_work, stage="waiting")}), core.layout, core.now
    )
    assert cells.change_status(builder, LABEL, CellTrigger.TAKEN).status is CellStatus.RESERVED
    builder = StepBuilder(core.state, core.layout, core.now)
    builder.raise_alarm(Alarm.DOOR_FORCED, LABEL, cell=LABEL)
    assert cells.change_status(builder, LABEL, CellTrigger.CLEARED).status is CellStatus.IDLE


def pull(builder: StepBuilder, trigger: FlagTrigger) -> None:
    """Lets a trigger happen to a cell, by the function that the core uses for it."""
    match trigger:
        case FlagTrigger.BLOCK:
            cells.block(builder, LABEL, "why", None, Source.API)
        case FlagTrigger.UNBLOCK:
            cells.unblock(builder, LABEL, Source.API)
        case FlagTrigger.FAULT:
            cells.mark_faulty(builder, LABEL, "why", Alarm.LOCK_JAMMED, "m")
        case FlagTrigger.LOCK_OPENED:
            cells.lock_works(builder, LABEL)
        case FlagTrigger.CLEARED:
            cells.clear(builder, LABEL, Source.API)


@pytest.mark.parametrize(("flag", "is_set", "trigger"), list(product(Flag, (False, True), FlagTrigger)))
def test_every_trigger_on_every_flag(flag: Flag, is_set: bool, trigger: FlagTrigger) -> None:
    core = locker()
    changes = {"status": CellStatus.AWAITING_CLEANUP}  # there is something to clear
    if is_set:
        changes |= {"blocked": Block("b")} if flag is Flag.BLOCKED else {"faulty": "f"}  # type: ignore[dict-item]
    before = replace(core.state.cells[LABEL], **changes)  # type: ignore[arg-type]
    builder = StepBuilder(
        replace(core.state, cells={**core.state.cells, LABEL: before}), core.layout, core.now
    )
    entry = FLAG_TABLE.get((flag, is_set, trigger), is_set)
    if isinstance(entry, Refused):
        with pytest.raises(Refusal) as refused:
            pull(builder, trigger)
        assert (refused.value.code, refused.value.message) == (entry.code, f"cell {LABEL}: {entry.why}")
    elif trigger is FlagTrigger.UNBLOCK and flag is Flag.FAULTY:
        with pytest.raises(Refusal, match="not blocked"):  # the other flag's table refuses it
            pull(builder, trigger)
    else:
        pull(builder, trigger)
        after = builder.cells[LABEL]
        assert ((after.blocked if flag is Flag.BLOCKED else after.faulty) is not None) == entry


def test_a_lock_that_opens_takes_off_only_what_was_a_jam() -> None:
    core = locker()
    before = replace(core.state.cells[LABEL], faulty="f")
    builder = StepBuilder(
        replace(core.state, cells={**core.state.cells, LABEL: before}), core.layout, core.now
    )
    builder.raise_alarm(Alarm.WRONG_DOOR, LABEL, cell=LABEL)
    cells.lock_works(builder, LABEL)
    assert builder.cells[LABEL].faulty == "f"


def test_a_live_reservation_has_the_status_of_its_phase() -> None:
    assert {phase: STATUS.get(phase) for phase in Phase} == {
        Phase.NONE: None,
        Phase.PENDING: ReservationStatus.PENDING,
        Phase.DROPPED_OFF: ReservationStatus.DROPPED_OFF,
        Phase.PICKED_UP: ReservationStatus.PICKED_UP,
        Phase.COMPLETED: ReservationStatus.PICKED_UP,
        Phase.CANCELLED: ReservationStatus.CANCELLED,
        Phase.ABANDONED: ReservationStatus.ABANDONED,
    }
