"""What a connection needs to know: the broker's address, our session there, times, sizes, subscriptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_agent.errors import LinkFault
from edge_agent.mqtt.credentials import NOTHING, Credentials

LONGEST_PACKET_BYTES = 262_144
"""The longest packet that a machine accepts; a command has some thousand bytes."""
RECEIVE_MAXIMUM = 64
"""Messages with QoS 1 that the broker may send a machine before it acknowledges one."""
MOST_WAITING_MESSAGES = 128
"""Messages that may wait for a machine's event loop; a message with QoS 0 beyond that is dropped."""
WINDOW = 20
"""At most this many of our messages are in flight; more gains nothing (docs/decisions/0004-link.md)."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The broker and our session with it. The files of `credentials` are checked every `check_s` for
    changes."""

    host: str
    port: int
    client_id: str
    keepalive_s: int
    session_expiry_s: int
    transport: Literal["tcp", "websockets"] = "tcp"
    websocket_path: str = "/mqtt"
    credentials: Credentials = NOTHING
    check_s: float = 10.0
    reconnect_max_s: float = 8.0


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic filter and its options (MQTT 5, 3.8.3.1)."""

    topic: str
    qos: int = 1
    no_local: bool = False
    retain_as_published: bool = False
    send_retained: bool = True
    required: bool = True
    """Whether the connection is of no use without it."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a connection carries: its subscriptions, and the topic of the events of an `EventQueue`."""

    subscriptions: tuple[Subscription, ...]
    events_topic: str = ""


@dataclass(frozen=True, slots=True)
class InboundLimits:
    """What the broker may send us, announced in the CONNECT packet, and what may wait for the event loop."""

    receive_maximum: int
    packet_bytes: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times, in seconds, and sizes within which a connection is kept."""

    connect_s: float
    """For the TCP connection and its TLS handshake."""
    subscribe_s: float
    """From the broker's acceptance to its answer to our subscriptions."""
    steady_s: float
    """A connection that has been up for this long counts as steady."""
    accept_s: float | None = None
    """From the open socket to the broker's acceptance; None: the keep-alive alone bounds it."""
    goodbye_s: float = 1.0
    """For the library's thread to end by itself; then its socket is shut down."""
    puback_delay_s: float = 0.0
    """The event loop takes PUBACKs this long after the first one: many together cost little more than
    one."""
    window: int = WINDOW
    """At most this many of our messages are in flight."""
    inbound: InboundLimits | None = None
    """None: the broker's own limits."""
    burst: int = 1
    """At most this many received messages are handled in one turn of the event loop."""


class NewCredentials(LinkFault):
    """We ended the connection to make a new one with files that have changed."""
