"""The pipes to the browser when it is stopped while it starts."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from edge_agent.process.browser.devtools import DevTools


@pytest.mark.parametrize("turns", [1, 2])
async def test_a_stop_while_the_browser_starts_closes_each_descriptor_once(turns: int) -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    devtools = DevTools()

    async def start() -> None:
        try:
            await devtools.started()
        finally:
            await devtools.close()

    starting = asyncio.create_task(start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    # Files that are opened now get the free numbers.
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
    for _ in range(6):
        await asyncio.sleep(0)
    for other in others:
        os.close(other)  # an error if it is closed already
    assert errors == []
