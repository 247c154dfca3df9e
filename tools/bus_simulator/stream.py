"""The physical state as a stream of server-sent events, for a page that shows it.

`cells`: those that changed (all of them first); `actuation`: a solenoid was energised; `wire`: the counters
of each bus; `faults`: the active ones.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from typing import Any

from edge_agent.drivers.simulated.line import WireFigures
from edge_agent.drivers.simulated.world import CellState, World

LOOK_S = 0.04
"""The world is compared this often while a page is connected: a lock's pulse lasts longer."""
WIRE_S = 1.0


async def stream(
    world: World,
    figures: Callable[[], Mapping[str, WireFigures]],
    faults: Callable[[], Any],
    cell_json: Callable[[CellState], dict[str, Any]],
) -> AsyncIterator[str]:
    """Yields what has changed until the client closes the connection."""
    shown: dict[str, dict[str, Any]] = {}
    newest = max((actuation.n for actuation in world.actuations(0)), default=0)
    last_faults: Any = None
    wire_s = 0.0
    while True:
        now_s = asyncio.get_running_loop().time()
        changed = [row for row in map(cell_json, world.cells()) if _differs(shown.get(row["label"]), row)]
        if changed:
            shown |= {row["label"]: row for row in changed}
            yield _line("cells", changed)
        for actuation in world.actuations(newest):
            newest = actuation.n
            yield _line("actuation", asdict(actuation))
        if (found := faults()) != last_faults:
            last_faults = found
            yield _line("faults", found)
        if now_s >= wire_s:
            wire_s = now_s + WIRE_S
            yield _line("wire", {name: asdict(bus) for name, bus in figures().items()})
        await asyncio.sleep(LOOK_S)


def _differs(last: dict[str, Any] | None, row: dict[str, Any]) -> bool:
    """Temperatures change all the time: a tenth of a degree is shown."""
    if last is None:
        return True
    same = {name: value for name, value in row.items() if name != "temperature_c"}
    moved_c = abs(float(row["temperature_c"]) - float(last["temperature_c"]))
    return moved_c >= 0.1 or any(last[name] != value for name, value in same.items())


def _line(kind: str, body: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n"
