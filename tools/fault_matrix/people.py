"""A customer's acts at the locker: the request, and the handling of the parcel after it."""

from __future__ import annotations

import asyncio
from typing import Literal

from tools.fault_matrix.stage import CUSTOMER, Stage

Way = Literal["API", "code", "QR"]
AT_THE_DOOR_S = 0.3
"""How long a customer handles the parcel."""


async def ask_for_door(stage: Stage, way: Way, rid: str, *, drop_off: bool) -> str | None:
    """Asks for the door; returns the cell that the machine reports open."""
    if way == "API":
        reply = await stage.ask("dropoff" if drop_off else "pickup", rid)
        cell = reply.get("result", {}).get("cell", {}).get("description")
        return None if cell is None else str(cell)
    answer = await stage.enter(rid, drop_off=drop_off, qr=way == "QR")
    if answer is None or answer.refusal is not None or answer.cell is None:
        return None
    stage.books.cells_of.setdefault(rid, set()).add(answer.cell)
    return answer.cell


async def hands(stage: Stage, rid: str, cell: str | None, *, drop_off: bool) -> None:
    """The customer uses the open door of the cell that was named, else of the one known from the
    reservation."""
    if drop_off:
        label = cell or stage.cell_of(rid)
        if label is not None and await stage.opened(label):
            if stage.books.where(rid) is None:
                stage.put_in(label, rid)
            await asyncio.sleep(AT_THE_DOOR_S)
            stage.close(label)
        return
    label = stage.books.where(rid) or cell or stage.cell_of(rid)
    if label is not None and await stage.opened(label):
        if stage.books.parcels.get(label) == rid:
            stage.take_out(label)
        await asyncio.sleep(AT_THE_DOOR_S)
        stage.close(label)


async def live(stage: Stage, rid: str, way: Way = "API") -> bool:
    """Plays a complete healthy reservation; returns whether it went well."""
    if not await stage.reserve(rid, grace_s=1):
        return False
    if not await dropped_off(stage, rid, way):
        return False
    await hands(stage, rid, await ask_for_door(stage, way, rid, drop_off=False), drop_off=False)
    return await stage.until(lambda: stage.published("RESERVATION_COMPLETED", rid))


async def dropped_off(stage: Stage, rid: str, way: Way = "API") -> bool:
    """A drop-off of a reservation, to its event."""
    cell = await ask_for_door(stage, way, rid, drop_off=True)
    if cell is None:
        return False
    await hands(stage, rid, cell, drop_off=True)
    return await stage.until(lambda: stage.published("DROPOFF", rid))


def customer_cell(stage: Stage) -> str:
    """The cell that a phase affects; before a reservation, the one that would be allocated."""
    free = {"plain": "A2", "scale": "A4", "hot": "B1", "cold": "B2"}
    return stage.books.where(CUSTOMER) or stage.cell_of(CUSTOMER) or free[stage.kind]
