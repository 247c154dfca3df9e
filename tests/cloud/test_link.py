"""The link against a real Mosquitto: will, birth, acknowledgement, order after an outage."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.cloud.interfaces import LinkListener
from edge_agent.cloud.link import MqttLink
from edge_agent.mqtt.messages import Message, OnAcknowledged
from edge_agent.mqtt.settings import LinkSettings
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.incoming import IncomingCommand
from tests.support.broker import Broker, running_broker
from tests.support.link_user import RecordingUser

TOPICS = Topics("m1")


async def until(condition: Callable[[], bool], limit_s: float = 60) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


class Peer:
    """The cloud's end: receives everything of the machine, sends commands."""

    def __init__(self, port: int) -> None:
        self.heard: list[mqtt.MQTTMessage] = []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="peer", protocol=mqtt.MQTTv5)
        self.client.on_message = lambda _c, _u, message: self.heard.append(message)
        self.client.on_connect = lambda client, *_: client.subscribe(f"{TOPICS.root}/#", qos=1)
        self.subscribed = 0
        self.client.on_subscribe = self._on_subscribe
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _on_subscribe(self, *_: object) -> None:
        self.subscribed += 1

    def online(self) -> list[bool]:
        return [json.loads(m.payload)["online"] for m in self.heard if m.topic == TOPICS.online]

    def payloads(self, topic: str) -> list[bytes]:
        return [bytes(m.payload) for m in self.heard if m.topic == topic]

    def command(self, payload: str, *, retain: bool = False, expiry_s: int | None = None) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = TOPICS.reply("x")
        properties.CorrelationData = b"corr"
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        self.client.publish(TOPICS.command("echo"), payload, 1, retain, properties).wait_for_publish(5)

    def end(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()


def make_link(port: int) -> MqttLink:
    settings = LinkSettings("127.0.0.1", port, "m1", keepalive_s=20, session_expiry_s=600)
    return MqttLink(settings, TOPICS, lambda online: json.dumps({"online": online}), random.Random(1))


@asynccontextmanager
async def running(link: MqttLink, user: LinkListener | None = None) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(link.run(user or RecordingUser()))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[tuple[Broker, Peer]]:
    with running_broker(folder) as broker:
        peer = Peer(broker.port)
        try:
            yield broker, peer
        finally:
            peer.end()


async def test_birth_command_reply_and_a_clean_goodbye(tmp_path: Path) -> None:
    async with site(tmp_path) as (broker, peer):
        link = make_link(broker.port)

        class Answering(RecordingUser):
            def take_command(self, incoming: IncomingCommand) -> None:
                """Answers."""
                assert incoming.response_topic is not None
                link.publish(Message(incoming.response_topic, "pong", correlation=incoming.correlation))
                super().take_command(incoming)

        user = Answering(acknowledges=True)
        taken = user.commands
        async with running(link, user):
            await until(lambda: peer.online() == [True])
            peer.command("ping", expiry_s=30)
            await until(lambda: bool(peer.payloads(TOPICS.reply("x"))))
            assert (taken[0].command, taken[0].payload) == ("echo", b"ping")
            assert 28 <= (taken[0].message_expiry_s or 0) <= 30
            reply = next(m for m in peer.heard if m.topic == TOPICS.reply("x"))
            assert getattr(reply.properties, "CorrelationData", None) == b"corr"
            assert getattr(reply.properties, "ContentType", None) == "application/json"
            acknowledged: list[str] = []
            publish = link.publish

            def noting(message: Message, on_acknowledged: OnAcknowledged | None = None) -> None:
                def note(accepted: bool) -> None:
                    acknowledged.append(message.topic)
                    if on_acknowledged is not None:
                        on_acknowledged(accepted)

                publish(message, note)

            link.publish = noting  # type: ignore[method-assign]
        assert acknowledged == [TOPICS.online]
        await until(lambda: peer.online() == [True, False])


async def test_the_will_replaces_a_goodbye_that_does_not_get_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.cloud.link.GOODBYE_S", 0.1)
    async with site(tmp_path) as (broker, peer):
        link = make_link(broker.port)
        async with running(link):
            await until(lambda: peer.online() == [True])
            link.publish = lambda message, on_acknowledged=None: None  # type: ignore[method-assign]
        await until(lambda: peer.online() == [True, False])


async def test_an_unacknowledged_command_is_redelivered_and_a_retained_one_is_not(tmp_path: Path) -> None:
    async with site(tmp_path) as (broker, peer):
        peer.command("retained", retain=True)
        first = make_link(broker.port)
        got = RecordingUser()  # dies before it is safe
        async with running(first, got):
            await until(lambda: first.up)
            peer.command("one")
            peer.command("two")
            await until(lambda: len(got.commands) == 2)
        second = make_link(broker.port)
        again = RecordingUser(acknowledges=True)
        async with running(second, again):
            peer.command("three")
            await until(lambda: len(again.commands) == 3)
        assert again.payloads() == [b"one", b"two", b"three"]


async def test_a_command_sent_retained_is_marked_even_when_it_arrives_at_once(tmp_path: Path) -> None:
    async with site(tmp_path) as (broker, peer):
        link = make_link(broker.port)
        user = RecordingUser()
        got = user.commands
        async with running(link, user):
            await until(lambda: link.up)
            await until(lambda: peer.online() == [True])
            peer.command("retained", retain=True)
            peer.command("plain")
            await until(lambda: len(got) == 2)
        assert [(i.payload, i.retained) for i in got] == [(b"retained", True), (b"plain", False)]


async def test_after_an_outage_of_the_broker_the_link_is_back_within_10_s(tmp_path: Path) -> None:
    async with site(tmp_path) as (broker, peer):
        link = make_link(broker.port)
        user = RecordingUser()
        async with running(link, user):
            await until(lambda: user.ups == 1)
            broker.stop(kill=True)
            await until(lambda: not link.up)
            link.publish(Message(TOPICS.events, "lost"))  # nothing is queued behind our back
            broker.start()
            await until(lambda: user.ups == 2, 10)
            await until(lambda: peer.subscribed == 2)
            confirmed: list[int] = []
            for number in range(50):
                link.publish(Message(TOPICS.events, str(number)), lambda _, n=number: confirmed.append(n))  # type: ignore[misc]
            await until(lambda: len(confirmed) == 50)
            await until(lambda: len(peer.payloads(TOPICS.events)) == 50)
            assert peer.payloads(TOPICS.events) == [str(n).encode() for n in range(50)]


async def test_a_killed_machine_is_offline_by_its_will(tmp_path: Path) -> None:
    async with site(tmp_path) as (broker, peer):
        link = make_link(broker.port)
        async with running(link):
            await until(lambda: peer.online() == [True])
            client: Any = link.client.library
            client.socket().shutdown(2)  # the connection breaks without a DISCONNECT
            await until(lambda: peer.online()[:2] == [True, False])
