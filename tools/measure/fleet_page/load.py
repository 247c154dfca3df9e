"""A thousand machines that only publish: what a fleet's page has to show."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.protocol.api import rfc3339
from edge_agent.protocol.topics import Topics
from tools.bench.ports import HOST

CELLS = 24
SITES = ("Hauptbahnhof", "Nordpark", "Benda", "Karawaci", "Airport, hall B", "University", "Harbour")
VERSIONS = ("0.2.0", "0.2.0", "0.2.0", "0.1.9")
LABELS = [f"{'ABC'[number // 8]}{number % 8 + 1:02d}" for number in range(CELLS)]
SIZE = {"width": 350, "depth": 450, "heating": False, "cooling": True, "weight_sensor": True}


@contextmanager
def publishing_fleet(port: int, machines: int) -> Iterator[None]:
    """Publishes state and telemetry of `machines` machines; some have problems, always the same ones."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "fleet-page-load", protocol=mqtt.MQTTv5)
    client.connect(HOST, port)
    client.loop_start()
    source = random.Random(731)
    try:
        for number in range(machines):
            for topic, body, retain in _messages(number, source):
                sent = client.publish(topic, json.dumps(body), qos=int(retain), retain=retain)
            sent.wait_for_publish(10)
        yield
    finally:
        client.loop_stop()
        client.disconnect()


def _messages(number: int, source: random.Random) -> Iterator[tuple[str, dict[str, Any], bool]]:
    machine_id = f"machine_{number:04d}"
    topics, now_s = Topics(machine_id), time.time()
    well, online = source.random() < 0.9, source.random() < 0.97
    blocked = "" if well else source.choice(LABELS)
    yield topics.machine, _machine(machine_id, number, blocked), True
    state: dict[str, Any] = {
        "online": online,
        "boot_id": "boot",
        "run": f"run-{number}",
        "agent_version": source.choice(VERSIONS),
        "at": rfc3339(now_s),
    }
    if online:
        state["history"] = "sound"
        state["health"] = {
            "verdict": "good" if well else "degraded",
            "alarms": {} if well else {source.choice(("DOOR_AJAR", "LOCK_JAMMED", "SENSOR_FAULT")): 1},
            "cells": CELLS,
            "cells_out": 0 if well else 1,
            "buses_down": [],
            "journal_writable": True,
            "clock_synced": True,
        }
    yield topics.online, state, True
    yield topics.telemetry, telemetry_of(now_s, blocked, well, source), False


def _machine(machine_id: str, number: int, blocked: str) -> dict[str, Any]:
    cells = [
        {
            **SIZE,
            "height": 200 + 100 * (place % 3),
            "cell_id": f"{machine_id}_{label}",
            "description": label,
            "status": ("IDLE", "OCCUPIED", "RESERVED")[place % 3],
            "blocked": label == blocked,
            "faulty": False,
            "available": label != blocked,
        }
        for place, label in enumerate(LABELS)
    ]
    return {
        "machine_id": machine_id,
        "name": f"Locker {number}",
        "location": SITES[number % len(SITES)],
        "latitude": 0.0,
        "longitude": 0.0,
        "online": True,
        "preferred_cells": [],
        "all_cells": cells,
        "occupancy_information": "OCCUPANCY_STATUS_LOW",
    }


def telemetry_of(now_s: float, blocked: str, well: bool, source: random.Random) -> dict[str, Any]:
    """The telemetry of a machine with `LABELS`; `blocked`: the label of its blocked cell, or empty."""
    cells = [
        {
            "label": label,
            "door": "open" if label == "B03" and not well else "closed",
            "mass_g": source.choice((0, 640)),
            "temperature_c": round(source.uniform(3, 6), 1),
            "alarms": ["LOCK_JAMMED"] if label == blocked else [],
            "in_doubt": False,
        }
        for label in LABELS
    ]
    locks = [
        {"label": label, "unlocks": 20, "opened_first": 20 if well else source.randint(15, 20)}
        for label in LABELS
    ]
    return {
        "at": rfc3339(now_s),
        "cells": cells,
        "buses": {},
        "figures": {
            "up_since": rfc3339(now_s - source.randint(600, 5_000_000)),
            "events_waiting": 0,
            "worn": [] if well else [source.choice(LABELS)],
            "locks": locks,
        },
    }
