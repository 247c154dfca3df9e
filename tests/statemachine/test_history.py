"""A journal that does not hold all that the machine did: frozen, lost, restored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import Alarm, CellStatus, Purpose, Reservation, ReservationStatus, UnlockOutcome
from edge_agent.statemachine.history import CALL_FOR_HELP, LOST
from edge_agent.statemachine.inputs import (
    Clear,
    HistoryAhead,
    HistoryCompared,
    HistoryLost,
    Input,
    OpenCell,
    Reserve,
    Restore,
)
from edge_agent.statemachine.state import HistoryMark
from tests.support.pure_core.core import SMALL, Core


def reserve(core: Core) -> Reserve:
    return Reserve(core.key(), "res_new", "p", "o", SMALL, ("1111", "2222"))


def lost_with(*kinds: str) -> tuple[Core, list[Reservation]]:
    """A core that has lost everything, and the reservations as the gateway knows them."""
    before = Core()
    made = [before.dropped_off() if kind == "dropped" else before.reserve() for kind in kinds]
    core = Core()
    core.feed(HistoryLost("its file is new, and its lock file was there"))
    return core, made


def status(core: Core, label: str) -> CellStatus:
    return core.state.cells[label].status


def asked_to_call(core: Core, text: str) -> bool:
    (answer,) = core.feed(core.entry(text)).answers
    assert answer.refusal is not None
    return answer.refusal.code == Code.NOT_ALLOWED and answer.refusal.message == CALL_FOR_HELP


@pytest.mark.behaviour("history-01", "history-02")
def test_w8_lost_means_that_nothing_is_granted_and_every_cell_awaits_inspection() -> None:
    core, (parcel,) = lost_with("dropped")
    assert {cell.status for cell in core.state.cells.values()} == {CellStatus.AWAITING_INSPECTION}
    assert core.state.alarms[LOST].detail == "its file is new, and its lock file was there"
    commands = [
        core.command(parcel, purpose) for purpose in (Purpose.DROPOFF, Purpose.PICKUP, Purpose.OPEN_DOOR)
    ]
    others: list[Input] = [reserve(core), core.cancel(parcel), core.abandon(parcel), Clear("k", "A01")]
    assert {core.refused(given).code for given in [*commands, *others]} == {Code.NOT_ALLOWED}
    for _ in range(20):  # a lost code does not count as a guess
        assert asked_to_call(core, parcel.pickup_code)
    assert not [a for a in core.state.alarms.values() if a.alarm is Alarm.CODE_GUESSING]
    core.opens(OpenCell("k2", "A01", "a look", "unl-hand"))  # a technician may look into any


def test_w8_a_lost_cell_keeps_nothing_of_the_reservation_it_held() -> None:
    core = Core()
    core.state = replace(
        core.state,
        cells={
            label: replace(
                cell,
                inspect_unless_empty=True,
                last_outcome=UnlockOutcome.UNKNOWN,
                opened_since_allocation=True,
                contact_doubt="its contact chatters",
            )
            for label, cell in core.state.cells.items()
        },
    )
    core.feed(HistoryLost("its file is gone"))
    for cell in core.state.cells.values():
        # Else a scale that shows nothing, or `resolve`, would end the inspection without `restore`.
        assert (cell.inspect_unless_empty, cell.last_outcome, cell.opened_since_allocation) == (
            False,
            None,
            False,
        )
        assert cell.contact_doubt == "its contact chatters"  # of the door, not of the reservation


def test_w8_lost_stands_over_a_restart_and_is_raised_once() -> None:
    core, _ = lost_with("dropped")
    core.facts.clear()
    core.restart({}, boot_id="boot-2")
    core.feed(HistoryLost("again"))
    assert LOST in core.state.alarms
    assert core.facts == []


def test_what_a_start_has_found_is_done_at_the_boot() -> None:
    core = Core()
    core.state = replace(core.state, history={"lost": HistoryMark("a mark was there")})
    core.restart({})
    assert core.state.alarms[LOST].detail == "a mark was there"
    assert core.state.history == {}


@pytest.mark.behaviour("history-03")
def test_restored_reservations_hold_their_cells_unverified_and_open_by_their_codes() -> None:
    core, (parcel, pending) = lost_with("dropped", "pending")
    core.feed(Restore("k", (parcel, pending), actor="bob"))
    assert LOST not in core.state.alarms
    assert status(core, parcel.cell) is CellStatus.OCCUPIED
    assert status(core, pending.cell) is CellStatus.RESERVED
    others = set(core.state.cells) - {parcel.cell, pending.cell}
    assert {status(core, label) for label in others} == {CellStatus.AWAITING_INSPECTION}
    assert "nobody has verified it" in core.refused(Clear("k", parcel.cell)).message
    core.opens(core.entry(parcel.pickup_code))
    assert core.live(parcel).status is ReservationStatus.PICKED_UP
    core.close(parcel.cell)
    core.pass_s(1000)
    assert status(core, parcel.cell) is CellStatus.AWAITING_INSPECTION
    core.clear(parcel.cell)
    assert status(core, parcel.cell) is CellStatus.IDLE
    assert not core.state.cells[parcel.cell].unverified


@pytest.mark.behaviour("history-03")
def test_place_corrects_a_cell_at_the_restoring_and_afterwards() -> None:
    core, (parcel,) = lost_with("dropped")
    rid = parcel.reservation_id
    assert core.refused(Restore("k", (parcel,), {rid: "Z9"})).code == Code.INVALID_ARGUMENT
    assert core.refused(Restore("k", (parcel,), {"res_other": "B01"})).code == Code.INVALID_ARGUMENT
    core.feed(Restore("k", (parcel,), {rid: "B01"}))
    assert core.live(parcel).cell == "B01"
    core.feed(Restore("k", place={rid: "C01"}))
    assert core.live(parcel).cell == "C01"
    assert status(core, "B01") is CellStatus.AWAITING_INSPECTION
    core.opens(core.entry(parcel.pickup_code))
    assert core.pulses[-1].cell == "C01"
    assert core.refused(Restore("k", (parcel,))).code == Code.NOT_ALLOWED


def test_two_in_one_cell_are_refused_until_one_is_placed_elsewhere() -> None:
    core, (one, two) = lost_with("dropped", "dropped")
    both = (one, replace(two, cell=one.cell))
    assert f"cell {one.cell} is held by" in core.refused(Restore("k", both)).message
    core.feed(Restore("k", both, {two.reservation_id: "C01"}))
    assert core.live(two).cell == "C01"
    clash = Core()
    clash.feed(HistoryLost("new"))
    same = replace(two, pickup_code=one.pickup_code)
    assert "has a code of reservation" in clash.refused(Restore("k", (one, same))).message


@pytest.mark.behaviour("history-04")
def test_restore_none_starts_anew_once_cells_are_cleared() -> None:
    core, _ = lost_with("dropped")
    core.feed(Restore("k"))
    assert core.refused(reserve(core)).code == Code.NO_CELL
    core.clear("A01")
    assert core.feed(reserve(core)).answers[0].cell == "A01"


@pytest.mark.behaviour("history-05")
def test_a_digest_ahead_freezes_codes_and_grants_until_the_gateway_has_answered() -> None:
    core = Core()
    parcel = core.dropped_off()
    core.feed(HistoryAhead("the broker keeps a digest of event 90, the journal ends at 60"))
    assert asked_to_call(core, parcel.pickup_code)
    for given in (reserve(core), core.command(parcel, Purpose.PICKUP), core.abandon(parcel)):
        assert core.refused(given).code == Code.NOT_ALLOWED
    core.restart({})
    assert core.refused(core.command(parcel, Purpose.PICKUP)).code == Code.NOT_ALLOWED
    core.feed(HistoryCompared({}))  # it holds nothing beyond our last sequence
    core.opens(core.entry(parcel.pickup_code))
    assert LOST not in core.state.alarms


@pytest.mark.behaviour("history-06")
def test_w9_what_both_know_thaws_and_the_rest_is_lost() -> None:
    core = Core()
    same, moved, changed, unknown = (core.dropped_off() for _ in range(4))
    core.feed(HistoryAhead("older"))
    known = {
        same.reservation_id: (same.cell, ReservationStatus.DROPPED_OFF),
        moved.reservation_id: ("C01", ReservationStatus.DROPPED_OFF),
        changed.reservation_id: (changed.cell, ReservationStatus.PICKED_UP),
    }
    core.feed(HistoryCompared(known, "journal-2"))
    assert set(core.state.reservations) == {same.reservation_id}
    assert status(core, same.cell) is CellStatus.OCCUPIED
    others = set(core.state.cells) - {same.cell}
    assert {status(core, label) for label in others} == {CellStatus.AWAITING_INSPECTION}
    assert LOST in core.state.alarms
    core.opens(core.entry(same.pickup_code))
    for gone in (moved, changed, unknown):
        assert asked_to_call(core, gone.pickup_code)
    core.feed(Restore("k", (replace(moved, cell="C01"),)))
    core.opens(core.entry(moved.pickup_code))
    assert core.pulses[-1].cell == "C01"


def test_a_door_at_work_when_its_reservation_is_lost_changes_nothing_more() -> None:
    core = Core()
    parcel = core.dropped_off()
    command = core.command(parcel, Purpose.PICKUP)
    core.feed(command)
    done = core.feed(HistoryLost("signs"))
    assert [a.refusal.code for a in done.answers if a.refusal] == [Code.NOT_ALLOWED]
    assert core.state.unlock_attempts == {}


def test_guesses_at_codes_that_are_still_live_are_counted() -> None:
    core = Core()
    parcel = core.dropped_off()
    core.feed(HistoryAhead("older"))
    known = {parcel.reservation_id: (parcel.cell, parcel.status)}
    core.feed(HistoryCompared(known, "journal-2"))
    for number in range(5):
        core.feed(core.entry(f"{9000 + number}"))
    assert [a for a in core.state.alarms.values() if a.alarm is Alarm.CODE_GUESSING]
