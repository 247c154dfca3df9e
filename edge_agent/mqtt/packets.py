"""Messages and properties in the objects of the library (paho-mqtt)."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.errors import LinkFault, LinkRefused, SessionTaken
from edge_agent.mqtt.credentials import REFUSALS
from edge_agent.mqtt.messages import Answer, Message, Received
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
SENDERS = (
    "PayloadFormatIndicator",
    "MessageExpiryInterval",
    "ContentType",
    "ResponseTopic",
    "CorrelationData",
    "UserProperty",
)
"""Properties that a sender may give a publication, as paho names them."""


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
        stripped=not any(hasattr(properties, name) for name in SENDERS),
    )


def answer_of(reason: object, accepted: bool) -> Answer:
    """The broker's answer from the library's reason code."""
    unheard = isinstance(reason, ReasonCode) and reason.value == NO_MATCHING_SUBSCRIBERS
    return Answer(accepted, str(reason), unheard)


def fault_of_refusal(reason: ReasonCode) -> LinkFault:
    """What the reason code of a failed CONNACK means."""
    kind = LinkRefused if reason.value in REFUSALS else LinkFault
    return kind(f"the broker refuses us: {reason}")


def fault_of_end(reason: ReasonCode) -> LinkFault:
    """What the reason code of the connection's end means."""
    if reason.value == SESSION_TAKEN_OVER:
        return SessionTaken()
    return LinkRefused(f"refused: {reason}") if reason.value in REFUSALS else LinkFault(str(reason))


def disconnect_reason(*, with_will: bool) -> ReasonCode | None:
    """The reason code of our DISCONNECT; None: none is sent, which means success."""
    return ReasonCode(PacketTypes.DISCONNECT, identifier=WITH_WILL) if with_will else None


def packet_id_of(info: mqtt.MQTTMessageInfo) -> int | None:
    """The packet id of a message given to the library; None if the connection is gone."""
    return info.mid if info.rc == mqtt.MQTT_ERR_SUCCESS else None
