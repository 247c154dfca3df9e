"""The demands (a) to (f) on a triple, judged by what is physically true."""

from __future__ import annotations

import asyncio

from edge_agent.model import CellStatus, ReservationStatus, Verdict
from edge_agent.statemachine.cell import allocatable
from tools.fault_matrix.faults import Fault
from tools.fault_matrix.people import ask_for_door, hands, live
from tools.fault_matrix.stage import CUSTOMER, STRANGER, Kind, Stage
from tools.fault_matrix.technician import bring_to_order, wrong_with

PROBE = "res_probe"
PLAIN: Kind = "plain"
OPENS_S = 1.2
REST_S = 4.0
DUTY, DUTY_S = 3, 10.5
"""A lock with this many pulses in this time may have to rest before it can be pulsed three times more."""


async def others_ask(stage: Stage) -> None:
    """Another customer reserves a cell of each kind that the triple affects; the books judge the cell (c). No
    cell that holds a parcel may be available."""
    for kind in dict.fromkeys((stage.kind, PLAIN)):
        rid = f"{PROBE}_{len(stage.books.requests)}_{kind}"
        if await stage.reserve(rid, kind=kind):
            await stage.call("cancel", {"reservation_id": rid})
    if stage.agent is None:
        return
    for label, owner in stage.books.parcels.items():
        if allocatable(stage.state.cells[label]) and not stage.granting_nothing():
            stage.books.problems.append(
                f"c: {label} is free to be given, and the parcel of {owner} lies in it"
            )


def alarms_wrong(stage: Stage, fault: Fault, *, observed: bool) -> list[str]:
    """Whether an alarm that names the fault stands from its first evidence on, and none that names another
    one if the machine must tolerate the fault (e)."""
    if "start refused" in fault.alarms:
        return [] if stage.start_refused is not None else ["e: the start was not refused"]
    standing = {alarm.partition("/")[0] for alarm in stage.standing()}
    if observed and not standing & set(fault.alarms):
        return [f"e: none of {', '.join(fault.alarms)} stands, but {sorted(stage.standing())}"]
    if fault.bears and standing - set(fault.alarms):
        return [f"e: {sorted(stage.standing())} stands, and nothing calls for it"]
    return []


async def reached(stage: Stage, label: str, rid: str) -> bool:
    """Whether some documented command opens the door of a cell with a parcel, and no other (d)."""
    for way in ("pickup", "code", "open", "resolve"):
        stage.close_all()
        await asyncio.sleep(1.2)
        before = len(stage.plant.world.pulses_seen)
        if way == "resolve":
            await _give_word(stage, label, rid)
        if way in ("open", "resolve"):
            await stage.open_by_hand(label)
        elif rid in stage.codes:
            await ask_for_door(stage, "API" if way == "pickup" else "code", rid, drop_off=False)
        opened = await stage.opened(label, OPENS_S + stage.late_s)
        for _, wires, moved in stage.plant.world.pulses_seen[before:]:
            if moved != label:
                stage.books.problems.append(f"d: {way} for {label} energised the lock of {moved} ({wires})")
        if opened:
            return True
        await rested(stage, label)
    return False


async def rested(stage: Stage, label: str) -> None:
    """Waits until the duty of a lock allows a complete unlock attempt; for DOOR_AJAR too."""
    await asyncio.sleep(REST_S)
    while True:
        since_ns = (stage.now_s - DUTY_S) * 1e9
        recent = [at for at, wires, _ in stage.plant.world.pulses_seen if wires == label and at >= since_ns]
        if len(recent) <= DUTY:
            return
        await asyncio.sleep(REST_S)


async def _give_word(stage: Stage, label: str, rid: str) -> None:
    """A technician sees the parcel through the service door and reports it; then its contact is no longer
    believed."""
    if stage.agent is None:
        return
    reservation = stage.state.reservations.get(rid)
    pending = reservation is not None and reservation.status is ReservationStatus.PENDING
    await stage.resolve(label, rid, Verdict.DROPPED_OFF if pending else Verdict.STILL_INSIDE)


async def reach_all(stage: Stage) -> list[str]:
    """Reaches every parcel of the two customers; returns those that were not reached."""
    missed = []
    for rid in (CUSTOMER, STRANGER):
        label = stage.books.where(rid)
        if label is None:
            continue
        if await reached(stage, label, rid):
            await hands(stage, rid, None, drop_off=False)
        else:
            missed.append(f"d: no command opens {label}, in which the parcel of {rid} lies")
        await asyncio.sleep(1.0)
    return missed


async def normal_again(stage: Stage, lingers: tuple[str, ...]) -> list[str]:
    """After the repair: documented acts alone, and a new reservation from start to end (f)."""
    left = await bring_to_order(stage, lingers)
    if left:
        return [f"f: {left}"]
    if stage.plant.agent is None or not await live(stage, "res_new"):
        return ["f: a new life did not go as it should"]
    await asyncio.sleep(1.0)
    still = wrong_with(stage, lingers)
    left_behind = [
        label
        for label, cell in stage.state.cells.items()
        if cell.status is CellStatus.IDLE and label in stage.books.parcels
    ]
    found = [f"f: after a new life {still}"] if still else []
    return found + [
        f"c: {label} is free and holds the parcel of {stage.books.parcels[label]}" for label in left_behind
    ]
