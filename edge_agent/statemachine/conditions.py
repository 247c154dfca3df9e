"""Alarms for conditions outside the core: a lost port, a full disk, invalid commands, a broker that refuses
us."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.errors import Code, Refusal
from edge_agent.model import Alarm, Instant
from edge_agent.statemachine.inputs import Condition
from edge_agent.statemachine.state import LockerState, StandingAlarm, cell_of
from edge_agent.statemachine.step_builder import StepBuilder, gone_left_ns

REJECTED_NS = 3600 * 10**9
"""COMMAND_REJECTED clears this long after the last such command."""
REJECTED = f"{Alarm.COMMAND_REJECTED}/"
ONE_CAUSE_AT_A_TIME = frozenset(
    {Alarm.LINK_REFUSED, Alarm.BUS_DOWN, Alarm.CLOCK_UNSYNCED, Alarm.CERTIFICATE_EXPIRES}
)
"""Alarms that stay raised while their cause changes; the detail names the present cause."""
STORAGE = f"{Alarm.STORAGE_FAULT}/"


def condition_changed(builder: StepBuilder, given: Condition) -> None:
    """A condition has begun or has ended."""
    if not given.stands:
        builder.clear_alarm(given.alarm, given.place)
    elif given.alarm is Alarm.COMMAND_REJECTED and REJECTED in builder.alarms:
        again = StandingAlarm(given.alarm, given.place, builder.now, given.detail)
        builder.put("alarms", REJECTED, again)
    elif given.alarm in ONE_CAUSE_AT_A_TIME and stands(builder, given.key):
        standing = replace(builder.alarms[given.key], detail=given.detail)  # the cause has changed
        builder.put("alarms", given.key, standing)
    else:
        builder.raise_alarm(given.alarm, given.place, given.detail)


def apply_due(builder: StepBuilder) -> None:
    """Clears alarms whose time is over."""
    standing = builder.alarms.get(REJECTED)
    if standing is not None and _left_ns(standing, builder.now) <= 0:
        builder.clear_alarm(Alarm.COMMAND_REJECTED, "")
    for gone in [one for one in builder.alarms.values() if one.gone is not None]:
        if gone_left_ns(gone, builder.now) <= 0:
            label = cell_of(gone.place)
            builder.clear_alarm(gone.alarm, gone.place, cell=label if label in builder.cells else None)


def left_ns(state: LockerState, now: Instant) -> list[int]:
    """How long until `apply_due` would act."""
    standing = state.alarms.get(REJECTED)
    left = [] if standing is None else [_left_ns(standing, now)]
    return left + [gone_left_ns(one, now) for one in state.alarms.values() if one.gone is not None]


def stands(state: LockerState | StepBuilder, key: str) -> bool:
    """Whether the condition of an alarm (`ALARM/place`) stands at present."""
    standing = state.alarms.get(key)
    return standing is not None and standing.gone is None


def _left_ns(standing: StandingAlarm, now: Instant) -> int:
    """What is left of its hour; if no clock shows when that began, of this boot's first hour."""
    elapsed_ns = standing.since.elapsed_ns(now)
    return REJECTED_NS - (now.boottime_ns if elapsed_ns is None else elapsed_ns)


def refuse_on_a_full_disk(builder: StepBuilder) -> None:
    """Raises `Refusal` (`OFFLINE`): the remaining space is kept for the parcels that are already here."""
    if stands(builder, STORAGE):
        raise Refusal(Code.OFFLINE, "the machine's disk is full: it takes no new reservations")
