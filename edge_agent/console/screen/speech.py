"""Speech for the kiosk's screen: espeak-ng turns the text of a step into sound, and the page plays it.

espeak-ng is a program of its own, from Debian. It gets the text on its standard input, never as an argument.
"""

from __future__ import annotations

import asyncio
import shutil
import struct
from typing import Annotated, Literal

import structlog
from pydantic import Field

from edge_agent.config.screen import Language
from edge_agent.errors import Code, Refusal
from edge_agent.protocol.api import Body

log = structlog.get_logger()

PROGRAM = "espeak-ng"
LONGEST_TEXT = 600
"""Characters; the longest step has about 250."""
LIMIT_S = 10.0
"""How long the program may take; it needs some 20 ms."""
WORDS_PER_MINUTE = 150
HEADER = 44
"""Bytes of the header of the WAV file; a stream has no lengths in it."""


class SpeechBody(Body):
    """A text to speak."""

    language: Language
    text: Annotated[str, Field(strict=True, min_length=1, max_length=LONGEST_TEXT)]


class Speech:
    """Makes sound of texts, one at a time."""

    def __init__(self, wanted: Literal["off", "button", "always"]) -> None:
        """Speech as configured; `off` if the program is not installed, which is logged."""
        self._program = None if wanted == "off" else shutil.which(PROGRAM)
        self.mode = "off" if self._program is None else wanted
        if wanted != self.mode:
            log.warning("the kiosk's screen does not speak", reason=f"{PROGRAM} is not installed")
        self._busy = asyncio.Lock()

    async def sound(self, body: SpeechBody) -> bytes:
        """A WAV file. Raises `Refusal`: `NOT_FOUND` if speech is off, `INTERNAL` if the program fails."""
        if self._program is None:
            raise Refusal(Code.NOT_FOUND, "the screen has no speech")
        options = ["-v", body.language, "-s", str(WORDS_PER_MINUTE), "--stdin", "--stdout"]
        async with self._busy:
            try:
                process = await asyncio.create_subprocess_exec(
                    self._program,
                    *options,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                )
            except OSError as error:  # removed since the start, or too many processes
                raise Refusal(Code.INTERNAL, f"{PROGRAM} does not start: {error.strerror}") from None
            try:
                async with asyncio.timeout(LIMIT_S):
                    made, _ = await process.communicate(body.text.encode())
            except BaseException as error:  # also a page that has gone: the program must not stay
                process.kill()
                await process.communicate()
                if isinstance(error, TimeoutError):
                    raise Refusal(Code.INTERNAL, f"{PROGRAM} does not end") from None
                raise
        if len(made) <= HEADER or not made.startswith(b"RIFF"):
            raise Refusal(Code.INTERNAL, f"{PROGRAM} made no sound")
        return with_lengths(made)


def with_lengths(stream: bytes) -> bytes:
    """A WAV stream with the lengths in its header (RIFF: bytes 4 and 40, little endian), as browsers need."""
    sound = bytearray(stream)
    struct.pack_into("<I", sound, 4, len(sound) - 8)
    struct.pack_into("<I", sound, HEADER - 4, len(sound) - HEADER)
    return bytes(sound)
