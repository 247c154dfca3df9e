"""The MQTT 5 link to the broker; the only file that imports paho-mqtt.

One paho client per connection, thrown away with it. Its thread does nothing but hand over to the event loop.
The session is persistent (clean start off, session expiry), subscriptions ask for no retained messages, and
a message is acknowledged (PUBACK) only when it is safe on our disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.cloud.channel import Channel, Message
from edge_agent.cloud.stall import StallWatch
from edge_agent.errors import LinkFault
from edge_agent.protocol.topics import CONTENT_TYPE, Topics
from edge_agent.runtime.desk import Incoming

log = structlog.get_logger()

WINDOW = 20
"""Messages of ours in flight at most; more brings nothing (docs/decisions/0004-link.md)."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 3.0
CONNECT_TIMEOUT_S = 10.0
RECEIPTS_S = 0.002
"""The event loop looks at receipts so long after the first one: many together cost little more than one."""
GOODBYE_S = 1.0


class Link(Protocol):
    """What the rest of the agent needs of a link; a simulated one offers the same."""

    on_up: Callable[[], None]
    on_down: Callable[[], None]
    on_command: Callable[[Incoming], None]

    @property
    def up(self) -> bool:
        """Whether the broker is connected."""

    @property
    def window(self) -> int:
        """How many acknowledged publications may be in flight."""

    def publish(self, message: Message, on_acknowledged: Callable[[], None] | None = None) -> None:
        """Sends on the present connection; without one it is dropped. `on_acknowledged`: PUBACK came."""

    def rest(self, resting: bool) -> None:
        """Whether patient messages wait until further notice."""

    async def run(self) -> None:
        """Keeps a connection until cancelled, then says good-bye."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The broker and our session with it. `will` and `birth` are published on `state/online`, retained."""

    host: str
    port: int
    client_id: str
    keepalive_s: int
    session_expiry_s: int


class MqttLink:
    """`Link` over paho-mqtt."""

    def __init__(
        self, settings: LinkSettings, topics: Topics, online: Callable[[bool], str], jitter: random.Random
    ) -> None:
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[], None] = lambda: None
        self.on_command: Callable[[Incoming], None] = lambda incoming: None
        self._settings = settings
        self._topics = topics
        self._online = online
        self._jitter = jitter
        self._client: mqtt.Client | None = None
        self._channel: Channel | None = None
        self._window = WINDOW
        self._stalls = StallWatch()

    @property
    def up(self) -> bool:
        """See `Link.up`."""
        return self._channel is not None

    @property
    def window(self) -> int:
        """See `Link.window`."""
        return self._window

    async def run(self) -> None:
        """See `Link.run`."""
        self._stalls.start()
        try:
            await self._keep_connected()
        finally:
            self._stalls.stop()

    async def _keep_connected(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            connection = _Connection(self)
            try:
                await connection.live()
            except LinkFault as fault:
                log.info("link", state="down", reason=str(fault))
            if connection.was_up:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s * self._jitter.uniform(0.5, 1.0))
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    def publish(self, message: Message, on_acknowledged: Callable[[], None] | None = None) -> None:
        """See `Link.publish`."""
        if self._channel is not None:
            self._channel.put(message, on_acknowledged)

    def rest(self, resting: bool) -> None:
        """See `Link.rest`."""
        if self._channel is not None:
            self._channel.rest(resting)

    def begin(self, client: mqtt.Client, receive_maximum: int, wake: Callable[[], None]) -> Channel:
        """A connection stands (called by it). `wake` is the channel's."""
        self._client = client
        self._window = min(WINDOW, receive_maximum)
        self._channel = channel = Channel(self._window, functools.partial(_send, client), wake)
        # As published: else the broker takes the mark off a retained command that it passes on at once.
        options = SubscribeOptions(
            qos=1, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
        )
        client.subscribe(self._topics.commands, options=options)
        self.publish(Message(self._topics.online, self._online(True), retain=True))
        log.info("link", state="up", host=self._settings.host, port=self._settings.port)
        self.on_up()
        return channel

    def end(self) -> None:
        """The connection is gone (called by it)."""
        was_up, self._channel, self._client = self.up, None, None
        if was_up:
            self.on_down()

    def new_client(self) -> mqtt.Client:
        """A client for one connection, with the will set."""
        settings = self._settings
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(0)  # the channel counts, the receive maximum included
        will = _properties(PacketTypes.WILLMESSAGE)
        will.ContentType = CONTENT_TYPE
        client.will_set(self._topics.online, self._online(False), qos=1, retain=True, properties=will)
        return client

    def start(self, client: mqtt.Client) -> None:
        """Starts the client's thread, which connects."""
        settings = self._settings
        session = _properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = settings.session_expiry_s
        client.connect_async(
            settings.host,
            settings.port,
            keepalive=settings.keepalive_s,
            clean_start=False,
            properties=session,
        )
        client.loop_start()

    def received(self, client: mqtt.Client, message: mqtt.MQTTMessage) -> None:
        """A message came on this connection."""

        def acknowledge() -> None:
            if client is self._client:  # never a packet id of an earlier connection
                client.ack(message.mid, message.qos)

        properties = message.properties
        expiry_s: int | None = getattr(properties, "MessageExpiryInterval", None)
        if expiry_s is not None:
            expiry_s = max(0, expiry_s - math.ceil(self._stalls.stalled_s()))
        self.on_command(
            Incoming(
                command=message.topic.rsplit("/", 1)[-1],
                payload=bytes(message.payload),
                acknowledge=acknowledge,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
                message_expiry_s=expiry_s,
                x_request_id=dict(getattr(properties, "UserProperty", [])).get("x-request-id"),
                retained=message.retain,
            )
        )

    async def say_goodbye(self, client: mqtt.Client) -> None:
        """A clean stop: offline is told by us, not by the will."""
        if not self.up:
            return
        told = asyncio.Event()
        self.publish(Message(self._topics.online, self._online(False), retain=True), told.set)
        try:
            async with asyncio.timeout(GOODBYE_S):
                await told.wait()
        except TimeoutError:
            log.warning("the broker did not acknowledge the good-bye")
        client.disconnect()


def _send(client: mqtt.Client, message: Message) -> int | None:
    """Gives a message to the library; its packet id, or None if the connection is gone."""
    properties = _PLAIN
    if message.correlation is not None:
        properties = _properties(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        properties.CorrelationData = message.correlation
    info = client.publish(message.topic, message.payload, message.qos, message.retain, properties=properties)
    return info.mid if info.rc == mqtt.MQTT_ERR_SUCCESS else None


def _properties(packet: int) -> Properties:
    """Empty properties of a kind of packet; their names are set as attributes."""
    properties: Properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho has no type here
    return properties


_PLAIN = _properties(PacketTypes.PUBLISH)
_PLAIN.ContentType = CONTENT_TYPE


class _Connection:
    """One connection from its attempt to its end."""

    def __init__(self, link: MqttLink) -> None:
        self.was_up = False
        self._link = link
        self._reason = ""
        self._channel: Channel | None = None
        # An event, not a future: cancelling `live` must not make the last acknowledgements go unheard.
        self._over = asyncio.Event()

    async def live(self) -> None:
        """Connects and stays until the connection ends. Raises `LinkFault` saying why it did."""
        client = self._link.new_client()
        self._hook(client)
        self._link.start(client)
        try:
            await self._over.wait()
            raise LinkFault(self._reason)
        except asyncio.CancelledError:
            await self._link.say_goodbye(client)
            raise
        finally:
            self._link.end()
            client.loop_stop()
            client._reset_sockets()  # else its wake-up sockets live until the object dies

    def _hook(self, client: mqtt.Client) -> None:
        loop = asyncio.get_running_loop()

        def hand_over(function: Callable[..., None], *arguments: Any) -> None:
            try:
                loop.call_soon_threadsafe(function, *arguments)
            except RuntimeError:  # the loop has been closed: nobody is left to hear it
                return

        def on_connect(_c: Any, _u: Any, _f: Any, reason: ReasonCode, properties: Properties | None) -> None:
            hand_over(self._connected, client, reason, getattr(properties, "ReceiveMaximum", 65_535))

        def on_disconnect(_c: Any, _u: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
            hand_over(self._gone, str(reason))

        client.on_socket_open = _send_at_once
        client.on_connect = on_connect
        client.on_connect_fail = lambda _c, _u: hand_over(self._gone, "no connection")
        client.on_disconnect = on_disconnect
        client.on_message = lambda _c, _u, message: hand_over(self._received, client, message)
        client.on_publish = self._published

    def _connected(self, client: mqtt.Client, reason: ReasonCode, receive_maximum: int) -> None:
        if self._over.is_set():
            return
        if reason.is_failure:
            self._end(f"refused: {reason}")
            return
        self.was_up = True
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody is left to hear it
                loop.call_soon_threadsafe(loop.call_later, RECEIPTS_S, self._take_receipts)

        self._channel = self._link.begin(client, receive_maximum, wake)

    def _gone(self, reason: str) -> None:
        if not self._over.is_set():
            self._end(reason)

    def _end(self, reason: str) -> None:
        self._reason = reason
        self._over.set()

    def _received(self, client: mqtt.Client, message: mqtt.MQTTMessage) -> None:
        if not self._over.is_set():
            self._link.received(client, message)

    def _published(self, _c: Any, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        """A PUBACK, on the library's thread; it makes room, and is told on the event loop."""
        if self._channel is not None:
            self._channel.receipt(mid, reason)

    def _take_receipts(self) -> None:
        """Below 0x80 is success, "no matching subscribers" included (MQTT 5, 3.4.2.1)."""
        if self._channel is None or self._over.is_set():
            return
        for acknowledged, reason in self._channel.take_receipts():
            assert isinstance(reason, ReasonCode)
            if reason.value >= 0x80:
                log.error("the broker refused a publication", reason=str(reason))
            elif acknowledged is not None:
                acknowledged()


def _send_at_once(_client: mqtt.Client, _userdata: Any, sock: Any) -> None:
    """Small packets must not wait for the acknowledgement of those before (Nagle): that costs 40 ms a hop."""
    with contextlib.suppress(OSError):  # a socket that closes already; the link sees that by itself
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
