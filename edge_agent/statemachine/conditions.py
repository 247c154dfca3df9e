"""Alarms for conditions outside the core: a lost port, a full disk, invalid commands, a broker that refuses
us."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.errors import Code, Refusal
from edge_agent.model import Alarm, Instant
from edge_agent.statemachine.inputs import Condition
from edge_agent.statemachine.state import LockerState, StandingAlarm, cell_of
from edge_agent.statemachine.turn import Turn, gone_left_ns

REJECTED_NS = 3600 * 10**9
"""COMMAND_REJECTED clears this long after the last such command."""
REJECTED = f"{Alarm.COMMAND_REJECTED}/"
ONE_CAUSE_AT_A_TIME = frozenset({Alarm.LINK_REFUSED, Alarm.BUS_DOWN, Alarm.CLOCK_UNSYNCED})
"""Alarms that stay raised while their cause changes; the detail names the present cause."""
STORAGE = f"{Alarm.STORAGE_FAULT}/"


def note(turn: Turn, given: Condition) -> None:
    """A condition has begun or has ended."""
    if not given.stands:
        turn.clear_alarm(given.alarm, given.place)
    elif given.alarm is Alarm.COMMAND_REJECTED and REJECTED in turn.alarms:
        again = StandingAlarm(given.alarm, given.place, turn.now, given.detail)
        turn.put("alarms", REJECTED, again)
    elif given.alarm in ONE_CAUSE_AT_A_TIME and stands(turn, given.key):
        standing = replace(turn.alarms[given.key], detail=given.detail)  # the cause has changed
        turn.put("alarms", given.key, standing)
    else:
        turn.raise_alarm(given.alarm, given.place, given.detail)


def what_is_due(turn: Turn) -> None:
    """Clears alarms whose time is over."""
    standing = turn.alarms.get(REJECTED)
    if standing is not None and _left_ns(standing, turn.now) <= 0:
        turn.clear_alarm(Alarm.COMMAND_REJECTED, "")
    for gone in [one for one in turn.alarms.values() if one.gone is not None]:
        if gone_left_ns(gone, turn.now) <= 0:
            label = cell_of(gone.place)
            turn.clear_alarm(gone.alarm, gone.place, cell=label if label in turn.cells else None)


def left_ns(state: LockerState, now: Instant) -> list[int]:
    """How long until `what_is_due` would act."""
    standing = state.alarms.get(REJECTED)
    left = [] if standing is None else [_left_ns(standing, now)]
    return left + [gone_left_ns(one, now) for one in state.alarms.values() if one.gone is not None]


def stands(state: LockerState | Turn, key: str) -> bool:
    """Whether the condition of an alarm (`ALARM/place`) stands at present."""
    standing = state.alarms.get(key)
    return standing is not None and standing.gone is None


def _left_ns(standing: StandingAlarm, now: Instant) -> int:
    """The rest of its hour; if no clock shows when it began, the rest of this boot's first hour."""
    elapsed_ns = standing.since.elapsed_ns(now)
    return REJECTED_NS - (now.boottime_ns if elapsed_ns is None else elapsed_ns)


def refuse_on_a_full_disk(turn: Turn) -> None:
    """Raises `Refusal` (`OFFLINE`): the remaining space is kept for the parcels that are already here."""
    if stands(turn, STORAGE):
        raise Refusal(Code.OFFLINE, "the machine's disk is full: it takes no new reservations")
