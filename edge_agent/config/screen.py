"""The section of the kiosk's screen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

USUAL_PORT = 8082
"""The port in the examples, also of the kiosk browser's unit."""
Language = Literal["en", "de", "id", "ar"]
"""English, German, Indonesian, Arabic: each has a file in `edge_agent/console/screen/messages`."""


class ScreenSection(BaseModel):
    """The page for the board's full-screen browser, on 127.0.0.1 (docs/decisions/0042-kiosk-screen.md).

    `language`: the one that a new customer sees. `back_s`: seconds without a touch after which the page
    returns to the start; customers can prolong them. `help`: whom to call, shown where help is needed.
    `speech`: whether each step is read aloud (by espeak-ng) never, after a touch of its button, or always.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: Annotated[int, Field(strict=True, ge=1, le=65_535)]
    language: Language = "en"
    back_s: Annotated[int, Field(strict=True, ge=20, le=600)] = 40
    help: Annotated[str, Field(strict=True, max_length=80)] = ""
    speech: Literal["off", "button", "always"] = "off"
