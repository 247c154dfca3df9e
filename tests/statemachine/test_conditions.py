"""Conditions outside the core: what they raise, what they refuse, when they end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Code
from edge_agent.model import Alarm, Purpose
from edge_agent.statemachine.inputs import Condition, Reserve
from edge_agent.statemachine.locker import next_due_ns
from edge_agent.statemachine.outputs import FactKind
from tests.support.pure_core.core import SMALL, Core

HOUR_NS = 3600 * 10**9


def stands(core: Core, alarm: Alarm, place: str = "") -> bool:
    return f"{alarm}/{place}" in core.state.alarms


@pytest.mark.behaviour("alarms-09", "alarms-12", "time-19")
@pytest.mark.parametrize(("alarm", "place"), [(Alarm.BUS_DOWN, "main"), (Alarm.STORAGE_FAULT, "")])
def test_a_condition_is_raised_once_and_ends(alarm: Alarm, place: str) -> None:
    core = Core()
    for _ in range(2):
        core.feed(Condition(alarm, place, True, "why"))
    assert stands(core, alarm, place)
    core.pass_s(9000)
    assert stands(core, alarm, place)
    for _ in range(2):
        core.feed(Condition(alarm, place, False))
    core.pass_s(5)
    assert not stands(core, alarm, place)
    published = [(f.kind, f.alarm, f.device, f.reason) for f in core.facts]
    assert published == [
        (FactKind.ALARM_RAISED, alarm, place or None, "why"),
        (FactKind.ALARM_CLEARED, alarm, place or None, None),
    ]


def test_a_refused_link_is_raised_once_with_its_present_cause() -> None:
    core = Core()
    core.feed(Condition(Alarm.LINK_REFUSED, "", True, "the key can be read by others"))
    raised = core.state.alarms["LINK_REFUSED/"]
    core.pass_s(3700)
    core.feed(Condition(Alarm.LINK_REFUSED, "", True, "the certificate has expired"))
    assert core.state.alarms["LINK_REFUSED/"] == replace(raised, detail="the certificate has expired")
    for _ in range(2):
        core.feed(Condition(Alarm.LINK_REFUSED, "", False))
    core.pass_s(5)
    assert not stands(core, Alarm.LINK_REFUSED)
    published = [(f.kind, f.reason) for f in core.facts]
    assert published == [
        (FactKind.ALARM_RAISED, "the key can be read by others"),
        (FactKind.ALARM_CLEARED, None),
    ]


@pytest.mark.behaviour("alarms-19")
def test_a_rejected_command_stands_for_an_hour_after_the_last() -> None:
    core = Core()
    core.feed(Condition(Alarm.COMMAND_REJECTED, "", True, "first"))
    core.pass_s(3000)
    core.feed(Condition(Alarm.COMMAND_REJECTED, "", True, "second"))
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + HOUR_NS
    assert core.state.alarms["COMMAND_REJECTED/"].detail == "second"
    core.pass_s(3599.9)
    assert stands(core, Alarm.COMMAND_REJECTED)
    core.pass_s(0.1)
    assert not stands(core, Alarm.COMMAND_REJECTED)
    assert [f.kind for f in core.facts] == [FactKind.ALARM_RAISED, FactKind.ALARM_CLEARED]


def test_a_rejected_command_of_a_boot_without_time_stands_for_the_first_hour_of_the_next() -> None:
    core = Core()
    core.now = replace(core.now, synced=False)
    core.feed(Condition(Alarm.COMMAND_REJECTED, "", True))
    core.restart({}, boot_id="boot-2", off_s=60)
    core.pass_s(3590)
    assert stands(core, Alarm.COMMAND_REJECTED)
    core.pass_s(10)
    assert not stands(core, Alarm.COMMAND_REJECTED)


@pytest.mark.behaviour("time-20", "time-21")
def test_on_a_full_disk_no_parcel_is_taken_and_each_one_is_given_out() -> None:
    core = Core()
    reservation = core.dropped_off()
    core.feed(Condition(Alarm.STORAGE_FAULT, "", True, "disk full"))
    refusal = core.refused(Reserve("k", "res_x", "p", "o", SMALL, ("1", "2")))
    assert refusal.code is Code.OFFLINE
    assert "disk is full" in refusal.message
    picked = core.opens(core.command(reservation, Purpose.PICKUP))
    assert picked.cell == reservation.cell
    core.feed(Condition(Alarm.STORAGE_FAULT, "", False))
    core.reserve()


@pytest.mark.parametrize("alarm", [Alarm.BUS_DOWN, Alarm.STORAGE_FAULT, Alarm.LINK_REFUSED])
def test_w20_what_flaps_is_one_alarm_that_counts(alarm: Alarm) -> None:
    core = Core()
    for _ in range(55):
        core.feed(Condition(alarm, "", True, "why"))
        core.pass_s(0.1)
        core.feed(Condition(alarm, "", False))
        core.pass_s(0.1)
    assert core.state.alarms[f"{alarm}/"].count == 55
    assert [f.kind for f in core.facts] == [FactKind.ALARM_RAISED]
    assert next_due_ns(core.state, core.layout, core.now) == core.now.boottime_ns + 4_900_000_000
    core.pass_s(4.89)
    assert stands(core, alarm)
    core.pass_s(0.01)
    assert not stands(core, alarm)
    assert [f.kind for f in core.facts] == [FactKind.ALARM_RAISED, FactKind.ALARM_CLEARED]


def test_w20_a_condition_that_ended_before_a_reboot_is_cleared_after_it() -> None:
    core = Core()
    core.feed(Condition(Alarm.BUS_DOWN, "main", True, "why"))
    core.feed(Condition(Alarm.BUS_DOWN, "main", False))
    core.restart({}, boot_id="boot-2", off_s=1)
    assert stands(core, Alarm.BUS_DOWN, "main")
    core.pass_s(4)
    assert not stands(core, Alarm.BUS_DOWN, "main")


def test_a_condition_that_ended_before_a_reboot_of_unknown_length_is_cleared_at_once() -> None:
    core = Core()
    core.now = replace(core.now, synced=False)
    core.feed(Condition(Alarm.BUS_DOWN, "main", True, "why"))
    core.feed(Condition(Alarm.BUS_DOWN, "main", False))
    core.restart({}, boot_id="boot-2", off_s=1)
    core.pass_s(0.1)
    assert not stands(core, Alarm.BUS_DOWN, "main")
