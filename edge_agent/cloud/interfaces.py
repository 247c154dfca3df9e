"""What can be asked of a link to the cloud, whatever library or simulation is behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge_agent.cloud.channel import Message, Receipt
from edge_agent.cloud.feed import Feed
from edge_agent.runtime.incoming import Incoming


class Link(Protocol):
    """What the rest of the agent needs of a link; a simulated one offers the same."""

    on_up: Callable[[], None]
    on_down: Callable[[], None]
    on_command: Callable[[Incoming], None]
    on_digest: Callable[[bytes], None]
    """Gets the digest of this machine that the broker keeps, at every connecting, if it keeps one."""
    on_refusal: Callable[[str], None]
    """Gets why our credentials or the broker's are no good, once for each cause; "" when the link is up."""

    @property
    def up(self) -> bool:
        """Whether the broker is connected."""

    def publish(self, message: Message, on_acknowledged: Receipt | None = None) -> None:
        """Sends on the present connection; without one it is dropped, and `on_acknowledged` never called."""

    def feed(self, feed: Feed) -> None:
        """There are events in it, to be sent on the present connection behind everything else, in place of
        what was in an earlier one. Called again after each `fill`; without a connection nothing happens."""

    def rest(self, resting: bool) -> None:
        """Whether events wait until further notice."""

    def taken_over(self) -> None:
        """Another client has spoken under our name since our last connection (a broker does not always say so
        when it ends a connection)."""

    async def run(self) -> None:
        """Keeps a connection until cancelled, then says good-bye."""
