"""The phases of a reservation, each reached by real acts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from edge_agent.model import CellStatus
from tools.fault_matrix.people import AT_THE_DOOR_S, Way, ask_for_door, dropped_off, hands
from tools.fault_matrix.stage import CUSTOMER, STRANGER, Stage, Unreached

PendingDoor = asyncio.Task[str | None]
Next = Literal["reserve", "dropoff", "pickup", "over"]
ASKED_S = 0.03
"""This long after a request it has been sent, and no lock moves yet."""
GRACE_S = 9
"""Pick-up grace of the phases after a pick-up."""


@dataclass(frozen=True, slots=True)
class Phase:
    """`bring` takes a started stage there; it may leave a request that is under way. `next`: the customer's
    next request."""

    name: str
    bring: Callable[[Stage, Way], Awaitable[PendingDoor | None]]
    next: Next


def _demand(done: bool, what: str) -> None:
    if not done:
        raise Unreached(what)


async def _free(stage: Stage, way: Way) -> None:
    """The cell is free."""


async def _reserved(stage: Stage, way: Way) -> None:
    _demand(await stage.reserve(CUSTOMER), "no cell was given")


async def _dropoff_requested(stage: Stage, way: Way) -> PendingDoor:
    await _reserved(stage, way)
    task = asyncio.create_task(ask_for_door(stage, way, CUSTOMER, drop_off=True))
    await asyncio.sleep(ASKED_S)
    return task


async def _dropoff_open(stage: Stage, way: Way, grace_s: int = 3) -> None:
    _demand(await stage.reserve(CUSTOMER, grace_s=grace_s), "no cell was given")
    cell = await ask_for_door(stage, way, CUSTOMER, drop_off=True)
    _demand(cell is not None and await stage.opened(cell), "the drop-off opened nothing")
    assert cell is not None
    stage.put_in(cell, CUSTOMER)
    await asyncio.sleep(AT_THE_DOOR_S)


async def _dropoff_closed(stage: Stage, way: Way) -> None:
    await _dropoff_open(stage, way)
    stage.close_all()
    await asyncio.sleep(0.1)


async def _dropped_off(stage: Stage, way: Way, grace_s: int = 3) -> None:
    _demand(await stage.reserve(CUSTOMER, grace_s=grace_s), "no cell was given")
    _demand(await dropped_off(stage, CUSTOMER, way), "no event of the drop-off")
    await asyncio.sleep(2.0)


async def _pickup_requested(stage: Stage, way: Way) -> PendingDoor:
    await _dropped_off(stage, way)
    task = asyncio.create_task(ask_for_door(stage, way, CUSTOMER, drop_off=False))
    await asyncio.sleep(ASKED_S)
    return task


async def _pickup_open(stage: Stage, way: Way, grace_s: int = 3) -> None:
    await _dropped_off(stage, way, grace_s)
    cell = await ask_for_door(stage, way, CUSTOMER, drop_off=False)
    _demand(cell is not None and await stage.opened(cell), "the pick-up opened nothing")
    assert cell is not None
    stage.take_out(cell)
    await asyncio.sleep(AT_THE_DOOR_S)


async def _pickup_closed(stage: Stage, way: Way) -> None:
    await _pickup_open(stage, way)
    stage.close_all()
    await asyncio.sleep(0.1)


async def _in_grace(stage: Stage, way: Way) -> None:
    await _pickup_open(stage, way, GRACE_S)
    stage.close_all()
    await asyncio.sleep(1.5)


async def _completed(stage: Stage, way: Way) -> None:
    await _pickup_open(stage, way, 1)
    stage.close_all()
    done = await stage.until(lambda: stage.published("RESERVATION_COMPLETED", CUSTOMER))
    _demand(done, "never completed")


async def _abandoned(stage: Stage, way: Way) -> None:
    await _dropped_off(stage, way)
    reply = await stage.call("abandon", {"reservation_id": CUSTOMER})
    _demand("result" in reply, "the abandoning was refused")


async def _blocked(stage: Stage, way: Way) -> None:
    await _dropped_off(stage, way)
    assert stage.agent is not None
    label = stage.cell_of(CUSTOMER)
    assert label is not None
    await stage.agent.local.block(label, "matrix", "bob")


async def _inspected(stage: Stage, way: Way) -> None:
    """A cell with a scale keeps what was left in it; any other was opened and given up."""
    if stage.kind == "scale":
        await _dropped_off(stage, way, 0)
        cell = await ask_for_door(stage, way, CUSTOMER, drop_off=False)
        _demand(cell is not None and await stage.opened(cell), "the pick-up opened nothing")
        stage.close_all()
    else:
        _demand(await stage.reserve(CUSTOMER), "no cell was given")
        cell = stage.cell_of(CUSTOMER)
        await stage.ask("open-door", CUSTOMER)
        _demand(await stage.opened(cell, 3.0), "the open-door opened nothing")
        await asyncio.sleep(0.3)
        stage.close_all()
        await asyncio.sleep(1.5)
        await stage.call("cancel", {"reservation_id": CUSTOMER})
    awaits = CellStatus.AWAITING_INSPECTION
    found = await stage.until(lambda: any(c.status is awaits for c in stage.state.cells.values()))
    _demand(found, "no cell awaits inspection")


PHASES: dict[str, Phase] = {
    phase.name: phase
    for phase in (
        Phase("free", _free, "reserve"),
        Phase("reserved", _reserved, "dropoff"),
        Phase("drop-off wished", _dropoff_requested, "dropoff"),
        Phase("drop-off open", _dropoff_open, "dropoff"),
        Phase("drop-off closed", _dropoff_closed, "pickup"),
        Phase("dropped off", _dropped_off, "pickup"),
        Phase("pick-up wished", _pickup_requested, "pickup"),
        Phase("pick-up open", _pickup_open, "pickup"),
        Phase("pick-up closed", _pickup_closed, "pickup"),
        Phase("in grace", _in_grace, "pickup"),
        Phase("completed", _completed, "over"),
        Phase("abandoned", _abandoned, "over"),
        Phase("blocked", _blocked, "pickup"),
        Phase("awaiting inspection", _inspected, "over"),
    )
}


async def stranger(stage: Stage) -> None:
    """Another customer's parcel lies in the neighbour of the cell that a triple affects."""
    _demand(await stage.reserve(STRANGER, kind="plain"), "the stranger got no cell")
    _demand(await dropped_off(stage, STRANGER), "the stranger dropped nothing off")


async def finish(stage: Stage, pending: PendingDoor, *, drop_off: bool) -> None:
    """The customer whose request was under way acts on its answer."""
    await hands(stage, CUSTOMER, await pending, drop_off=drop_off)
