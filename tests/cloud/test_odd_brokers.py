"""The link with brokers that answer in MQTT and misbehave."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.cloud import link as link_module
from edge_agent.cloud.link import MqttLink
from edge_agent.errors import LinkFault
from edge_agent.model import Alarm
from edge_agent.mqtt import broker_limits as limits_module
from edge_agent.mqtt import send_window as send_window_module
from edge_agent.mqtt.broker_limits import BrokerLimits
from edge_agent.mqtt.credentials import Credentials
from edge_agent.mqtt.messages import Message
from edge_agent.mqtt.packets import REFUSALS
from edge_agent.mqtt.send_window import PubackWatch
from edge_agent.mqtt.settings import LONGEST_PACKET_BYTES, WINDOW
from edge_agent.protocol.topics import Topics
from tests.support.broker import Broker
from tests.support.real_site import real_site
from tests.support.scripted import CONNECT, DISCONNECT, PINGREQ, PUBLISH, SUBSCRIBE, Script, scripted
from tests.support.secure import LOCALHOST, LOOK_S, Recorder, Watched, make_link, watched

TOPICS = Topics("m1")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FIRST_REFUSED_S", 0.05)
    monkeypatch.setattr(link_module, "LONGEST_REFUSED_S", 0.2)


def link_to(broker: Script, **changes: int) -> MqttLink:
    return make_link(broker.port, Credentials(), **changes)


def downs(seen: Watched) -> list[str]:
    """Why the link went down, each cause once."""
    return [entry["reason"] for entry in seen.logs if entry.get("state") == "down"]


async def test_a_broker_that_refuses_the_subscription_is_refused() -> None:
    """Mosquitto grants every subscription and then delivers nothing; other brokers say no (SUBACK 0x87)."""
    async with scripted(Script(suback=0x87)) as broker, watched(link_to(broker)) as seen:
        await seen.refused("the broker refuses our subscription to commands: Not authorized")
        assert seen.user.ups == 0


PERMANENT = {
    0x81: "Malformed packet",
    0x82: "Protocol error",
    0x83: "Implementation specific error",
    0x84: "Unsupported protocol version",
    0x85: "Client identifier not valid",
    0x86: "Bad user name or password",
    0x87: "Not authorized",
    0x8A: "Banned",
    0x8C: "Bad authentication method",
    0x90: "Topic name invalid",
    0x95: "Packet too large",
    0x9A: "Retain not supported",
    0x9B: "QoS not supported",
    0x9D: "Server moved",
}
PASSING = (0x80, 0x88, 0x89, 0x97, 0x9C, 0x9F)


@pytest.mark.parametrize("reason", PERMANENT)
async def test_l1_a_permanent_refusal_is_reported_with_its_reason_and_a_step(reason: int) -> None:
    async with scripted(Script(reason=reason)) as broker, watched(link_to(broker)) as seen:
        await seen.until(lambda: seen.refusals != [])
        (cause,) = seen.refusals
        words, _, step = cause.partition("; ")
        assert words == f"the broker refuses us: {PERMANENT[reason]}"
        assert step == REFUSALS[reason]


@pytest.mark.parametrize("reason", PASSING)
async def test_l1_a_passing_refusal_is_tried_again_and_raises_no_alarm(reason: int) -> None:
    async with scripted(Script(reason=reason)) as broker, watched(link_to(broker)) as seen:
        await seen.until(lambda: len(broker.of(CONNECT)) >= 2)
        assert seen.refusals == []
        broker.reason = 0
        await seen.until(lambda: seen.link.up)


async def test_l1_a_broker_of_mqtt_3_is_named() -> None:
    """It answers with return code 1 and no properties (MQTT 3.1.1, 3.2.2.3)."""

    class Old(Script):
        def answer(self, packet: bytes, body: int) -> bytes:
            return bytes((0x20, 2, 0, 1)) if packet[0] >> 4 == CONNECT else b""

    async with scripted(Old()) as broker, watched(link_to(broker)) as seen:
        await seen.until(lambda: seen.refusals != [])
        assert seen.refusals[0].startswith("the broker refuses us: Unsupported protocol version; ")


async def test_a_longer_keepalive_of_the_broker_does_not_delay_detection() -> None:
    server_keep_alive = bytes((0x13, 2, 0x58))  # 600 s (MQTT 5, 3.2.2.3.14)
    script = Script(connack=server_keep_alive, pongs=False)
    async with scripted(script) as broker, watched(link_to(broker, keepalive_s=1)) as seen:
        await seen.until(lambda: seen.link.up)
        broker.pubacks = False
        await seen.until(lambda: not seen.link.up, 4)


async def test_a_broker_that_never_answers_the_subscription_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "CONNECT_TIMEOUT_S", 0.3)
    async with scripted(Script(suback=None)) as broker, watched(link_to(broker, keepalive_s=1)) as seen:
        await seen.until(lambda: len(broker.of(SUBSCRIBE)) == 2)
        assert downs(seen) == ["the broker does not answer our subscription"]
        broker.suback = 1
        await seen.until(lambda: seen.link.up)
        await seen.until(lambda: broker.of(PINGREQ))  # longer than the patience; it has ended
        assert len(broker.of(CONNECT)) == 3


async def test_a_broker_without_acknowledgements_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_window_module, "LONGEST_PUBACK_WAIT_S", 3 * LOOK_S)
    async with scripted(Script(pubacks=False)) as broker, watched(link_to(broker)) as seen:
        await seen.until(lambda: len(broker.of(PUBLISH)) == 2)  # "online", over two connections
        assert downs(seen) == ["the broker acknowledges nothing that we send"]
        broker.pubacks = True
        pubacks: list[bool] = []
        await seen.until(lambda: len(broker.of(CONNECT)) == 3 and seen.link.up)
        seen.link.publish(Message(TOPICS.events, "{}"), pubacks.append)
        await seen.until(lambda: pubacks)


@pytest.mark.parametrize(
    ("pubacks", "events", "farewell"),
    [(True, 0, b"\xe0\x00"), (False, 0, b"\xe0\x01\x04"), (False, 30, b"\xe0\x01\x04")],
)
async def test_a_leaving_machine_is_offline_by_its_goodbye_or_its_will(
    monkeypatch: pytest.MonkeyPatch, pubacks: bool, events: int, farewell: bytes
) -> None:
    """Also with a full window, behind which the good-bye waits."""
    monkeypatch.setattr(link_module, "GOODBYE_S", 0.2 if not pubacks else 10.0)
    async with scripted(Script(pubacks=pubacks)) as broker:
        async with watched(link_to(broker)) as seen:
            await seen.until(lambda: seen.link.up)
            for number in range(events):
                seen.link.publish(Message(TOPICS.events, str(number)))
        await seen.until(lambda: broker.of(DISCONNECT))
        assert broker.of(DISCONNECT) == [farewell]
        assert bool([p for p in broker.of(PUBLISH) if b'{"online": false}' in p]) == (events < WINDOW)


async def test_the_time_to_connect_does_not_count_as_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a broker that answers late and then disconnects is asked again at once, without end."""
    steady_s = 0.3
    monkeypatch.setattr(link_module, "STEADY_S", steady_s)
    async with scripted(Script()) as broker, watched(link_to(broker)) as seen:
        loop, link = asyncio.get_running_loop(), seen.link
        resets: list[int] = []
        monkeypatch.setattr(link.pauses.unreachable, "reset", lambda: resets.append(1))

        async def fall() -> None:
            client: Any = link.client.library
            client.socket().shutdown(2)
            await seen.until(lambda: not link.up)

        broker.awake.clear()
        await seen.until(lambda: broker.of(CONNECT))
        began_s = loop.time()
        await seen.until(lambda: loop.time() > began_s + 2 * steady_s)
        broker.awake.set()
        await seen.until(lambda: link.up)
        await fall()
        await seen.until(lambda: link.up)
        assert resets == []
        began_s = loop.time()
        await seen.until(lambda: loop.time() > began_s + 2 * steady_s)
        await fall()
        await seen.until(lambda: resets == [1])


def test_only_a_broker_that_owes_acknowledgements_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_window_module, "LONGEST_PUBACK_WAIT_S", 30.0)
    watch = PubackWatch(check_s=10.0)
    for pubacks in (None, 0, 0, 0, 1, 1, 1, None, None, None, None, 1, 2, 3, 3, 3):
        watch.check(pubacks)
    with pytest.raises(LinkFault):
        watch.check(3)


SMALL_BYTES = 300


def small(monkeypatch: pytest.MonkeyPatch, limit: int = SMALL_BYTES) -> tuple[BrokerLimits, list[Any]]:
    logs: list[Any] = []
    monkeypatch.setattr(limits_module, "log", Recorder(logs))
    return BrokerLimits(SimpleNamespace(MaximumPacketSize=limit)), logs


async def test_a_message_too_big_for_the_broker_is_not_sent_and_the_connection_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, logs = small(monkeypatch)
    maximum = bytes((0x27,)) + SMALL_BYTES.to_bytes(4, "big")  # Maximum Packet Size (MQTT 5, 3.2.2.3.6)
    async with scripted(Script(connack=maximum)) as broker, watched(link_to(broker)) as seen:
        await seen.until(lambda: seen.link.up)
        pubacks: list[bool] = []
        for topic in (TOPICS.events, TOPICS.reply("g")):
            for _ in range(2):
                seen.link.publish(Message(topic, "x" * 400, correlation=b"c"), pubacks.append)
        await seen.until(lambda: pubacks == [False, False, True, True])  # errors instead of the replies
        assert max(map(len, broker.of(PUBLISH))) <= SMALL_BYTES
        errors = [packet for packet in broker.of(PUBLISH) if b"/reply/g" in packet]
        assert [json.loads(packet[packet.index(b"{") :])["error"]["code"] for packet in errors] == [13, 13]
        assert len(broker.of(CONNECT)) == 1
        line = {
            "event": "a message is too big for the broker",
            "log_level": "error",
            "bytes": 400,
            "limit": 300,
        }
        assert logs == [line | {"topic": TOPICS.events}, line | {"topic": TOPICS.reply("")}]
        assert bytes((0x27,)) + LONGEST_PACKET_BYTES.to_bytes(4, "big") in broker.of(CONNECT)[0]


@pytest.mark.parametrize("letter", ["x", "\u0e1d", "\U0001f600"])
@pytest.mark.parametrize("correlation", [None, b"c" * 16])
async def test_the_size_of_a_packet_is_estimated_from_above_and_closely(
    monkeypatch: pytest.MonkeyPatch, letter: str, correlation: bytes | None
) -> None:
    """Counted in bytes, and for a message that just fits, against what the library makes of it."""
    limits, _ = small(monkeypatch, 2000)
    sizes = [Message(TOPICS.machine, letter * count, correlation=correlation) for count in range(2100)]
    message = [message for message in sizes if limits.fitting(message, TOPICS.reply(""))][-1]
    async with scripted(Script()) as broker, watched(link_to(broker)) as seen:
        await seen.until(lambda: seen.link.up)
        seen.link.publish(message)
        await seen.until(lambda: [p for p in broker.of(PUBLISH) if TOPICS.machine.encode() in p])
        packet = broker.of(PUBLISH)[-1]
    assert 1980 < len(packet) <= 2000


async def test_the_limit_that_mosquitto_announces_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(Broker):
        def common(self) -> list[str]:
            return [*super().common(), f"max_packet_size {SMALL_BYTES}"]

    _, logs = small(monkeypatch)
    broker = Small(tmp_path / "broker")
    broker.start()
    try:
        async with watched(make_link(broker.port, Credentials())) as seen:
            await seen.until(lambda: seen.link.up)
            pubacks: list[bool] = []
            seen.link.publish(Message(TOPICS.machine, "x" * 400))
            seen.link.publish(Message(TOPICS.events, "{}"), pubacks.append)
            await seen.until(lambda: pubacks)
            assert len(logs) == 1
            assert downs(seen) == []
    finally:
        broker.stop(kill=True)


async def test_events_that_are_too_big_raise_an_alarm_and_cost_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(Broker):
        def common(self) -> list[str]:
            return [*super().common(), "max_packet_size 500"]

    links: list[Any] = []
    monkeypatch.setattr(link_module, "log", Recorder(links))
    _, logs = small(monkeypatch)
    broker = Small(tmp_path / "broker")
    broker.start()
    try:
        async with real_site(tmp_path, {"host": LOCALHOST, "port": broker.port}) as site:
            site.reserve_here()
            await site.until(lambda: site.alarm(Alarm.LINK_REFUSED) == "the broker refuses our events")
            await site.serves_a_parcel_by_codes()
            assert [entry["state"] for entry in links if entry["event"] == "link"] == ["up"]
            assert {entry["limit"] for entry in logs} == {500}
    finally:
        broker.stop(kill=True)


def test_an_error_that_does_not_fit_either_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, logs = small(monkeypatch, 60)
    assert limits.fitting(Message(TOPICS.reply("g"), "x" * 400), TOPICS.reply("")) is None
    assert len(logs) == 1
