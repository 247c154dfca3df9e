"""A command as it arrives from the broker, and the interface that judges its sender."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.model import Instant
from edge_agent.protocol.commands import Command


@dataclass(frozen=True, slots=True)
class IncomingCommand:
    """A command as it arrived. `acknowledge` sends its PUBACK: the broker does not deliver it again. Called
    when the command is stored, or when it needs no storing (refused, rejected, a query, a duplicate)."""

    command: str
    payload: bytes = field(repr=False)
    acknowledge: Callable[[], None]
    response_topic: str | None = None
    correlation: bytes | None = None
    message_expiry_s: int | None = None
    x_request_id: str | None = None
    """The user property of this name: the X-Request-ID of the REST call behind the command."""
    retained: bool = False
    topic: str = ""
    """The whole topic; the signature covers it."""
    signature: str | None = None
    signature_key: str | None = None
    """The user properties that `edge_agent.protocol.signing` names."""
    without_properties: bool = False
    """It carries no property that a sender may give: a bridge with MQTT 3.1.1 may have dropped them."""
    duplicate: bool = False
    """MQTT's DUP flag: the broker may have sent this message before."""


class SenderCheck(Protocol):
    """Checks the sender of a command, if the configuration requires signed commands."""

    def admit(self, incoming: IncomingCommand, now: Instant) -> bool:
        """True for a new command, False for one that the broker delivers again. Raises `Forged` if no known
        key has signed it for this machine."""

    def require_present_challenge(self, name: str, command: Command, now: Instant) -> None:
        """Raises `Refusal` for a command that the broker may have held back."""
