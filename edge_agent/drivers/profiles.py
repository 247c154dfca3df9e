"""Device profiles: where things are on a board, as data (`config/devices/*.toml`).

A profile says who made the board and how sure we are (`identity`), how it wants to be talked to (`bus`),
what it can do (`lock`, `doors`, `relays`, `scale`, `temperature`) and gives request and reply frames that
the tests run against the real codec (`vectors`). Addresses are those on the wire, counted from 0; channels
of a board are counted from 1, as printed on it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_agent.errors import ConfigError, Finding

Word = Annotated[int, Field(strict=True, ge=0, le=0xFFFF)]
Channels = Annotated[int, Field(strict=True, ge=1, le=64)]
Milliseconds = Annotated[int, Field(strict=True, ge=0, le=60_000)]


class ProfilePart(BaseModel):
    """Base of all parts: immutable, an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Identity(ProfilePart):
    """Who made the board, and how sure we are of what stands here."""

    vendor: str
    models: list[str]
    evidence: Literal["official", "community", "single-source"]
    source: str
    hw_verified: bool
    firmware: str = ""


class BusNeeds(ProfilePart):
    """How the device wants to be talked to; times in milliseconds."""

    gap_ms: Milliseconds = 0
    """Silence it needs before a request, where that is more than 3.5 characters."""
    turnaround_ms: Milliseconds = 50
    """Longest time from the end of a request to the start of its reply."""
    drain_ms: Milliseconds = 100
    """After a timeout: how long the line must be quiet, longer than the device's worst lateness."""


class ConstantWrite(ProfilePart):
    """One write of a constant with function 05 or 06."""

    function: Literal[5, 6]
    address: Word
    value: Word


class TimedPulse(ProfilePart):
    """A pulse that the board itself ends: function 05, address + channel, value = time in units."""

    function: Literal[5]
    address: Word
    unit_ms: Annotated[int, Field(strict=True, ge=1, le=10_000)]
    min_ms: Milliseconds
    max_ms: Milliseconds
    reply: Literal["echo"] = "echo"
    idempotent: Literal[False] = False


class LockCapability(ProfilePart):
    """Solenoids: every channel can be pulsed; all outputs can be switched off at once."""

    channels: Channels
    pulse: TimedPulse
    all_off: ConstantWrite


class DoorsCapability(ProfilePart):
    """Door contacts as discrete inputs (function 02), read in one block."""

    channels: Channels
    function: Literal[2]
    address: Word


class RelaysCapability(ProfilePart):
    """Outputs switched by function 05: address + channel, 0xFF00 is on, 0x0000 off.

    An output that must not outlive the daemon (a heater, a cooler) needs `pulse`, which the board ends itself
    and a new one prolongs, or `communication_timeout_ms`: after so long a silence the board switches off.
    """

    channels: Channels
    function: Literal[5]
    address: Word
    all_off: ConstantWrite
    pulse: TimedPulse | None = None
    communication_timeout_ms: Annotated[int, Field(strict=True, ge=1_000, le=600_000)] | None = None


class ScaleCapability(ProfilePart):
    """A weight transmitter read as one block of holding registers (function 03)."""

    function: Literal[3]
    address: Word
    count: Annotated[int, Field(strict=True, ge=1, le=125)]
    mass_offset: Annotated[int, Field(strict=True, ge=0, le=124)]
    """Where in the block the 32-bit weight begins, high word first."""
    mass_signed: bool
    """Two's complement; otherwise a magnitude whose sign is `negative_bit` of the status."""
    grams_per_count: Annotated[float, Field(gt=0)]
    status_offset: Annotated[int, Field(strict=True, ge=0, le=124)]
    stable_bit: Annotated[int, Field(strict=True, ge=0, le=15)]
    stable_level: Literal[0, 1]
    error_mask: Word
    negative_bit: Annotated[int, Field(strict=True, ge=0, le=15)] | None = None

    @model_validator(mode="after")
    def _inside(self) -> ScaleCapability:
        if max(self.mass_offset + 2, self.status_offset + 1) > self.count:
            raise ValueError("mass_offset and status_offset must lie inside the block of count registers")
        if not self.mass_signed and self.negative_bit is None:
            raise ValueError("a magnitude needs negative_bit")
        return self


class TemperatureCapability(ProfilePart):
    """Temperatures as signed 16-bit registers, one a channel, read in one block."""

    channels: Channels
    function: Literal[3, 4]
    address: Word
    degrees_per_count: Annotated[float, Field(gt=0)]
    no_sensor: Word | None = None


class Vector(ProfilePart):
    """Bytes that were seen or published: a request and its reply, in hex."""

    name: str
    request: str
    reply: str


class Profile(ProfilePart):
    """One family of boards."""

    identity: Identity
    bus: BusNeeds
    lock: LockCapability | None = None
    doors: DoorsCapability | None = None
    relays: RelaysCapability | None = None
    scale: ScaleCapability | None = None
    temperature: TemperatureCapability | None = None
    vectors: Annotated[list[Vector], Field(min_length=1)]

    def channels(self, capability: str) -> int:
        """How many channels a capability has; 0 if the board lacks it."""
        part = getattr(self, capability)
        return 0 if part is None else getattr(part, "channels", 1)


def load_profile(path: Path) -> Profile:
    """Reads one profile. Raises `ConfigError` with the path of each wrong key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError([Finding("", f"no such profile: {path}")]) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([Finding("", f"{path.name}: {error}")]) from None
    try:
        return Profile.model_validate(document)
    except ValidationError as error:
        raise ConfigError(
            [
                Finding(f"{path.name}: " + ".".join(str(p) for p in item["loc"]), item["msg"])
                for item in error.errors(include_url=False)
            ]
        ) from None
