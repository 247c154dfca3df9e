"""A door that stays shut is answered with a reason and its cell, for programs such as the kiosk's screen."""

from __future__ import annotations

from edge_agent.errors import ErrorInfo
from edge_agent.model import Door, Purpose
from edge_agent.statemachine.inputs import DoorRead, PulseDone
from tests.support.pure_core.core import Core


def test_a_lock_that_does_not_move() -> None:
    core = Core()
    parcel = core.dropped_off()
    (answer,) = core.jams(core.feed(core.entry(parcel.pickup_code))).answers
    assert answer.refusal is not None
    assert answer.refusal.info == ErrorInfo("DOOR_NOT_OPENED", {"cell": parcel.cell})


def test_a_door_that_cannot_be_read_after_the_pulse() -> None:
    core = Core()
    parcel = core.dropped_off()
    read = core.requested_reading(core.feed(core.entry(parcel.pickup_code)))
    core.feed(DoorRead(read.unlock_id, Door.CLOSED))
    (answer,) = core.feed(PulseDone(read.unlock_id, 1, Door.UNKNOWN)).answers
    assert answer.refusal is not None
    assert answer.refusal.info == ErrorInfo("DOOR_NOT_READ", {"cell": parcel.cell})


def test_a_door_that_is_being_opened() -> None:
    core = Core()
    parcel = core.dropped_off()
    core.feed(core.command(parcel, Purpose.PICKUP))
    (answer,) = core.feed(core.entry(parcel.pickup_code)).answers
    assert answer.refusal is not None
    assert answer.refusal.info == ErrorInfo("DOOR_BUSY", {"cell": parcel.cell})


def test_a_lock_that_cools_down_says_for_how_long() -> None:
    core = Core()
    parcel = core.picked_up(grace_pickup_s=600)
    for _ in range(core.layout.duty_pulses):
        entry = core.entry(parcel.pickup_code)
        read = core.requested_reading(core.feed(entry))
        done = core.feed(DoorRead(read.unlock_id, Door.CLOSED))
        if done.answers:
            break
        core.feed(PulseDone(read.unlock_id, 1, Door.OPEN))
        core.close(parcel.cell)
    (answer,) = done.answers
    assert answer.refusal is not None
    assert answer.refusal.info is not None
    assert answer.refusal.info.reason == "LOCK_COOLS_DOWN"
    assert answer.refusal.info.metadata["cell"] == parcel.cell
    assert 1 <= int(answer.refusal.info.metadata["seconds"]) <= core.layout.duty_window_ns // 10**9
