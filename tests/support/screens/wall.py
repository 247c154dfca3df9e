"""Eyes and patience of somebody at `edge-agent watch`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Static


async def until(pilot: Pilot[Any], condition: Callable[[], Any]) -> None:
    """Returns when it is so; fails if that takes too long."""
    try:
        async with asyncio.timeout(60):
            while not condition():
                await pilot.pause(0.02)
    except TimeoutError:
        raise AssertionError(f"nothing came of it: {screen(pilot)}") from None


def shown(pilot: Pilot[Any], where: str) -> str:
    """The words of one part of the wall, also behind a dialog."""
    return str(pilot.app.screen_stack[0].query_one(where, Static).render())


def screen(pilot: Pilot[Any]) -> str:
    """The words of an SVG snapshot of all that is to be seen."""
    svg = re.sub(r"<style>.*?</style>", "", pilot.app.export_screenshot(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", svg).replace("&#160;", " "))
