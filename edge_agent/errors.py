"""The taxonomy of what goes wrong. Every error raised on purpose is one of these.

| class | means | what happens |
|---|---|---|
| `Refusal` | a wish cannot be granted | answered with its code, nothing changes |
| `ConfigError` | the configuration is wrong | every finding with its key path, exit 2 |
| `BusFault` | the wire or a device did not answer properly | retried where that is safe |
| `DeviceFault` | a device answered that it cannot | becomes an observation |
| `StorageFault` | the journal cannot be written | no new commands are taken |
| `LinkFault` | the broker is gone or busy | the link is made anew, with a pause |
| `LinkRefused` | our credentials or the broker's are no good | a longer pause, and an alarm |
| `InvariantBroken` | the program is wrong | crash, restart, reconcile |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Code(IntEnum):
    """Answer codes of the API (the numbers of google.rpc.Code)."""

    INVALID_ARGUMENT = 3
    EXPIRED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    NO_CELL = 8
    NOT_ALLOWED = 9
    NOT_BUILT = 12
    INTERNAL = 13
    OFFLINE = 14
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that was wrong: its path (`packaging.width`) and what was expected."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why a wish failed, for programs: a reason in capitals and what it is about (google.rpc.ErrorInfo)."""

    reason: str
    metadata: Mapping[str, str]


class EdgeAgentError(Exception):
    """Base of everything this package raises on purpose."""


@dataclass(eq=False)
class Refusal(EdgeAgentError):
    """A wish that is not granted; the caller gets `code` and `message`, the machine stays as it was."""

    code: Code
    message: str
    violations: tuple[FieldViolation, ...] = field(default=())
    info: ErrorInfo | None = None

    def __str__(self) -> str:
        return f"{self.message} (code {int(self.code)})"


class Unreadable(Refusal):
    """A command whose bytes are no JSON object: nobody who speaks our language sent it."""


class Forged(Refusal):
    """A command that is not from who may send one, is for somebody else, or is sent a second time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a configuration: where (`cells[3].lock.channel`) and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(EdgeAgentError):
    """The configuration or a device profile is not usable; `findings` lists all that was found."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(str(finding) for finding in findings))
        self.findings = findings


class BusFault(EdgeAgentError):
    """No usable reply came: silence, a damaged frame, a reply that does not fit the request, a lost port."""


class BusTimeout(BusFault):
    """Nothing complete arrived in time."""


class BadReply(BusFault):
    """Bytes arrived that are not the reply to this request (checksum, device, function, length, echo)."""


class NotSent(BusFault):
    """The request's time was over before its turn on the wire came; nothing was sent."""


class PortLost(BusFault):
    """The serial port is gone or could not be opened."""


ACKNOWLEDGE = 5
SERVER_DEVICE_BUSY = 6
"""Modbus exception codes of a device that works and has no time (application protocol 1.1b3, section 7)."""


@dataclass(eq=False)
class DeviceFault(EdgeAgentError):
    """The device answered with a Modbus exception (Modbus application protocol 1.1b3, section 7)."""

    device: str
    exception_code: int

    @property
    def accepted(self) -> bool:
        """Exception 05: the device has taken the request and needs time for it."""
        return self.exception_code == ACKNOWLEDGE

    @property
    def busy(self) -> bool:
        """Exception 05 or 06: the device is alive and may be asked again soon."""
        return self.exception_code in (ACKNOWLEDGE, SERVER_DEVICE_BUSY)

    def __str__(self) -> str:
        return f"{self.device}: Modbus exception {self.exception_code}"


class StorageFault(EdgeAgentError):
    """The journal could not be written or read."""


class LinkFault(EdgeAgentError):
    """The broker cannot be reached, has no time for us, or went away."""


class LinkRefused(LinkFault):
    """Trying again as it is will not help: our credentials or the broker's are no good. Holds no secret."""


class SessionTaken(LinkRefused):
    """Another client came to the broker under our name."""

    def __init__(self) -> None:
        super().__init__("another client has our machine_id: two machines run under one name")


class InvariantBroken(EdgeAgentError):
    """The state contradicts itself; going on could open a wrong door."""
