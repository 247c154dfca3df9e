"""What the client of a broker asks of its listener, and what its library reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edge_agent.errors import LinkFault
from edge_agent.mqtt.broker_limits import BrokerLimits
from edge_agent.mqtt.messages import Message, Received


class ClientListener(Protocol):
    """The listener of an `MqttClient`. Everything is called on the event loop."""

    def will(self) -> Message | None:
        """The message that the broker publishes when a connection breaks."""

    def came_up(self) -> None:
        """The broker has accepted us and our subscriptions."""

    def became_steady(self) -> None:
        """The connection has been up for `Bounds.steady_s`."""

    def received(self, message: Received) -> None:
        """A message has arrived; the broker may send what it stored for our session before `came_up` is
        called."""

    async def say_goodbye(self) -> bool:
        """Called before a connection that is up is ended on purpose; False: the broker is to publish the
        will."""

    def ended(self) -> None:
        """The connection, or the attempt to make one, is over."""

    def failed(self, fault: LinkFault, up_for_s: float | None) -> float:
        """The connection has ended; `up_for_s`: for how many seconds it was up (None: it never was). Returns
        the pause in seconds before the next attempt."""

    def refused(self, cause: str) -> None:
        """Our credentials or the broker's are refused; called once for each cause."""

    def subscription_refused(self, reason: str) -> LinkFault:
        """The broker refuses a required subscription, for this reason; returns the fault to end the
        connection with."""


class LibraryEvents(Protocol):
    """What happens to one connection. Everything is called on the library's thread."""

    def socket_opened(self) -> bool:
        """False: the attempt is over, the socket is to be closed."""

    def accepted(self, limits: BrokerLimits) -> None:
        """The broker has accepted us."""

    def subscribed(self, refusals: Sequence[str | None]) -> None:
        """The answer to each subscription: None, or why it is refused."""

    def arrived(self, message: LibraryMessage) -> None:
        """A message has arrived."""

    def puback_arrived(self, packet_id: int, reason: object, accepted: bool) -> None:
        """A PUBACK, or the library's report that a message with QoS 0 was sent."""

    def connection_lost(self, fault: LinkFault) -> None:
        """The connection could not be made, was refused, or has ended."""


class LibraryMessage(Protocol):
    """A message as the library gives it."""

    qos: int
