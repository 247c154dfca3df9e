"""A broker that runs with the files of `config/mosquitto`, and clients of both sides with certificates."""

from __future__ import annotations

import asyncio
import ssl
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from tests.support.broker import Broker, wait_for_port
from tests.support.pki import Authority, Pair
from tests.support.secure import LOCALHOST
from tools.bench.ports import free_port
from tools.bench.settings import REPOSITORY

FILES = REPOSITORY / "config" / "mosquitto"
LIMIT_S = 10.0


class ProductionBroker(Broker):
    """Mosquitto with the very files that are shipped; only ports and places are other ones."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "broker")
        self.gateway_port, self.web_port = free_port(), free_port()
        self.certificates = folder / "certs"
        self.machines = Authority(self.certificates, "machines-ca")
        self.gateways = Authority(self.certificates, "gateways-ca")
        self.server = Authority(self.certificates, "server-ca")
        self.server.issue("broker", hosts=(LOCALHOST, "localhost"))
        self._place = folder / "broker"

    def listener(self) -> list[str]:
        """See `Broker.listener`."""
        text = (FILES / "mosquitto.conf").read_text(encoding="utf-8")
        head, mark, web = text.partition("# listener 443\n")
        text = head + (mark + web).replace("# ", "")  # with the websockets that are only shown
        for shipped, here in (
            ("listener 8883\n", f"listener {self.port} {LOCALHOST}\n"),
            ("listener 8884\n", f"listener {self.gateway_port} {LOCALHOST}\n"),
            ("listener 443\n", f"listener {self.web_port} {LOCALHOST}\n"),
            ("/etc/mosquitto/certs/", f"{self.certificates}/"),
            ("/etc/mosquitto/machines.acl", f"{FILES}/machines.acl"),
            ("/etc/mosquitto/gateways.acl", f"{FILES}/gateways.acl"),
            ("/var/lib/mosquitto/", f"{self._place}/"),
            ("per_listener_settings true\n", "per_listener_settings true\nuser root\n"),
        ):
            assert shipped in text, shipped
            text = text.replace(shipped, here)
        return [text]

    def common(self) -> list[str]:
        """See `Broker.common`: the files say all."""
        return []

    def start(self) -> None:
        """See `Broker.start`."""
        super().start()
        wait_for_port(self.gateway_port)


class Client:
    """Any client: what it asks for, and what the broker says to it."""

    def __init__(
        self,
        broker: ProductionBroker,
        pair: Pair | None,
        *,
        client_id: str = "",
        port: int | None = None,
        will: str | None = None,
    ) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.connack: ReasonCode | None = None
        self._answers: dict[int | str, Any] = {}
        self._news = threading.Condition()
        self.client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"c-{uuid4().hex[:8]}",
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )
        context = ssl.create_default_context(cafile=str(broker.server.file))
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        client.tls_set_context(context)
        if will is not None:
            client.will_set(will, b"will", qos=1, retain=True)
        client.on_message = lambda _c, _u, m: self.heard.append((m.topic, bytes(m.payload)))
        client.on_connect = lambda _c, _u, _f, reason, _p: self._note("connack", reason)
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self._note("gone", reason)
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._note(mid, reasons[0])
        client.on_publish = lambda _c, _u, mid, reason, _p: self._note(mid, reason)
        client.connect(LOCALHOST, port or broker.port)
        client.loop_start()

    def _note(self, what: Any, reason: Any) -> None:
        with self._news:
            self._answers[what] = reason
            self._news.notify_all()

    def _answer(self, *whats: Any) -> Any:
        """The first of these that is answered (blocking)."""
        with self._news:
            assert self._news.wait_for(lambda: any(what in self._answers for what in whats), LIMIT_S)
            return next(self._answers[what] for what in whats if what in self._answers)

    async def let_in(self) -> bool:
        """Whether the broker accepts it."""
        reason = await asyncio.to_thread(self._answer, "connack", "gone")
        return "connack" in self._answers and not reason.is_failure

    async def subscribe(self, topic: str) -> ReasonCode:
        """The broker's answer to a subscription."""
        _, mid = self.client.subscribe(topic, qos=1)
        found: ReasonCode = await asyncio.to_thread(self._answer, mid)
        return found

    async def publish(self, topic: str, payload: bytes = b"{}", *, retain: bool = False) -> ReasonCode:
        """The broker's answer to a publication. Mosquitto 2.0.11 with TLS ends the connection of who has
        published what is forbidden at its next packet."""
        info = self.client.publish(topic, payload, qos=1, retain=retain)
        found: ReasonCode = await asyncio.to_thread(self._answer, info.mid, "gone")
        return found

    def cut(self) -> None:
        """The connection breaks without a word, so that the will is published."""
        sock: Any = self.client.socket()
        sock.shutdown(2)

    def end(self) -> None:
        """Leaves."""
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()
