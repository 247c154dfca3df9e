"""Recorded frames: JSON lines as `edge-agent bus monitor --record` writes them.

One line a frame: `{"at_s", "bus", "baud", "protocol", "direction", "hex", "note"}`; `at_s` seconds of a clock
of the recording machine, `direction` `sent` or `heard`, `protocol` `modbus` if it is missing. A line of
direction `lost` means that frames passed that were not recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from edge_agent.drivers.decode import Wire
from edge_agent.errors import ConfigError, Finding


class TraceFrame(BaseModel):
    """One recorded frame."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at_s: float
    bus: str = ""
    baud: int = 0
    protocol: Wire = "modbus"
    direction: Literal["sent", "heard", "lost"]
    hex: str
    note: str = ""

    @field_validator("hex")
    @classmethod
    def _bytes(cls, text: str) -> str:
        bytes.fromhex(text)
        return text

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return bytes.fromhex(self.hex)

    @property
    def wire(self) -> Wire:
        """The protocol of its bus."""
        return self.protocol


def read_trace(path: Path) -> list[TraceFrame]:
    """A recording. Raises `ConfigError` with the number of each invalid line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Finding("", f"{path}: {error}")]) from None
    frames, findings = [], []
    for number, line in enumerate(lines, 1):
        try:
            frames.append(TraceFrame.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            findings.append(Finding(f"{path.name}:{number}", first["msg"]))
    if findings:
        raise ConfigError(findings)
    return frames


def exchanges(frames: Iterable[TraceFrame]) -> Iterator[tuple[TraceFrame, list[TraceFrame]]]:
    """Each sent frame of one bus with what was heard before the next one was sent.

    What was heard before the first, or after frames were lost, belongs to no request and is left out.
    """
    sent: TraceFrame | None = None
    heard: list[TraceFrame] = []
    for frame in frames:
        if frame.direction == "heard":
            heard.append(frame)
            continue
        if sent is not None:
            yield sent, heard
        sent, heard = (frame if frame.direction == "sent" else None), []
    if sent is not None:
        yield sent, heard
