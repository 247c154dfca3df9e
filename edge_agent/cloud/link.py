"""The MQTT 5 link to the broker; the only file that imports paho-mqtt.

One paho client per connection, discarded with it. Its thread only hands over to the event loop. The session
is persistent (clean start off, session expiry), subscriptions ask for no retained messages, and a message is
acknowledged (PUBACK) only when it is safe on our disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import sys
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.cloud.incoming import incoming
from edge_agent.cloud.life import CountsTurns, LinkLife
from edge_agent.cloud.receipts import QuickReceipts
from edge_agent.cloud.silence import ReceiptWatch
from edge_agent.cloud.sockets import ClosesSockets, end_thread, send_at_once, shut
from edge_agent.cloud.stall import StallWatch
from edge_agent.errors import LinkFault, LinkRefused, SessionTaken
from edge_agent.mqtt.backoff import LONGEST_TAKEN_S, Pauses, pause
from edge_agent.mqtt.channel import TOO_BIG, Channel, Message, Receipt
from edge_agent.mqtt.credentials import (
    REFUSALS,
    FileWatch,
    Judge,
    Shown,
    Stamp,
    WallTime,
    alert_in,
    fault_of,
)
from edge_agent.mqtt.feed import Feed
from edge_agent.mqtt.inflow import RECEIVE_MAXIMUM, Inflow
from edge_agent.mqtt.limits import OURS_BYTES, Limits
from edge_agent.mqtt.settings import LinkSettings, NewCredentials
from edge_agent.protocol.topics import CONTENT_TYPE, Topics
from edge_agent.runtime.clock import Clock, SystemClock
from edge_agent.runtime.incoming import Incoming

log = structlog.get_logger()

WINDOW = 20
"""At most this many of our messages are in flight; more gains nothing (docs/decisions/0004-link.md)."""
FIRST_PAUSE_S = 0.2
"""Pause before the second attempt at a broker that is not there; later pauses double."""
FIRST_REFUSED_S, LONGEST_REFUSED_S = 5.0, 60.0
"""Pauses between attempts while the broker refuses us; a changed file ends the pause."""
STEADY_S = 10.0
"""A connection that was up for this long was good: the next pause is short again."""
CONNECT_TIMEOUT_S = 10.0
"""For the TCP connection, and again from the broker's acceptance to its answer to our subscription."""
RECEIPTS_S = 0.004
"""The event loop takes receipts this long after the first one: many together cost little more than one."""
GOODBYE_S = 1.0
SESSION_TAKEN_OVER = 0x8E
"""Reason code of a DISCONNECT (MQTT 5, 3.14.2.1)."""
WITH_WILL = 0x04
"""Reason code of a DISCONNECT: the will is published all the same (MQTT 5, 3.14.2.1)."""


class _Client(CountsTurns, QuickReceipts, ClosesSockets, mqtt.Client):
    """paho's client with our corrections."""


class MqttLink:
    """`Link` over paho-mqtt."""

    def __init__(
        self,
        settings: LinkSettings,
        topics: Topics,
        online: Callable[[bool], str],
        jitter: random.Random,
        clock: Clock | None = None,
    ) -> None:
        """`online` gives the retained content of `state/online`: birth, good-bye and will."""
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[], None] = lambda: None
        self.on_command: Callable[[Incoming], None] = lambda command: None
        self.on_digest: Callable[[bytes], None] = lambda payload: None
        self.on_refusal: Callable[[str], None] = lambda cause: None
        self.settings = settings
        self._topics = topics
        self._online = online
        self._clock = SystemClock() if clock is None else clock
        refused, taken = (FIRST_REFUSED_S, LONGEST_REFUSED_S), (LONGEST_REFUSED_S, LONGEST_TAKEN_S)
        self.pauses = Pauses((FIRST_PAUSE_S, settings.reconnect_max_s), refused, taken, jitter)
        self._judge = Judge(settings.credentials)
        self._cause = self._told = ""
        self._client: mqtt.Client | None = None
        self._channel: Channel | None = None
        self._up = False
        self._limits = Limits(None)
        self._stalls = StallWatch()
        self.life = LinkLife(lambda: self.settings.look_s)

    @property
    def up(self) -> bool:
        """See `Link.up`."""
        return self._up

    async def run(self) -> None:
        """See `Link.run`."""
        self._stalls.start()
        try:
            await self._keep_connected()
        finally:
            self._stalls.stop()

    async def _keep_connected(self) -> None:
        while True:
            self.life.turn()
            stamp = self.settings.credentials.stamp()
            connection = _Connection(self, stamp)
            try:
                await connection.live(self.judge())
            except NewCredentials as fault:
                self._tell_down(fault)
                continue
            except LinkFault as fault:
                self._tell_down(fault)
                pause_s = self.pauses.after(fault, steady=connection.stood_s >= STEADY_S)
            # At most until a file changes: it may have been repaired.
            await pause(pause_s, self.settings.look_s, functools.partial(self._changed, stamp))

    def _changed(self, stamp: Stamp) -> bool:
        self.life.turn()
        return self.settings.credentials.stamp() != stamp

    def _tell_down(self, fault: LinkFault) -> None:
        """Logs why the link is down, once for each reason: a broker may be away for days."""
        if isinstance(fault, LinkRefused):
            self.refused(fault)
        elif str(fault) != self._told:
            self._told = str(fault)
            log.info("link", state="down", reason=self._told)

    def judge(self) -> Shown:
        """The credentials as their files are now. Raises `LinkRefused` if they are unusable."""
        now = self._clock.now()
        return self._judge.judge(WallTime(now.wall_s, now.synced))

    def refused(self, fault: LinkRefused) -> None:
        """Logs and reports unusable credentials, once for each cause."""
        self._judge.forget()
        if str(fault) != self._cause:
            self._cause = str(fault)
            log.error("link refused", cause=self._cause)
            self.on_refusal(self._cause)

    def taken_over(self) -> None:
        """See `Link.taken_over`."""
        self.pauses.takeovers.note()
        self.refused(SessionTaken())

    def stands(self) -> None:
        """The connection is good (called by it after `STEADY_S`): no other client takes it from us at
        present."""
        self.pauses.takeovers.go_on, self._cause = False, ""
        self.on_refusal("")

    def publish(self, message: Message, on_acknowledged: Receipt | None = None) -> None:
        """See `Link.publish`."""
        if self._channel is not None and self._up:
            fitting = self._limits.fitting(message, self._topics.reply(""))
            if fitting is not None:
                self._channel.put(fitting, on_acknowledged)
            elif on_acknowledged is not None:
                on_acknowledged(False)

    def feed(self, feed: Feed) -> None:
        """See `Link.feed`."""
        if self._channel is not None and self._up:
            self._channel.feed(feed)

    def rest(self, resting: bool) -> None:
        """See `Link.rest`."""
        if self._channel is not None:
            self._channel.rest(resting)

    def begin(self, client: mqtt.Client, limits: Limits, wake: Callable[[], None]) -> Channel:
        """The broker has accepted us (called by the connection): subscribes to the commands. `wake` is the
        channel's."""
        self._client = client
        self._limits = limits
        send, event = functools.partial(_send, client), _event_sender(client, self._topics.events, limits)
        self._channel = Channel(min(WINDOW, limits.receive_maximum), send, event, wake)
        # Retain as published: otherwise the broker clears the flag of a retained command that it passes on at
        # once.
        options = SubscribeOptions(
            qos=1, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
        )
        # Retained only; our own publications of it are not sent back. The link does not depend on this one.
        kept = SubscribeOptions(qos=0, noLocal=True)
        client.subscribe([(self._topics.commands, options), (self._topics.digest, kept)])
        return self._channel

    def go_up(self) -> None:
        """The broker has granted the subscription (called by the connection): reports the link as up."""
        self._up = True
        self.publish(Message(self._topics.online, self._online(True), retain=True))
        log.info("link", state="up", host=self.settings.host, port=self.settings.port)
        self._told = ""
        if not self.pauses.takeovers.go_on:
            self.stands()
        self.on_up()

    def end(self) -> None:
        """The connection has ended (called by it)."""
        self.life.end()
        was_up, self._up, self._channel, self._client = self._up, False, None, None
        if was_up:
            self.on_down()

    def new_client(self, shown: Shown) -> _Client:
        """A client for one connection, with the will set."""
        settings = self.settings
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=mqtt.MQTTv5,
            transport=settings.transport,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.reconnect_delay_set(0, 0)  # otherwise its thread would sleep a second after a failure
        client.max_inflight_messages_set(0)  # the channel counts, and obeys the receive maximum
        if settings.transport == "websockets":
            client.ws_set_options(path=settings.websocket_path)
        if shown.context is not None:
            client.tls_set_context(shown.context)
        if shown.username is not None:
            client.username_pw_set(shown.username, shown.password)
        will = _properties(PacketTypes.WILLMESSAGE)
        will.ContentType = CONTENT_TYPE
        client.will_set(self._topics.online, self._online(False), qos=1, retain=True, properties=will)
        return client

    def start(self, client: _Client) -> None:
        """Starts the client's thread, which connects."""
        self.life.begin(client)
        settings = self.settings
        session = _properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = settings.session_expiry_s
        session.MaximumPacketSize = OURS_BYTES
        session.ReceiveMaximum = RECEIVE_MAXIMUM
        keepalive_s = settings.keepalive_s
        client.connect_async(settings.host, settings.port, keepalive_s, clean_start=False, properties=session)
        client.loop_start()

    def received(self, client: mqtt.Client, message: mqtt.MQTTMessage) -> None:
        """Handles a message from this connection."""
        if message.topic == self._topics.digest:
            if message.retain:
                self.on_digest(bytes(message.payload))
            return

        def acknowledge() -> None:
            if client is self._client:  # never a packet id of an earlier connection
                client.ack(message.mid, message.qos)

        self.on_command(incoming(message, acknowledge, self._stalls.stalled_s()))

    async def say_goodbye(self, client: mqtt.Client) -> None:
        """A clean stop: publishes offline; if that is not acknowledged, the will is published."""
        if not self.up:
            return
        told = asyncio.Event()
        self.publish(Message(self._topics.online, self._online(False), retain=True), lambda _: told.set())
        try:
            async with asyncio.timeout(GOODBYE_S):
                await told.wait()
        except TimeoutError:
            log.warning("the broker did not acknowledge the good-bye")
            client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=WITH_WILL))
        else:
            client.disconnect()


def _send(client: mqtt.Client, message: Message) -> int | None:
    """Gives a message to the library; returns its packet id, or None if the connection is gone."""
    properties: Properties = _PLAIN
    if message.correlation is not None:
        properties = _properties(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        properties.CorrelationData = message.correlation
    info = client.publish(message.topic, message.payload, message.qos, message.retain, properties=properties)
    return info.mid if info.rc == mqtt.MQTT_ERR_SUCCESS else None


def _event_sender(client: mqtt.Client, topic: str, limits: Limits) -> Callable[[str], int | None]:
    """Gives bodies of events to the library; see `Channel`."""

    def send(body: str) -> int | None:
        if not limits.fits(topic, body):
            return TOO_BIG
        info = client.publish(topic, body, 1, properties=_PLAIN)
        return info.mid if info.rc == mqtt.MQTT_ERR_SUCCESS else None

    return send


def _properties(packet: int) -> Properties:
    """Empty properties for a kind of packet; they are set as attributes."""
    properties: Properties = Properties(packet)  # type: ignore[no-untyped-call]  # paho has no type here
    return properties


class _Packed(Properties):
    """Properties of almost every message, packed once: the library would do it for each message."""

    def __init__(self) -> None:
        super().__init__(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        self.ContentType = CONTENT_TYPE
        packed: bytes = super().pack()  # type: ignore[no-untyped-call]
        object.__setattr__(self, "pack", lambda: packed)


_PLAIN = _Packed()
_Client.usual = ReasonCode(PacketTypes.PUBACK), _properties(PacketTypes.PUBACK)


class _Connection:
    """One connection from its attempt to its end, made with files that had this `stamp`."""

    def __init__(self, link: MqttLink, stamp: Stamp) -> None:
        self.stood_s = 0.0
        """How long it was up, in seconds; connecting does not count."""
        self._up_since_s: float | None = None
        self._link = link
        self._channel: Channel | None = None
        self._files = FileWatch(link.settings.credentials, stamp)
        self._fault = LinkFault("")
        self._receipts = ReceiptWatch(link.settings.look_s)
        # An event, not a future: cancelling `live` must not lose the last acknowledgements.
        self._over = asyncio.Event()

    async def live(self, shown: Shown) -> None:
        """Connects and stays until the connection ends. Raises `LinkFault` with the reason."""
        client = self._link.new_client(shown)
        self._hook(client)
        self._link.start(client)
        try:
            await self._until_over(client)
        except (asyncio.CancelledError, NewCredentials):
            await self._link.say_goodbye(client)
            raise
        except LinkFault:
            shut(client.socket())  # else the library keeps it until everything is acknowledged
            raise
        finally:
            if self._up_since_s is not None:
                self.stood_s = asyncio.get_running_loop().time() - self._up_since_s
            self._over.set()
            self._link.end()
            await end_thread(client)

    async def _until_over(self, client: mqtt.Client) -> None:
        look_s = self._link.settings.look_s
        while not self._over.is_set():
            self._link.life.turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_s):
                    await self._over.wait()
            if self._over.is_set():
                break
            if client._thread is None:
                raise LinkFault("the library's thread died")
            if self._channel is not None:
                self._receipts.look(self._channel.receipts)
            self._look_at_files()
        raise self._fault

    def _look_at_files(self) -> None:
        """Raises `NewCredentials` if the files have changed and are good. Reports bad ones, and the
        connection stays."""
        if not self._files.changed():
            return
        try:
            self._link.judge()
        except LinkRefused as fault:
            self._link.refused(fault)
        else:
            raise NewCredentials("new credentials")

    def _hook(self, client: mqtt.Client) -> None:
        loop = asyncio.get_running_loop()

        def hand_over(function: Callable[..., None], *arguments: Any) -> None:
            try:
                loop.call_soon_threadsafe(function, *arguments)
            except RuntimeError:  # the loop has been closed: there is no receiver any more
                return

        def on_socket_open(_c: Any, _u: Any, sock: Any) -> None:
            if self._over.is_set():
                sock.close()  # the attempt was given up; a CONNECT would take our session from us
            else:
                send_at_once(sock)

        def on_connect(_c: Any, _u: Any, _f: Any, reason: ReasonCode, properties: Properties | None) -> None:
            client.on_log = None
            # A broker may ask for a longer keep-alive than ours: a dead link would go unnoticed for longer.
            client._keepalive = min(client._keepalive, self._link.settings.keepalive_s)
            hand_over(self._connected, client, reason, Limits(properties))

        def on_disconnect(_c: Any, _u: Any, _f: Any, reason: ReasonCode, _p: Any) -> None:
            kind = LinkRefused if reason.value in REFUSALS else LinkFault
            fault = kind(f"refused: {reason}" if kind is LinkRefused else str(reason))
            taken = reason.value == SESSION_TAKEN_OVER
            hand_over(self._gone, SessionTaken() if taken else fault)

        def on_log(_c: Any, _u: Any, level: int, text: str) -> None:
            # With TLS 1.3 the broker judges our certificate after our side of the handshake is complete.
            alert = alert_in(text) if level == mqtt.MQTT_LOG_ERR else None
            if alert is not None:
                hand_over(self._gone, alert)

        client.on_log = on_log
        client.on_socket_open = on_socket_open
        client.on_connect = on_connect
        client.on_connect_fail = lambda _c, _u: hand_over(self._gone, fault_of(sys.exception()))
        client.on_subscribe = lambda _c, _u, _mid, reasons, _p: hand_over(
            self._subscribed, client, reasons[0]
        )
        client.on_disconnect = on_disconnect
        inflow: Inflow[mqtt.MQTTMessage] = Inflow(functools.partial(self._received, client))
        client.on_message = lambda _c, _u, message: inflow.put(message)
        client.on_publish = self._published

    def _connected(self, client: mqtt.Client, reason: ReasonCode, limits: Limits) -> None:
        if self._over.is_set():
            return
        if reason.is_failure:
            refused = reason.value in REFUSALS
            self._gone((LinkRefused if refused else LinkFault)(f"the broker refuses us: {reason}"))
            return
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed: there is no receiver any more
                loop.call_soon_threadsafe(loop.call_later, RECEIPTS_S, self._take_receipts)

        self._channel = self._link.begin(client, limits, wake)
        loop.call_later(CONNECT_TIMEOUT_S, self._demand_subscribed)

    def _subscribed(self, client: mqtt.Client, reason: ReasonCode) -> None:
        if reason.is_failure:
            client.disconnect()
            self._gone(LinkRefused(f"the broker keeps our commands from us: {reason}"))
        elif not self._over.is_set():
            self._up_since_s = asyncio.get_running_loop().time()
            self._link.go_up()
            asyncio.get_running_loop().call_later(STEADY_S, self._stands)

    def _stands(self) -> None:
        if not self._over.is_set() and self._link.pauses.takeovers.go_on:
            self._link.stands()

    def _demand_subscribed(self) -> None:
        if self._up_since_s is None:
            self._gone(LinkFault("the broker does not answer our subscription"))

    def _gone(self, fault: LinkFault) -> None:
        if not self._over.is_set():
            self._fault = fault
            self._over.set()

    def _received(self, client: mqtt.Client, message: mqtt.MQTTMessage) -> None:
        if not self._over.is_set():
            self._link.received(client, message)

    def _published(self, _c: Any, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        """Takes a PUBACK, on the library's thread; it frees a place and is reported on the event loop."""
        if self._channel is not None:
            # Below 0x80 is success, "no matching subscribers" included (MQTT 5, 3.4.2.1).
            self._channel.receipt(mid, reason, reason.value < 0x80)

    def _take_receipts(self) -> None:
        if self._channel is None or self._over.is_set():
            return
        for acknowledged, reason, accepted in self._channel.take_receipts():
            if acknowledged is not None:
                acknowledged(accepted)
            elif not accepted:
                log.error("the broker refused a publication", reason=str(reason))
