"""Whether a door contact can be believed.

A contact is one witness: a broken wire reads as an open door. It is in doubt when it reads open although this
machine did not open the door, or when it changes more often than a person can move a door. Its open readings
then conclude nothing, and its closings only what `unconfirmed` allows: see `unlocking`. Doubt ends when a
pulse opens a door that read closed, or by `clear` on a closed door (docs/decisions/0031-doubt.md).
"""

from __future__ import annotations

from edge_agent.model import Alarm, Cell, Door
from edge_agent.statemachine.step_builder import StepBuilder

CONTACT = "contact"
"""The part of a cell that SENSOR_FAULT names for its door contact."""
UNEXPLAINED_NS = 200 * 10**6
"""The cause of an unexplained opening is determined after it has lasted this time."""
CHATTER_CHANGES = 4
CHATTER_NS = 2 * 10**9
"""This number of changes within this time cannot come from a person."""
BOUNCE_NS = 600 * 10**6
"""Changes within this time after a pulse or a closing are bounces."""
FORCED = "reads open although this machine did not open the door"
CHATTERS = f"changed {CHATTER_CHANGES} times in {CHATTER_NS // 10**9} s"


def place_of(label: str) -> str:
    """The place of the alarm SENSOR_FAULT for the contact of a cell."""
    return f"{label}/{CONTACT}"


def believed_open(cell: Cell) -> bool:
    """Whether an open reading of this door is believed: this machine opened it, and its contact is not in
    doubt."""
    return cell.opened_by_unlock and cell.contact_doubt is None


def doubt(builder: StepBuilder, label: str, why: str) -> None:
    """Puts the contact in doubt, for the first reason that was found."""
    if builder.cells[label].contact_doubt is None:
        builder.change_cell(label, contact_doubt=why)
    builder.raise_alarm(Alarm.SENSOR_FAULT, place_of(label), why, cell=label)


def end_doubt(builder: StepBuilder, label: str, *, at_once: bool = False) -> None:
    """The contact is believed again. `at_once`: a person confirms it, and the alarm is cleared at once."""
    if builder.cells[label].contact_doubt is not None:
        builder.change_cell(label, contact_doubt=None, changes_ns=())
    builder.clear_alarm(Alarm.SENSOR_FAULT, place_of(label), cell=label, at_once=at_once)


def pulsed(builder: StepBuilder, label: str) -> None:
    """The lock of this door is pulsed now: changes of its contact shortly after are the pulse's effect."""
    builder.change_cell(label, quiet_from_ns=builder.now.boottime_ns)


def changed(builder: StepBuilder, before: Cell, door: Door) -> None:
    """The contact reads `door` now, and read otherwise `before`. Detects chatter."""
    now_ns = builder.now.boottime_ns
    label = before.label
    if label in builder.hand_checked:
        return
    quiet_from_ns = before.quiet_from_ns
    if door is Door.CLOSED and _stood_open(builder, before):
        quiet_from_ns = now_ns
    if quiet_from_ns is not None and now_ns - quiet_from_ns <= BOUNCE_NS:
        if quiet_from_ns != before.quiet_from_ns:
            builder.change_cell(label, quiet_from_ns=quiet_from_ns)
        return
    recent = (*(at for at in before.changes_ns if now_ns - at <= CHATTER_NS), now_ns)
    builder.change_cell(label, changes_ns=recent[-CHATTER_CHANGES:], quiet_from_ns=None)
    if len(recent) >= CHATTER_CHANGES:
        doubt(builder, label, CHATTERS)


def _stood_open(builder: StepBuilder, before: Cell) -> bool:
    """Whether the door stood open longer than any bounce: only then does a closing begin a time of
    bounces."""
    if before.door is not Door.OPEN or before.door_since is None:
        return False
    elapsed_ns = before.door_since.elapsed_ns(builder.now)
    return elapsed_ns is None or elapsed_ns > BOUNCE_NS
