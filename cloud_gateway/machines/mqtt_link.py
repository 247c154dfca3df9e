"""The connection to the broker, and the only file that knows the MQTT library.

One paho client object lives for one connection. Its thread only hands over to the event loop. What the broker
did not acknowledge is lost with its connection; the broker's session (a minute) keeps what is on its way to
us, and what is lost with it is requested (see `reconcile`). Facts about the library: paho-mqtt 2.2,
`Client.loop_stop`, `Client.ack`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from cloud_gateway.logs import log
from cloud_gateway.settings import MqttSettings, signer_of
from edge_agent.cloud.sockets import ClosesSockets, send_at_once
from edge_agent.errors import LinkFault, LinkRefused
from edge_agent.mqtt.backoff import Backoff
from edge_agent.mqtt.credentials import REFUSALS, Credentials, Shown, Stamp, WallTime, alert_in, fault_of
from edge_agent.protocol.topics import CONTENT_TYPE

CLIENT_PREFIX = "gateway:"
"""The beginning of every gateway's client identifier. No machine's id has a colon, so no machine can take
over the session of a gateway."""
SESSION_EXPIRY_S = 60
"""Short: a broker that shares events among several gateways reserves them for a dead one that long."""
KEEPALIVE_S = 5
CONNECT_TIMEOUT_S = 2.0
HANDSHAKE_TIMEOUT_S = 3.0
PAUSE_FIRST_S = 0.2
PAUSE_MAX_S = 2.0
REFUSED_FIRST_S = 2.0
REFUSED_MAX_S = 30.0
"""Pause between attempts while we are refused; a changed file ends it."""
LOOK_S = 10.0
"""How often our credential files are checked for changes."""
IN_FLIGHT_MAX = 20
"""Commands not yet acknowledged by the broker; further ones wait on our side, where they can expire."""
GOODBYE_S = 0.5


@dataclass(frozen=True, slots=True)
class Message:
    """One received message; `connection` and `mid` are needed to acknowledge it."""

    topic: str
    payload: bytes
    correlation: bytes | None
    connection: int
    mid: int
    qos: int
    retained: bool = False
    """Whether the broker had it in store when we subscribed."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """The link's callbacks, all called on the event loop. `refused` gets the correlation data of a command
    that the broker did not deliver, and the reason."""

    message: Callable[[Message], None]
    down: Callable[[], None]
    refused: Callable[[bytes, str], None]


class _Client(ClosesSockets, paho.Client):
    """Paho's client, adapted."""


class _Connection:
    """The state of one connection, discarded with it."""

    def __init__(self, number: int, client: paho.Client, stamp: Stamp) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.client = client
        self.accepted: asyncio.Future[ReasonCode] = loop.create_future()
        self.subscribed: asyncio.Future[list[ReasonCode]] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.stamp = stamp
        self.refusal: LinkRefused | None = None
        self.unacknowledged: dict[int, bytes] = {}
        self.room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self.ready = False


class MqttLink:
    """Keeps one connection; `run` is its life, everything else is called on the same event loop."""

    def __init__(self, settings: MqttSettings, subscriptions: list[str], handlers: Handlers) -> None:
        self._settings = settings
        self._subscriptions = subscriptions
        self._handlers = handlers
        self._credentials = Credentials.of(settings)
        self._signer = signer_of(settings)
        self._refusal = ""
        self._number = 0
        self._current: _Connection | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and our subscriptions."""
        return self._current is not None and self._current.ready

    def is_current(self, message: Message) -> bool:
        """Whether the message came over the present connection (the broker sends what it kept for us even
        before it has accepted our subscriptions)."""
        return self._current is not None and self._current.number == message.connection

    async def run(self) -> None:
        """Connects, again and again with a pause of at most 2 s, until cancelled; while credentials are bad
        the pauses are longer, until a file changes."""
        jitter = random.Random()
        unreachable = Backoff(PAUSE_FIRST_S, PAUSE_MAX_S, jitter)
        refused = Backoff(REFUSED_FIRST_S, REFUSED_MAX_S, jitter)
        while True:
            stamp, backoff = self._credentials.stamp(), unreachable
            try:
                await self._one_connection(self._judge(), stamp)
                unreachable.reset()
                refused.reset()
            except LinkRefused as fault:
                self._refused(fault)
                backoff = refused
            except LinkFault as fault:
                log().warning("broker_unreachable", reason=str(fault))
            await self._pause(backoff.pause_s(), stamp)

    async def _pause(self, pause_s: float, stamp: Stamp) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + pause_s
        while (left_s := end_s - loop.time()) > 0 and self._credentials.stamp() == stamp:
            await asyncio.sleep(min(left_s, LOOK_S))

    def _judge(self) -> Shown:
        return self._credentials.judge(WallTime(time(), synced=True))

    def _refused(self, fault: LinkRefused) -> None:
        """Logs each cause once."""
        if str(fault) != self._refusal:
            self._refusal = str(fault)
            log().error("broker_refused", cause=self._refusal)

    def acknowledge(self, message: Message) -> None:
        """Acknowledges to the broker that the message is stored here; one of an earlier connection comes
        again."""
        if message.qos == 1 and self.is_current(message) and self._current is not None:
            self._current.client.ack(message.mid, message.qos)

    async def publish(
        self,
        topic: str,
        make_payload: Callable[[], tuple[bytes, int]],
        *,
        response_topic: str,
        correlation: bytes,
        request_id: str,
    ) -> None:
        """Sends a command at QoS 1 over the present connection or not at all.

        `make_payload` is called when there is room, and returns the payload and its life in whole seconds.
        Raises `LinkFault` if there is no connection or it ends while waiting for room.
        """
        connection = self._current
        if connection is None or not connection.ready:
            raise LinkFault("not connected")
        await connection.room.acquire()
        try:
            if connection is not self._current:
                raise LinkFault("the connection ended")
            payload, expiry_s = make_payload()
        except BaseException:
            connection.room.release()
            raise
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = CONTENT_TYPE
        properties.ResponseTopic = response_topic
        properties.CorrelationData = correlation
        properties.MessageExpiryInterval = expiry_s
        user = [("x-request-id", request_id)]
        if self._signer is not None:
            user += self._signer.properties(topic, payload)
        properties.UserProperty = user
        info = connection.client.publish(topic, payload, qos=1, properties=properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            # Paho keeps it for a later connection of this object, which will not exist.
            self._lost(connection, f"publish failed: {paho.error_string(info.rc)}")
            raise LinkFault("the connection ended")
        connection.unacknowledged[info.mid] = correlation

    def _new_client(self, shown: Shown) -> paho.Client:
        settings = self._settings
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{CLIENT_PREFIX}{settings.client_id}",
            protocol=paho.MQTTv5,
            transport=settings.transport,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        if settings.transport == "websockets":
            client.ws_set_options(path=settings.websocket_path)
        if shown.context is not None:
            client.tls_set_context(shown.context)
        if shown.username is not None:
            client.username_pw_set(shown.username, shown.password)
        return client

    async def _one_connection(self, shown: Shown, stamp: Stamp) -> None:
        """From connecting to the connection's end. Raises `LinkFault` if it was not made."""
        self._number += 1
        client = self._new_client(shown)
        connection = _Connection(self._number, client, stamp)
        self._set_callbacks(connection)
        self._current = connection
        try:
            await self._handshake(connection)
            connection.ready = True
            self._refusal = ""
            log().info("broker_connected", connection=connection.number)
            reason = await self._until_ended(connection)
            log().warning("broker_lost", reason=reason)
        finally:
            self._lost(connection, "ended")
            connection.room.release()  # each waiter passes it on
            await _finish(asyncio.to_thread(_close, client))

    async def _until_ended(self, connection: _Connection) -> str:
        """Returns why the connection ended. Ends it when files have changed to good ones that stay the same
        for one check."""
        last_seen = connection.stamp
        while True:
            await asyncio.wait((connection.ended,), timeout=LOOK_S)
            if connection.ended.done():
                return connection.ended.result()
            stamp = self._credentials.stamp()
            if stamp == connection.stamp or stamp != last_seen:
                last_seen = stamp
                continue
            connection.stamp = stamp
            try:
                self._judge()
            except LinkRefused as fault:
                self._refused(fault)
            else:
                return "new credentials"

    async def _handshake(self, connection: _Connection) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        client, settings = connection.client, self._settings
        try:
            await _finish(
                asyncio.to_thread(
                    client.connect,
                    settings.host,
                    settings.port,
                    keepalive=KEEPALIVE_S,
                    clean_start=False,
                    properties=properties,
                )
            )
            client.loop_start()
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                reason = await _unless_ended(connection.accepted, connection)
                if reason.is_failure:
                    kind = LinkRefused if reason.value in REFUSALS else LinkFault
                    raise kind(f"the broker refused us: {reason}")
                # Retain Handling 0: retained states come at every subscription, also into a kept session.
                options = SubscribeOptions(qos=1, retainHandling=0)
                client.subscribe([(topic, options) for topic in self._subscriptions])
                reasons = await _unless_ended(connection.subscribed, connection)
                if any(reason.is_failure for reason in reasons):
                    raise LinkFault("the broker refused a subscription")
        except OSError as error:
            raise fault_of(error) from error

    def _set_callbacks(self, connection: _Connection) -> None:
        """Paho's thread only hands over; everything happens on the loop."""
        call = asyncio.get_running_loop().call_soon_threadsafe
        client = connection.client

        def on_connect(_c: Any, _u: Any, _flags: Any, reason: ReasonCode, _p: Any) -> None:
            client.on_log = None
            call(_settle, connection.accepted, reason)

        def on_subscribe(_c: Any, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
            call(_settle, connection.subscribed, reasons)

        def on_message(_c: Any, _u: Any, message: paho.MQTTMessage) -> None:
            call(self._received, connection, message)

        def on_publish(_c: Any, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
            call(self._taken, connection, mid, reason)

        def on_disconnect(_c: Any, _u: Any, _flags: Any, reason: ReasonCode, _p: Any) -> None:
            call(self._lost, connection, str(reason))

        def on_log(_c: Any, _u: Any, level: int, text: str) -> None:
            # With TLS 1.3 the broker judges our certificate when our side of the handshake is over already.
            alert = alert_in(text) if level == paho.MQTT_LOG_ERR else None
            if alert is not None:
                connection.refusal = alert

        client.on_log = on_log
        client.on_socket_open = no_delay
        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_message = on_message
        client.on_publish = on_publish
        client.on_disconnect = on_disconnect

    def _received(self, connection: _Connection, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            log().error("topic_unreadable")
            return
        correlation = getattr(message.properties, "CorrelationData", None)
        payload, retained = bytes(message.payload), bool(message.retain)
        self._handlers.message(
            Message(topic, payload, correlation, connection.number, message.mid, message.qos, retained)
        )

    def _taken(self, connection: _Connection, mid: int, reason: ReasonCode) -> None:
        correlation = connection.unacknowledged.pop(mid, None)
        connection.room.release()
        # 0x10 "no matching subscribers": the machine's session is gone, no machine will ever get it.
        if correlation is not None and (reason.is_failure or reason.value == 0x10):
            self._handlers.refused(correlation, str(reason))

    def _lost(self, connection: _Connection, reason: str) -> None:
        if self._current is connection:
            self._current = None
            self._handlers.down()
        _settle(connection.ended, reason)


def no_delay(_client: Any, _user: Any, sock: Any) -> None:
    """Sends small packets at once: a command must not wait 40 ms for a delayed TCP acknowledgement."""
    send_at_once(sock)


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


async def _unless_ended(future: asyncio.Future[Any], connection: _Connection) -> Any:
    """Returns the broker's answer. Raises `LinkFault` if the connection ends first."""
    await asyncio.wait((future, connection.ended), return_when=asyncio.FIRST_COMPLETED)
    if future.done():
        return future.result()
    raise connection.refusal or LinkFault(f"the connection ended: {connection.ended.result()}")


async def _finish(work: Any) -> None:
    """Waits for blocking work to end even when cancelled, so that no socket or thread is left behind."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()
        raise


def _close(client: paho.Client) -> None:
    """Sends a DISCONNECT and ends the client's thread; blocks up to about a second."""
    client.disconnect()
    thread = client._thread
    if thread is not None:
        thread.join(timeout=GOODBYE_S)
    sock = getattr(client.socket(), "_socket", client.socket())  # under websockets the real one
    if isinstance(sock, socket.socket):
        # The broker is silent or still owes an acknowledgement: the thread ends only with the socket.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    client.loop_stop()
    _drop_socket(client)


def _drop_socket(client: paho.Client) -> None:
    """Closes the sockets of a client that never got a thread."""
    sock = client.socket()
    if sock is not None:
        sock.close()
    client._reset_sockets()  # the library's wake-up sockets too; otherwise they live until the object dies
