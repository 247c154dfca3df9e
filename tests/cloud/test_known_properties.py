"""PUBLISH packets that are read by what came before: the same message as the library's own, or none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.mqtt.known_properties import KEPT_MAX, KnownProperties
from edge_agent.mqtt.packets import PLAIN, received_of


def packed(**values: Any) -> bytes:
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    found: bytes = properties.pack()
    return found


def packet(topic: str, payload: bytes, properties: bytes, mid: int = 7) -> bytes:
    return len(topic).to_bytes(2, "big") + topic.encode() + mid.to_bytes(2, "big") + properties + payload


def fields(properties: Any) -> dict[str, Any]:
    found: dict[str, Any] = properties.json()
    return found


PROPERTIES = [
    packed(),
    packed(ContentType="application/json"),
    packed(ContentType="application/json", ResponseTopic="a/b", UserProperty=[("k", "v"), ("k", "w")]),
    packed(PayloadFormatIndicator=1),
    packed(CorrelationData=b"1", MessageExpiryInterval=3),
]


@pytest.mark.parametrize("properties", PROPERTIES)
@pytest.mark.parametrize("command", [0x32, 0x33, 0x3A, 0x3B])
def test_a_message_is_the_library_s(properties: bytes, command: int) -> None:
    known = KnownProperties()
    for payload in (b'{"a":1}', b"", b"\xff"):
        body = packet("locker/v1/m1/evt", payload, properties)
        mine = known.read(command, bytearray(body))
        its = _packet.decode_publish(command, body, MQTTProtocolVersion.MQTTv5)
        assert mine is not None
        assert its.properties is not None
        assert fields(mine.properties) == fields(its.properties)
        assert (mine.topic.encode(), mine.payload) == (its.topic, its.payload)
        assert (mine.mid, mine.qos, mine.retain, mine.dup) == (its.mid, its.qos, its.retain, its.dup)
        assert received_of(mine, 1).without_properties == (properties == packed())


def test_qos_0_has_no_packet_id() -> None:
    body = b"\x00\x01t" + packed(ContentType="x") + b"payload"
    found = KnownProperties().read(0x30, body)
    assert found is not None
    assert (found.topic, found.payload, found.mid, found.qos) == ("t", b"payload", 0, 0)


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (0x34, packet("t", b"", packed())),  # QoS 2
        (0x32, packet("", b"", packed())),  # a topic alias, or malformed
        (0x32, packet("t", b"", packed(ResponseTopic="x" * 200))),
        (0x32, b"\x00\x02\xff\xfe\x00\x07\x00{}"),  # the topic is not UTF-8
        (0x32, b"\x00\x09short"),
        (0x32, b"\x00\x01t\x00\x07"),
        (0x32, b"\x00\x01t\x00\x07\x05\x01"),  # shorter than its properties
        (0x32, b"\x00\x01t\x00\x07\x02\x01\x09{}"),  # a payload format indicator of 9
        (0x32, b"\x00\x01t\x00\x07\x02\x7f\x01{}"),  # no such property
        (0x32, b""),
    ],
)
def test_what_is_special_or_wrong_is_left_to_the_library(command: int, body: bytes) -> None:
    assert KnownProperties().read(command, body) is None


def properties_read(known: KnownProperties, properties: bytes) -> object:
    found = known.read(0x32, packet("t", b"", properties))
    assert found is not None
    return found.properties


def test_common_properties_are_kept_and_others_do_not_fill_the_memory() -> None:
    known = KnownProperties()
    own = packed(CorrelationData=b"1")
    assert properties_read(known, own) is not properties_read(known, own)
    for number in range(KEPT_MAX):
        properties_read(known, packed(ContentType=f"type {number}"))
    kept, late = packed(ContentType="type 3"), packed(ContentType="one more")
    assert properties_read(known, kept) is properties_read(known, kept)
    assert properties_read(known, late) is not properties_read(known, late)


@given(st.sampled_from([0x30, 0x32, 0x33, 0x3D]), st.binary(max_size=40))
def test_any_bytes_are_read_as_the_library_reads_them(command: int, body: bytes) -> None:
    found = KnownProperties().read(command, body)
    if found is not None:
        its = _packet.decode_publish(command, body, MQTTProtocolVersion.MQTTv5)
        assert (found.topic.encode(), found.payload, found.mid) == (its.topic, its.payload, its.mid)


def test_the_properties_of_our_own_events_are_known() -> None:
    plain: Any = PLAIN
    assert KnownProperties().read(0x32, packet("locker/v1/m1/evt", b"{}", plain.pack())) is not None
