"""What `restore` does to each cell and reservation, and what its refusals name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    Alarm,
    CellCause,
    CellStatus,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    UnlockOutcome,
    qr_text,
)
from edge_agent.statemachine.history import (
    ASKING,
    CALL_FOR_HELP,
    FROZEN,
    LOST,
    UNVERIFIED,
    WHY,
    YOUNG,
    former_key,
)
from edge_agent.statemachine.inputs import (
    Clear,
    HistoryAhead,
    HistoryCompared,
    HistoryLost,
    OpenCell,
    Restore,
)
from edge_agent.statemachine.outputs import Fact, FactKind
from edge_agent.statemachine.state import HistoryMark, Layout, UnconfirmedUnlock
from tests.support.pure_core.core import Core, specs


def lost(*, parcels: int = 1) -> tuple[Core, list[Reservation]]:
    """A core that has lost everything, and the dropped off reservations as the gateway knows them."""
    before = Core()
    made = [before.dropped_off() for _ in range(parcels)]
    core = Core()
    core.feed(HistoryLost("its file is gone"))
    core.facts.clear()
    return core, made


def partly_lost() -> tuple[Core, Reservation, Reservation]:
    """A core that has lost one of two parcels: the one that both know, and the one that is lost."""
    core = Core()
    known, gone = core.dropped_off(), core.dropped_off()
    core.feed(HistoryAhead("older"))
    core.feed(HistoryCompared({known.reservation_id: (known.cell, known.status)}, "journal-2"))
    core.facts.clear()
    return core, known, gone


def cell_facts(core: Core) -> list[Fact]:
    """The facts about cells."""
    return [fact for fact in core.facts if fact.kind is FactKind.CELL_STATUS_CHANGED]


def problem(refusal: Refusal) -> str:
    """The one violation that a refusal names; its message says the same."""
    (violation,) = refusal.violations
    assert refusal.code is Code.INVALID_ARGUMENT
    assert violation.field == "reservations"
    assert violation.description == refusal.message
    return refusal.message


@pytest.mark.parametrize(
    ("status", "use"),
    [
        (ReservationStatus.PENDING, CellStatus.RESERVED),
        (ReservationStatus.DROPPED_OFF, CellStatus.OCCUPIED),
        (ReservationStatus.PICKED_UP, CellStatus.IN_GRACE),
    ],
)
def test_a_restored_cell_is_unverified_and_suspect_whatever_was_known_of_it(
    status: ReservationStatus, use: CellStatus
) -> None:
    core, (parcel,) = lost()
    parcel = replace(parcel, status=status, picked_up=core.now)
    place = replace(
        core.state.cells[parcel.cell], inspect_unless_empty=True, last_outcome=UnlockOutcome.UNKNOWN
    )
    core.state = replace(core.state, cells={**core.state.cells, parcel.cell: place})
    core.feed(Restore("k", (parcel,), actor="bob"))
    cell = core.state.cells[parcel.cell]
    assert (cell.status, cell.reservation_id) == (use, parcel.reservation_id)
    assert (cell.opened_since_allocation, cell.unlocked_since_allocation) == (True, True)
    assert (cell.outcome_unknown, cell.unverified) == (True, True)
    assert (cell.inspect_unless_empty, cell.last_outcome) == (False, None)
    (fact,) = cell_facts(core)
    assert (fact.cell, fact.cause, fact.source) == (parcel.cell, CellCause.RESTORED, Source.MACHINE)
    assert fact.reservation == core.live(parcel)
    assert fact.actor == "bob"
    assert fact.status is use


def test_a_restored_reservation_is_as_the_gateway_has_it() -> None:
    core, (parcel,) = lost()
    core.feed(Restore("k", (parcel,), {parcel.reservation_id: "C01"}))
    assert core.live(parcel) == replace(parcel, cell="C01")


def test_a_restored_code_rests_no_more() -> None:
    core, (parcel,) = lost()
    retired = core.state.retired_codes.with_code(parcel.pickup_code, core.now).with_code(
        parcel.drop_off_code, core.now
    )
    core.state = replace(core.state, retired_codes=retired)
    core.feed(Restore("k", (parcel,)))
    assert not core.state.retired_codes


def test_refusals_name_the_reservation_and_what_is_wrong() -> None:
    core, (one, two) = lost(parcels=2)
    first, second = one.reservation_id, two.reservation_id
    refused = core.refused(Restore("k", (one,), {first: "Z9"}))
    assert problem(refused) == f"reservation {first}: there is no cell Z9; name its cell with --place"
    refused = core.refused(Restore("k", (one, replace(two, cell=one.cell))))
    assert problem(refused) == (
        f"reservation {second}: cell {one.cell} is held by {first}; name its cell with --place"
    )
    refused = core.refused(Restore("k", (one, replace(two, pickup_code=one.drop_off_code))))
    assert problem(refused) == f"reservation {second}: it has a code of reservation {first}"
    refused = core.refused(Restore("k", (one,), {"res_other": "C01"}))
    assert problem(refused) == "reservation res_other: it is not among those that can be restored"


def test_a_cell_that_does_not_await_inspection_takes_no_restored_reservation() -> None:
    core, (parcel,) = lost()
    idle = replace(core.state.cells["C01"], status=CellStatus.IDLE)
    core.state = replace(core.state, cells={**core.state.cells, "C01": idle})
    refused = core.refused(Restore("k", (parcel,), {parcel.reservation_id: "C01"}))
    assert problem(refused) == (
        f"reservation {parcel.reservation_id}: cell C01 is {CellStatus.IDLE}, and does not await inspection"
    )


def test_a_reservation_that_is_known_still_is_left_as_it_is() -> None:
    core, known, gone = partly_lost()
    before = core.live(known)
    core.feed(Restore("k", (replace(known, cell="C01"), gone)))
    assert core.live(known) == before
    assert not core.state.cells[known.cell].unverified
    assert core.state.cells[gone.cell].unverified


def test_a_correction_moves_a_restored_parcel_and_leaves_its_old_cell_to_be_inspected() -> None:
    core, (parcel,) = lost()
    core.feed(Restore("k", (parcel,), actor="bob"))
    core.facts.clear()
    held = replace(
        core.state.cells[parcel.cell], inspect_unless_empty=True, last_outcome=UnlockOutcome.UNKNOWN
    )
    core.state = replace(core.state, cells={**core.state.cells, parcel.cell: held})
    done = core.feed(Restore("k2", place={parcel.reservation_id: "C01"}, actor="eve"))
    assert [answer.request_key for answer in done.answers] == ["k2"]
    before = core.state.cells[parcel.cell]
    assert (before.status, before.reservation_id) == (CellStatus.AWAITING_INSPECTION, None)
    assert (before.outcome_unknown, before.unverified, before.inspect_unless_empty) == (False, False, False)
    assert (before.opened_since_allocation, before.unlocked_since_allocation) == (False, False)
    assert before.last_outcome is None
    after = core.state.cells["C01"]
    assert (after.status, after.unverified) == (CellStatus.OCCUPIED, True)
    facts = [(fact.cell, fact.cause, fact.actor) for fact in cell_facts(core)]
    assert facts == [("C01", CellCause.RESTORED, "eve"), (parcel.cell, CellCause.LOST, "eve")]


def test_only_a_restored_reservation_is_corrected_and_only_to_a_free_cell() -> None:
    core, known, gone = partly_lost()
    core.feed(Restore("k", (gone,)))
    rid = gone.reservation_id
    refused = core.refused(Restore("k", place={known.reservation_id: "C01"}))
    assert problem(refused) == f"reservation {known.reservation_id}: it is no restored reservation"
    refused = core.refused(Restore("k", place={"res_none": "C01"}))
    assert problem(refused) == "reservation res_none: it is no restored reservation"
    refused = core.refused(Restore("k", place={rid: "Z9"}))
    assert problem(refused) == f"reservation {rid}: there is no cell Z9; name its cell with --place"
    refused = core.refused(Restore("k", place={rid: known.cell}))
    assert f"cell {known.cell} is held by {known.reservation_id}" in problem(refused)


def test_a_cell_whose_door_is_being_opened_is_not_corrected() -> None:
    core, (parcel,) = lost()
    core.feed(Restore("k", (parcel,)))
    core.feed(core.command(parcel, Purpose.PICKUP))
    assert core.refused(Restore("k", place={parcel.reservation_id: "C01"})).code is Code.NOT_ALLOWED


def test_without_a_loss_there_is_nothing_to_restore() -> None:
    core = Core()
    parcel = core.dropped_off()
    for given in (Restore("k"), Restore("k", (parcel,)), Restore("k", (parcel,), {"res": "C01"})):
        refused = core.refused(given)
        assert (refused.code, refused.message) == (
            Code.NOT_ALLOWED,
            "no history was lost: there is nothing to restore",
        )


def entered(core: Core, text: str) -> str:
    """What the kiosk answers to an entry."""
    (answer,) = core.feed(core.entry(text)).answers
    assert answer.refusal is not None
    assert answer.refusal.code is Code.NOT_ALLOWED
    return answer.refusal.message


def guessing(core: Core) -> list[str]:
    """The ways in that rest."""
    return [alarm.place for alarm in core.state.alarms.values() if alarm.alarm is Alarm.CODE_GUESSING]


def test_while_some_codes_are_live_others_count_by_their_own_way() -> None:
    core, _, gone = partly_lost()
    for _ in range(4):
        assert entered(core, gone.pickup_code) == CALL_FOR_HELP
    assert guessing(core) == []
    assert entered(core, gone.pickup_code) == CALL_FOR_HELP
    assert guessing(core) == ["digits"]
    assert entered(core, gone.pickup_code) != CALL_FOR_HELP  # the keypad rests: not valid
    assert len(core.state.guesses["digits"].wrong) == 5
    assert "qr" not in core.state.guesses


def test_a_lost_qr_text_counts_among_the_qr_texts() -> None:
    core, _, gone = partly_lost()
    text = qr_text(Purpose.PICKUP, gone.reservation_id, gone.pickup_code)
    for _ in range(5):
        assert entered(core, text) == CALL_FOR_HELP
    assert guessing(core) == ["qr"]
    assert "digits" not in core.state.guesses


def test_a_frozen_machine_opens_no_code_at_all() -> None:
    core = Core()
    parcel = core.dropped_off()
    core.feed(HistoryAhead("older"))
    assert entered(core, parcel.pickup_code) == CALL_FOR_HELP


def test_a_lost_machine_without_live_codes_counts_nothing() -> None:
    core, (parcel,) = lost()
    for _ in range(10):
        assert entered(core, parcel.pickup_code) == CALL_FOR_HELP
    assert core.state.guesses == {}


def test_a_frozen_machine_gives_up_who_waits_and_lets_a_technician_go_on() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))
    parcels = [core.dropped_off() for _ in range(2)]
    core.pass_s(11)
    first, second = (core.command(parcel, Purpose.PICKUP) for parcel in parcels)
    core.feed(first)
    core.feed(second)
    core.feed(OpenCell("by-hand", "C01", "because", "unl-hand"))
    done = core.feed(HistoryAhead("older"))
    assert core.state.history == {FROZEN: HistoryMark("older")}
    (answer,) = done.answers
    assert answer.request_key == second.request_key
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.refusal.message) == (Code.NOT_ALLOWED, ASKING)
    assert {unlock.unlock_id for unlock in core.state.unlock_attempts.values()} == {
        first.unlock_id,
        "unl-hand",
    }
    core.feed(HistoryAhead("older still"))
    assert core.state.history == {FROZEN: HistoryMark("older")}


def test_a_lost_machine_is_not_frozen_as_well() -> None:
    core, _ = lost()
    core.feed(HistoryAhead("older"))
    assert core.state.history == {}


def test_a_comparison_that_agrees_makes_a_new_journal_an_ordinary_one() -> None:
    core = Core()
    core.state = replace(core.state, history={YOUNG: HistoryMark("the journal is new")})
    core.feed(HistoryCompared({}))
    assert core.state.history == {}


def test_a_new_journal_remembers_its_former_id_and_why() -> None:
    core = Core()
    core.feed(HistoryAhead("the broker keeps more"))
    core.feed(HistoryCompared({}, "journal-2", journal_id="journal-1"))
    assert core.state.history == {former_key("journal-1"): HistoryMark("its id before")}
    assert core.state.alarms[LOST].detail == "the broker keeps more"


def test_what_is_lost_ends_waits_and_reports_each_cell_once() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, max_concurrent_unlocks=1))
    parcel, over = core.dropped_off(), core.picked_up(grace_pickup_s=30)
    core.pass_s(40)
    assert over.cell in core.state.former
    core.feed(core.command(parcel, Purpose.PICKUP))
    after = core.command(over, Purpose.OPEN_DOOR)
    core.feed(after)
    waits = UnconfirmedUnlock("unl-old", parcel.reservation_id, Purpose.PICKUP, Source.API, core.now)
    held = replace(core.state.cells["C01"], unverified=True, unlocked_since_allocation=True)
    core.state = replace(core.state, unconfirmed={"C01": waits}, cells={**core.state.cells, "C01": held})
    core.facts.clear()
    done = core.feed(HistoryLost("its file is gone"))
    refusals = [answer.refusal for answer in done.answers if answer.refusal is not None]
    assert {(refusal.code, refusal.message) for refusal in refusals} == {(Code.NOT_ALLOWED, WHY)}
    assert core.state.former == {}
    assert core.state.reservations == {}
    assert core.state.unconfirmed == {}
    assert {fact.cause for fact in cell_facts(core)} == {CellCause.LOST}
    assert sorted(fact.cell or "" for fact in cell_facts(core)) == sorted(core.state.cells)
    cell = core.state.cells["C01"]
    assert (cell.unverified, cell.unlocked_since_allocation) == (False, False)
    fulfilled = [fact for fact in core.facts if fact.kind is FactKind.OPEN_DOOR_FULFILLED]
    assert [fact.reason for fact in fulfilled] == [WHY]


def test_a_restored_cell_is_cleared_once_its_reservation_is_over() -> None:
    core, (parcel,) = lost()
    core.feed(Restore("k", (parcel,)))
    refused = core.refused(Clear("k", parcel.cell))
    assert (refused.code, refused.message) == (Code.NOT_ALLOWED, f"cell {parcel.cell}: {UNVERIFIED}")
    core.opens(core.entry(parcel.pickup_code))
    core.close(parcel.cell)
    core.pass_s(1000)
    assert not core.state.cells[parcel.cell].unverified
    core.clear(parcel.cell)
    assert core.state.cells[parcel.cell].status is CellStatus.IDLE


def test_no_cell_is_cleared_while_the_history_is_lost_or_in_doubt() -> None:
    core, _ = lost()
    refused = core.refused(Clear("k", "A01"))
    assert (refused.code, refused.message) == (Code.NOT_ALLOWED, f"cell A01: {WHY}")
    core.feed(Restore("k"))
    core.feed(HistoryAhead("older"))
    assert core.refused(Clear("k", "A01")).message == f"cell A01: {WHY}"
    core.feed(HistoryCompared({}))
    core.clear("A01")


def test_a_restore_answers_its_request() -> None:
    core, (parcel,) = lost()
    assert [answer.request_key for answer in core.feed(Restore("k7", (parcel,))).answers] == ["k7"]


def test_a_parcel_is_not_moved_to_a_cell_that_is_being_opened() -> None:
    core, (parcel,) = lost()
    core.feed(Restore("k", (parcel,)))
    core.feed(OpenCell("by-hand", "C01", "because", "unl-hand"))
    assert core.refused(Restore("k", place={parcel.reservation_id: "C01"})).code is Code.NOT_ALLOWED
