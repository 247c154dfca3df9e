"""Whether any witness has contradicted health since a fault began: then its alarm must stand."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.drivers.simulated.world import World
from edge_agent.field.poller import SCALE_BEAT_S
from tools.fault_matrix.stage import CUSTOMER, Stage

Shows = Callable[[Stage, float], bool]
"""Gets the stage and when the fault began, in seconds."""
LATE_S = 10.5
AJAR_S = 12.0
SEEN_S = 1.0
CLOSING_S = 0.8
"""A closing that the machine accepts has lasted 600 ms, and was read in time."""
JAM_PULSES = 3


def never(stage: Stage, since_s: float) -> bool:
    """It looks healthy to every witness."""
    return False


def soon(after_s: float) -> Shows:
    """It shows by itself after this time."""
    return lambda stage, since_s: stage.now_s - since_s >= after_s


def pulses(world: World, label: str, since_s: float) -> list[tuple[float, str]]:
    """When the lock wires of a cell were energised, and which cell that solenoid belongs to."""
    return [
        (at / 1e9, moved) for at, wires, moved in world.pulses_seen if wires == label and at >= since_s * 1e9
    ]


def opened_itself(world: World, label: str, open_s: float) -> bool:
    """Whether a pulse of its own lock, which had not opened it before, explains why a contact reads open."""
    opened = [from_s for from_s, _ in openings(world, label)]
    for at, _ in pulses(world, label, open_s - LATE_S):
        spent = any(at <= other < open_s for other in opened)
        if at <= open_s + SEEN_S / 2 and not spent:
            return True
    return False


def openings(world: World, label: str) -> list[tuple[float, float]]:
    """From when until when a contact read open; a closing that is too short to count does not split a
    period."""
    found: list[tuple[float, float]] = []
    for at, wires, closed in world.levels_seen:
        if wires == label:
            if closed and found:
                found[-1] = (found[-1][0], at / 1e9)
            elif not closed and found and at / 1e9 - found[-1][1] < CLOSING_S:
                found[-1] = (found[-1][0], float("inf"))
            elif not closed:
                found.append((at / 1e9, float("inf")))
    return found


def reads_open(stage: Stage, since_s: float) -> bool:
    """A contact reads open, and this machine did not open the door, or opened it too long ago."""
    label, world = stage.target, stage.plant.world
    if stage.agent is None or not openings(world, label):
        return False
    open_s, until_s = openings(world, label)[-1]
    own = opened_itself(world, label, open_s)
    return until_s > stage.now_s and stage.now_s - open_s > (AJAR_S + SEEN_S if own else SEEN_S)


def chatters(stage: Stage, since_s: float) -> bool:
    """A contact changes faster than a person can move a door; if its closed moments are too short, it reads
    as open for too long."""
    pulsed = [at for at, _ in pulses(stage.plant.world, stage.target, 0.0)]
    began_s = max([since_s, *pulsed])
    return stage.now_s - began_s > (AJAR_S + SEEN_S if pulsed else 3.0)


def unread(stage: Stage, since_s: float) -> bool:
    """The machine has not been able to read the contacts of the board for more than a second."""
    return stage.now_s - since_s > LATE_S / 2 and not stage.state.cells[stage.target].answering


def unmoved(stage: Stage, since_s: float) -> bool:
    """Three pulses of one request moved nothing that the contact of the faulty cell shows."""
    return _unmoved_at(stage, stage.target, since_s)


def _unmoved_at(stage: Stage, label: str, since_s: float) -> bool:
    world = stage.plant.world
    given = [at for at, _ in pulses(world, label, since_s)]
    changed = [at / 1e9 for at, wires, _ in world.levels_seen if wires == label and at >= since_s * 1e9]
    for first, last in zip(given, given[JAM_PULSES - 1 :], strict=False):
        quiet = not any(first <= at <= last + SEEN_S for at in changed)
        if last - first < JAM_PULSES and quiet and stage.now_s - last > SEEN_S:
            return True
    return False


def wrong_door(stage: Stage, since_s: float) -> bool:
    """A pulse opened another door, and its contact showed it; or three moved nothing."""
    world = stage.plant.world
    for at_ns, wires, moved in world.pulses_seen:
        shown = any(
            label == moved and not closed and at_ns <= seen_ns < at_ns + 10**9
            for seen_ns, label, closed in world.levels_seen
        )
        if at_ns >= since_s * 1e9 and wires != moved and shown and stage.now_s - at_ns / 1e9 > SEEN_S:
            return True
    return any(_unmoved_at(stage, label, since_s) for label in stage.state.cells)


def other_contact(stage: Stage, since_s: float) -> bool:
    """A contact opened although its own lock was not pulsed, for longer than a glitch."""
    world = stage.plant.world
    return any(
        from_s >= since_s and until_s - from_s > SEEN_S / 2 and not opened_itself(world, label, from_s)
        for label in stage.state.cells
        for from_s, until_s in openings(world, label)
        if stage.now_s - from_s > SEEN_S
    )


def weight_contradicted(stage: Stage, since_s: float) -> bool:
    """A parcel lay behind a settled door when the scale became wrong, and no one opened since. Two readings
    that agree show it, each `SCALE_BEAT_S` after the one before."""
    label = stage.books.where(CUSTOMER)
    closed_s = stage.books.closed_in_s.get(CUSTOMER)
    if label is None or closed_s is None or closed_s > since_s - 1.5:
        return False
    opened = any(at >= since_s * 1e9 for at, wires, _ in stage.plant.world.pulses_seen if wires == label)
    seen = stage.now_s - since_s > 2 * SCALE_BEAT_S + 1.0
    return stage.published("DROPOFF", CUSTOMER) and not opened and seen and _holds(stage)


def _holds(stage: Stage) -> bool:
    return stage.agent is not None and CUSTOMER in stage.state.reservations


def closed_since(for_s: float) -> Shows:
    """The door of the cell has been closed for this time."""

    def shows(stage: Stage, since_s: float) -> bool:
        _, stood_s = stage.plant.world.door_stands(stage.target)
        return not stage.is_open(stage.target) and stood_s >= stage.now_s - since_s + 2.5 >= for_s

    return shows


def gateway_answered(stage: Stage, since_s: float) -> bool:
    """A machine in doubt has received the gateway's reservations."""
    return stage.gateway_asked_s is not None and stage.gateway_asked_s >= since_s


def commit_refused(stage: Stage, since_s: float) -> bool:
    """The disk refused a commit."""
    return stage.plant.lifeline.refused > 0


def anything_happened(stage: Stage, since_s: float) -> bool:
    """The machine received any input, and therefore noticed its clock."""
    sent = stage.commands_sent_s
    return any(at >= since_s for at in (*sent, *(request.at_s for request in stage.books.requests)))


def commands_sent(number: int) -> Shows:
    """The cloud sent this many commands."""
    return lambda stage, since_s: sum(at >= since_s for at in stage.commands_sent_s) >= number


five_commands = commands_sent(5)
