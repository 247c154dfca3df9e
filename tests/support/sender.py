"""A sender of commands for the tests of signatures: with the right key, a wrong one, or none."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import paho.mqtt.client as mqtt
from nacl.signing import SigningKey
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cloud_gateway.signer import Signer
from edge_agent.protocol.topics import Topics
from tests.support.secure import LOCALHOST, Keys


def public_key(seed: bytes) -> str:
    """The public half of an Ed25519 seed, as a machine's configuration has it."""
    return base64.b64encode(bytes(SigningKey(seed).verify_key)).decode("ascii")


def body_of(request_id: str, life_s: float = 8.0, **fields: Any) -> bytes:
    """A command's body, made now."""
    now = datetime.now(UTC)
    times = {"issued_at": now.isoformat(), "expires_at": (now + timedelta(seconds=life_s)).isoformat()}
    return json.dumps({"request_id": request_id, **times, **fields}).encode()


class Sender:
    """A client that receives everything of one machine and may send anything."""

    def __init__(self, port: int, keys: Keys, machine_id: str = "m1", user: str = "gateway") -> None:
        self.topics = Topics(machine_id)
        self.heard: list[mqtt.MQTTMessage] = []
        self.subscribed = False
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"sender-{uuid4().hex[:8]}", protocol=mqtt.MQTTv5
        )
        pair = keys.authority.issue(user, file=f"sender-{user}")
        context = ssl.create_default_context(cafile=str(keys.authority.file))
        context.load_cert_chain(pair.cert, pair.key)
        client.tls_set_context(context)
        client.on_message = lambda _c, _u, message: self.heard.append(message)
        client.on_connect = lambda c, *_: c.subscribe(f"{self.topics.root}/#", qos=1)
        client.on_subscribe = self._on_subscribe
        client.connect(LOCALHOST, port)
        client.loop_start()

    def _on_subscribe(self, *_: object) -> None:
        self.subscribed = True

    def end(self) -> None:
        """Leaves."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()

    def online(self) -> dict[str, Any]:
        """The last `state/online`."""
        found = [json.loads(m.payload) for m in self.heard if m.topic == self.topics.online]
        last: dict[str, Any] = found[-1] if found else {}
        return last

    def send(
        self,
        name: str,
        body: bytes,
        user: list[tuple[str, str]],
        *,
        reply_topic: str | None = None,
        expiry_s: int = 8,
    ) -> bytes:
        """Sends a command with these user properties; gives its Correlation Data."""
        correlation = uuid4().bytes
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = reply_topic or self.topics.reply("sender")
        properties.CorrelationData = correlation
        properties.MessageExpiryInterval = expiry_s
        if user:
            properties.UserProperty = user
        self._client.publish(self.topics.command(name), body, qos=1, properties=properties)
        return correlation

    def signed(self, name: str, body: bytes, signer: Signer, **options: Any) -> bytes:
        """Sends a command, signed."""
        return self.send(name, body, signer.properties(self.topics.command(name), body), **options)

    async def reply(self, correlation: bytes, count: int = 1) -> dict[str, Any]:
        """The reply with this Correlation Data, once that number of replies has come."""
        async with asyncio.timeout(15):
            while len(found := self.replies(correlation)) < count:
                await asyncio.sleep(0.01)
        return found[-1]

    def replies(self, correlation: bytes) -> list[dict[str, Any]]:
        """Every reply with this Correlation Data so far."""
        return [
            json.loads(m.payload)
            for m in list(self.heard)
            if getattr(m.properties, "CorrelationData", None) == correlation and "/reply/" in m.topic
        ]
