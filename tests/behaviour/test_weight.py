"""No scale is ever written to: nothing tares it at a start, or while a parcel's cell is in use."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_agent.drivers.simulated.line import LineDevice
from tests.support.site import Site, at_site

READS = (1, 2, 3, 4)
HEATED = {"width": 200, "height": 100, "depth": 300, "heating_required": True}


def listen(slave: LineDevice, written: list[bytes], read: list[bytes]) -> None:
    """Notes what a scale is asked: tares and zeros are writes (function 05, 06, 15 or 16)."""
    answer = slave.answer

    def heard(frame: bytes, at_ns: int) -> bytes | None:
        if len(frame) > 1 and frame[0] in (0, slave.address):
            (read if frame[1] in READS else written).append(frame)
        return answer(frame, at_ns)

    slave.answer = heard  # type: ignore[method-assign]


@pytest.mark.behaviour("weight-05", "weight-06")
def test_a_scale_is_never_tared_at_a_start_nor_while_its_cell_is_used(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        settings, written, read = site.plant.settings, list[bytes](), list[bytes]()
        scales = {cell.scale.device: cell.label for cell in settings.cells if cell.scale is not None}
        addresses = {settings.devices[name].address for name in scales}
        for slave in site.plant.slaves["main"]:
            if slave.address in addresses:
                listen(slave, written, read)
        await site.plant.kill()
        site.plant.start()
        await site.until(lambda: len(read) > 20)
        number, label = 0, ""
        while label not in scales.values():  # heated cells without a scale are taken first
            number += 1
            made = await site.reserve(number, packaging=HEATED, grace_period_pickup_in_seconds=0)
            label = made["cell"]["description"]
        for name in ("dropoff", "pickup"):
            await site.call(name, f"res_{number}")
            await asyncio.sleep(1)
            site.plant.world.close(label)
            await asyncio.sleep(1)
        await site.until(lambda: bool(site.published("RESERVATION_COMPLETED")))
        assert not written

    at_site(tmp_path, test)
