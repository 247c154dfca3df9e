"""Details of the core that a whole life passes over, one at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code, Refusal
from edge_agent.model import (
    Alarm,
    Block,
    CellStatus,
    Door,
    Packaging,
    Purpose,
    Reservation,
    Severity,
    Source,
    UnlockAttempt,
)
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.doors import unexpected, wear
from edge_agent.statemachine.doors.wrong_door import maintenance_id
from edge_agent.statemachine.inputs import Boot, Clear, DoorRead, DoorsChanged, PulseDone, Reserve
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.reservation import refusal
from edge_agent.statemachine.state import Layout
from edge_agent.statemachine.step_builder import StepBuilder
from edge_agent.statemachine.transitions import FLAG_TABLE, Flag, FlagTrigger, Refused, Trigger
from tests.support.pure_core.core import SMALL, START, Core, specs

S = 10**9


def only(*labels: str, concurrent: int = 2) -> Core:
    """A machine of these cells."""
    built = {spec.label: spec for spec in specs() if spec.label in labels}
    return Core(Layout(specs=built, max_concurrent_unlocks=concurrent))


def stands(core: Core, alarm: Alarm, place: str) -> bool:
    return f"{alarm}/{place}" in core.state.alarms


def pulsing(core: Core, reservation: Reservation, purpose: Purpose = Purpose.DROPOFF) -> str:
    """A command whose first pulse is under way."""
    command = core.command(reservation, purpose)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    return command.unlock_id


def test_a_reservation_keeps_all_that_came_with_it() -> None:
    core = Core()
    parcel = Packaging(100, 90, 80, 70, cooling_required=True)
    given = Reserve(
        request_key="k",
        reservation_id="res_x",
        platform="dish",
        platform_order_id="order 7",
        packaging=parcel,
        candidate_codes=("1111", "2222"),
        notes="fragile",
        webhook_url="https://x",
        eta_minutes=5,
        grace_pickup_s=7,
        grace_dropoff_s=8,
    )
    made = core.feed(given).answers[0].reservation
    assert made == Reservation(
        "res_x",
        "dish",
        "order 7",
        parcel,
        "B01",
        "1111",
        "2222",
        START,
        notes="fragile",
        webhook_url="https://x",
        eta_minutes=5,
        grace_pickup_s=7,
        grace_dropoff_s=8,
    )
    core.opens(core.command(made, Purpose.DROPOFF))
    assert core.live(made).first_dropoff == START
    core.pass_s(2)
    core.close("B01")
    dropped = core.live(made)
    assert (dropped.dropped_off, dropped.dropoff_opened, dropped.picked_up) == (core.now, False, None)
    core.opens(core.command(made, Purpose.PICKUP))
    assert core.live(made).picked_up == core.now


def test_what_a_flag_becomes_where_the_table_says_nothing() -> None:
    core = only("A01")
    for flag in Flag:
        for is_set in (False, True):
            changes = {"blocked": Block("b")} if flag is Flag.BLOCKED else {"faulty": "f"}
            cell = replace(core.state.cells["A01"], **(changes if is_set else {}))
            for trigger in FlagTrigger:
                entry = FLAG_TABLE.get((flag, is_set, trigger), is_set)
                if not isinstance(entry, Refused):
                    assert cells._flag(cell, flag, trigger) is entry


def test_clearing_a_cell_that_nobody_freed_needs_something_to_clear() -> None:
    core = only("A01")
    with pytest.raises(Refusal):
        cells.clear(StepBuilder(core.state, core.layout, core.now), "A01", Source.API)
    worn = replace(core.state.cells["A01"], worn=True)
    builder = StepBuilder(replace(core.state, cells={"A01": worn}), core.layout, core.now)
    cells.clear(builder, "A01", Source.API)
    assert builder.cells["A01"].worn is False


def test_a_door_of_which_nobody_knows_since_when_it_is_open_is_not_ajar_yet() -> None:
    core = only("A01")
    open_door = replace(core.state.cells["A01"], door=Door.OPEN, door_since=None)
    state = replace(core.state, cells={"A01": open_door})
    assert unexpected.left_ns(state, core.now, 120 * S) == [120 * S]


def test_a_door_that_opens_while_another_is_only_looked_at_was_forced() -> None:
    core = only("A01", "A02", "C01", concurrent=1)
    first, second = core.reserve(), core.reserve()
    for reservation in (first, second):
        core.feed(core.command(reservation, Purpose.DROPOFF))
    assert [unlock.stage for unlock in core.state.unlock_attempts.values()] == ["reading", "waiting"]
    core.forced("C01")
    assert stands(core, Alarm.DOOR_FORCED, "C01")
    assert not stands(core, Alarm.WRONG_DOOR, "C01")


def test_a_lock_that_is_watched_for_long_may_open_its_door() -> None:
    core = only("A01", "A02")
    reservation = core.reserve()
    core.feed(replace(core.command(reservation, Purpose.DROPOFF), unlock_id="u", expires_ns=2**62))
    core.feed(DoorRead("u", Door.CLOSED))
    core.pass_s(60)
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert not core.state.alarms
    assert core.live(reservation).dropoff_opened


def test_the_keypad_rests_to_its_last_nanosecond() -> None:
    core = only("A01")
    reservation = core.reserve()
    for _ in range(5):
        core.invalid("x")
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 60 * S - 1)
    core.invalid(reservation.drop_off_code)
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 1)
    assert core.feed(core.entry(reservation.drop_off_code)).effects


def test_a_start_that_reads_nothing_changes_no_door() -> None:
    core = only("A01", "A02")
    core.feed(DoorsChanged({"A02": Door.OPEN}))
    before = core.state.cells
    core.feed(Boot({}))
    silent = {label: replace(cell, answering=False, settled=False) for label, cell in before.items()}
    assert core.state.cells == silent


def test_an_unlock_that_nobody_saw_lasts_through_a_start() -> None:
    core = only("A01")
    reservation = core.reserve()
    uid = pulsing(core, reservation)
    core.feed(PulseDone(uid, 1, Door.UNKNOWN))
    core.restart({"A01": Door.UNKNOWN})
    assert [unlock.stage for unlock in core.state.unlock_attempts.values()] == ["unresolved"]
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert core.live(reservation).dropoff_opened


def test_a_command_that_was_only_reading_is_answered_offline_at_a_start() -> None:
    core = only("A01")
    command = core.command(core.reserve(), Purpose.DROPOFF)
    core.feed(command)
    (answer,) = core.feed(Boot({"A01": Door.CLOSED})).answers
    assert answer.refusal is not None
    assert answer.refusal.code is Code.OFFLINE
    assert answer.refusal.message == "the machine restarted before the lock was pulsed"


def test_an_open_door_that_a_start_finds_open_is_published_as_recovered() -> None:
    core = only("A01")
    pulsing(core, core.reserve(), Purpose.OPEN_DOOR)
    core.restart({"A01": Door.OPEN})
    (published,) = (fact for fact in core.facts if fact.kind is FactKind.OPEN_DOOR_FULFILLED)
    assert published.recovered


def test_an_entry_at_the_kiosk_waits_for_its_turn_as_any_command() -> None:
    core = only("A01", "A02", concurrent=1)
    first, second = core.reserve(), core.reserve()
    core.opened_by_hand(first.cell)
    busy = core.command(first, Purpose.DROPOFF)
    core.feed(busy)
    entry = core.entry(second.drop_off_code)
    assert not core.feed(entry).effects
    assert core.state.unlock_attempts[entry.unlock_id] == UnlockAttempt(
        unlock_id=entry.unlock_id,
        reservation_id=second.reservation_id,
        cell="A02",
        purpose=Purpose.DROPOFF,
        source=Source.MACHINE,
        stage="waiting",
        expires_ns=core.now.boottime_ns + 30 * 10**9,
        request_key=entry.request_key,
    )
    assert core.requested_reading(core.feed(DoorRead(busy.unlock_id, Door.OPEN))).unlock_id == entry.unlock_id


def test_a_command_that_waited_while_its_parcel_moved_opens_the_new_cell() -> None:
    core = only("A01", "A02", "C01", concurrent=1)
    reservation, other = core.reserve(), core.reserve(replace(SMALL, height_mm=300))
    core.opened_by_hand(other.cell)
    busy = core.command(other, Purpose.DROPOFF)
    core.feed(busy)
    first, second = (replace(core.command(reservation, Purpose.DROPOFF), expires_ns=2**62) for _ in range(2))
    core.feed(first)
    core.feed(replace(second, unlock_id="second"))
    look = core.feed(DoorRead(busy.unlock_id, Door.OPEN))
    look = core.jams(look)
    assert core.live(reservation).cell == "A02"
    core.feed(DoorRead(core.requested_reading(look).unlock_id, Door.CLOSED))
    look = core.feed(DoorsChanged({"A02": Door.OPEN}))
    assert core.requested_reading(look).unlock_id == "second"
    assert core.state.unlock_attempts["second"].cell == core.requested_reading(look).cell == "A02"


def test_a_pick_up_that_waits_beyond_its_grace_is_refused() -> None:
    core = only("A01", "A02", concurrent=1)
    over, other = core.picked_up(grace_pickup_s=5), core.reserve()
    core.opened_by_hand(other.cell)
    busy = core.command(other, Purpose.DROPOFF, life_s=60)
    core.feed(busy)
    late = core.command(over, Purpose.PICKUP, life_s=60)
    core.feed(late)
    core.pass_s(10)
    assert over.reservation_id not in core.state.reservations
    done = core.feed(DoorRead(busy.unlock_id, Door.OPEN))
    (answer,) = (answer for answer in done.answers if answer.request_key == late.request_key)
    assert answer.refusal is not None
    assert answer.refusal.code is Code.NOT_ALLOWED
    assert answer.refusal.message == "the reservation ended while the command waited"


def test_the_grace_of_one_ends_whatever_the_others_are_at() -> None:
    core = Core()
    core.layout = replace(core.layout, max_concurrent_unlocks=3)
    core.reserve()
    left_open = core.dropped_off(grace_pickup_s=5)
    at_work = core.picked_up(grace_pickup_s=5)
    core.opens(core.command(left_open, Purpose.PICKUP))
    due = core.picked_up(grace_pickup_s=5)
    command = core.command(at_work, Purpose.OPEN_DOOR, life_s=60)
    core.feed(command)
    done = core.pass_s(6)
    assert [one.reservation_id for one in done.ended] == [due.reservation_id]
    core.feed(DoorRead(command.unlock_id, Door.UNKNOWN))
    assert at_work.reservation_id not in core.state.reservations
    assert left_open.reservation_id in core.state.reservations


def test_who_cleared_a_cell_is_published_with_what_it_ended() -> None:
    core = only("A01")
    core.picked_up()
    core.now = replace(core.now, synced=False)
    core.restart({}, boot_id="boot-2")
    core.facts.clear()
    core.feed(Clear("k", "A01", Source.API))
    assert [(f.kind, f.source) for f in core.facts] == [
        (FactKind.RESERVATION_COMPLETED, Source.API),
        (FactKind.CELL_STATUS_CHANGED, Source.API),
    ]


def test_a_doubt_ends_with_the_reservation_and_its_inspection() -> None:
    core = only("A01")
    reservation = core.reserve()
    uid = pulsing(core, reservation)
    core.feed(PulseDone(uid, 1, Door.UNKNOWN))
    core.close("A01")
    core.feed(core.cancel(reservation))
    cell = core.state.cells["A01"]
    assert (cell.status, cell.outcome_unknown) == (CellStatus.AWAITING_INSPECTION, False)
    assert cell.opened_since_allocation is False
    core.clear("A01")
    core.feed(core.cancel(core.reserve()))
    assert core.state.cells["A01"].status is CellStatus.IDLE


def test_a_cell_that_was_opened_for_its_last_holder_begins_anew() -> None:
    core = only("A01")
    former = core.picked_up(grace_pickup_s=0)
    core.pass_s(11)
    core.opens(core.command(former, Purpose.OPEN_DOOR))
    core.close("A01")
    assert core.state.cells["A01"].opened_since_allocation
    assert core.state.cells["A01"].status is CellStatus.AWAITING_INSPECTION
    core.clear("A01")
    core.reserve()
    assert core.state.cells["A01"].opened_since_allocation is False


def test_a_refusal_keeps_its_code() -> None:
    assert refusal(Trigger.RESERVE, "full", Code.NO_CELL).code is Code.NO_CELL
    assert refusal(Trigger.RESERVE, "no").code is Code.NOT_ALLOWED
    assert str(refusal(Trigger.RESERVE, "gone", Code.NOT_FOUND)) == "gone (code 5)"


def test_reports_on_another_pulse_than_the_last_one_are_stale() -> None:
    core = only("A01")
    uid = pulsing(core, core.dropped_off(), Purpose.PICKUP)
    core.feed(PulseDone(uid, 1, Door.CLOSED))
    before = core.state
    for attempt in (0, 1, 3):
        for door in Door:
            for given in (True, False):
                core.feed(PulseDone(uid, attempt, door, given))
                core.feed(PulseDone("none", 2, door, given))
    assert core.state == before
    core.feed(PulseDone(uid, 2, Door.UNKNOWN))
    before = core.state
    for door in Door:
        core.feed(PulseDone(uid, 2, door))
        core.feed(PulseDone(uid, 2, door, sent=False))
        core.feed(DoorRead(uid, door))
    assert core.state == before


def test_a_maintenance_ticket_has_the_number_of_the_unlock() -> None:
    unlock = UnlockAttempt("unl_7", "r", "A01", Purpose.PICKUP, Source.API, "pulsing", None)
    assert maintenance_id(unlock, "A02") == "maint_7_A02"


def test_the_time_to_open_runs_from_the_first_pulse() -> None:
    core = only("A01")
    uid = pulsing(core, core.dropped_off(), Purpose.OPEN_DOOR)
    begin_ns = core.now.boottime_ns
    core.pass_s(1)
    core.feed(PulseDone(uid, 1, Door.CLOSED))
    assert core.state.unlock_attempts[uid].first_pulse_ns == begin_ns


def test_an_opening_that_nobody_watched_says_nothing_about_the_lock() -> None:
    core = only("A01")
    uid = pulsing(core, core.reserve())
    core.feed(PulseDone(uid, 1, Door.UNKNOWN))
    core.pass_s(2)
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    assert core.state.cells["A01"].usual_open_us is None
    other = only("A01")
    pulsing(other, other.reserve())
    other.restart({"A01": Door.OPEN}, off_s=2)
    assert other.state.cells["A01"].usual_open_us is None


def opening(taken_us: int, **changes: object) -> StepBuilder:
    """A lock opens that long after its pulse."""
    core = only("A01")
    cell = replace(core.state.cells["A01"], **changes)  # type: ignore[arg-type]
    now = replace(core.now, boottime_ns=core.now.boottime_ns + taken_us * 1000)
    builder = StepBuilder(replace(core.state, cells={"A01": cell}), core.layout, now)
    first_ns = core.now.boottime_ns
    unlock = UnlockAttempt(
        "u", "r", "A01", Purpose.PICKUP, Source.API, "pulsing", None, first_pulse_ns=first_ns
    )
    wear.record_opening(builder, unlock, "m")
    return builder


@pytest.mark.parametrize(
    ("taken_us", "unlocks", "usual_us", "recent_us", "then_us", "worn"),
    [
        (90_000, 1, None, None, (90_000, 90_000), False),
        (5_000, 1, None, None, (10_000, 10_000), False),
        (130_000, 3, 100_000, 110_000, (110_000, 115_000), False),
        (130_000, 15, 100_000, 110_000, (102_000, 115_000), False),
        (130_000, 16, 100_000, 110_000, (100_468, 115_000), False),
        (900_000, 16, 100_000, 100_000, (100_781, 150_000), False),
        (260_000, 16, 100_000, 180_000, (100_781, 200_000), False),
        (260_004, 16, 100_000, 180_000, (100_781, 200_001), True),
    ],
)
def test_the_two_means_of_a_lock(
    taken_us: int,
    unlocks: int,
    usual_us: int | None,
    recent_us: int | None,
    then_us: tuple[int, int],
    worn: bool,
) -> None:
    builder = opening(taken_us, pulse_count=unlocks, usual_open_us=usual_us, recent_open_us=recent_us)
    cell = builder.cells["A01"]
    assert (cell.usual_open_us, cell.recent_open_us, cell.worn) == (*then_us, worn)
    facts = builder.result().facts
    assert [(f.maintenance_ticket_id, f.severity, f.cell) for f in facts] == [
        ("m_worn", Severity.MEDIUM, "A01")
    ] * worn


def test_a_worn_lock_is_reported_once_and_stays_worn() -> None:
    slow = opening(2_600_000, pulse_count=16, usual_open_us=1_000_000, recent_open_us=2_200_000)
    (fact,) = slow.result().facts
    assert fact.description == "the lock of cell A01 opens after 2300 ms, usually 1007 ms"
    again = opening(2_600_000, pulse_count=16, usual_open_us=1_000_000, recent_open_us=2_200_000, worn=True)
    assert not again.result().facts
    quick = opening(100_000, pulse_count=16, usual_open_us=100_000, recent_open_us=100_000, worn=True)
    assert quick.cells["A01"].worn
