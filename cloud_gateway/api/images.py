"""QR images: drawn by one thread beside the event loop, and cached."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import segno

from cloud_gateway.rate_limits import TooMany

QR_SCALE = 8
TEXT_MAX = 256
"""Longer than any QR text of this API."""
IMAGES_KEPT = 500
WAITING_MAX = 16
"""The most images that wait to be drawn; drawing one takes some milliseconds."""
RETRY_AFTER_S = 1.0


class QrImages:
    """Draws QR images in one thread and caches them. Used on the event loop only."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "gateway-draw")
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._waiting = 0

    async def image(self, text: str) -> bytes:
        """Returns the PNG image of a text. Raises `TooMany` while too many wait."""
        known = self._kept.get(text)
        if known is not None:
            self._kept.move_to_end(text)
            return known
        if self._waiting >= WAITING_MAX:
            raise TooMany("too many images are being drawn", RETRY_AFTER_S)
        self._waiting += 1
        try:
            drawn = await asyncio.get_running_loop().run_in_executor(self._thread, draw, text)
        finally:
            self._waiting -= 1
        self._kept[text] = drawn
        if len(self._kept) > IMAGES_KEPT:
            self._kept.popitem(last=False)
        return drawn

    def close(self) -> None:
        """Ends its thread."""
        self._thread.shutdown(cancel_futures=True)


def draw(text: str) -> bytes:
    """Returns the PNG image of a text."""
    image = io.BytesIO()
    segno.make_qr(text, error="m").save(image, kind="png", scale=QR_SCALE)
    return image.getvalue()
