"""Guards of a pulse and fields of its outcome, each at its border."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Door, Purpose, Source, UnlockOutcome
from edge_agent.statemachine import wrong_door
from edge_agent.statemachine.inputs import DoorRead, DoorsSeen, OpenCell, OpenFor, PulseDone
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
