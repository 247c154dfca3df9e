"""Faults of a whole board: locks that fail in a row, contacts that open in one reading, and their end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.model import Alarm, CellCause, CellSpec, Door, Purpose, Reservation
from edge_agent.statemachine.cell import allocatable
from edge_agent.statemachine.inputs import DoorsChanged
from edge_agent.statemachine.outputs import FactKind
from edge_agent.statemachine.state import Layout, StandingAlarm
from tests.support.pure_core.core import Core

LABELS = ("A01", "A02", "A03", "A04", "B01", "B02")
SPECS = {label: CellSpec(label, f"id_{label}", 350, 150, 450, 5_000) for label in LABELS}
LOCKS = {"A01": "locks", "A02": "locks", "A03": "locks", "A04": "locks", "B01": "more locks"}
CONTACTS = {
    "A01": "contacts",
    "A02": "contacts",
    "A03": "contacts",
    "B01": "more contacts",
    "B02": "more contacts",
}
LOCK_FAULT, CONTACT_FAULT = f"{Alarm.DEVICE_FAULT}/locks", f"{Alarm.DEVICE_FAULT}/contacts"


def locker(
    parcels: int, locks: dict[str, str] = LOCKS, contacts: dict[str, str] = CONTACTS
) -> tuple[Core, list[Reservation]]:
    """A locker with that number of parcels, from A01 on, whose locks have rested."""
    core = Core(Layout(SPECS, lock_boards=locks, contact_boards=contacts))
    made = [core.dropped_off() for _ in range(parcels)]
    core.pass_s(11)
    core.facts.clear()
    return core, made


def jams(core: Core, *parcels: Reservation) -> None:
    """The locks of these parcels do not move at their pick-up."""
    for parcel in parcels:
        core.jams(core.feed(core.command(parcel, Purpose.PICKUP)))


def opens(core: Core, *parcels: Reservation) -> None:
    """The locks of these parcels open after a rest."""
    core.pass_s(11)
    for parcel in parcels:
        core.opens(core.command(parcel, Purpose.PICKUP))


def down(core: Core) -> list[str]:
    """The cells that are out of allocation for a board's sake."""
    return [label for label, cell in core.state.cells.items() if cell.board_down]


def faulty(core: Core) -> list[str]:
    """The cells that are marked themselves."""
    return [label for label, cell in core.state.cells.items() if cell.faulty is not None]


def causes(core: Core) -> list[tuple[str | None, CellCause | None]]:
    """The facts about cells."""
    return [(fact.cell, fact.cause) for fact in core.facts if fact.kind is FactKind.CELL_STATUS_CHANGED]


def contacts_open(core: Core, *labels: str) -> None:
    """These contacts open in one reading, uncaused, and close again."""
    core.feed(DoorsChanged(dict.fromkeys(labels, Door.OPEN)))
    core.lasts()
    for label in labels:
        core.close(label)


def test_two_locks_that_fail_are_jammed_and_a_third_is_their_boards_fault() -> None:
    core, (first, second, third, _) = locker(4)
    jams(core, first, second)
    assert faulty(core) == ["A01", "A02"]
    assert down(core) == []
    assert LOCK_FAULT not in core.state.alarms
    core.facts.clear()
    jams(core, third)
    assert faulty(core) == []
    assert down(core) == ["A01", "A02", "A03", "A04"]
    assert not allocatable(core.state.cells["A04"])
    assert core.state.alarms[LOCK_FAULT].detail == "3 locks in a row did not move"
    assert causes(core) == [("A01", CellCause.BOARD), ("A02", CellCause.BOARD)]
    cleared = [(fact.alarm, fact.cell) for fact in core.facts if fact.kind is FactKind.ALARM_CLEARED]
    assert cleared == [(Alarm.LOCK_JAMMED, "A01"), (Alarm.LOCK_JAMMED, "A02")]
    assert f"{Alarm.LOCK_JAMMED}/A03" not in core.state.alarms


def test_while_a_board_is_at_fault_no_lock_of_it_is_jammed() -> None:
    core, parcels = locker(4)
    jams(core, *parcels)
    assert faulty(core) == []
    assert list(core.state.alarms) == [LOCK_FAULT]
    assert all(core.state.cells[parcel.cell].failing for parcel in parcels)


def test_the_same_lock_three_times_is_no_boards_fault() -> None:
    core, (first,) = locker(1)
    for _ in range(3):
        jams(core, first)
        core.pass_s(11)
    assert faulty(core) == ["A01"]
    assert LOCK_FAULT not in core.state.alarms


def test_a_lock_that_opens_in_between_ends_the_row() -> None:
    core, (first, second, third, fourth) = locker(4)
    jams(core, first, second)
    opens(core, fourth)
    assert not any(cell.failing for cell in core.state.cells.values())
    jams(core, third)
    assert faulty(core) == ["A01", "A02", "A03"]
    assert LOCK_FAULT not in core.state.alarms


def test_a_lock_of_another_board_ends_no_row() -> None:
    core, parcels = locker(5)
    jams(core, *parcels[:2])
    opens(core, parcels[4])
    assert [label for label, cell in core.state.cells.items() if cell.failing] == ["A01", "A02"]
    jams(core, parcels[2])
    assert LOCK_FAULT in core.state.alarms


def test_a_lock_without_a_board_is_jammed_alone() -> None:
    core, parcels = locker(4, locks={})
    jams(core, *parcels)
    assert faulty(core) == ["A01", "A02", "A03", "A04"]
    assert not [key for key in core.state.alarms if key.startswith(Alarm.DEVICE_FAULT)]


def test_a_lock_without_a_board_that_opens_ends_its_own_failing() -> None:
    core, (first, second) = locker(2, locks={})
    jams(core, first, second)
    opens(core, first)
    assert [core.state.cells[label].failing for label in ("A01", "A02")] == [False, True]


def test_the_fault_of_a_board_ends_when_one_of_its_locks_opens() -> None:
    core, parcels = locker(5)
    jams(core, *parcels[:3])
    opens(core, parcels[4])
    assert down(core) == ["A01", "A02", "A03", "A04"]
    opens(core, parcels[3])
    assert down(core) == []
    assert LOCK_FAULT not in core.state.alarms


def test_a_wrong_door_is_not_taken_back_with_the_jams() -> None:
    core, (first, second, third) = locker(3)
    jams(core, first, second)
    wrong = f"{Alarm.WRONG_DOOR}/A01"
    standing = StandingAlarm(Alarm.WRONG_DOOR, "A01", core.now)
    core.state = replace(core.state, alarms={**core.state.alarms, wrong: standing})
    core.facts.clear()
    jams(core, third)
    assert faulty(core) == ["A01"]
    assert causes(core) == [("A02", CellCause.BOARD)]
    assert f"{Alarm.LOCK_JAMMED}/A01" not in core.state.alarms


def test_contacts_that_open_in_one_reading_take_their_boards_cells_out() -> None:
    core, _ = locker(0)
    core.feed(DoorsChanged({"A01": Door.OPEN, "A02": Door.OPEN}))
    core.lasts()
    assert list(core.state.alarms) == [CONTACT_FAULT]
    assert core.state.alarms[CONTACT_FAULT].detail == "the contacts of A01, A02 opened in one reading"
    assert down(core) == ["A01", "A02", "A03"]
    assert all(
        cell.unexplained_since is None and cell.contact_doubt is None for cell in core.state.cells.values()
    )


@pytest.mark.parametrize("labels", [("A01", "B01"), ("A04", "A01"), ("A01",)])
def test_contacts_of_several_boards_or_of_none_are_no_boards_fault(labels: tuple[str, ...]) -> None:
    core, _ = locker(0)
    core.feed(DoorsChanged(dict.fromkeys(labels, Door.OPEN)))
    core.lasts()
    assert down(core) == []
    assert {f"{Alarm.DOOR_FORCED}/{label}" for label in labels} <= set(core.state.alarms)


def test_contacts_that_open_one_after_the_other_are_no_boards_fault() -> None:
    core, _ = locker(0)
    core.feed(DoorsChanged({"A01": Door.OPEN}))
    core.pass_s(0.1)
    core.feed(DoorsChanged({"A02": Door.OPEN}))
    core.lasts()
    assert down(core) == []


def test_two_boards_of_contacts_may_be_at_fault_and_end_apart() -> None:
    core, parcels = locker(5)
    contacts_open(core, "A01", "A02")
    contacts_open(core, "B01", "B02")
    assert down(core) == ["A01", "A02", "A03", "B01", "B02"]
    opens(core, parcels[4])
    assert list(core.state.alarms) == [CONTACT_FAULT]
    assert down(core) == ["A01", "A02", "A03"]
    opens(core, parcels[0])
    assert list(core.state.alarms) == []
    assert down(core) == []


def test_a_cell_stays_out_while_one_of_its_two_boards_is_at_fault() -> None:
    core, parcels = locker(4)
    contacts_open(core, "A01", "A02")
    jams(core, *parcels[:3])
    assert list(core.state.alarms) == [CONTACT_FAULT, LOCK_FAULT] or list(core.state.alarms) == [
        CONTACT_FAULT
    ]
    opens(core, parcels[3])
    core.pass_s(5)
    opens(core, parcels[3])
    assert down(core) == ["A01", "A02", "A03"]


def restarted(core: Core, layout: Layout) -> None:
    """The machine starts again with another layout."""
    core.layout = layout
    core.restart({})


def test_at_a_start_the_alarm_of_a_board_that_is_gone_ends() -> None:
    core, parcels = locker(3)
    jams(core, *parcels)
    restarted(core, replace(core.layout, lock_boards={}))
    core.pass_s(5)
    assert list(core.state.alarms) == []
    assert down(core) == []


def test_at_a_start_cells_follow_their_boards() -> None:
    core, parcels = locker(3)
    jams(core, *parcels)
    restarted(core, replace(core.layout, lock_boards={**LOCKS, "A01": "more locks", "B01": "locks"}))
    assert LOCK_FAULT in core.state.alarms
    assert down(core) == ["A02", "A03", "A04", "B01"]


def test_at_a_start_the_alarm_of_a_board_of_contacts_stands_on() -> None:
    core, _ = locker(0)
    contacts_open(core, "A01", "A02")
    restarted(core, core.layout)
    assert CONTACT_FAULT in core.state.alarms
    assert core.state.alarms[CONTACT_FAULT].gone is None
    assert down(core) == ["A01", "A02", "A03"]


def test_a_jam_is_taken_back_once_its_boards_contacts_are_at_fault_too() -> None:
    core, (first, second) = locker(2, contacts=LOCKS)
    jams(core, first)
    assert faulty(core) == ["A01"]
    core.pass_s(11)
    core.feed(DoorsChanged({"A03": Door.OPEN, "A04": Door.OPEN}))
    core.lasts()
    jams(core, second)
    assert faulty(core) == []
    assert list(core.state.alarms) == [LOCK_FAULT]
