"""Another door moved than the commanded one: crossed wires of locks or contacts.

Both cells are out of allocation, and neither lock is pulsed for the API, a code or a QR text until a
technician has opened each of the cells correctly and cleared it. If the commanded door opens too while it is
watched, the other one was forced, and the marks are removed.
"""

from __future__ import annotations

from edge_agent.model import Alarm, CellCause, Door, Instant, UnlockAttempt
from edge_agent.statemachine import cell as cells
from edge_agent.statemachine.amend import amend
from edge_agent.statemachine.doors import contact
from edge_agent.statemachine.state import Pulses, attempt_on
from edge_agent.statemachine.step_builder import StepBuilder

WATCHED_NS = 2_500_000_000
"""An opening of another door within this time after a pulse counts as its effect, also after the watch."""
LATE_NS = 10 * 10**9
"""How long after the last pulse of its lock a door may still open because of it."""


def maintenance_id(unlock: UnlockAttempt, label: str) -> str:
    """The id of the maintenance ticket that an unlock caused: always the same one."""
    return f"maint_{unlock.unlock_id.removeprefix('unl_')}_{label}"


def may_open_late(pulses: Pulses, at: Instant) -> bool:
    """Whether one of these pulses had not opened its door by then, and could still do so."""
    if not pulses.pulses_without_opening or not pulses.at_ns or pulses.boot_id != at.boot_id:
        return False
    return 0 <= at.boottime_ns - pulses.at_ns[-1] < LATE_NS


def possible_openers(builder: StepBuilder, label: str, at: Instant) -> list[str]:
    """The other cells whose lock may have opened this door at `at`: it has not opened its own door, and it
    was being pulsed then, or was pulsed less than `WATCHED_NS` before, or after this door's own lock while
    that could still open late."""
    own = builder.pulses.get(label)
    own_ns = own.at_ns[-1] if own is not None and may_open_late(own, at) else None
    found = []
    for other in unopened(builder, label, at):
        unlock = attempt_on(builder.unlock_attempts, other)
        pulsing = unlock is not None and unlock.stage == "pulsing"
        last_ns = builder.pulses[other].at_ns[-1]
        since_own = own_ns is not None and last_ns >= own_ns
        if pulsing or since_own or at.boottime_ns - last_ns < WATCHED_NS:
            found.append(other)
    return found


def unopened(builder: StepBuilder, label: str, at: Instant) -> list[str]:
    """The other cells whose locks were pulsed in the 10 s before, and have not opened their own door."""
    return [
        other
        for other, pulses in builder.pulses.items()
        if other != label and builder.cells[other].unexplained_since is None and may_open_late(pulses, at)
    ]


def forget_pulses(builder: StepBuilder, label: str) -> None:
    """The door has opened: no pulse of its lock so far can cause a later opening."""
    known = builder.pulses.get(label)
    if known is not None and known.pulses_without_opening:
        builder.put("pulses", label, amend(known, pulses_without_opening=0))


def record_wrong_door(builder: StepBuilder, label: str, pulsed: list[str]) -> None:
    """The door of `label` opened, and only locks of the cells `pulsed` can have opened it."""
    names = ", ".join(pulsed)
    why = f"door {label} opened while the lock of {names} was pulsed"
    for other in pulsed:
        unlock = attempt_on(builder.unlock_attempts, other)
        if unlock is not None and unlock.stage == "pulsing":
            # Marks of an earlier pulse are not removed by this one.
            marked = any(f"{Alarm.WRONG_DOOR}/{one}" in builder.alarms for one in (other, label))
            wrong = unlock.wrong_doors if marked else (*unlock.wrong_doors, label)
            builder.change_unlock(unlock, other_door_opened=True, wrong_doors=wrong)
        else:
            builder.put("pulses", other, amend(builder.pulses[other], pulses_without_opening=0))
    for faulty in (*pulsed, label):
        builder.change_cell(faulty, opened_rightly=False)
        cells.mark_faulty(
            builder, faulty, why, Alarm.WRONG_DOOR, f"maint_wrong_{builder.now.boottime_ns}_{faulty}"
        )
    cells.inspect_opened(builder, label)


def remove_marks(builder: StepBuilder, unlock: UnlockAttempt) -> None:
    """The commanded door has opened after all: the others were opened by another cause."""
    for label in unlock.wrong_doors:
        for marked in (unlock.cell, label):
            builder.clear_alarm(Alarm.WRONG_DOOR, marked, cell=marked)
            if builder.cells[marked].faulty is not None:
                builder.change_cell(marked, faulty=None)
                builder.add_cell_fact(marked, CellCause.REPAIRED)
        if builder.cells[label].door is Door.OPEN:
            long_ago = amend(builder.now, boottime_ns=builder.now.boottime_ns - contact.UNEXPLAINED_NS)
            builder.change_cell(label, unexplained_since=long_ago)  # explained again, without this lock
        else:
            builder.raise_alarm(Alarm.DOOR_FORCED, label, "opened without a pulse", cell=label)
            contact.doubt(builder, label, contact.FORCED)
