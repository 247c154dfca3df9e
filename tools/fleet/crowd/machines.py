"""Machines that answer: their states, the replies to a gateway's commands, and their events, over one link.

Bodies are those of a light machine of `tools.fleet.machine`, in the same number and length: a life is three
commands, four events and five states. There is no journal, no door and no cell choice: what is measured is
the other side. One connection publishes for all machines, which no access list would allow.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from random import Random
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.errors import Code
from edge_agent.mqtt.packets import PLAIN
from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.events import DETAIL_KEY, EventType
from edge_agent.protocol.sync import SYNC_PAGE
from edge_agent.protocol.topics import Topics
from tools.bench.ports import HOST
from tools.fleet.crowd.connections import machine_id
from tools.measure.fleet_page.load import LABELS, SIZE, telemetry_of

DOOR_S = 0.11
"""From the command to the open door: two readings of the contact, and the lock."""
CLOSED_S = 1.0
"""From the open door until the person has closed it."""
BATCH = 500
"""Machines whose states are published before the broker's acknowledgements are awaited."""
KEPT = 200
"""Events that a machine keeps for `sync`."""
WITH_CELL = "RESERVED", "OCCUPIED", "IN_GRACE"


@dataclass(slots=True)
class _Machine:
    """What one machine remembers."""

    sequence: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    """The status of each cell that is not free, by its label."""
    reservations: dict[str, dict[str, Any]] = field(default_factory=dict)


def run(orders: Connection, port: int, count: int) -> None:
    """Process: obeys ("states",), ("telemetry", a second), ("events", each) and ("end",), and answers each
    with a number; replies to commands all the time."""
    asyncio.run(Machines(port, count).work(orders))


class Machines:
    """The machines of one process."""

    def __init__(self, port: int, count: int) -> None:
        self._count = count
        self._machines: dict[str, _Machine] = {}
        self._loop: asyncio.AbstractEventLoop
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "crowd", protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(1000)
        self._client.on_connect = lambda client, *_: client.subscribe("locker/v1/+/cmd/+", qos=0)
        self._client.on_message = self._received
        self._port = port
        self._telemetry_per_s = 0.0
        self._rng = Random(17)

    def _received(self, _client: mqtt.Client, _user: Any, message: mqtt.MQTTMessage) -> None:
        self._loop.call_soon_threadsafe(self._take, message)

    async def work(self, orders: Connection) -> None:
        """Obeys until the order "end"."""
        self._loop = asyncio.get_running_loop()
        self._client.connect(HOST, self._port, keepalive=60)
        self._client.loop_start()
        telemetry = self._loop.create_task(self._publish_telemetry())
        try:
            while (order := await self._loop.run_in_executor(None, orders.recv))[0] != "end":
                if order[0] == "states":
                    orders.send(await asyncio.to_thread(self._publish_states))
                elif order[0] == "telemetry":
                    self._telemetry_per_s = order[1]
                    orders.send(0)
                else:
                    orders.send(await asyncio.to_thread(self._publish_events, order[1]))
        finally:
            telemetry.cancel()
            self._client.disconnect()
            self._client.loop_stop()

    def _machine(self, name: str) -> _Machine:
        return self._machines.setdefault(name, _Machine())

    def _publish_states(self) -> int:
        """Publishes the three retained states of every machine, each with one event behind it."""
        for first in range(0, self._count, BATCH):
            for number in range(first, min(first + BATCH, self._count)):
                name = machine_id(number)
                topics = Topics(name)
                self._event(name, EventType.ALARM_CLEARED, None)
                self._publish(topics.machine, self._document(name), retain=True)
                self._publish(topics.digest, self._digest(name), retain=True)
                last = self._publish(topics.online, _online(number), retain=True)
            last.wait_for_publish(60)
        return self._count

    def _publish_events(self, each: int) -> int:
        """Publishes some events of every machine, one machine after the other."""
        for turn in range(each):
            for number in range(self._count):
                name = machine_id(number)
                kind = (EventType.ALARM_RAISED, EventType.ALARM_CLEARED)[turn % 2]
                sent = self._publish(Topics(name).events, self._event(name, kind, None))
                if number % BATCH == 0:
                    sent.wait_for_publish(60)
        sent.wait_for_publish(60)
        return each * self._count

    async def _publish_telemetry(self) -> None:
        """Publishes telemetry of one machine after the other at the wanted rate, with QoS 0."""
        for number in self._round():
            await asyncio.sleep(1 / self._telemetry_per_s if self._telemetry_per_s else 0.2)
            if self._telemetry_per_s:
                body = telemetry_of(time.time(), "", True, self._rng)
                self._client.publish(Topics(machine_id(number)).telemetry, json.dumps(body), qos=0)

    def _round(self) -> Iterator[int]:
        while True:
            yield from range(self._count)

    def _take(self, message: mqtt.MQTTMessage) -> None:
        """Answers a command."""
        _, _, name, _, command = message.topic.split("/")
        body, machine = json.loads(message.payload), self._machine(name)
        answer = {"reserve": self._reserve, "dropoff": self._drop_off, "pickup": self._pick_up}.get(command)
        if command == "sync":
            self._reply(message, {"result": self._sync(machine, body["from_sequence"])})
        elif answer is None or (
            command != "reserve" and body.get("reservation_id") not in machine.reservations
        ):
            error = {"code": int(Code.NOT_BUILT), "message": "not simulated", "details": []}
            self._reply(message, {"error": error})
        else:
            answer(name, machine, body, message)

    def _reserve(self, name: str, machine: _Machine, body: dict[str, Any], message: Any) -> None:
        label = next(label for label in LABELS if label not in machine.used)
        copied = ("reservation_id", "platform", "platform_order_id", "packaging", "notes", "webhook_url")
        graces = ("grace_period_pickup_in_seconds", "grace_period_dropoff_in_seconds")
        view = {key: body[key] for key in (*copied, *graces)} | {
            "machine_id": name,
            "status": "RESERVATION_STATUS_PENDING",
            "created_at": rfc3339(time.time()),
            "cell": {"description": label, "cell_id": f"{name}_{label}"},
            "drop_off_code": f"{self._rng.randrange(10_000):04d}",
            "pickup_code": f"{self._rng.randrange(10_000):04d}",
        }
        machine.reservations[body["reservation_id"]] = view
        self._set_cell(name, label, "RESERVED")
        self._reply(message, {"result": {"reservation": view, "cell": view["cell"]}})
        self._publish_event(name, EventType.RESERVATION_CREATED, view)

    def _drop_off(self, name: str, machine: _Machine, body: dict[str, Any], message: Any) -> None:
        view = machine.reservations[body["reservation_id"]]

        def closed() -> None:
            view.update(status="RESERVATION_STATUS_DROPPED_OFF", dropped_off_at=rfc3339(time.time()))
            self._set_cell(name, view["cell"]["description"], "OCCUPIED")
            self._publish_event(name, EventType.DROPOFF, view)

        self._loop.call_later(DOOR_S, self._reply, message, _opened(view))
        self._loop.call_later(DOOR_S + CLOSED_S, closed)

    def _pick_up(self, name: str, machine: _Machine, body: dict[str, Any], message: Any) -> None:
        view = machine.reservations[body["reservation_id"]]
        label = view["cell"]["description"]

        def opened() -> None:
            view.update(status="RESERVATION_STATUS_PICKED_UP", picked_up_at=rfc3339(time.time()))
            self._set_cell(name, label, "IN_GRACE")
            self._reply(message, _opened(view))
            self._publish_event(name, EventType.PICKUP, view)

        def closed() -> None:
            del machine.reservations[view["reservation_id"]]
            self._set_cell(name, label, "IDLE")
            self._publish_event(name, EventType.RESERVATION_COMPLETED, view)

        self._loop.call_later(DOOR_S, opened)
        self._loop.call_later(DOOR_S + CLOSED_S, closed)

    def _set_cell(self, name: str, label: str, status: str) -> None:
        machine = self._machine(name)
        if status in WITH_CELL:
            machine.used[label] = status
        else:
            machine.used.pop(label, None)
        self._publish(Topics(name).machine, self._document(name), retain=True)

    def _publish_event(self, name: str, kind: EventType, view: dict[str, Any]) -> None:
        self._publish(Topics(name).events, self._event(name, kind, view))

    def _event(self, name: str, kind: EventType, view: dict[str, Any] | None) -> str:
        """The next event of a machine; it keeps the last ones for `sync`."""
        machine, now_s = self._machine(name), int(time.time())
        machine.sequence += 1
        detail: dict[str, Any] = {
            "source_type": "SOURCE_TYPE_MACHINE",
            "machine": {"machine_id": name, "name": f"Locker {name}", "location": "Banten"},
        }
        body: dict[str, Any] = {
            "event_id": f"evt_{name}_{machine.sequence:032d}",
            "idempotency_key": f"idem_{name}_{machine.sequence:032d}",
            "event_time_unix_timestamp": now_s,
            "event_time_timestamp": rfc3339(now_s),
            "event_type": kind.value,
            "machine_id": name,
            "sequence": machine.sequence,
            "journal_id": f"journal_{name}",
            "boot_id": "boot-1",
            "clock_synced": True,
            "uptime_ms": 41_581_023,
        }
        if view is None:
            detail |= {"alarm": "DOOR_AJAR", "alarm_id": "alarm_1"}
        else:
            body |= {key: view[key] for key in ("reservation_id", "platform_order_id")}
            detail["cell"] = view["cell"]
        body[DETAIL_KEY[kind]] = detail
        machine.events.append(body)
        del machine.events[:-KEPT]
        return json.dumps(body)

    def _sync(self, machine: _Machine, first: int) -> dict[str, Any]:
        events = [one for one in machine.events if one["sequence"] >= first][:SYNC_PAGE]
        page: dict[str, Any] = {
            "journal_id": machine.events[-1]["journal_id"],
            "oldest_sequence": machine.events[0]["sequence"],
            "last_sequence": machine.sequence,
            "events": events,
        }
        if not events or events[-1]["sequence"] == machine.sequence:
            page["reservations"] = list(machine.reservations.values())
        return page

    def _digest(self, name: str) -> str:
        machine = self._machine(name)
        return json.dumps(
            {
                "machine_id": name,
                "journal_id": f"journal_{name}",
                "boot_id": "boot-1",
                "at": rfc3339(time.time()),
                "oldest_sequence": 1,
                "last_sequence": machine.sequence,
                "reservations": {},
                "cells": dict.fromkeys(LABELS, "IDLE"),
            }
        )

    def _document(self, name: str) -> str:
        used = self._machine(name).used
        cells = [
            {
                **SIZE,
                "height": 200 + 100 * (place % 3),
                "cell_id": f"{name}_{label}",
                "description": label,
                "status": used.get(label, "IDLE"),
                "blocked": False,
                "faulty": False,
                "available": label not in used,
                "max_weight": 5000,
                "low": False,
            }
            for place, label in enumerate(LABELS)
        ]
        return json.dumps(
            {
                "machine_id": name,
                "name": f"Locker {name}",
                "location": "Benda, Tangerang City, Banten",
                "latitude": -6.125556,
                "longitude": 106.65583,
                "online": True,
                "preferred_cells": [SIZE | {"height": 200 + 100 * step} for step in range(3)],
                "all_cells": cells,
                "occupancy_information": "OCCUPANCY_STATUS_LOW",
            }
        )

    def _reply(self, message: Any, body: dict[str, Any]) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = message.properties.CorrelationData
        self._client.publish(message.properties.ResponseTopic, json.dumps(body), qos=1, properties=properties)

    def _publish(self, topic: str, body: str, *, retain: bool = False) -> mqtt.MQTTMessageInfo:
        return self._client.publish(topic, body, qos=1, retain=retain, properties=PLAIN)


def _opened(view: dict[str, Any]) -> dict[str, Any]:
    return {"result": {"reservation": view, "cell": view["cell"]}}


def _online(number: int) -> str:
    state = {
        "online": True,
        "boot_id": "boot-1",
        "instance": f"board-{number}",
        "run": f"run-{number}",
        "history": "sound",
        "agent_version": "crowd",
        "at": rfc3339(time.time()),
    }
    return json.dumps(state)
