"""A bare MQTT 5 client instead of the gateway: sends commands, and records when it received what."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.protocol.topics import Topics
from tools.bench.ports import HOST
from tools.measure.rig import MeasureFault

LIFE_S = 10
PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Heard:
    """A message, and the CLOCK_MONOTONIC second at which its callback began."""

    at_s: float
    topic: str
    payload: bytes
    correlation: bytes | None


class BareClient:
    """One connection of paho with its own thread, without Nagle's delay; use it as a context."""

    def __init__(self, port: int, name: str, *topics: str) -> None:
        self.heard: list[Heard] = []
        self._news = threading.Condition()
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda c, *_: c.subscribe([(topic, 1) for topic in topics])
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._port = port

    def __enter__(self) -> BareClient:
        self._client.connect(HOST, self._port)
        opened = self._client.socket()
        assert isinstance(opened, socket.socket)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.loop_start()
        if not self._subscribed.wait(PATIENCE_S):
            raise MeasureFault("the broker does not answer")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Any, _user: Any, message: mqtt.MQTTMessage) -> None:
        at_s = time.monotonic()
        correlation = getattr(message.properties, "CorrelationData", None)
        with self._news:
            self.heard.append(Heard(at_s, message.topic, bytes(message.payload), correlation))
            self._news.notify_all()

    def publish(self, topic: str, body: dict[str, object], reply_to: str, correlation: bytes) -> float:
        """Sends at QoS 1; returns the CLOCK_MONOTONIC second just before."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = reply_to
        properties.CorrelationData = correlation
        properties.MessageExpiryInterval = LIFE_S
        payload = json.dumps(body)
        began_s = time.monotonic()
        self._client.publish(topic, payload, qos=1, properties=properties)
        return began_s

    def first(self, wanted: Callable[[Heard], bool], since_s: float, what: str) -> Heard:
        """Waits for the first matching message received after an instant. Raises `MeasureFault`."""
        looked_at = 0
        end_s = time.monotonic() + PATIENCE_S
        with self._news:
            while True:
                for heard in self.heard[looked_at:]:
                    if heard.at_s >= since_s and wanted(heard):
                        return heard
                looked_at = len(self.heard)
                if not self._news.wait(end_s - time.monotonic()):
                    raise MeasureFault(f"never heard: {what}")

    def forget(self) -> None:
        """Drops the messages received so far."""
        with self._news:
            self.heard.clear()


class Cloud:
    """Sends commands to the machine, and receives the replies. `observer` is a second client that receives
    the commands."""

    def __init__(self, client: BareClient, observer: BareClient, topics: Topics) -> None:
        self.client = client
        self._observer = observer
        self._topics = topics
        self._numbers = count(1)

    def command(self, name: str, **fields: object) -> tuple[float, float, Heard]:
        """Sends a command; returns when it was sent, when the observer received it, and the reply.

        Raises `MeasureFault` for a refusal.
        """
        number = f"measure-{next(self._numbers)}"
        now = datetime.now(UTC)
        body: dict[str, object] = {
            "request_id": number,
            "issued_at": now.isoformat(),
            "expires_at": (now + timedelta(seconds=LIFE_S)).isoformat(),
            **fields,
        }
        correlation = number.encode()
        topic = self._topics.command(name)
        sent_s = self.client.publish(topic, body, self._topics.reply("measure"), correlation)
        reply = self.client.first(lambda heard: heard.correlation == correlation, sent_s, f"reply to {name}")
        if b'"error"' in reply.payload[:12]:
            raise MeasureFault(f"{name}: {reply.payload.decode()}")
        seen = self._observer.first(lambda heard: heard.correlation == correlation, sent_s, f"own {name}")
        return sent_s, seen.at_s, reply

    def event(self, kind: str, reservation_id: str, since_s: float) -> Heard:
        """The event of a type about a reservation."""
        marks = (f'"EVENT_TYPE_{kind}"'.encode(), f'"{reservation_id}"'.encode())
        return self.client.first(
            lambda h: h.topic == self._topics.events and all(m in h.payload for m in marks), since_s, kind
        )
