"""Messages and properties in the objects of the library (paho-mqtt)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.exception import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.errors import LinkFault, LinkRefused, SessionTaken
from edge_agent.mqtt.messages import Message, Puback, Received
from edge_agent.mqtt.settings import Bounds, LinkSettings, Subscription
from edge_agent.protocol.topics import CONTENT_TYPE

SESSION_TAKEN_OVER = 0x8E
"""Reason code of a DISCONNECT (MQTT 5, 3.14.2.1)."""
WITH_WILL = 0x04
"""Reason code of a DISCONNECT: the will is published all the same (MQTT 5, 3.14.2.1)."""
NO_MATCHING_SUBSCRIBERS = 0x10
"""Reason code of a PUBACK (MQTT 5, 3.4.2.1)."""
FIRST_FAILURE = 0x80
"""Reason codes below are successes."""
MQTT_5 = "the broker must speak MQTT 5: look at its version, and at the settings of its listener"
REFUSALS = {
    0x81: MQTT_5,  # malformed packet
    0x82: MQTT_5,  # protocol error
    0x83: "look at the log of the broker",  # implementation specific error
    0x84: MQTT_5,  # unsupported protocol version
    0x85: "look at machine_id, and at the client identifiers that the broker accepts",
    0x86: "look at the user name and password of [mqtt], and at the broker's list",
    0x87: "look at the credentials of [mqtt], and at the broker's list of machines",
    0x8A: "the broker has banned this machine: ask its operator",
    0x8C: "the broker wants another way of authentication: set it to user names or certificates",
    0x90: "the broker does not accept the topic of our will: look at its access list",
    0x95: "the broker's longest packet is too short: allow 64 KiB at least",
    0x99: "look at the log of the broker",  # payload format invalid
    0x9A: "the broker must allow retained messages: retain_available true in Mosquitto",
    0x9B: "the broker must allow QoS 1: max_qos 1 or 2 in Mosquitto",
    0x9D: "the broker has moved: set host and port of [mqtt] to its new address",
}
"""Reason codes with which a broker refuses us until something is changed (MQTT 5, 3.2.2.2), and what to do.
The others are temporary: server unavailable or busy, quota or connection rate exceeded, use another server
for now."""
LATER_STEPS = REFUSALS | {
    0x81: "look at the log of the broker: it may not support QoS 1",
    0x82: "look at the log of the broker: its limit for one message may be too low",
}
"""The same for a DISCONNECT. Mosquitto answers a message beyond message_size_limit with "protocol error",
mqttools answers QoS 1 with "malformed packet"."""
BROKE_OFF = "the connection broke off"
NO_ANSWER = "the broker closed the connection without an answer: its log says why"
SENDER_PROPERTIES = (
    "PayloadFormatIndicator",
    "MessageExpiryInterval",
    "ContentType",
    "ResponseTopic",
    "CorrelationData",
    "UserProperty",
)
"""Properties that a sender may give a publication, as paho names them."""
OF_ONE_MESSAGE = ("CorrelationData", "MessageExpiryInterval")
"""Properties with which hardly two messages are alike."""


def properties_of(packet: int) -> Properties:
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


PLAIN = _Packed()
"""The properties of a message that has a Content Type and nothing else."""
USUAL = ReasonCode(PacketTypes.PUBACK), properties_of(PacketTypes.PUBACK)
"""Reason code and properties of a PUBACK that has none."""


def publish_properties(message: Message) -> Properties:
    """The properties of a message to publish."""
    if message.is_plain:
        return PLAIN
    properties = properties_of(PacketTypes.PUBLISH)
    properties.ContentType = CONTENT_TYPE
    if message.response_topic is not None:
        properties.ResponseTopic = message.response_topic
    if message.correlation is not None:
        properties.CorrelationData = message.correlation
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    if message.user:
        properties.UserProperty = list(message.user)
    return properties


def will_properties() -> Properties:
    """The properties of a will."""
    properties = properties_of(PacketTypes.WILLMESSAGE)
    properties.ContentType = CONTENT_TYPE
    return properties


def connect_properties(settings: LinkSettings, bounds: Bounds) -> Properties:
    """The properties of the CONNECT packet: our session and our limits."""
    properties = properties_of(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = settings.session_expiry_s
    if bounds.inbound is not None:
        properties.MaximumPacketSize = bounds.inbound.packet_bytes
        properties.ReceiveMaximum = bounds.inbound.receive_maximum
    return properties


def subscribe_options(subscription: Subscription) -> SubscribeOptions:
    """The options of a subscription."""
    handling = (
        SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
        if subscription.send_retained
        else SubscribeOptions.RETAIN_DO_NOT_SEND
    )
    return SubscribeOptions(
        qos=subscription.qos,
        noLocal=subscription.no_local,
        retainAsPublished=subscription.retain_as_published,
        retainHandling=handling,
    )


def unpacked(packed: bytes) -> Properties | None:
    """The properties of a PUBLISH from their bytes, length included (MQTT 5, 2.2.2); None if malformed."""
    properties = properties_of(PacketTypes.PUBLISH)
    try:
        properties.unpack(packed)  # type: ignore[no-untyped-call]
    except (MQTTException, ValueError, IndexError, KeyError, struct.error):
        return None
    return properties


def are_common(properties: object) -> bool:
    """Whether other messages may have the same properties."""
    return not any(hasattr(properties, name) for name in OF_ONE_MESSAGE)


def received_of(message: Any, connection: int) -> Received:
    """A message of the library's. Raises `UnicodeDecodeError` if its topic is not UTF-8."""
    properties = message.properties
    return Received(
        topic=message.topic,
        payload=bytes(message.payload),
        correlation=getattr(properties, "CorrelationData", None),
        connection=connection,
        mid=message.mid,
        qos=message.qos,
        retained=bool(message.retain),
        duplicate=bool(message.dup),
        response_topic=getattr(properties, "ResponseTopic", None),
        expiry_s=getattr(properties, "MessageExpiryInterval", None),
        user=tuple(getattr(properties, "UserProperty", ())),
        without_properties=not any(hasattr(properties, name) for name in SENDER_PROPERTIES),
    )


def puback_of(reason: object, accepted: bool) -> Puback:
    """The PUBACK from the library's reason code."""
    without_subscribers = isinstance(reason, ReasonCode) and reason.value == NO_MATCHING_SUBSCRIBERS
    return Puback(accepted, str(reason), without_subscribers)


def fault_of_refusal(reason: ReasonCode) -> LinkFault:
    """What the reason code of a failed CONNACK means."""
    return _fault("the broker refuses us: ", reason)


def fault_of_end(reason: ReasonCode, *, sent: bool, connack_arrived: bool) -> LinkFault:
    """What the end of a connection means. `sent`: the broker sent a DISCONNECT; else the connection broke,
    and the library may report no more than "unspecified error". `connack_arrived`: the broker had accepted or
    refused us."""
    if not sent and reason.value == FIRST_FAILURE:
        return LinkFault(BROKE_OFF if connack_arrived else NO_ANSWER)
    if reason.value == SESSION_TAKEN_OVER:
        return SessionTaken()
    return _fault("refused: " if reason.value in REFUSALS else "", reason, LATER_STEPS)


def _fault(what: str, reason: ReasonCode, steps: Mapping[int, str] = REFUSALS) -> LinkFault:
    """`LinkRefused` with what to do, for a reason code in `steps`; otherwise `LinkFault`, which is
    retried."""
    step = steps.get(reason.value)
    return LinkFault(f"{what}{reason}") if step is None else LinkRefused(f"{what}{reason}; {step}")


def disconnect_reason(*, with_will: bool) -> ReasonCode | None:
    """The reason code of our DISCONNECT; None: none is sent, which means success."""
    return ReasonCode(PacketTypes.DISCONNECT, identifier=WITH_WILL) if with_will else None


def packet_id_of(info: mqtt.MQTTMessageInfo) -> int | None:
    """The packet id of a message given to the library; None if the connection is gone."""
    return info.mid if info.rc == mqtt.MQTT_ERR_SUCCESS else None
