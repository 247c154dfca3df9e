"""A technician's documented acts, until every cell is free and in order again."""

from __future__ import annotations

import asyncio
import contextlib

from edge_agent.model import Alarm, Cell, CellStatus, Reservation, ReservationStatus, Verdict
from tools.fault_matrix.people import ask_for_door, hands
from tools.fault_matrix.stage import Stage, Unreached

ROUNDS = 12
CLOSING_S = 1.2
REST_S = 2.0
ABOUT_A_CELL = (Alarm.DOOR_FORCED, Alarm.WRONG_DOOR, Alarm.LOCK_JAMMED, Alarm.PARCEL_LEFT_BEHIND)


def wrong_with(stage: Stage, lingers: tuple[str, ...]) -> str:
    """The differences from a free and healthy machine; empty if there are none."""
    if stage.agent is None:
        return f"no agent runs: {stage.start_refused}"
    found = [f"{rid} is {r.status}" for rid, r in stage.state.reservations.items()]
    for label, cell in stage.state.cells.items():
        marks = (cell.blocked, cell.faulty, cell.contact_doubt)
        if cell.status is not CellStatus.IDLE or any(marks) or cell.board_down or not cell.answering:
            found.append(f"{label} is {cell.status}, {[mark for mark in marks if mark]}")
    standing = stage.standing()
    found += [f"{alarm} stands" for alarm in sorted(standing) if alarm.partition("/")[0] not in lingers]
    return "; ".join(found)


async def bring_to_order(stage: Stage, lingers: tuple[str, ...]) -> str:
    """Handles cells and ends reservations, round by round; returns what is still wrong at the end."""
    for _ in range(ROUNDS):
        stage.close_all()
        await asyncio.sleep(CLOSING_S)
        if not wrong_with(stage, lingers):
            return ""
        with contextlib.suppress(Unreached, KeyError):
            await _tend_cells(stage)
            await _end_reservations(stage)
        await asyncio.sleep(REST_S)
    return wrong_with(stage, lingers)


async def _tend_cells(stage: Stage) -> None:
    alarms = stage.standing()
    for label, cell in tuple(stage.state.cells.items()):
        if cell.blocked is not None and stage.agent is not None:
            await stage.agent.local.unblock(label, "bob")
        if _needs_a_look(stage, cell, alarms):
            await _look_into(stage, label)


def _needs_a_look(stage: Stage, cell: Cell, alarms: set[str]) -> bool:
    marked = any(f"{alarm}/{cell.label}" in alarms for alarm in ABOUT_A_CELL)
    waits = cell.status in (CellStatus.AWAITING_CLEANUP, CellStatus.AWAITING_INSPECTION)
    held = cell.reservation_id is not None and stage.state.reservations[cell.reservation_id].held
    faulty = cell.faulty is not None or cell.contact_doubt is not None or cell.board_down or held
    return marked or waits or faulty


async def _look_into(stage: Stage, label: str) -> None:
    """Opens a cell, takes out parcels without a waiting customer, closes it, and clears it."""
    await stage.open_by_hand(label)
    if await stage.opened(label):
        owner = stage.books.parcels.get(label)
        if owner is not None and owner not in stage.state.reservations:
            stage.take_out(label)
        await asyncio.sleep(0.3)
        stage.close(label)
    await asyncio.sleep(CLOSING_S)
    await stage.clear(label)


async def _end_reservations(stage: Stage) -> None:
    for rid, reservation in tuple(stage.state.reservations.items()):
        label = stage.books.where(rid)
        if reservation.status is ReservationStatus.PENDING:
            await _end_pending(stage, rid, reservation, label)
        elif reservation.status is ReservationStatus.DROPPED_OFF:
            await _end_dropped_off(stage, rid, reservation, label)
        elif label is not None:
            await _hand_out(stage, label)


async def _end_pending(stage: Stage, rid: str, reservation: Reservation, label: str | None) -> None:
    if label is None:
        await stage.call("cancel", {"reservation_id": rid})
    elif label == reservation.cell:
        opened = await ask_for_door(stage, "API", rid, drop_off=True)
        await hands(stage, rid, opened, drop_off=True)
        done = await stage.until(lambda: stage.published("DROPOFF", rid), 3.0)
        if not done:
            await stage.resolve(label, rid, Verdict.DROPPED_OFF)
    else:
        await _hand_out(stage, label)


async def _end_dropped_off(stage: Stage, rid: str, reservation: Reservation, label: str | None) -> None:
    if label is None or label == reservation.cell:
        opened = await ask_for_door(stage, "API", rid, drop_off=False)
        await hands(stage, rid, opened, drop_off=False)
        after = stage.state.reservations.get(rid)
        if (
            after is not None
            and after.status is ReservationStatus.DROPPED_OFF
            and stage.books.where(rid) is None
        ):
            await stage.resolve(reservation.cell, rid, Verdict.PICKED_UP)
        return
    await _hand_out(stage, label)


async def _hand_out(stage: Stage, label: str) -> None:
    """Takes a parcel out of a cell by hand; its owner gets it at the counter."""
    await stage.open_by_hand(label)
    if await stage.opened(label):
        stage.take_out(label)
        await asyncio.sleep(0.3)
        stage.close(label)
