"""The client of paho-mqtt 2.2, adapted; the only module that knows its private names.

One client lives for one connection. It connects, sends and receives on a thread of its own, and reports what
happens there to its `LibraryEvents`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.mqtt import packets
from edge_agent.mqtt.broker_limits import BrokerLimits
from edge_agent.mqtt.credentials import CheckedCredentials, alert_in, fault_of
from edge_agent.mqtt.interfaces import LibraryEvents
from edge_agent.mqtt.known_properties import KnownProperties
from edge_agent.mqtt.messages import Message
from edge_agent.mqtt.send_window import TOO_BIG
from edge_agent.mqtt.settings import Bounds, LinkSettings, Subscription

THREAD_END_S = 1.0
"""`LibraryClient.stop` waits for the thread at most this long after `Bounds.goodbye_s`."""
POLL_S = 0.01
SHORTEST_PUBACK_BYTES = 2
"""A PUBACK with a packet id alone means success (MQTT 5, 3.4.2.1)."""


class _ClosesFailedSockets(mqtt.Client):
    """Closes a socket whose TLS or websocket handshake failed, which the library leaves to the garbage
    collector (`Client._create_socket`)."""

    _half_open: socket.socket | None = None

    def _create_socket_connection(self) -> socket.socket:
        made = super()._create_socket_connection()
        self._half_open = made
        return made

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> Any:
        client: Any = self
        made = client._ssl_context.wrap_socket(
            tcp_sock, server_hostname=client._host, do_handshake_on_connect=False
        )
        self._half_open = made
        made.settimeout(client._connect_timeout)
        made.do_handshake()
        return made

    def _create_socket(self) -> Any:
        try:
            return super()._create_socket()
        except BaseException:
            if self._half_open is not None:
                self._half_open.close()
            raise
        finally:
            self._half_open = None


class LibraryClient(_ClosesFailedSockets):
    """A client for one connection. `alive`, `turns`, `publish_message` and the function of `event_sender` are
    used on both threads, everything else on the event loop."""

    _left_alone = False
    turns = 0
    """Turns of its thread's loop since it connected (`Client._loop`)."""

    def __init__(
        self, settings: LinkSettings, bounds: Bounds, checked: CheckedCredentials, will: Message | None
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=mqtt.MQTTv5,
            transport=settings.transport,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        self._link_settings = settings
        self._link_bounds = bounds
        self._known_properties = KnownProperties()
        self.connect_timeout = bounds.connect_s
        self.reconnect_delay_set(0, 0)  # otherwise its thread would sleep a second after a failure
        self.max_inflight_messages_set(0)  # `SendWindow` counts, and obeys the receive maximum
        if settings.transport == "websockets":
            self.ws_set_options(path=settings.websocket_path)
        if checked.context is not None:
            self.tls_set_context(checked.context)
        if checked.username is not None:
            self.username_pw_set(checked.username, checked.password)
        if will is not None:
            properties = packets.will_properties()
            self.will_set(will.topic, will.payload, will.qos, will.retain, properties)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None

    def start(self, events: LibraryEvents) -> None:
        """Starts the thread, which connects and reports to `events`."""
        self._report_to(events)
        settings = self._link_settings
        self.connect_async(
            settings.host,
            settings.port,
            settings.keepalive_s,
            clean_start=False,
            properties=packets.connect_properties(settings, self._link_bounds),
        )
        self.loop_start()

    def subscribe_all(self, subscriptions: tuple[Subscription, ...]) -> None:
        """Subscribes, in one packet."""
        self.subscribe([(one.topic, packets.subscribe_options(one)) for one in subscriptions])

    def publish_message(self, message: Message) -> int | None:
        """Gives a message to the library; returns its packet id, or None if the connection is gone."""
        properties = packets.publish_properties(message)
        info = self.publish(message.topic, message.payload, message.qos, message.retain, properties)
        return packets.packet_id_of(info)

    def event_sender(self, topic: str, limits: BrokerLimits) -> Callable[[str], int | None]:
        """Gives bodies of events to the library; see `SendWindow`."""

        def send(body: str) -> int | None:
            if not limits.fits(topic, body):
                return TOO_BIG
            info = self.publish(topic, body, 1, properties=packets.PLAIN)
            return info.mid if info.rc == mqtt.MQTT_ERR_SUCCESS else None

        return send

    def send_disconnect(self, *, with_will: bool = False) -> None:
        """Sends a DISCONNECT."""
        self.disconnect(packets.disconnect_reason(with_will=with_will))

    def shut_down_socket(self) -> None:
        """Ends the connection at once; the thread notices."""
        sock = _real(self.socket())
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def stop(self) -> None:
        """Ends the thread without blocking the loop. A broker that is silent or still owes an acknowledgement
        loses its connection. A thread that is stuck in connecting is left alone: it closes what it opens,
        and ends."""
        self._thread_terminate = True
        if not await self._ends_within(self._link_bounds.goodbye_s):
            self.shut_down_socket()
            if not await self._ends_within(THREAD_END_S):
                self._left_alone = True
                if self.alive:
                    return
        self._release()

    def _thread_main(self) -> None:
        """The library's thread; nobody waits for the end of one that was left alone."""
        super()._thread_main()
        if self._left_alone:
            self._release()

    def _release(self) -> None:
        self._reset_sockets()  # otherwise its wake-up sockets stay open until the object dies
        self._ssl_context = None  # a key in a TPM takes up room there for as long as somebody has its context

    async def _ends_within(self, limit_s: float) -> bool:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + limit_s
        while self.alive:
            if loop.time() > end_s:
                return False
            await asyncio.sleep(POLL_S)
        return True

    def loop_misc(self) -> MQTTErrorCode:
        """The library calls this with each turn."""
        self.turns += 1
        return super().loop_misc()

    def _handle_pubackcomp(self, cmd: Any) -> MQTTErrorCode:
        """Handles the usual PUBACK without the objects that the library makes for absent parts, which cost a
        third of the time for an event (docs/decisions/0016-backlog.md)."""
        packet: Any = self._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) != SHORTEST_PUBACK_BYTES:
            return super()._handle_pubackcomp(cmd)
        mid = packet[0] << 8 | packet[1]
        with self._out_message_mutex:
            if mid in self._out_messages:
                return self._do_on_publish(mid, *packets.USUAL)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_publish(self) -> MQTTErrorCode:
        """Handles a PUBLISH without decoding properties that have come before, as those of nearly every event
        and state have: for each message the library builds its tables of all properties, which costs half of
        its time."""
        message = self._known_properties.read(self._in_packet["command"], self._in_packet["packet"])
        if message is None:
            return super()._handle_publish()
        self._handle_on_message(message)  # type: ignore[arg-type]  # it has what is read
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _report_to(self, events: LibraryEvents) -> None:
        def on_socket_open(_c: Any, _u: Any, sock: Any) -> None:
            if events.socket_opened():
                send_at_once(sock)
            else:
                sock.close()  # a CONNECT would take our session from us

        connack_arrived = False

        def on_connect(_c: Any, _u: Any, _f: Any, reason: ReasonCode, properties: Properties | None) -> None:
            nonlocal connack_arrived
            connack_arrived = True
            self.on_log = None
            # A broker may ask for a longer keep-alive than ours: a dead link would go unnoticed for longer.
            self._keepalive = min(self._keepalive, self._link_settings.keepalive_s)
            if reason.is_failure:
                events.connection_lost(packets.fault_of_refusal(reason))
            else:
                events.accepted(BrokerLimits(properties))

        def on_subscribe(_c: Any, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
            events.subscribed([str(reason) if reason.is_failure else None for reason in reasons])

        def on_publish(_c: Any, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
            events.puback_arrived(mid, reason, reason.value < packets.FIRST_FAILURE)

        def on_disconnect(_c: Any, _u: Any, flags: mqtt.DisconnectFlags, reason: ReasonCode, _p: Any) -> None:
            sent = flags.is_disconnect_packet_from_server
            events.connection_lost(packets.fault_of_end(reason, sent=sent, connack_arrived=connack_arrived))

        def on_log(_c: Any, _u: Any, level: int, text: str) -> None:
            # With TLS 1.3 the broker judges our certificate after our side of the handshake is complete.
            alert = alert_in(text) if level == mqtt.MQTT_LOG_ERR else None
            if alert is not None:
                events.connection_lost(alert)

        self.on_log = on_log
        self.on_socket_open = on_socket_open
        self.on_connect = on_connect
        self.on_connect_fail = lambda _c, _u: events.connection_lost(fault_of(sys.exception()))
        self.on_subscribe = on_subscribe
        self.on_disconnect = on_disconnect
        self.on_message = lambda _c, _u, message: events.arrived(message)
        self.on_publish = on_publish


def send_at_once(sock: Any) -> None:
    """Sends small packets without waiting for the acknowledgement of earlier ones (Nagle), which costs 40 ms
    a hop. `sock`: the library's socket."""
    with contextlib.suppress(OSError):  # the socket is closing; the link notices by itself
        _real(sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _real(sock: Any) -> Any:
    """The socket below the library's one, which under websockets holds it; None if there is none."""
    return getattr(sock, "_socket", sock)
