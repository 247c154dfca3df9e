"""A machine played over MQTT, for the gateway's tests.

A test double of the protocol's other side, not the product's agent: it obeys and remembers just enough to
answer.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, sleep, time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.mqtt.library import send_at_once
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.events import DETAIL_KEY, EventType
from edge_agent.protocol.sync import SYNC_PAGE
from edge_agent.protocol.topics import Topics

MACHINE = "machine_123"
DEADLINE_S = 60.0


def cell(label: str, *, cooling: bool = True, **changes: Any) -> dict[str, Any]:
    """A cell of `all_cells`."""
    return {
        "width": 300,
        "height": 300,
        "depth": 400,
        "heating": False,
        "cooling": cooling,
        "weight_sensor": True,
        "cell_id": f"cell_{label.lower()}",
        "description": label,
        "status": "IDLE",
        "blocked": False,
        "faulty": False,
        **changes,
    }


def machine_document(machine_id: str = MACHINE, **changes: Any) -> dict[str, Any]:
    """A `state/machine`."""
    cells = [cell("A03"), cell("A04", cooling=False)]
    six = ("width", "height", "depth", "heating", "cooling", "weight_sensor")
    return {
        "machine_id": machine_id,
        "name": "Awesome Business Park",
        "location": "Benda, Tangerang City, Banten",
        "latitude": -6.125556,
        "longitude": 106.655830,
        "online": True,
        "preferred_cells": [{name: cells[0][name] for name in six}],
        "all_cells": cells,
        "occupancy_information": "OCCUPANCY_STATUS_LOW",
        **changes,
    }


@dataclass
class Received:
    """A command as it arrived at the machine."""

    name: str
    body: dict[str, Any]
    response_topic: str
    correlation: bytes
    expiry_s: int
    user: dict[str, str]
    content_type: str


Script = Callable[[dict[str, Any]], dict[str, Any] | None]


@dataclass
class Peer:
    """A machine played over MQTT. A script gives the reply of a command, or None for silence."""

    port: int
    machine_id: str = MACHINE
    scripts: dict[str, Script] = field(default_factory=dict)
    commands: list[Received] = field(default_factory=list)
    reservations: dict[str, dict[str, Any]] = field(default_factory=dict)
    replies: dict[str, dict[str, Any]] = field(default_factory=dict)
    tickets: int = 0
    sequence: int = 0
    journal_id: str = "journal-1"
    names_journal: bool = False
    """Whether its events say which journal counts them."""
    log: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Its events by sequence, which `sync` returns."""
    oldest: int = 1
    syncs: list[Received] = field(default_factory=list)
    """The `sync` commands, apart from the others."""
    ended: set[str] = field(default_factory=set)
    """Reservations whose cell is free again."""
    late: list[Callable[[], None]] = field(default_factory=list)
    """Replies that were held back by a script giving None; calling one sends the default reply after all."""

    def __post_init__(self) -> None:
        """Knows its topics."""
        self.topics = Topics(self.machine_id)

    def start(self) -> None:
        """Connects (blocking) and publishes its state."""
        self.ready = threading.Event()
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"peer-{self.machine_id}", protocol=paho.MQTTv5
        )
        client.reconnect_delay_set(min_delay=1, max_delay=1)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_open = lambda _c, _u, sock: send_at_once(sock)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        client.will_set(self.topics.online, self._online(False), qos=1, retain=True)
        client.connect("127.0.0.1", self.port, keepalive=5, clean_start=False, properties=properties)
        client.loop_start()
        assert self.ready.wait(DEADLINE_S)

    def stop(self, *, farewell: bool = True) -> None:
        """Leaves, with or without a word."""
        if farewell:
            self.online(False)
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()  # else they live until the object dies

    def forget(self) -> None:
        """Makes the broker drop this machine's session, without a word about it on `state/online`."""
        gone = threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"peer-{self.machine_id}", protocol=paho.MQTTv5
        )
        client.on_connect = lambda *_: gone.set()
        client.connect("127.0.0.1", self.port, clean_start=True)
        client.loop_start()
        assert gone.wait(DEADLINE_S)
        client.disconnect()
        client.loop_stop()
        client._reset_sockets()

    def healthy(self, **health: Any) -> None:
        """Publishes `state/online` again, with its health."""
        body = json.loads(self._online(True)) | {"health": health}
        self._publish(self.topics.online, json.dumps(body).encode(), retain=True)

    def online(self, up: bool) -> None:
        """Publishes `state/online` and waits for the broker's PUBACK."""
        self._publish(self.topics.online, self._online(up), retain=True)

    def publish_state(self, **changes: Any) -> None:
        """Publishes `state/machine`."""
        document = machine_document(self.machine_id, **changes)
        self._publish(self.topics.machine, json.dumps(document).encode(), retain=True)

    def publish(self, topic: str, payload: bytes, *, wait: bool = True) -> None:
        """Publishes anything."""
        self._publish(topic, payload, wait=wait)

    def event(
        self,
        kind: EventType,
        view: dict[str, Any] | None = None,
        *,
        more: dict[str, Any] | None = None,
        wait: bool = True,
        publish: bool = True,
        **changes: Any,
    ) -> dict[str, Any]:
        """Publishes the machine's next event, about a reservation or none; `more` goes into its detail.

        Without `publish` it is only in the machine's journal.
        """
        self.sequence += 1
        now_s = int(time())
        body: dict[str, Any] = {
            "event_id": f"evt_{uuid.uuid4()}",
            "idempotency_key": f"idem_{uuid.uuid4().hex}",
            "event_time_unix_timestamp": now_s,
            "event_time_timestamp": rfc3339(now_s),
            "event_type": kind.value,
            "machine_id": self.machine_id,
            "sequence": self.sequence,
            "boot_id": "boot-1",
            "clock_synced": True,
        }
        detail: dict[str, Any] = {
            "source_type": "SOURCE_TYPE_MACHINE",
            "machine": {"machine_id": self.machine_id, "name": "Awesome", "location": "Banten"},
        }
        if view is not None:
            body |= {"reservation_id": view["reservation_id"], "platform_order_id": view["platform_order_id"]}
            detail["cell"] = view["cell"]
        body[DETAIL_KEY[kind]] = detail | (more or {})
        if self.names_journal:
            body["journal_id"] = self.journal_id
        body |= changes
        if kind is EventType.RESERVATION_COMPLETED and view is not None:
            self.ended.add(view["reservation_id"])
        if not {"machine_id", "event_type"} & set(changes) and body["sequence"] < 2**63:
            self.log.setdefault(body["sequence"], body)
        if publish:
            self.publish(self.topics.events, json.dumps(body).encode(), wait=wait)
        return body

    def digest(self, **changes: Any) -> None:
        """Publishes `state/digest`, as the machine does after every connecting."""
        document = {
            "machine_id": self.machine_id,
            "journal_id": self.journal_id,
            "boot_id": "boot-1",
            "at": rfc3339(time()),
            "oldest_sequence": self.oldest,
            "last_sequence": max(self.log, default=0),
            "reservations": {view["reservation_id"]: view["status"] for view in self.live()},
            "cells": {},
            **changes,
        }
        self._publish(self.topics.digest, json.dumps(document).encode(), retain=True)

    def live(self) -> list[dict[str, Any]]:
        """Its reservations that hold a cell."""
        over = ("RESERVATION_STATUS_CANCELLED", "RESERVATION_STATUS_ABANDONED")
        views = [view for view in self.reservations.values() if "status" in view]
        return [v for v in views if v["status"] not in over and v["reservation_id"] not in self.ended]

    def sync(self, from_sequence: int) -> dict[str, Any]:
        """The result of `sync`."""
        last = max(self.log, default=0)
        start = max(from_sequence, self.oldest)
        events = [self.log[number] for number in sorted(self.log) if number >= start][:SYNC_PAGE]
        page: dict[str, Any] = {
            "journal_id": self.journal_id,
            "oldest_sequence": self.oldest,
            "last_sequence": last,
            "events": events,
        }
        if not events or events[-1]["sequence"] == last:
            page["reservations"] = self.live()
        return page

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False, wait: bool = True) -> None:
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        end = monotonic() + DEADLINE_S
        while wait and not _published(info):
            assert monotonic() < end, "the broker did not take it"
            sleep(0.002)

    def _online(self, up: bool) -> bytes:
        state = {"online": up, "boot_id": "boot-1", "agent_version": "0.1.0", "at": "2026-01-01T00:00:00Z"}
        return json.dumps(state).encode()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(self.topics.commands, qos=1)

    def _on_subscribe(self, client: paho.Client, *_: Any) -> None:
        document = json.dumps(machine_document(self.machine_id)).encode()
        client.publish(self.topics.machine, document, qos=1, retain=True)
        client.publish(self.topics.online, self._online(True), qos=1, retain=True)
        self.ready.set()

    def _on_message(self, _client: paho.Client, _user: Any, message: paho.MQTTMessage) -> None:
        properties: Any = message.properties
        if not hasattr(properties, "MessageExpiryInterval"):
            return  # delivered again by a broker that was killed, with none of its life left
        received = Received(
            name=message.topic.rsplit("/", 1)[1],
            body=json.loads(message.payload),
            response_topic=properties.ResponseTopic,
            correlation=properties.CorrelationData,
            expiry_s=properties.MessageExpiryInterval,
            user=dict(properties.UserProperty),
            content_type=properties.ContentType,
        )
        (self.syncs if received.name == "sync" else self.commands).append(received)
        script = self.scripts.get(received.name)
        reply = script(received.body) if script else self.obey(received.name, received.body, received.user)
        if reply is None:
            self.late.append(
                lambda: self.answer(received, self.obey(received.name, received.body, received.user))
            )
        else:
            self.answer(received, reply)

    def answer(self, received: Received, reply: dict[str, Any]) -> None:
        """Sends a reply."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = received.correlation
        payload = json.dumps(reply).encode()
        self._client.publish(received.response_topic, payload, qos=1, properties=properties)

    def obey(self, name: str, body: dict[str, Any], user: dict[str, str] | None = None) -> dict[str, Any]:
        """The reply of a machine that accepts every command; the same request id gives the same reply."""
        if name == "sync":
            return {"result": self.sync(body["from_sequence"])}
        known = self.replies.get(body["request_id"])
        if known is None:
            known = self.replies[body["request_id"]] = {"result": self._do(name, body, user or {})}
        return known

    def _do(self, name: str, body: dict[str, Any], user: dict[str, str]) -> dict[str, Any]:
        if name == "reserve":
            return {"reservation": dict(self._reserve(body))}
        if name == "maintenance":
            self.tickets += 1
            return {
                "maintenance_ticket_id": f"maint_{self.machine_id}_{self.tickets}",
                "created_at": rfc3339(time()),
                "status": "OPEN",
            }
        if name == "open-door":
            return {"request_id": user["x-request-id"], "accepted_at": rfc3339(time())}
        view = self.reservations[body["reservation_id"]]
        if name == "cancel":
            view["status"] = "RESERVATION_STATUS_CANCELLED"
        if name == "abandon":
            view["status"] = "RESERVATION_STATUS_ABANDONED"
        if name == "pickup":
            view |= {"status": "RESERVATION_STATUS_PICKED_UP", "picked_up_at": rfc3339(time())}
        result: dict[str, Any] = {"reservation": dict(view)}
        if name in ("dropoff", "pickup", "abandon"):
            result["cell"] = view["cell"]
        return result

    def _reserve(self, body: dict[str, Any]) -> dict[str, Any]:
        number = len(self.reservations)
        view = {
            "reservation_id": body["reservation_id"],
            "machine_id": self.machine_id,
            "platform": body["platform"],
            "platform_order_id": body["platform_order_id"],
            "notes": body.get("notes", ""),
            "webhook_url": body.get("webhook_url", ""),
            "status": "RESERVATION_STATUS_PENDING",
            "created_at": rfc3339(time()),
            "cell": {"description": "A03", "cell_id": "cell_a03"},
            "drop_off_code": str(1234 + number),
            "pickup_code": str(5678 + number),
            "packaging": body["packaging"],
            "grace_period_pickup_in_seconds": body["grace_period_pickup_in_seconds"],
            "grace_period_dropoff_in_seconds": body["grace_period_dropoff_in_seconds"],
        }
        self.reservations[body["reservation_id"]] = view
        return view


def _published(info: paho.MQTTMessageInfo) -> bool:
    """Whether the broker has it; what was published while it was away goes with the next connection."""
    return info._published
