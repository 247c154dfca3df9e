"""`python -m tools.measure.bare_publisher PORT TOPIC FILE WINDOW HOW`: paho-mqtt alone.

Publishes each line of a file at QoS 1 with at most WINDOW unacknowledged. HOW: `thread`, as programs do, from
a thread of their own while the library's receives the PUBACKs; or `callback`, where each PUBACK sends the
next one from the library's own thread, the fastest way that paho has, for a program that does nothing else.
"""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.protocol.topics import CONTENT_TYPE
from tools.bench.ports import HOST


def main(port: int, topic: str, file: Path, window: int, how: str) -> None:
    """Returns when the broker has every line."""
    bodies = iter(file.read_text(encoding="utf-8").splitlines())
    room = threading.Semaphore(window)
    connected, over = threading.Event(), threading.Event()
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = CONTENT_TYPE
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bare-publisher", protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(window)
    unacknowledged = 0

    def send_next() -> None:
        nonlocal unacknowledged
        body = next(bodies, None)
        if body is not None:
            unacknowledged += 1
            client.publish(topic, body, 1, properties=properties)

    def on_publish(*_: Any) -> None:
        nonlocal unacknowledged
        if how == "thread":
            room.release()
            return
        unacknowledged -= 1
        send_next()
        if unacknowledged == 0:
            over.set()

    def on_connect(*_: Any) -> None:
        if how == "callback":
            for _number in range(window):
                send_next()
        connected.set()

    client.on_connect = on_connect
    client.on_publish = on_publish
    client.on_socket_open = _send_at_once
    client.connect(HOST, port)
    client.loop_start()
    if how == "callback":
        over.wait()
    else:
        connected.wait()
        for body in bodies:
            room.acquire()
            client.publish(topic, body, 1, properties=properties)
        for _number in range(window):
            room.acquire()
    client.disconnect()
    client.loop_stop()


def _send_at_once(_client: mqtt.Client, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
