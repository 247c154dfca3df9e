"""The interface of a link to the cloud, for any library or simulation behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge_agent.mqtt.channel import Message, Receipt
from edge_agent.mqtt.feed import Feed
from edge_agent.runtime.incoming import Incoming


class Link(Protocol):
    """What the rest of the daemon needs of a link; a simulated one offers the same."""

    on_up: Callable[[], None]
    on_down: Callable[[], None]
    on_command: Callable[[Incoming], None]
    on_digest: Callable[[bytes], None]
    """Gets the digest of this machine that the broker retains, at every connection, if it has one."""
    on_refusal: Callable[[str], None]
    """Gets why our credentials or the broker's are refused, once for each cause; "" when the link is up."""

    @property
    def up(self) -> bool:
        """Whether the link is connected to the broker."""

    def publish(self, message: Message, on_acknowledged: Receipt | None = None) -> None:
        """Sends on the present connection; without one the message is dropped, and `on_acknowledged` is never
        called."""

    def feed(self, feed: Feed) -> None:
        """Sends the feed's events on the present connection, behind everything else; it replaces an earlier
        feed. Called again after each `fill`; does nothing without a connection."""

    def rest(self, resting: bool) -> None:
        """`resting`: events wait until further notice."""

    def taken_over(self) -> None:
        """Another client has published under our name since our last connection (a broker does not always
        give that reason when it ends a connection)."""

    async def run(self) -> None:
        """Keeps a connection until cancelled, then publishes a good-bye."""
