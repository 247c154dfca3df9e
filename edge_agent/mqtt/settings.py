"""The settings of a link to a broker: its address, and our identity there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_agent.errors import LinkFault
from edge_agent.mqtt.credentials import NOTHING, Credentials


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The broker and our session with it. The files of `credentials` are checked every `look_s` for
    changes."""

    host: str
    port: int
    client_id: str
    keepalive_s: int
    session_expiry_s: int
    transport: Literal["tcp", "websockets"] = "tcp"
    websocket_path: str = "/mqtt"
    credentials: Credentials = NOTHING
    look_s: float = 10.0
    reconnect_max_s: float = 8.0


class NewCredentials(LinkFault):
    """We ended the connection to make a new one with files that have changed."""
