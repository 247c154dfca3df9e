"""`python -m tools.measure.attackers KIND …`: the attacker of a benchmark, until SIGTERM.

It is a process of its own. It uses another loopback address than the measured clients, as an attacker in the
field would. Kinds: the rows X2, X5 and X6 of the cases in the field.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from tools.bench.ports import HOST

FROM = "127.0.0.2"
HALF_SENT = 300
CLIENTS = 60
HALVES = (
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ",
    b"POST /v1/code HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{",
    b"",
)
AGAIN_S = 1.0
TOPICS = 3001
LARGE_BYTES = 3_900_000
HUGE_BYTES = 9_000_000


async def half_sent(api_port: str, socket_path: str) -> None:
    """X2: 300 connections to the gateway and 300 to the local API that send half a request; each is opened
    again when it is closed."""

    async def hold(
        number: int, connect: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
    ) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await connect()
                writer.write(HALVES[number % len(HALVES)])
                with contextlib.suppress(OSError):
                    await reader.read()
                writer.close()
            await asyncio.sleep(AGAIN_S)

    def to_gateway() -> Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        return asyncio.open_connection(HOST, int(api_port), local_addr=(FROM, 0))

    def to_agent() -> Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        return asyncio.open_unix_connection(socket_path)

    numbers = range(HALF_SENT)
    await asyncio.gather(*(hold(n, to_gateway) for n in numbers), *(hold(n, to_agent) for n in numbers))


async def drawing(api_port: str, _socket_path: str) -> None:
    """X5: 60 clients that request QR images of long texts, without a pause."""
    texts = count()

    async def draw() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(HOST, int(api_port), local_addr=(FROM, 0))
                text = f"DLV-DROP-res_{next(texts):012d}-1234" + "x" * 400
                writer.write(f"GET /qrcode/{text} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                await reader.read()
                writer.close()

    await asyncio.gather(*(draw() for _ in range(CLIENTS)))


def growing(mqtt_port: str, machine_id: str) -> None:
    """X6: with a machine's credential, leaves thousands of retained topics, sends huge events and states, and
    claims the cells of another machine, repeatedly."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="thief", protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(20)
    client.connect(HOST, int(mqtt_port))
    client.loop_start()
    root = f"locker/v1/{machine_id}"
    for number in count():
        client.publish(f"{root}/state/t{number % TOPICS}", b"x" * 200, qos=1, retain=True)
        if number % 100 == 0:  # QoS 0: the broker ends the connection for the first, and it is not sent again
            event = {"event_type": "EVENT_TYPE_DOOR_OPENED", "x": "y" * HUGE_BYTES}
            client.publish(f"{root}/evt", json.dumps(event))
            state = {"machine_id": machine_id, "x": "y" * LARGE_BYTES}
            client.publish(f"{root}/state/machine", json.dumps(state))
        cells = [{"cell_id": f"cell_machine_123_a{n:02}"} for n in range(1, 9)]
        view = {"machine_id": machine_id, "all_cells": cells}
        sent = client.publish(f"{root}/state/machine", json.dumps(view), qos=1)
        with contextlib.suppress(RuntimeError):  # not connected: paho retries
            sent.wait_for_publish(AGAIN_S)
        if not client.is_connected():
            time.sleep(AGAIN_S)


def main() -> None:
    """Attacks until SIGTERM."""
    kind, *places = sys.argv[1:]
    if kind == "growing":
        growing(*places)
    else:
        asyncio.run({"half-sent": half_sent, "drawing": drawing}[kind](*places))


if __name__ == "__main__":
    main()
