"""Messages and their PUBACKs, independent of the MQTT library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Message:
    """A message to publish. Replies carry the Correlation Data of their command."""

    topic: str
    payload: str
    qos: int = 1
    retain: bool = False
    correlation: bytes | None = None
    response_topic: str | None = None
    expiry_s: int | None = None
    """Message Expiry Interval."""
    user: tuple[tuple[str, str], ...] = ()
    """User properties."""

    @property
    def is_plain(self) -> bool:
        """Whether its only property is the Content Type."""
        return (
            self.correlation is None
            and self.response_topic is None
            and self.expiry_s is None
            and not self.user
        )


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker; `connection` and `mid` (its packet id) are needed to acknowledge it."""

    topic: str
    payload: bytes = field(repr=False)
    correlation: bytes | None
    connection: int
    mid: int
    qos: int
    retained: bool = False
    """Whether the broker had it in store when we subscribed, or its sender asked to retain it."""
    duplicate: bool = False
    """MQTT's DUP flag."""
    response_topic: str | None = None
    expiry_s: int | None = None
    user: tuple[tuple[str, str], ...] = ()
    without_properties: bool = False
    """It carries no property that a sender may give."""


@dataclass(frozen=True, slots=True)
class Puback:
    """The broker's acknowledgement of a message with QoS 1 (MQTT 5, 3.4): accepted, or refused."""

    accepted: bool
    reason: str
    without_subscribers: bool = False
    """Accepted, but no client subscribes to its topic."""


OnPuback = Callable[[Puback], None]
OnAcknowledged = Callable[[bool], None]
"""Called when the PUBACK arrives; the argument is whether it accepted the message."""
