"""Guards of a pulse and fields of its outcome, each at its border."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import (
    CellStatus,
    Door,
    Purpose,
    Reservation,
    ReservationStatus,
    Source,
    UnlockOutcome,
    Verdict,
)
from edge_agent.statemachine import wrong_door
from edge_agent.statemachine.inputs import DoorRead, DoorsSeen, OpenCell, OpenFor, PulseDone, Resolve
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.state import Layout, Pulses
from tests.support.core import START, Core, specs


def three_pulses() -> Core:
    return Core(Layout(specs={spec.label: spec for spec in specs()}, attempts=3))


def pulsed(core: Core, given: OpenFor | OpenCell) -> None:
    """The first pulse for a command is under way."""
    look = core.requested_reading(core.feed(given))
    core.feed(DoorRead(look.unlock_id, core.state.cells[look.cell].door))


@pytest.mark.parametrize("opens", [True, False])
def test_no_pulse_is_repeated_while_another_opening_has_no_cause_yet(opens: bool) -> None:
    core = three_pulses()
    first, second = core.dropped_off(), core.dropped_off()
    core.pass_s(11)
    command = core.command(second, Purpose.PICKUP)
    pulsed(core, command)
    if opens:
        core.feed(DoorsSeen({first.cell: Door.OPEN}))
    pulses = len(core.pulses)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert len(core.pulses) - pulses == (not opens)
    assert (command.unlock_id in core.state.tickets) is not opens


def test_an_open_door_at_a_contact_in_doubt_ends_as_unknown() -> None:
    core = three_pulses()
    reservation = core.dropped_off()
    core.pass_s(11)
    core.forced(reservation.cell)
    core.facts.clear()
    command = core.command(reservation, Purpose.OPEN_DOOR)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.OPEN))
    (ended,) = [fact for fact in core.facts if fact.kind is FactKind.OPEN_DOOR_FULFILLED]
    assert ended.outcome is UnlockOutcome.UNKNOWN


def test_a_technicians_opening_names_its_source() -> None:
    core = three_pulses()
    act = OpenCell("req-t", "A01", "why", "unl-t", actor="bob")
    pulsed(core, act)
    core.feed(PulseDone("unl-t", 1, Door.OPEN))
    (ended,) = [fact for fact in core.facts if fact.kind is FactKind.OPEN_DOOR_FULFILLED]
    assert (ended.source, ended.actor, ended.description) == (Source.MACHINE, "bob", "why")


def test_a_pulse_of_another_boot_opens_nothing_late() -> None:
    given = Pulses(START.boot_id, (START.boottime_ns,), Purpose.PICKUP, Source.API, "res_1", unspent=1)
    assert wrong_door.may_open_late(given, START)
    assert not wrong_door.may_open_late(given, replace(START, boot_id="another"))
    assert not wrong_door.may_open_late(replace(given, unspent=0), START)


def failed_drop_off(core: Core) -> tuple[Reservation, str]:
    """A drop-off whose lock did not move, and that moved on to another cell; with the first cell."""
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    assert core.live(reservation).cell != reservation.cell
    return reservation, reservation.cell


def test_a_lock_that_opens_late_for_a_reservation_that_moved_on_forces_no_door() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, attempts=1))
    _, label = failed_drop_off(core)
    core.pass_s(3)
    core.feed(DoorsSeen({label: Door.OPEN}))
    assert core.state.cells[label].unexplained is None
    core.lasts()
    assert f"DOOR_FORCED/{label}" not in core.state.alarms
    assert core.state.cells[label].status is CellStatus.AWAITING_INSPECTION


def test_a_late_opening_is_remembered_by_its_cell() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, attempts=1))
    reservation = core.dropped_off()
    core.pass_s(11)
    changed = replace(
        core.state.cells[reservation.cell],
        opened_since_allocation=False,
        unlocked_since_allocation=False,
        last_outcome=UnlockOutcome.NO_MOVEMENT,
    )
    core.state = replace(core.state, cells={**core.state.cells, reservation.cell: changed})
    command = core.command(reservation, Purpose.PICKUP)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.CLOSED))
    core.pass_s(3)
    core.feed(DoorsSeen({reservation.cell: Door.OPEN}))
    cell = core.state.cells[reservation.cell]
    assert (cell.opened_since_allocation, cell.unlocked_since_allocation) == (True, True)
    assert (cell.unexplained, cell.last_outcome, cell.opened_by_unlock) == (None, None, True)


def test_a_technicians_word_ends_no_command_that_waits_unless_the_reservation_is_over() -> None:
    core = Core(Layout(specs={spec.label: spec for spec in specs()}, attempts=1, max_concurrent_unlocks=1))
    reservation = core.reserve()
    command = core.command(reservation, Purpose.DROPOFF)
    pulsed(core, command)
    core.feed(PulseDone(command.unlock_id, 1, Door.UNKNOWN))
    core.feed(DoorsSeen({reservation.cell: Door.CLOSED}))  # ends as UNKNOWN
    core.feed(OpenCell(core.key(), "C01", "why", "unl-t"))  # the only one at a time
    again = core.command(reservation, Purpose.DROPOFF)
    core.feed(again)
    assert again.unlock_id in core.state.queue
    core.feed(Resolve(core.key(), reservation.cell, Verdict.DROPPED_OFF, Source.MACHINE))
    assert core.live(reservation).status is ReservationStatus.DROPPED_OFF
    assert again.unlock_id in core.state.queue
