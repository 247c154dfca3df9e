"""Whether each device is set as its profile requires, and whether it alone answers at its address, cleanly.

A profile's `[[checks]]` name registers that must hold one of some values, because the board would otherwise
behave differently from what is assumed (`Check.why`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from edge_agent.drivers.profiles import Check
from edge_agent.drivers.requests import Read
from edge_agent.errors import PortLost
from edge_agent.service.bus_scan import PROBE_TRIES, ask, probe, reads_of
from edge_agent.service.bus_service import BusPlace, BusService, Placed

READINGS = 5
"""How often a device is read to see whether it answers cleanly."""
GARBLED = 2
"""This many damaged replies among them are not chance."""


class Checks:
    """Runs the checks; their last findings are also in the statistics."""

    def __init__(self, service: BusService) -> None:
        self._service = service
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> list[dict[str, Any]]:
        """Every check of every configured device, one row each.

        `ok`: whether it holds; `wanted` and `found`: values; `why` it matters; `detail`: what was wrong.
        The first row of a device, `answers`, shows whether it answers, and cleanly.
        """
        async with self._one_at_a_time:
            rows: list[dict[str, Any]] = []
            for name, place in self._service.places.items():
                for device in place.devices:
                    rows.append(_row(name, device, "answers", await _cleanly(place, device)))
                    rows += await self._registers(name, place, device)
            return rows

    async def registers(self) -> list[dict[str, Any]]:
        """Only the checks of the profiles, see `run`."""
        async with self._one_at_a_time:
            rows: list[dict[str, Any]] = []
            for name, place in self._service.places.items():
                for device in place.devices:
                    rows += await self._registers(name, place, device)
            return rows

    async def _registers(self, name: str, place: BusPlace, device: Placed) -> list[dict[str, Any]]:
        rows = [await _register(name, place, device, check) for check in device.profile.checks]
        self._service.failing[device.name] = [row["check"] for row in rows if not row["ok"]]
        return rows


def _row(
    bus: str, device: Placed, check: str, detail: str | None, values: tuple[int, ...] = ()
) -> dict[str, Any]:
    return {
        "bus": bus,
        "device": device.name,
        "address": device.address,
        "check": check,
        "ok": detail is None,
        "wanted": [],
        "found": list(values),
        "why": "",
        "detail": detail,
    }


async def _register(name: str, place: BusPlace, device: Placed, check: Check) -> dict[str, Any]:
    request = Read(check.function, check.address, check.count)
    values: tuple[int, ...] = ()
    try:
        heard = await ask(place, device.address, request, device.profile.bus, PROBE_TRIES)
    except PortLost as fault:
        detail: str | None = str(fault)
    else:
        values = heard.values
        wrong = [value for value in values if value not in check.values]
        if heard.outcome == "exception":
            detail = f"cannot be read: exception {heard.code}"
        elif heard.outcome != "answers":
            detail = f"cannot be read: {heard.outcome}"
        else:
            wanted = " or ".join(str(value) for value in check.values)
            detail = f"holds {', '.join(str(value) for value in wrong)}, not {wanted}" if wrong else None
    return _row(name, device, check.name, detail, values) | {"wanted": list(check.values), "why": check.why}


async def _cleanly(place: BusPlace, device: Placed) -> str | None:
    """What is wrong with a device's answers; None if nothing is."""
    usual, request = reads_of(device.profile), probe(place, device.profile)
    garbled = 0
    for _ in range(READINGS):
        try:
            heard = await ask(place, device.address, request, device.profile.bus, PROBE_TRIES)
        except PortLost as fault:
            return str(fault)
        garbled += heard.garbled
        if heard.outcome == "silent":
            return "does not answer"
        if heard.outcome == "exception" and usual:
            return f"refuses what its profile reads (exception {heard.code}): is it another kind of device?"
    if garbled >= GARBLED:
        return f"{garbled} garbled replies: two devices on address {device.address}, or a bad line?"
    return None
