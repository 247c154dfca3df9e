"""A user of a link that keeps what the link reports."""

from __future__ import annotations

from edge_agent.runtime.incoming import IncomingCommand


class RecordingUser:
    """A `LinkListener`; `acknowledges`: whether each command is acknowledged at once."""

    def __init__(self, *, acknowledges: bool = False) -> None:
        self.acknowledges = acknowledges
        self.ups = 0
        self.commands: list[IncomingCommand] = []
        self.digests: list[bytes] = []
        self.refusals: list[str] = []

    def payloads(self) -> list[bytes]:
        """The payloads of the commands."""
        return [incoming.payload for incoming in self.commands]

    def link_is_up(self) -> None:
        """See `LinkListener`."""
        self.ups += 1

    def take_command(self, incoming: IncomingCommand) -> None:
        """See `LinkListener`."""
        self.commands.append(incoming)
        if self.acknowledges:
            incoming.acknowledge()

    def take_digest(self, payload: bytes) -> None:
        """See `LinkListener`."""
        self.digests.append(payload)

    def link_refused(self, cause: str) -> None:
        """See `LinkListener`."""
        self.refusals.append(cause)
