"""The sections of scanners, keypads and card readers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_agent.drivers.entry.key_layouts import LayoutName
from edge_agent.drivers.entry.scanner import Delimiter

Baud = Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200]
Affix = Annotated[str, Field(strict=True, max_length=32)]
Place = Annotated[str, Field(strict=True, min_length=1)]


class _Reader(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScannerSection(_Reader):
    """A scanner or keypad that sends texts on a serial port of its own; `delimiter`: what ends one; `prefix`
    and `suffix`: what the device puts around each text."""

    port: Place
    baud: Baud = 9600
    delimiter: Delimiter = "any"
    prefix: Affix = ""
    suffix: Affix = ""


class KeypadSection(_Reader):
    """A USB keypad or scanner that is a keyboard, by its `/dev/input/by-id/…-event-kbd`; `layout`: of which
    country's keyboard it presses the keys; `prefix` and `suffix`: what the device puts around each text."""

    device: Place
    layout: LayoutName = "us"
    prefix: Affix = ""
    suffix: Affix = ""


class CardReaderSection(_Reader):
    """A reader of cards or tags beside scanner and keypad: a keyboard (`device`, as a keypad), or on a serial
    port of its own (`port`, as a scanner)."""

    device: Place | None = None
    port: Place | None = None
    layout: LayoutName = "us"
    baud: Baud = 9600
    delimiter: Delimiter = "any"
    prefix: Affix = ""
    suffix: Affix = ""

    @model_validator(mode="after")
    def _one_place(self) -> CardReaderSection:
        if (self.device is None) is (self.port is None):
            raise ValueError("needs either device (a keyboard) or port (a serial port)")
        return self

    def as_scanner(self) -> ScannerSection | None:
        """The same reader as a scanner; None if it is a keyboard."""
        if self.port is None:
            return None
        return ScannerSection(
            port=self.port,
            baud=self.baud,
            delimiter=self.delimiter,
            prefix=self.prefix,
            suffix=self.suffix,
        )

    def as_keypad(self) -> KeypadSection | None:
        """The same reader as a keypad; None if it is on a serial port."""
        if self.device is None:
            return None
        return KeypadSection(device=self.device, layout=self.layout, prefix=self.prefix, suffix=self.suffix)
