"""Machines that only publish: what twenty large lockers would send to a wall."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.protocol.topics import Topics
from tools.bench.ports import HOST

MACHINES = 20
CHANGED = 8
"""Cells in one message of telemetry."""


@contextmanager
def publishing_machines(port: int, cells: int) -> Iterator[Callable[[int], None]]:
    """Publishes the documents of `MACHINES` machines; the yielded function publishes telemetry of each."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "page-load", protocol=mqtt.MQTTv5)
    client.connect(HOST, port)
    client.loop_start()
    source = random.Random(1)
    names = [f"machine_{number:02d}" for number in range(MACHINES)]
    labels = [f"{chr(65 + number // 32)}{number % 32 + 1:02d}" for number in range(cells)]
    try:
        for name in names:
            topics = Topics(name)
            documents = ((topics.machine, _machine(name, labels)), (topics.online, {"online": True}))
            for topic, body in documents:
                client.publish(topic, json.dumps(body), qos=1, retain=True).wait_for_publish(10)

        def publish(_number: int) -> None:
            for name in names:
                cells = [_figures(label, source) for label in source.sample(labels, CHANGED)]
                body = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cells": cells}
                client.publish(Topics(name).telemetry, json.dumps(body))

        yield publish
    finally:
        client.loop_stop()
        client.disconnect()


def _figures(label: str, source: random.Random) -> dict[str, Any]:
    return {
        "label": label,
        "door": source.choice(("open", "closed")),
        "mass_g": None,
        "temperature_c": round(source.uniform(2, 8), 1),
        "alarms": [],
        "in_doubt": False,
    }


def _machine(name: str, labels: list[str]) -> dict[str, Any]:
    size = {"width": 350, "height": 250, "depth": 450, "heating": False, "cooling": True}
    cells = [
        {
            **size,
            "weight_sensor": False,
            "cell_id": f"{name}_{label}",
            "description": label,
            "status": "IDLE",
            "blocked": False,
            "faulty": False,
            "available": True,
            "max_weight": 10_000,
            "low": False,
        }
        for label in labels
    ]
    return {
        "machine_id": name,
        "name": f"Locker {name}",
        "location": "",
        "latitude": 0.0,
        "longitude": 0.0,
        "online": True,
        "preferred_cells": [{**size, "weight_sensor": False}],
        "all_cells": cells,
        "occupancy_information": "OCCUPANCY_STATUS_LOW",
    }
