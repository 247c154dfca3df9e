"""The judge's own test: bugs put into the production code, each in a process of its own, that it must find.

A bug is one replaced function of production code. It is caught if a triple that is not red without it turns
red; the triples that are likely to show it are tried first.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from edge_agent.app import startup
from edge_agent.app.adapters import BoundAdapters
from edge_agent.drivers import profiles
from edge_agent.field import closings
from edge_agent.field.doors import Doors
from edge_agent.journal import recovery, store
from edge_agent.model import Alarm, CellStatus, Door, UnlockOutcome
from edge_agent.runtime.command_handler import CommandHandler
from edge_agent.runtime.history_check import HistoryCheck
from edge_agent.statemachine import cell, conditions, history
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.doors import board_faults, contact, outcome, resolving, unlocking, wrong_door
from edge_agent.statemachine.step_builder import StepBuilder
from tools.fault_matrix.triples import RED, Triple, play, silence_logs

SEED = 1
Tries = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Bug:
    """`where` and `name`: the function; `becomes` gets it and returns its replacement."""

    what: str
    where: Any
    name: str
    becomes: Callable[[Any], Any]
    tries: Tries


def _nothing(_: Any) -> Callable[..., None]:
    return lambda *args, **named: None


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *args, **named: value


def _moved_is_open(real: Any) -> Any:
    def pulse_done(
        builder: StepBuilder, unlock_id: str, pulse_number: int, door: Door, acknowledged: bool
    ) -> None:
        real(builder, unlock_id, pulse_number, Door.OPEN, acknowledged)

    return pulse_done


def _never_stops(real: Any) -> Any:
    def judge(builder: StepBuilder, unlock: Any) -> Any:
        alarms = builder.alarms
        builder.alarms = {key: alarm for key, alarm in alarms.items() if not key.startswith("WRONG_DOOR")}
        try:
            return real(builder, unlock)
        finally:
            builder.alarms = alarms

    return judge


def _credits_late(real: Any) -> Any:
    def opened_late(builder: StepBuilder, label: str, at: Any) -> bool:
        with patch.object(wrong_door, "unopened", lambda *args: []):
            return bool(real(builder, label, at))

    return opened_late


def _only_alarm(real: Any) -> Any:
    def lose(builder: StepBuilder, why: str, agreed: frozenset[str]) -> None:
        statuses = dict(builder.cells)
        real(builder, why, agreed)
        for label in statuses:
            builder.change_cell(label, status=CellStatus.IDLE)
        builder.clear_alarm(Alarm.JOURNAL_LOST, "")

    return lose


def _free_at_once(real: Any) -> Any:
    def move(builder: StepBuilder, label: str, trigger: Any, **changes: Any) -> Any:
        moved = real(builder, label, trigger, **changes)
        left = moved.status is CellStatus.AWAITING_CLEANUP
        return builder.change_cell(label, status=CellStatus.IDLE) if left else moved

    return move


def _clean_at_start(real: Any) -> Any:
    waits = (CellStatus.AWAITING_CLEANUP, CellStatus.AWAITING_INSPECTION)

    def restored(state: Any, now: Any) -> Any:
        cells = {
            label: amend(place, status=CellStatus.IDLE) if place.status in waits else place
            for label, place in state.cells.items()
        }
        return real(amend(state, cells=cells), now)

    return restored


def _forgets_pulses(real: Any) -> Any:
    return lambda unlock: False


def _anybodys(real: Any) -> Any:
    return lambda journal: replace(real(journal), machine_id=None)


def _no_jam(real: Any) -> Any:
    return lambda builder, unlock: outcome.conclude(builder, unlock, UnlockOutcome.NO_MOVEMENT)


def _everywhere(real: Any) -> Any:
    """A first pick-up pulses the lock of the next cell too."""

    def intend(builder: StepBuilder, unlock: Any) -> None:
        real(builder, unlock)
        labels = list(builder.cells)
        other = labels[(labels.index(unlock.cell) + 1) % len(labels)]
        builder.effects.append(amend(builder.effects[-1], cell=other))

    return intend


def _settles_at_once(real: Any) -> Any:
    def read(self: Any, seen: Any, reported: Any, now_s: float) -> None:
        with patch.object(closings, "SETTLE_S", 0.0):
            real(self, seen, reported, now_s)

    return read


DROPPED, OPEN = "dropped off", "drop-off open"
BUGS = (
    Bug(
        "the contact is believed, whatever it says",
        contact,
        "believed_open",
        _always(True),
        (("contact stuck open", DROPPED, "API"), ("contact stuck open", OPEN, "API")),
    ),
    Bug(
        "a late opening is credited to its own lock first",
        outcome,
        "opened_late",
        _credits_late,
        (
            ("locks crossed", OPEN, "API"),
            ("locks crossed", OPEN, "code"),
            ("locks crossed", "pick-up open", "API"),
            ("locks crossed", "pick-up open", "code"),
        ),
    ),
    Bug(
        "the wires of a bus are forgotten",
        BoundAdapters,
        "check",
        _nothing,
        (("port swapped", DROPPED, "API"),),
    ),
    Bug(
        "an empty journal is a new locker",
        history,
        "_lose",
        _only_alarm,
        (("journal empty", DROPPED, "API"), ("journal empty", DROPPED, "nobody")),
    ),
    Bug(
        "nobody compares the digest",
        HistoryCheck,
        "retained_digest_read",
        _nothing,
        (("card an older image", DROPPED, "API"), ("card an older image", DROPPED, "nobody")),
    ),
    Bug(
        "the journal of another machine is taken",
        startup,
        "read_bound",
        _anybodys,
        (("journal of another machine", DROPPED, "nobody"),),
    ),
    Bug(
        "every temperature is plausible",
        profiles.TemperatureCapability,
        "plausible",
        _always(True),
        (("probe at 85", DROPPED, "nobody"), ("probe at -127", DROPPED, "nobody")),
    ),
    Bug(
        "a closing settles at once",
        closings.Closings,
        "take_reading",
        _settles_at_once,
        (
            ("contact chatters, 400 ms", OPEN, "nobody"),
            ("contact chatters, 400 ms", "drop-off wished", "code"),
            ("contact chatters, 170 ms", OPEN, "nobody"),
            ("contact chatters, 400 ms", OPEN, "API"),
        ),
    ),
    Bug(
        "no stop after a wrong door",
        wrong_door,
        "record_wrong_door",
        _nothing,
        (("locks crossed", DROPPED, "API"),),
    ),
    Bug(
        "an attempt pulses on after WRONG_DOOR",
        unlocking,
        "_judge",
        _never_stops,
        (("locks crossed", DROPPED, "API"), ("locks crossed", "pick-up wished", "code")),
    ),
    Bug(
        "what was pulsed is not journaled",
        store,
        "outlives_process",
        _forgets_pulses,
        tuple((f"power cut before commit {n}", "pick-up wished", "code") for n in (2, 1, 3)),
    ),
    Bug(
        "an abandoned parcel's cell is free at once",
        cell,
        "change_status",
        _free_at_once,
        (("gateway forgot", DROPPED, "API"), ("gateway forgot", "abandoned", "nobody")),
    ),
    Bug(
        "a start clears inspections",
        recovery,
        "restored",
        _clean_at_start,
        tuple((f"kill after commit {n}", "abandoned", "API") for n in (1, 2, 3)),
    ),
    Bug(
        "no doubt about a contact",
        contact,
        "doubt",
        _nothing,
        (("contact chatters, 400 ms", DROPPED, "nobody"), ("contact stuck open", DROPPED, "API")),
    ),
    Bug(
        "a silent board is not noticed",
        Doors,
        "_reading_failed",
        _nothing,
        (("board silent", DROPPED, "nobody"),),
    ),
    Bug(
        "a lock that does not move is no fault",
        unlocking,
        "_jammed",
        _no_jam,
        (("lock jammed", DROPPED, "API"),),
    ),
    Bug(
        "a pulse opens, whatever the contact says",
        unlocking,
        "pulse_done",
        _moved_is_open,
        (("lock jammed", DROPPED, "API"),),
    ),
    Bug(
        "the next lock is pulsed too",
        unlocking,
        "_request_pulse",
        _everywhere,
        (("gateway forgot", DROPPED, "API"),),
    ),
    Bug(
        "a stripped command raises no alarm",
        CommandHandler,
        "_report_rejected",
        _nothing,
        (("broker strips properties", DROPPED, "API"),),
    ),
    Bug(
        "nobody resolves a doubt",
        resolving,
        "_uncertain",
        _always(False),
        (("contact stuck open", OPEN, "API"), ("contact stuck open", OPEN, "nobody")),
    ),
    Bug(
        "the clock is not held against commands",
        CommandHandler,
        "_compare_clock",
        _nothing,
        (("clock contradicts", DROPPED, "API"),),
    ),
    Bug(
        "a port that is gone raises no alarm",
        conditions,
        "condition_changed",
        _nothing,
        (("port gone", DROPPED, "nobody"),),
    ),
    Bug(
        "a board's fault takes no cell out",
        board_faults,
        "contacts_opened",
        _nothing,
        (("common wire of contacts", DROPPED, "nobody"),),
    ),
)


def run_all(workers: int) -> list[dict[str, str]]:
    """For each bug, the triple that caught it and the finding; empty if none did."""
    jobs = list(range(len(BUGS)))
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=silence_logs, maxtasksperchild=1) as pool:
        rows = []
        for row in pool.imap(hunt, jobs, chunksize=1):
            rows.append(row)
            print(f"planted: {row['bug']}: {row['caught'] or 'NOT CAUGHT'}", flush=True)
        return rows


def hunt(number: int) -> dict[str, str]:
    """Plants one bug in this process, and plays until a triple turns red."""
    bug = BUGS[number]
    sound = [names for names in bug.tries if play(Triple(*names), SEED).verdict != RED]
    with patch.object(bug.where, bug.name, bug.becomes(getattr(bug.where, bug.name))):
        for names in sound:
            result = play(Triple(*names), SEED)
            if result.verdict == RED:
                return {"bug": bug.what, "caught": " × ".join(names), "problem": result.problems[0][:160]}
    return {"bug": bug.what, "caught": "", "problem": ""}
