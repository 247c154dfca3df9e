"""The wall as an SVG: the real application, which gets a scene over HTTP as from the daemon."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx

from edge_agent.cli.text.language import SOURCE, in_language
from edge_agent.cli.watch.app import WatchApp
from edge_agent.cli.watch.daemon import Daemon
from tools.pages.watch.scene import Scene

SIZE = (148, 44)
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""The picture names a font from the network; a viewer's own monospaced one is sufficient."""


def transport_of(scene: Scene) -> httpx.MockTransport:
    """Answers as the daemon's socket would, without new events."""
    bodies: dict[str, Any] = {
        "/v1/status": scene.status,
        "/v1/cells": scene.cells,
        "/v1/bus": scene.buses,
        "/v1/events": scene.events,
    }

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("follow"):
            return httpx.Response(200, text="", headers={"content-type": "text/event-stream"})
        return httpx.Response(200, text=json.dumps(bodies[request.url.path]))

    return httpx.MockTransport(answer)


async def _draw(scene: Scene, size: tuple[int, int]) -> str:
    daemon = Daemon(Path("agent.sock"), transport_of(scene))
    app = WatchApp(daemon, await daemon.wall(), None, None, utc=True)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        log = app.query_one("#events")
        while not getattr(log, "lines", ()):
            await pilot.pause()
        await pilot.press("down")
        await pilot.pause()
        svg = app.export_screenshot(title="edge-agent watch")
    await daemon.close()
    return FONT_FACE.sub("", svg) + "\n"


def picture(scene: Scene, size: tuple[int, int] = SIZE, language: str = SOURCE) -> str:
    """The SVG, the same for the same scene. `size`: columns and rows of the terminal."""
    with in_language(language):
        return asyncio.run(_draw(scene, size))
