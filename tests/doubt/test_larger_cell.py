"""Single faults while a drop-off gets a larger cell: no wrong door, no parcel given away, no parcel lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge_agent.model import Alarm, CellStatus, Door, ReservationStatus
from edge_agent.statemachine.outputs import Answer
from tests.support.site import Site, at_site

SMALL, LARGER, CROSSED = "A01", "C05", "C06"
"""The cell of the reservation, the larger one, and one whose wires are crossed with that one's."""


async def dropping_off(site: Site) -> dict[str, Any]:
    """A drop-off by its code has opened the small cell."""
    made = await site.reserve(1)
    assert made["cell"]["description"] == SMALL
    assert site.plant.agent is not None
    answer = await site.plant.agent.local.enter_code(made["drop_off_code"])
    assert answer.cell == SMALL
    return made


def larger(site: Site) -> Awaitable[Answer]:
    """The request at the screen."""
    assert site.plant.agent is not None
    return site.plant.agent.local.larger_cell("res_1")


def cells(site: Site) -> Any:
    """The cells as the machine knows them."""
    assert site.plant.agent is not None
    return site.plant.agent.loop.state.cells


def opened(site: Site) -> list[str]:
    """The doors whose solenoids were energised, in order."""
    return [actuation.label for actuation in site.plant.world.actuations()]


def test_a_parcel_left_in_the_small_cell_is_given_to_nobody(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await dropping_off(site)
        site.plant.world.place(SMALL, 700)
        assert (await larger(site)).cell == LARGER
        site.plant.world.close(SMALL)
        site.plant.world.close(LARGER)
        await site.until(lambda: "DROPOFF" in site.types())
        assert cells(site)[SMALL].status is CellStatus.AWAITING_INSPECTION
        others = [(await site.reserve(number))["cell"]["description"] for number in range(2, 6)]
        assert SMALL not in others

    at_site(tmp_path, test)


@pytest.mark.parametrize("pause_s", [0.0, 0.02, 0.1, 0.3, 1.0])
def test_the_daemon_is_killed_during_the_exchange(tmp_path: Path, pause_s: float) -> None:
    async def test(site: Site) -> None:
        made = await dropping_off(site)
        asking = asyncio.ensure_future(larger(site))
        await asyncio.sleep(pause_s)
        await site.plant.kill()
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        site.plant.start()
        await site.until(lambda: site.plant.agent is not None)
        assert site.plant.agent is not None
        held = site.plant.agent.loop.state.reservations["res_1"].cell
        await site.until(lambda: cells(site)[held].door is not Door.UNKNOWN)
        if cells(site)[held].door is Door.CLOSED:
            await asyncio.sleep(12)  # the lock's duty
            assert (await site.plant.agent.local.enter_code(made["drop_off_code"])).cell == held
        site.plant.world.place(held, 700)
        site.plant.world.close(held)
        await site.until(lambda: "DROPOFF" in site.types())
        assert set(opened(site)) <= {SMALL, LARGER}
        taken = [(await site.reserve(number))["cell"]["description"] for number in range(2, 5)]
        assert held not in taken
        assert held == SMALL or SMALL not in taken

    at_site(tmp_path, test)


def test_crossed_lock_wires_of_the_larger_cell_open_one_wrong_door(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await dropping_off(site)
        site.plant.world.cross_locks(LARGER, CROSSED)
        answer = await larger(site)
        assert answer.refusal is not None
        alarms = site.plant.agent.loop.state.alarms if site.plant.agent is not None else {}
        assert {f"{Alarm.WRONG_DOOR}/{LARGER}", f"{Alarm.WRONG_DOOR}/{CROSSED}"} <= set(alarms)
        pulses = len(opened(site))
        assert (await larger(site)).refusal is not None
        assert len(opened(site)) == pulses

    at_site(tmp_path, test)


def test_a_jammed_larger_cell_gives_way_to_another_larger_one(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await dropping_off(site)
        site.plant.world.jam_lock(LARGER)
        answer = await larger(site)
        assert answer.cell not in (None, SMALL, LARGER)
        assert cells(site)[LARGER].faulty is not None
        assert answer.reservation is not None
        assert answer.reservation.status is ReservationStatus.PENDING
        site.plant.world.close(SMALL)
        await asyncio.sleep(2)
        assert "DROPOFF" not in site.types()

    at_site(tmp_path, test)
