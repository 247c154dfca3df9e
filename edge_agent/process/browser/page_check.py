"""Whether the kiosk's page is shown: loaded, drawing frames, and of more than one colour."""

from __future__ import annotations

import asyncio
import base64
import struct
import zlib

from edge_agent.process.browser.devtools import DevTools, MethodFailed

ANSWER_S = 10.0
"""A page that neither answers nor draws for this long is frozen."""
SHOWN = """new Promise(resolve => requestAnimationFrame(() => resolve(
  `${document.body?.dataset.view ?? ""} ${innerWidth} ${innerHeight}`)))"""
"""The page's view, and its size; answered when the next frame is drawn."""
PICTURE_SCALE = 0.25
FEW_VALUES = 16
"""A picture of one colour has fewer distinct bytes after PNG's filters; one with text has far more."""


class PageFailed(Exception):
    """The page is not shown; the text says what is wrong."""


async def attach(devtools: DevTools) -> str:
    """The session with the browser's page. Raises `BrowserGone` or `PageFailed`."""
    try:
        return await _attach(devtools)
    except MethodFailed as error:
        raise PageFailed(f"the page cannot be checked: {error}") from None
    except TimeoutError:
        raise PageFailed(f"the browser has not answered for {ANSWER_S:.0f} s") from None


async def _attach(devtools: DevTools) -> str:
    async with asyncio.timeout(ANSWER_S):
        await devtools.ask("Target.setDiscoverTargets", discover=True)
        targets = (await devtools.ask("Target.getTargets"))["targetInfos"]
        pages = [target["targetId"] for target in targets if target["type"] == "page"]
        if not pages:
            raise PageFailed("the browser has no page")
        attached = await devtools.ask("Target.attachToTarget", targetId=pages[0], flatten=True)
        session = str(attached["sessionId"])
        await devtools.ask("Inspector.enable", session)
        return session


async def check_page(devtools: DevTools, session: str, *, picture: bool) -> None:
    """Raises `PageFailed` if the page is not shown, `BrowserGone` if it has crashed. `picture`: also looks at
    what it draws; the picture is kept nowhere."""
    try:
        async with asyncio.timeout(ANSWER_S):
            arguments = {"expression": SHOWN, "awaitPromise": True}
            found = await devtools.ask("Runtime.evaluate", session, **arguments)
            view, width, height = str(found["result"].get("value", "? 0 0")).split(" ")
            if view in ("", "?"):
                raise PageFailed("the browser does not show the kiosk's page")
            if picture:
                clip = {"x": 0, "y": 0, "width": int(width), "height": int(height), "scale": PICTURE_SCALE}
                taken = await devtools.ask("Page.captureScreenshot", session, format="png", clip=clip)
                if is_one_colour(base64.b64decode(taken["data"])):
                    raise PageFailed("the page is black, or of one colour")
    except MethodFailed as error:
        raise PageFailed(f"the page cannot be checked: {error}") from None
    except TimeoutError:
        raise PageFailed(f"the page has not drawn for {ANSWER_S:.0f} s: it is frozen") from None
    except (KeyError, ValueError, zlib.error) as error:
        raise PageFailed(f"the browser answers what is not understood: {error!r}") from None


def is_one_colour(png: bytes) -> bool:
    """Whether a PNG picture has (nearly) one colour. Raises `ValueError` or `zlib.error` if it is none.

    The rows stay filtered (PNG, clause 9): a filtered picture of one colour consists of the filters' numbers,
    zeros and one pixel.
    """
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("no PNG picture")
    data, at = b"", 8
    while at + 8 <= len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    return len(set(zlib.decompress(data))) < FEW_VALUES
