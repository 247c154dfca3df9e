"""The gateway's link to the broker: publishes commands that expire, and receives what machines send.

A command that the broker did not acknowledge is lost when the connection ends. The broker keeps messages for
us in our session for a minute after that; what an expired session loses is requested from the machines (see
`events.reconcile`). `edge_agent.mqtt` is the MQTT client.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import time
from typing import Protocol

from cloud_gateway.logs import log
from cloud_gateway.settings import MqttSettings, service_signer_of, signer_of
from edge_agent.errors import LinkFault, LinkRefused
from edge_agent.mqtt.backoff import Backoff
from edge_agent.mqtt.client import MqttClient
from edge_agent.mqtt.credentials import Credentials, WallTime
from edge_agent.mqtt.messages import Message, Puback, Received
from edge_agent.mqtt.settings import Bounds, InboundLimits, LinkSettings, Subscription, Traffic

CLIENT_PREFIX = "gateway:"
"""The beginning of every gateway's client identifier. No machine's id has a colon, so no machine can take
over the session of a gateway."""
SESSION_EXPIRY_S = 60
"""Short: with several gateways on one shared subscription, the broker keeps a dead gateway's part of the
events for it this long."""
KEEPALIVE_S = 5
CONNECT_TIMEOUT_S = 2.0
HANDSHAKE_TIMEOUT_S = 3.0
"""For the broker to accept us, and again to answer our subscriptions."""
PAUSE_FIRST_S = 0.2
PAUSE_MAX_S = 2.0
REFUSED_FIRST_S = 2.0
REFUSED_MAX_S = 30.0
"""Pause between attempts while we are refused; a changed file ends it."""
CREDENTIALS_CHECK_S = 10.0
"""How often our credential files are checked for changes."""
STEADY_S = 10.0
"""A connection that has been up for this long counts as steady."""
IN_FLIGHT_MAX = 20
"""Commands not yet acknowledged by the broker; further ones wait on our side, where they can expire."""
BURST = 50
"""At most this many received messages are handed on in one turn of the event loop."""
GOODBYE_S = 0.5
OPTIONAL = ("/service", "/state/config")
"""Ends of topics without which the gateway works: a broker whose access list is older refuses them."""
RECEIVE_MAX = 1000
"""How many messages the broker may send us before we acknowledge one: enough that several transactions are
under way, and a bound on the memory that a backlog takes."""
PACKET_MAX_BYTES = 5 * 1024 * 1024
"""The largest packet that we take; our broker's own limit is lower."""
QOS0_WAITING_MAX = 10_000
"""How many messages with QoS 0 (telemetry, for the wall only) may wait; further ones are dropped."""


class GatewayLinkListener(Protocol):
    """What the link reports; everything is called on the event loop."""

    def take_message(self, message: Received) -> None:
        """A message has arrived."""

    def link_down(self) -> None:
        """The connection, or the attempt to make one, is over."""

    def refused_by_broker(self, correlation: bytes, reason: str) -> None:
        """The broker did not deliver the command with this correlation data."""


@dataclass(frozen=True, slots=True)
class OutgoingCommand:
    """A command to publish at QoS 1."""

    topic: str
    response_topic: str
    correlation: bytes
    x_request_id: str
    """The X-Request-ID of the REST request that caused it."""
    service: bool = False
    """Whether it is a service command, which has a key of its own."""


class MqttLink:
    """Keeps one connection while `run` runs; everything else is called on the event loop of `run`."""

    def __init__(
        self, settings: MqttSettings, subscriptions: list[str], unacknowledged: Sequence[str] = ()
    ) -> None:
        """`unacknowledged`: topics subscribed to at QoS 0, whatever QoS their senders choose; a broker may
        refuse them."""
        self._listener: GatewayLinkListener | None = None
        self._signer = signer_of(settings)
        self._service_signer = service_signer_of(settings)
        jitter = random.Random()
        self._unreachable = Backoff(PAUSE_FIRST_S, PAUSE_MAX_S, jitter)
        self._refused = Backoff(REFUSED_FIRST_S, REFUSED_MAX_S, jitter)
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        """How many more commands may be in flight on the present connection."""
        # Retained states come at every subscription, also into a kept session.
        wanted = [Subscription(topic, required=not topic.endswith(OPTIONAL)) for topic in subscriptions]
        wanted += [Subscription(topic, qos=0, required=False) for topic in unacknowledged]
        traffic = Traffic(tuple(wanted))
        self.client = MqttClient(_link_settings(settings), _bounds(), traffic, self, _wall)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and our subscriptions."""
        return self.client.up

    def is_current(self, message: Received) -> bool:
        """Whether the message came over the present connection (the broker sends what it kept for us even
        before it has accepted our subscriptions)."""
        return self.client.is_current(message)

    def acknowledge(self, message: Received) -> None:
        """Acknowledges to the broker that the message is stored here. The broker delivers one of an earlier
        connection again."""
        if message.qos == 1:
            self.client.acknowledge(message)

    async def run(self, listener: GatewayLinkListener) -> None:
        """Connects, again and again with a pause of at most 2 s, and reports to `listener` until cancelled;
        while credentials are bad the pauses are longer, until a file changes."""
        self._listener = listener
        await self.client.run()

    async def publish(self, command: OutgoingCommand, make_payload: Callable[[], tuple[bytes, int]]) -> None:
        """Sends a command over the present connection or not at all.

        `make_payload` is called when there is room, and returns the payload and its life in whole seconds.
        Raises `LinkFault` if there is no connection or it ends while waiting for room.
        """
        if not self.connected:
            raise LinkFault("not connected")
        room = self._room
        await room.acquire()
        try:
            if room is not self._room or not self.connected:
                raise LinkFault("the connection ended")
            payload, expiry_s = make_payload()
            user = [("x-request-id", command.x_request_id)]
            signer = self._service_signer if command.service else self._signer
            if signer is not None:
                user += signer.properties(command.topic, payload)
            message = Message(
                command.topic,
                payload.decode("utf-8"),
                correlation=command.correlation,
                response_topic=command.response_topic,
                expiry_s=expiry_s,
                user=tuple(user),
            )
            if not self.client.publish(
                message, functools.partial(self._take_puback, room, command.correlation)
            ):
                raise LinkFault("the connection ended")
        except BaseException:
            room.release()
            raise

    def _take_puback(self, room: asyncio.Semaphore, correlation: bytes, puback: Puback) -> None:
        room.release()
        # No client subscribes to the topic: the machine's session has expired, and it will never get this
        # command.
        if self._listener is not None and (not puback.accepted or puback.without_subscribers):
            self._listener.refused_by_broker(correlation, puback.reason)

    # The following are called by the client (`ClientListener`).

    def will(self) -> None:
        """See `ClientListener.will`: a gateway has none."""

    def came_up(self) -> None:
        """See `ClientListener.came_up`."""
        limits = self.client.limits
        most = IN_FLIGHT_MAX if limits is None else min(IN_FLIGHT_MAX, limits.receive_maximum)
        self._room = asyncio.Semaphore(most)
        self.client.not_refused()
        log().info("broker_connected", connection=self.client.attempts)

    def became_steady(self) -> None:
        """See `ClientListener.became_steady`."""

    def received(self, message: Received) -> None:
        """See `ClientListener.received`."""
        if self._listener is not None:
            self._listener.take_message(message)

    async def say_goodbye(self) -> bool:
        """See `ClientListener.say_goodbye`."""
        return True

    def ended(self) -> None:
        """See `ClientListener.ended`."""
        self._room.release()  # wakes a waiting `publish`; it fails and releases in turn, so all end
        if self._listener is not None:
            self._listener.link_down()

    def failed(self, fault: LinkFault, up_for_s: float | None) -> float:
        """See `ClientListener.failed`."""
        if up_for_s is not None:
            log().warning("broker_lost", reason=str(fault))
            self._unreachable.reset()
            self._refused.reset()
        elif isinstance(fault, LinkRefused):
            self.client.refused(fault)
            return self._refused.pause_s()
        else:
            log().warning("broker_unreachable", reason=str(fault))
        return self._unreachable.pause_s()

    def refused(self, cause: str) -> None:
        """See `ClientListener.refused`."""
        log().error("broker_refused", cause=cause)

    def subscription_refused(self, reason: str) -> LinkFault:
        """See `ClientListener.subscription_refused`."""
        return LinkFault(f"the broker refused a subscription: {reason}")


def _link_settings(settings: MqttSettings) -> LinkSettings:
    return LinkSettings(
        settings.host,
        settings.port,
        f"{CLIENT_PREFIX}{settings.client_id}",
        KEEPALIVE_S,
        SESSION_EXPIRY_S,
        settings.transport,
        settings.websocket_path,
        Credentials.of(settings),
        check_s=CREDENTIALS_CHECK_S,
    )


def _bounds() -> Bounds:
    return Bounds(
        connect_s=CONNECT_TIMEOUT_S,
        accept_s=HANDSHAKE_TIMEOUT_S,
        subscribe_s=HANDSHAKE_TIMEOUT_S,
        steady_s=STEADY_S,
        goodbye_s=GOODBYE_S,
        window=IN_FLIGHT_MAX,
        burst=BURST,
        inbound=InboundLimits(RECEIVE_MAX, PACKET_MAX_BYTES, QOS0_WAITING_MAX),
    )


def _wall() -> WallTime:
    return WallTime(time(), synced=True)
