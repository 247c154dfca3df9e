"""The interface of a link to the cloud, for any library or simulation behind it, and of its listener."""

from __future__ import annotations

from typing import Protocol

from edge_agent.mqtt.event_queue import EventQueue
from edge_agent.mqtt.messages import Message, OnAcknowledged
from edge_agent.runtime.incoming import IncomingCommand


class LinkListener(Protocol):
    """What a link reports to the rest of the daemon; everything is called on the event loop."""

    def link_is_up(self) -> None:
        """The link is connected to the broker."""

    def take_command(self, incoming: IncomingCommand) -> None:
        """A command has arrived."""

    def take_digest(self, payload: bytes) -> None:
        """The digest of this machine that the broker retains; comes at every connection, if there is one."""

    def link_refused(self, cause: str) -> None:
        """Why our credentials or the broker's are refused, once for each cause; "" when the link is up."""


class Link(Protocol):
    """What the rest of the daemon needs of a link; a simulated one offers the same."""

    @property
    def up(self) -> bool:
        """Whether the link is connected to the broker."""

    def publish(self, message: Message, on_acknowledged: OnAcknowledged | None = None) -> None:
        """Sends on the present connection; without one the message is dropped, and `on_acknowledged` is never
        called."""

    def send_events(self, events: EventQueue) -> None:
        """Sends the events of the queue on the present connection, behind everything else; it replaces an
        earlier queue. Called again after each `EventQueue.fill`; does nothing without a
        connection."""

    def pause_events(self, paused: bool) -> None:
        """True: events that are not sent yet wait until the call with False."""

    def taken_over(self) -> None:
        """Another client has published under our name since our last connection (a broker does not always
        give that reason when it ends a connection)."""

    async def run(self, listener: LinkListener) -> None:
        """Keeps a connection and reports to `listener` until cancelled, then publishes a good-bye."""
