"""What the parts of a device profile are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Word = Annotated[int, Field(strict=True, ge=0, le=0xFFFF)]
Bit = Annotated[int, Field(strict=True, ge=0, le=15)]
Channels = Annotated[int, Field(strict=True, ge=1, le=64)]
Milliseconds = Annotated[int, Field(strict=True, ge=0, le=60_000)]
Offset = Annotated[int, Field(strict=True, ge=0, le=124)]
Bulk = Annotated[int, Field(strict=True, ge=1, le=125)] | None
"""The most points that the board allows in one request; None: all of them."""


class ProfilePart(BaseModel):
    """Base of all parts: immutable, an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
