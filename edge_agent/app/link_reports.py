"""Passes on what the link to the broker reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.cloud.publisher import Publisher
from edge_agent.model import Alarm
from edge_agent.runtime.historian import Historian
from edge_agent.runtime.incoming import Incoming
from edge_agent.runtime.request_handler import RequestHandler
from edge_agent.statemachine.inputs import Condition, Input


@dataclass(frozen=True, slots=True)
class LinkReports:
    """The daemon's `LinkUser`."""

    publisher: Publisher
    requests: RequestHandler
    historian: Historian
    submit: Callable[[Input], None]
    """Hands an input to the loop."""

    def link_is_up(self) -> None:
        """See `LinkUser`."""
        self.publisher.link_is_up()

    def take_command(self, incoming: Incoming) -> None:
        """See `LinkUser`."""
        self.requests.handle(incoming)

    def take_digest(self, payload: bytes) -> None:
        """See `LinkUser`."""
        self.historian.digest_kept(payload)

    def link_refused(self, cause: str) -> None:
        """See `LinkUser`."""
        self.submit(Condition(Alarm.LINK_REFUSED, "", bool(cause), cause))
