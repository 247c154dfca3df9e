"""The actor after a fault has begun: a customer by the API, by code or by QR, a technician, or no one."""

from __future__ import annotations

import asyncio

from tools.fault_matrix.people import Way, ask_for_door, customer_cell, hands
from tools.fault_matrix.phases import PendingDoor, Phase
from tools.fault_matrix.stage import CUSTOMER, STRANGER, Stage

ACTORS = ("API", "code", "QR", "technician", "nobody")
CLOSED_S = 1.5
WAYS: dict[str, Way] = {"API": "API", "code": "code", "QR": "QR"}


def way_of(actor: str) -> Way:
    """By which means the customer of a phase asks for the door."""
    return WAYS.get(actor, "API")


async def act(stage: Stage, phase: Phase, actor: str, pending: PendingDoor | None) -> None:
    """Finishes what is under way; then the actor does the next act of this phase."""
    if pending is not None:
        await hands(stage, CUSTOMER, await pending, drop_off=phase.next == "dropoff")
    if actor == "nobody":
        return
    if actor == "technician":
        label = customer_cell(stage)
        await stage.open_by_hand(label)
        await asyncio.sleep(0.3)
        stage.close(label)
        return
    await _customer(stage, phase, WAYS[actor])


async def _customer(stage: Stage, phase: Phase, way: Way) -> None:
    if phase.next == "reserve" and not await stage.reserve(CUSTOMER):
        return
    if phase.next == "over":
        if way == "API":
            await stage.ask("open-door", CUSTOMER)
            await asyncio.sleep(1.0)
        else:
            await ask_for_door(stage, way, CUSTOMER, drop_off=False)
        stage.close_all()
        return
    drop_off = phase.next in ("reserve", "dropoff")
    await hands(
        stage, CUSTOMER, await ask_for_door(stage, way, CUSTOMER, drop_off=drop_off), drop_off=drop_off
    )


async def neighbour_acts(stage: Stage, actor: str) -> None:
    """The stranger asks for a parcel too, if a fault affects both cells and the actor is a customer."""
    if actor in WAYS:
        await hands(
            stage, STRANGER, await ask_for_door(stage, WAYS[actor], STRANGER, drop_off=False), drop_off=False
        )


async def try_again(stage: Stage) -> None:
    """Both customers ask again, by all means, as people do; after a wrong door none of it may move a lock."""
    for rid in (CUSTOMER, STRANGER):
        if rid not in stage.codes:
            continue
        for way in WAYS.values():
            await hands(stage, rid, await ask_for_door(stage, way, rid, drop_off=False), drop_off=False)
            stage.close_all()
            await asyncio.sleep(CLOSED_S)
