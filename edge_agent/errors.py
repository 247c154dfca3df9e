"""All errors that are raised on purpose.

| class | means | what happens |
|---|---|---|
| `Refusal` | a command is refused | answered with its code, nothing changes |
| `ConfigError` | the configuration is wrong | every finding with its key path, exit 2 |
| `BusFault` | the wire or a device did not answer properly | retried where that is safe |
| `DeviceFault` | a device answered that it cannot | becomes an observation |
| `StorageFault` | the journal cannot be written | no new commands are taken |
| `LinkFault` | the broker is gone or busy | reconnects after a pause |
| `LinkRefused` | our credentials or the broker's are unusable | a longer pause, and an alarm |
| `InvariantBroken` | the program is wrong | crash, restart, reconcile |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Code(IntEnum):
    """Answer codes of the API, with the numbers of google.rpc.Code. EXPIRED is its DEADLINE_EXCEEDED, NO_CELL
    its RESOURCE_EXHAUSTED (also too many requests), NOT_ALLOWED its FAILED_PRECONDITION, NOT_BUILT its
    UNIMPLEMENTED, OFFLINE its UNAVAILABLE."""

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
    """One wrong field: its path (`packaging.width`) and what was expected."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why a command failed, for programs: a reason in capitals and what it is about
    (google.rpc.ErrorInfo)."""

    reason: str
    metadata: Mapping[str, str]


class EdgeAgentError(Exception):
    """Base of all errors that this package raises on purpose."""


@dataclass(eq=False)
class Refusal(EdgeAgentError):
    """A command is refused; the caller gets `code` and `message`, and the machine stays as it was."""

    code: Code
    message: str
    violations: tuple[FieldViolation, ...] = field(default=())
    info: ErrorInfo | None = None

    def __str__(self) -> str:
        return f"{self.message} (code {int(self.code)})"


class Unreadable(Refusal):
    """A command whose bytes are no JSON object: it cannot come from a valid sender."""


class Forged(Refusal):
    """A command from an unauthorised sender, for another machine, or sent a second time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of a configuration: where (`cells[3].lock.channel`) and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(EdgeAgentError):
    """The configuration or a device profile is unusable; `findings` lists all faults."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(str(finding) for finding in findings))
        self.findings = findings


class BusFault(EdgeAgentError):
    """No usable reply came: silence, a damaged frame, a reply that does not fit the request, a lost port."""


class BusTimeout(BusFault):
    """Nothing complete arrived in time."""


class BadReply(BusFault):
    """Bytes arrived that are not the reply to this request (checksum, device, function, length, echo)."""


class OtherDevice(BadReply):
    """A sound reply of the right length names another device than the one that was asked."""


class NotSent(BusFault):
    """Nothing was sent: the request's time limit passed before its turn, or a poll was for a device that
    rests."""


class PortLost(BusFault):
    """The serial port is gone or could not be opened."""


ACKNOWLEDGE = 5
SERVER_DEVICE_BUSY = 6
"""Modbus exception codes of a device that works but is busy (application protocol 1.1b3, section 7)."""


@dataclass(eq=False)
class DeviceFault(EdgeAgentError):
    """The device answered that it cannot: with a Modbus exception (application protocol 1.1b3, section 7), or
    a lock board with its own protocol, reported under such a number."""

    device: str
    exception_code: int

    @property
    def accepted(self) -> bool:
        """Exception 05: the device has accepted the request and needs time for it."""
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
    """The broker cannot be reached, is busy, or went away."""


class LinkRefused(LinkFault):
    """A retry without changes is useless: our credentials or the broker's are unusable. Holds no secret."""


class SessionTaken(LinkRefused):
    """Another client connected to the broker with our client identifier (the machine_id)."""

    def __init__(self) -> None:
        super().__init__("another client has our machine_id: two machines run under one name")


class InvariantBroken(EdgeAgentError):
    """The state contradicts itself; continuing could open a wrong door."""
