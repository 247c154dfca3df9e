"""Cells that jam, are blocked, cleared, given up or given to another reservation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code, ErrorInfo, Refusal
from edge_agent.model import (
    Alarm,
    Block,
    CellCause,
    CellSpec,
    CellStatus,
    Door,
    Packaging,
    Purpose,
    ReservationStatus,
    Severity,
    Source,
    UnlockOutcome,
)
from edge_agent.statemachine.doors.unlocking import MOST_OTHER_CELLS
from edge_agent.statemachine.inputs import (
    BlockCell,
    Cancel,
    Clear,
    DeviceHealth,
    DoorRead,
    DoorsChanged,
    PulseDone,
    RequestMaintenance,
    Tare,
    UnblockCell,
)
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.state import Layout
from tests.support.pure_core.core import SMALL, Core, specs


@pytest.mark.behaviour("opening-16")
def test_an_empty_reservation_moves_from_a_jammed_lock_in_the_same_call() -> None:
    core = Core()
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    done = core.jams(core.feed(command))
    assert not done.answers
    look = core.requested_reading(done)
    moved = core.live(reservation)
    assert look.cell == moved.cell == "A02"
    assert core.state.cells["A01"].status is CellStatus.AWAITING_INSPECTION
    assert core.state.cells["A01"].reservation_id is None
    assert core.state.cells["A01"].faulty == "no movement after 3 pulses"
    published = core.facts[-1]
    assert (published.kind, published.cause, published.cell) == (
        FactKind.CELL_STATUS_CHANGED,
        CellCause.MOVED,
        "A02",
    )
    assert published.reservation == moved
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    opened = core.feed(DoorsChanged({"A02": Door.OPEN}))
    assert (opened.answers[0].cell, opened.answers[0].request_key) == ("A02", command.request_key)
    core.close("A02")
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert [(p.cell, p.pulse_number) for p in core.pulses] == [("A01", 1), ("A01", 2), ("A01", 3), ("A02", 1)]
    assert len({(p.unlock_id, p.pulse_number) for p in core.pulses}) == 4


@pytest.mark.behaviour("opening-15")
def test_a_jam_asks_for_maintenance_once() -> None:
    core = Core()
    reservation = core.dropped_off()
    for _ in range(2):
        core.pass_s(11)
        core.jams(core.feed(core.command(reservation, Purpose.PICKUP)))
    asked = [f for f in core.facts if f.kind is FactKind.MAINTENANCE_REQUESTED]
    assert [(f.cell, f.severity, f.source) for f in asked] == [
        (reservation.cell, Severity.HIGH, Source.MACHINE)
    ]
    assert asked[0].maintenance_ticket_id is not None
    assert asked[0].maintenance_ticket_id.startswith("maint_")


@pytest.mark.behaviour("opening-16")
def test_one_that_was_opened_since_its_allocation_does_not_move() -> None:
    core = Core()
    reservation = core.reserve()
    core.opens(core.command(reservation, Purpose.OPEN_DOOR))
    core.close(reservation.cell)
    done = core.jams(core.feed(core.command(reservation, Purpose.DROPOFF)))
    assert done.answers[0].refusal is not None
    assert done.answers[0].refusal.code is Code.INTERNAL
    assert core.live(reservation).cell == reservation.cell


@pytest.mark.behaviour("cells-11")
def test_a_forced_door_counts_as_opened() -> None:
    core = Core()
    reservation = core.reserve()
    core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
    core.close(reservation.cell)
    core.feed(core.cancel(reservation))
    assert core.state.cells[reservation.cell].status is CellStatus.AWAITING_INSPECTION


@pytest.mark.behaviour("opening-16", "alarms-06")
def test_with_no_other_cell_a_jam_is_refused_and_the_reservation_stays() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}))
    reservation = core.reserve()
    done = core.jams(core.feed(core.command(reservation, Purpose.DROPOFF)))
    assert done.answers[0].refusal is not None
    assert core.live(reservation).status is ReservationStatus.PENDING
    core.pass_s(11)
    opened = core.opens(core.command(reservation, Purpose.DROPOFF))
    assert opened.cell == "A01"
    assert core.state.cells["A01"].faulty is None
    assert f"{Alarm.LOCK_JAMMED}/A01" not in core.state.alarms


@pytest.mark.behaviour("opening-13")
def test_a_late_command_moves_nothing() -> None:
    core = Core()
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF, life_s=5)
    done = core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.CLOSED))
    core.now = replace(core.now, boottime_ns=core.now.boottime_ns + 6 * 10**9)
    done = core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert done.answers[0].refusal is not None
    assert core.live(reservation).cell == reservation.cell


def test_one_command_tries_three_other_cells_and_no_more() -> None:
    core = Core()
    reservation = core.reserve()
    done = core.feed(core.command(reservation, Purpose.DROPOFF))
    for _ in range(MOST_OTHER_CELLS):
        done = core.jams(done)
        assert not done.answers
    done = core.jams(done)
    assert done.answers[0].refusal is not None
    assert len({p.cell for p in core.pulses}) == MOST_OTHER_CELLS + 1
    assert len({(p.unlock_id, p.pulse_number) for p in core.pulses}) == 3 * (MOST_OTHER_CELLS + 1)


@pytest.mark.behaviour("cells-06")
def test_an_unopened_reservation_behind_a_silent_board_moves_at_its_dropoff() -> None:
    core = Core()
    reservation = core.reserve()
    core.feed(DeviceHealth("locks_a", False, ("A01", "A02")))
    command = core.command(reservation, Purpose.DROPOFF)
    core.feed(command)
    done = core.feed(DoorRead(command.unlock_id, Door.UNKNOWN))
    assert not done.answers
    look = core.requested_reading(done)
    assert look.cell not in ("A01", "A02")
    assert not core.pulses
    silent = core.ledger_lines[-1]
    assert (silent.cell, silent.outcome, silent.pulsed) == ("A01", UnlockOutcome.UNKNOWN, False)
    assert core.state.cells["A01"].status is CellStatus.IDLE
    core.feed(DoorRead(look.unlock_id, Door.CLOSED))
    core.feed(DoorsChanged({look.cell: Door.OPEN}))
    assert core.live(reservation).dropoff_opened


@pytest.mark.parametrize("purpose", [Purpose.PICKUP, Purpose.OPEN_DOOR])
def test_only_a_dropoff_moves(purpose: Purpose) -> None:
    core = Core()
    reservation = core.dropped_off()
    command = core.command(reservation, purpose)
    core.feed(command)
    core.feed(DoorRead(command.unlock_id, Door.UNKNOWN))
    assert core.live(reservation).cell == reservation.cell


@pytest.mark.behaviour("reservation-12", "cells-08")
def test_abandon_leaves_the_parcel_to_the_clean_up() -> None:
    core = Core()
    reservation = core.dropped_off()
    done = core.feed(core.abandon(reservation))
    assert done.ended[0].status is ReservationStatus.ABANDONED
    assert core.state.cells[reservation.cell].status is CellStatus.AWAITING_CLEANUP
    assert core.kinds()[-2:] == [FactKind.PICKUP_ABANDONED, FactKind.CELL_STATUS_CHANGED]
    core.invalid(reservation.pickup_code)
    core.clear(reservation.cell)
    assert core.state.cells[reservation.cell].status is CellStatus.IDLE
    assert [fact.cause for fact in core.facts[-2:]] == [CellCause.RELEASED, CellCause.CLEARED]


@pytest.mark.behaviour("reservation-12")
def test_abandon_needs_the_door_closed_and_seen() -> None:
    core = Core()
    reservation = core.dropped_off()
    core.opens(core.command(reservation, Purpose.OPEN_DOOR))
    refusal = core.refused(core.abandon(reservation))
    assert (refusal.code, refusal.message) == (
        Code.NOT_ALLOWED,
        "abandon not allowed: the door is not seen closed",
    )
    core.close(reservation.cell)
    core.feed(DeviceHealth("locks_a", False, (reservation.cell,)))
    assert core.refused(core.abandon(reservation)).code is Code.NOT_ALLOWED


@pytest.mark.behaviour("opening-11")
def test_waiting_commands_are_answered_when_their_reservation_is_given_up() -> None:
    core = Core(Layout(specs={s.label: s for s in specs()}, max_concurrent_unlocks=1))
    other, reservation = core.reserve(), core.dropped_off()
    core.feed(core.command(other, Purpose.DROPOFF))
    waiting = [core.command(reservation, purpose) for purpose in (Purpose.PICKUP, Purpose.OPEN_DOOR)]
    for command in waiting:
        core.feed(command)
    core.facts.clear()
    done = core.feed(core.abandon(reservation))
    assert [(a.request_key, a.refusal and a.refusal.message) for a in done.answers[1:]] == [
        (waiting[0].request_key, "the reservation was abandoned before its turn came")
    ]
    published = core.facts[-1]
    assert (published.kind, published.request_key) == (FactKind.OPEN_DOOR_FULFILLED, waiting[1].request_key)
    assert not core.state.queue


@pytest.mark.behaviour("cells-02", "cells-07", "cells-10")
def test_a_blocked_cell_is_given_to_nobody_and_keeps_its_parcel_reachable() -> None:
    core = Core(Layout(specs={"A01": specs()[0]}))
    reservation = core.dropped_off(grace_pickup_s=0)
    core.feed(BlockCell(core.key(), "A01", "smells"))
    assert core.state.cells["A01"].blocked == Block("smells")
    published = core.facts[-1]
    assert (published.cause, published.blocked, published.reason) == (CellCause.BLOCKED, True, "smells")
    assert core.opens(core.command(reservation, Purpose.PICKUP)).cell == "A01"
    core.close("A01")
    core.pass_s(1)
    with pytest.raises(Exception, match="taken or out of order"):
        core.reserve()
    core.feed(UnblockCell(core.key(), "A01"))
    assert (core.facts[-1].cause, core.facts[-1].blocked) == (CellCause.UNBLOCKED, False)
    core.reserve()


def test_what_cannot_be_done_to_a_cell_is_refused() -> None:
    core = Core()
    key = core.key()
    assert core.refused(UnblockCell(key, "A01")).code is Code.NOT_ALLOWED
    assert core.refused(Clear(key, "A01")).code is Code.NOT_ALLOWED
    core.feed(BlockCell(key, "A01", "x"))
    assert core.refused(BlockCell(key, "A01", "x")).code is Code.NOT_ALLOWED
    for given in (Clear(key, "Z9"), BlockCell(key, "Z9", "x"), UnblockCell(key, "Z9"), Tare(key, "Z9")):
        assert core.refused(given).code is Code.NOT_FOUND
    assert core.refused(RequestMaintenance(key, "m", "d", Severity.LOW, "Z9")).code is Code.NOT_FOUND


@pytest.mark.behaviour("reservation-24")
def test_while_a_door_is_being_opened_nothing_else_is_done_to_its_cell() -> None:
    core = Core()
    reservation = core.dropped_off()
    core.feed(core.command(reservation, Purpose.PICKUP))
    key, label = core.key(), reservation.cell
    for given in (
        BlockCell(key, label, "x"),
        UnblockCell(key, label),
        Clear(key, label),
        Tare(key, label),
        RequestMaintenance(key, "m", "d", Severity.LOW, label, block=True),
        core.abandon(reservation),
        Cancel(key, reservation.reservation_id),
        core.command(reservation, Purpose.OPEN_DOOR),
    ):
        refusal = core.refused(given)
        assert refusal.code is Code.NOT_ALLOWED
        assert refusal.message == f"the door of cell {label} is being opened just now"


@pytest.mark.behaviour("cells-02")
def test_maintenance_with_and_without_a_cell() -> None:
    core = Core()
    done = core.feed(RequestMaintenance("k1", "maint_1", "lamp broken", Severity.LOW))
    assert done.answers[0].maintenance == ("maint_1", core.now)
    published = core.facts[-1]
    assert (published.kind, published.cell, published.blocked) == (FactKind.MAINTENANCE_REQUESTED, None, None)
    core.feed(RequestMaintenance("k2", "maint_2", "door bent", Severity.HIGH, "A01", block=True))
    assert core.state.cells["A01"].blocked == Block("door bent", "maint_2")
    assert [f.cause for f in core.facts[-2:]] == [CellCause.BLOCKED, None]
    published = core.facts[-1]
    assert (published.description, published.severity, published.maintenance_ticket_id) == (
        "door bent",
        Severity.HIGH,
        "maint_2",
    )
    assert (published.cell, published.blocked, published.source, published.request_key) == (
        "A01",
        True,
        Source.API,
        "k2",
    )
    core.feed(RequestMaintenance("k3", "maint_3", "again", Severity.HIGH, "A01", block=True))
    assert core.state.cells["A01"].blocked == Block("door bent", "maint_2")
    core.feed(RequestMaintenance("k4", "maint_4", "only a report", Severity.HIGH, "A02"))
    assert core.state.cells["A02"].blocked is None


@pytest.mark.behaviour("time-23")
def test_an_expired_command_on_a_cell_does_nothing() -> None:
    core = Core()
    late = core.now.boottime_ns - 1
    for given in (
        BlockCell("k", "A01", "x", expires_ns=late),
        UnblockCell("k", "A01", expires_ns=late),
        Clear("k", "A01", expires_ns=late),
        Tare("k", "A01", expires_ns=late),
        RequestMaintenance("k", "m", "d", Severity.LOW, expires_ns=late),
        replace(core.abandon(core.dropped_off()), expires_ns=late),
    ):
        assert core.refused(given).code is Code.EXPIRED


@pytest.mark.behaviour("time-06")
def test_clear_frees_by_hand_what_no_clock_can_free() -> None:
    core = Core()
    reservation = core.picked_up(grace_pickup_s=60)
    core.now = replace(core.now, synced=False)
    assert core.refused(Clear("k", reservation.cell)).code is Code.NOT_ALLOWED
    core.restart({}, boot_id="boot-2", off_s=10_000)
    assert core.state.cells[reservation.cell].status is CellStatus.IN_GRACE
    core.pass_s(10_000)
    assert core.state.cells[reservation.cell].status is CellStatus.IN_GRACE
    core.clear(reservation.cell)
    assert core.state.cells[reservation.cell].status is CellStatus.IDLE
    assert core.kinds()[-2:] == [FactKind.RESERVATION_COMPLETED, FactKind.CELL_STATUS_CHANGED]


@pytest.mark.behaviour("opening-22")
def test_a_lock_that_becomes_slow_asks_for_maintenance_before_it_fails() -> None:
    core = Core()
    reservation = core.dropped_off(grace_pickup_s=0)

    def opens_after(ms: int) -> None:
        core.pass_s(20)
        command = core.command(reservation, Purpose.OPEN_DOOR)
        core.feed(command)
        core.feed(DoorRead(command.unlock_id, Door.CLOSED))
        core.now = replace(core.now, boottime_ns=core.now.boottime_ns + ms * 10**6)
        core.feed(DoorsChanged({reservation.cell: Door.OPEN}))
        core.close(reservation.cell)

    def worn() -> list[str | None]:
        return [f.description for f in core.facts if f.kind is FactKind.MAINTENANCE_REQUESTED]

    for _ in range(60):
        opens_after(100)
    opens_after(2000)  # a person leant on the door, once
    for _ in range(20):
        opens_after(100)
    assert not worn()
    for _ in range(30):
        opens_after(250)
    (description,) = worn()
    assert description is not None
    assert description.startswith(f"the lock of cell {reservation.cell} opens after 2")
    assert core.state.cells[reservation.cell].worn
    core.clear(reservation.cell)
    assert not core.state.cells[reservation.cell].worn


@pytest.mark.behaviour("cells-14", "cells-20")
def test_heavy_or_tall_parcels_and_the_message_of_no_cell() -> None:
    core = Core()
    assert core.reserve(replace(SMALL, width_mm=450, depth_mm=350, height_mm=150)).cell == "A01"
    with pytest.raises(Refusal, match="no cell of this machine fits") as never:
        core.reserve(replace(SMALL, mass_g=20_001))
    core.reserve(replace(SMALL, mass_g=20_000))
    with pytest.raises(Refusal, match="taken or out of order") as later:
        core.reserve(replace(SMALL, mass_g=20_000))
    assert [found.value.info for found in (never, later)] == [
        ErrorInfo("NOTHING_FITS", {}),
        ErrorInfo("ALL_TAKEN", {}),
    ]


def test_cells_of_one_volume_and_other_shapes_are_equals() -> None:
    shapes = {"X": (300, 200), "Y": (200, 300), "Z": (300, 200), "V": (100, 600)}
    built = {n: CellSpec(n, f"id_{n}", w, 100, d, 5000 + 1000 * (n == "Y")) for n, (w, d) in shapes.items()}
    core = Core(Layout(specs=built))
    for label, unlocks in (("X", 3), ("Y", 1), ("Z", 2), ("V", 0)):
        core.state = replace(
            core.state,
            cells={**core.state.cells, label: replace(core.state.cells[label], pulse_count=unlocks)},
        )
    parcel = Packaging(150, 90, 150)
    assert [core.reserve(parcel).cell for _ in range(3)] == ["Y", "Z", "X"]
